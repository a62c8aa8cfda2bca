"""Who may import whom: the table of the design, read from the syntax trees of all modules."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# A module imports only from its own row and those above it.
ROWS = (
    ("bnn_tf", "bnn_tf._runtime", "bnn_tf._tensorflow", "bnn_tf.errors"),
    ("bnn_tf.math", "bnn_tf.schedules"),
    ("bnn_tf.data",),
    ("bnn_tf.quantizers", "bnn_tf.codebook"),
    ("bnn_tf.transforms", "bnn_tf.optimizers"),
    (
        "bnn_tf.layers",
        "bnn_tf.losses",
        "bnn_tf.callbacks",
        "bnn_tf.distillation",
        "bnn_tf.saving",
        "bnn_tf.telemetry",
        "bnn_tf.kernels",
        "bnn_tf.diagnostics",
    ),
    ("bnn_tf.methods",),
    ("zoo",),
    ("bnn_tf.training",),
    ("bnn_tf.torch_import",),
    ("bnn_tf.deploy", "bnn_tf.report"),
    ("bnn_tf.cli", "bnn_tf.__main__"),
    ("scripts",),
)
# Importing the quantizers makes all that a saved model may name known to Keras.
REGISTERED = {"bnn_tf.quantizers": {"bnn_tf.layers", "bnn_tf.optimizers", "bnn_tf.telemetry"}}
DEPLOYED = ("bnn_tf.deploy", "bnn_tf.report")  # they work on any Keras model
# The first must select Keras 2 and import nothing else, the second is above what needs no TensorFlow.
LAZY = ("bnn_tf", "bnn_tf.deploy")
HEAVY = ("tensorflow", "tf_keras", "keras", "larq")


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    name_of(path): path
    for folder in ("bnn_tf", "zoo", "scripts")
    for path in sorted((ROOT / folder).rglob("*.py"))
}


def imports(path: Path) -> set[str]:
    """Every module that is imported anywhere in a file: also in functions and for type checks."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in MODULES else node.module)
    return found


IMPORTS = {name: imports(path) for name, path in MODULES.items()}


def row(module: str) -> int:
    prefixes = [module.rsplit(".", cut)[0] for cut in range(module.count(".") + 1)]
    exact = [
        i for prefix in prefixes for i, names in enumerate(ROWS) if prefix in names and prefix != "bnn_tf"
    ]
    assert exact or module == "bnn_tf", f"{module} stands in no row of the design"
    return exact[0] if exact else 0


@pytest.mark.parametrize("module", MODULES)
def test_imports_come_from_above(module):
    ours = {name for name in IMPORTS[module] if name.split(".")[0] in ("bnn_tf", "zoo", "scripts", "tests")}
    assert not {name for name in ours if name.split(".")[0] in ("tests", "scripts")}
    below = {name for name in ours if row(name) > row(module)}
    assert below == REGISTERED.get(module, set())


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith(DEPLOYED)])
def test_deployment_and_analysis_know_no_zoo_and_no_training(module):
    assert not {name for name in IMPORTS[module] if name.startswith(("zoo", "bnn_tf.training"))}


@pytest.mark.parametrize("module", [name for name in MODULES if not name.startswith("scripts")])
def test_tensorflow_and_larq_come_from_one_place(module):
    direct = {name for name in IMPORTS[module] if name.split(".")[0] in HEAVY}
    assert not direct or module == "bnn_tf._tensorflow"


def test_the_command_line_imports_nothing_heavy_before_a_command_runs():
    for module, path in MODULES.items():
        if module.startswith("bnn_tf.cli"):
            top = {
                name.name if isinstance(node, ast.Import) else f"{node.module}.{name.name}"
                for node in ast.parse(path.read_text()).body
                if isinstance(node, (ast.Import, ast.ImportFrom))
                for name in node.names
            }
            allowed = ("bnn_tf.cli", "bnn_tf.errors", "bnn_tf._runtime")
            heavy = {
                n
                for n in top
                if n.startswith(("bnn_tf.", "zoo", "numpy", *HEAVY)) and not n.startswith(allowed)
            }
            assert not heavy, module


def test_there_are_no_cycles():
    graph = {name: {n for n in found if n in MODULES and n != name} for name, found in IMPORTS.items()}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for target in graph[name]:
                visit(target, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("module", [name for name, path in MODULES.items() if path.name == "__init__.py"])
def test_packages_only_re_export(module):
    if module in LAZY:
        pytest.skip("imports its names when they are first used")
    for node in ast.parse(MODULES[module].read_text()).body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        names = isinstance(node, ast.Assign) and node.targets[0].id == "__all__"
        assert docstring or names or isinstance(node, (ast.Import, ast.ImportFrom)), ast.unparse(node)


def test_files_stay_short():
    lengths = {module: len(path.read_text().splitlines()) for module, path in MODULES.items()}
    assert {module: count for module, count in lengths.items() if count >= 400} == {}
