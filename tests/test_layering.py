"""Who may import whom: the table of the design, read from the syntax trees of all modules."""

import ast
import configparser
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

# A module imports only from its own row and those above it.
ROWS = (
    (
        "bnn_tf",
        "bnn_tf._runtime",
        "bnn_tf._tensorflow",
        "bnn_tf.errors",
        "bnn_tf.files",
        "bnn_tf.registry",
        "bnn_tf.values",
    ),
    ("bnn_tf.math", "bnn_tf.schedules"),
    ("bnn_tf.data",),
    ("bnn_tf.codebook", "bnn_tf.quantizers", "bnn_tf.layers", "bnn_tf.losses", "bnn_tf.distillation"),
    ("bnn_tf.transforms", "bnn_tf.optimizers"),
    ("bnn_tf.observe", "bnn_tf.callbacks"),
    ("bnn_tf.hdf5", "bnn_tf.model_files"),
    ("bnn_tf.methods",),
    ("zoo",),
    ("bnn_tf.training",),
    ("bnn_tf.torch_import",),
    ("bnn_tf.deploy", "bnn_tf.binarization"),
    ("bnn_tf.subbit", "bnn_tf.export", "bnn_tf.report"),
    ("bnn_tf.device_kit",),
    ("bnn_tf.cli", "bnn_tf.__main__"),
    ("scripts",),
)
# Importing the quantizers makes all that a saved model may name known to Keras.
REGISTERED = {"bnn_tf.quantizers": {"bnn_tf.observe"}}
# They work on any Keras model.
OF_ANY_MODEL = ("bnn_tf.deploy", "bnn_tf.export", "bnn_tf.subbit", "bnn_tf.report")
ON_DEMAND = ("bnn_tf", "bnn_tf.deploy", "bnn_tf.export", "bnn_tf.training")  # import what is asked for
HEAVY = ("tensorflow", "tf_keras", "keras", "larq")
WITHOUT_TENSORFLOW = ("zoo.recipes", "bnn_tf.methods", "bnn_tf.schedules", "bnn_tf.data.images", "bnn_tf.cli")


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
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                names.add(full if full in MODULES else node.module)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "lazy":
            names.update(arg.value for arg in node.args if isinstance(arg, ast.Constant))
    return names


IMPORTS = {name: imports(path) for name, path in MODULES.items()}


def row(module: str) -> int:
    """The row of a module; a package's modules stand in its row."""
    prefixes = [module.rsplit(".", cut)[0] for cut in range(module.count(".") + 1)]
    rows = [index for name in prefixes for index, names in enumerate(ROWS) if name in names]
    assert module == "bnn_tf" or rows[0] > 0 or module in ROWS[0], f"{module} stands in no row of the design"
    return rows[0]


def test_a_module_imports_only_from_its_own_row_and_those_above():
    wrong = {}
    for module, names in IMPORTS.items():
        own = {name for name in names if name.split(".")[0] in ("bnn_tf", "zoo", "scripts", "tests")}
        below = {name for name in own if name.startswith("tests") or row(name) > row(module)}
        if below != REGISTERED.get(module, set()):
            wrong[module] = below
    assert wrong == {}


def test_what_works_on_any_model_knows_no_zoo_and_no_training():
    wrong = {
        module: [name for name in names if name.startswith(("zoo", "bnn_tf.training"))]
        for module, names in IMPORTS.items()
        if module.startswith(OF_ANY_MODEL)
    }
    assert {module: names for module, names in wrong.items() if names} == {}


def test_tensorflow_and_larq_come_from_one_place():
    wrong = {
        module
        for module, names in IMPORTS.items()
        if not module.startswith(("scripts", "bnn_tf.device_kit.files"))
        and {name.split(".")[0] for name in names} & set(HEAVY)
    }
    assert wrong == {"bnn_tf._tensorflow"}


def test_listings_import_no_tensorflow():
    program = f"import sys, {', '.join(WITHOUT_TENSORFLOW)}\nsys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_there_are_no_cycles():
    graph = {name: {n for n in names if n in MODULES and n != name} for name, names in IMPORTS.items()}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for target in graph[name]:
                visit(target, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_packages_only_re_export():
    for module, path in MODULES.items():
        if path.name != "__init__.py" or module in ON_DEMAND:
            continue
        for node in ast.parse(path.read_text()).body:
            docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            names = isinstance(node, ast.Assign) and node.targets[0].id == "__all__"
            allowed = docstring or names or isinstance(node, (ast.Import, ast.ImportFrom))
            assert allowed, f"{module}: {ast.unparse(node)}"


# Used where they are installed, or by programs that run elsewhere.
OPTIONAL = {"PIL"}
DISTRIBUTIONS = {"google": "protobuf"}


def test_what_is_imported_is_required():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = config["options"]["install_requires"].split("\n")
    required = {re.split(r"[^\w-]", line)[0].replace("-", "_") for line in lines if line}
    packages = {
        name.partition(".")[0]
        for module, names in IMPORTS.items()
        if not module.startswith(("scripts", "bnn_tf.device_kit.files"))
        for name in names
    }
    foreign = packages - sys.stdlib_module_names - {"bnn_tf", "zoo"} - OPTIONAL
    assert {DISTRIBUTIONS.get(name, name) for name in foreign} <= required
