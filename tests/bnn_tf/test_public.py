"""What the packages promise: every name resolves, and every public thing has an example that runs."""

import doctest
import importlib
import inspect
import subprocess
import sys

import numpy as np
import pytest

import bnn_tf
import zoo
from bnn_tf._tensorflow import lq, tf

# Modules whose public classes and functions must have a runnable example.
MODULES = (
    "bnn_tf.binarization",
    "bnn_tf.callbacks",
    "bnn_tf.codebook",
    "bnn_tf.errors",
    "bnn_tf.layers",
    "bnn_tf.losses",
    "bnn_tf.math",
    "bnn_tf.methods",
    "bnn_tf.observe",
    "bnn_tf.optimizers",
    "bnn_tf.quantizers",
    "bnn_tf.registry",
    "bnn_tf.schedules",
    "bnn_tf.transforms",
    "bnn_tf.values",
    "zoo.bireal_net",
    "zoo.blocks",
    "zoo.cifar_resnet",
    "zoo.pretrained",
    "zoo.quicknet",
    "zoo.react_resnet",
    "zoo.resnet",
    "zoo.vgg_small",
)
# Those in which the public things of PACKAGES are.
PACKAGES = (
    "bnn_tf.data",
    "bnn_tf.deploy",
    "bnn_tf.export",
    "bnn_tf.report",
    "bnn_tf.subbit",
    "bnn_tf.torch_import",
    "bnn_tf.training",
    "zoo.recipes",
)
BEHIND = (
    "bnn_tf.data.datasets",
    "bnn_tf.data.folder",
    "bnn_tf.data.images",
    "bnn_tf.data.pipeline",
    "bnn_tf.data.source",
    "bnn_tf.deploy.arrays",
    "bnn_tf.deploy.benchmark",
    "bnn_tf.deploy.convert",
    "bnn_tf.deploy.fold",
    "bnn_tf.deploy.graph",
    "bnn_tf.deploy.int8",
    "bnn_tf.deploy.interpreter",
    "bnn_tf.deploy.lce_file",
    "bnn_tf.deploy.lint",
    "bnn_tf.export.exporting",
    "bnn_tf.report.accounting",
    "bnn_tf.subbit.decode",
    "bnn_tf.subbit.encode",
    "bnn_tf.torch_import.checkpoint",
    "bnn_tf.torch_import.importing",
    "bnn_tf.torch_import.weights",
    "bnn_tf.training.evaluation",
    "bnn_tf.training.run",
    "bnn_tf.training.signals",
    "bnn_tf.training.start",
    "bnn_tf.training.strategies",
    "bnn_tf.training.trainer",
    "zoo.recipes.papers",
    "zoo.recipes.recipe",
)
NAMES = {"bnn_tf": bnn_tf, "zoo": zoo, "tf": tf, "lq": lq, "np": np}


@pytest.mark.parametrize("package", ["bnn_tf", "zoo"])
def test_every_promised_name_resolves_and_no_other(package):
    """In a new process, where no import of a submodule has set an attribute yet."""
    code = f"import sys, {package} as p\n"
    code += f"others = [n for n in dir(p) if n not in p.__all__ and '{package}.' + n not in sys.modules]\n"
    code += "print([n for n in others if not n.startswith('_')])\n"
    code += "for name in p.__all__: getattr(p, name)\n"
    code += "try: p.nonsense\nexcept AttributeError: print('done', end='')\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\ndone", done.stderr


def test_functions_stay_functions():
    """Also after the module that defines them has been imported."""
    assert callable(bnn_tf.binarize)
    assert callable(bnn_tf.lint)


TRAINING = {"bnn_tf.training.trainer"}  # its examples take most of a minute


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in TRAINING else name
        for name in (*MODULES, *BEHIND)
    ],
)
def test_examples(name):
    module = importlib.import_module(name)
    finder = doctest.DocTestFinder(exclude_empty=True)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL)
    tests = finder.find(module, extraglobs=NAMES)
    assert sum(bool(test.examples) for test in tests)
    with bnn_tf.methods.METHODS.temporary(), zoo.MODELS.temporary():  # examples register things of their own
        said: dict[str, list[str]] = {test.name: [] for test in tests}
        failed = [test.name for test in tests if runner.run(test, out=said[test.name].append).failed]
    assert not failed, "\n".join("".join(said[name]) for name in failed)


@pytest.mark.parametrize("name", [n for n in MODULES if n.startswith("bnn_tf.") or n == "zoo.pretrained"])
def test_everything_public_has_an_example(name):
    module = importlib.import_module(name)
    without = [
        key
        for key, thing in vars(module).items()
        if not key.startswith("_")
        and (inspect.isclass(thing) or inspect.isfunction(thing))
        and getattr(thing, "__module__", "") == name
        and ">>>" not in (thing.__doc__ or "")
    ]
    assert not without


@pytest.mark.parametrize("name", PACKAGES)
def test_everything_that_a_package_promises_has_an_example(name):
    package = importlib.import_module(name)
    things = [getattr(package, key) for key in package.__all__]
    public = [thing for thing in things if inspect.isclass(thing) or inspect.isfunction(thing)]
    assert [thing.__name__ for thing in public if ">>>" not in (thing.__doc__ or "")] == []
    assert {thing.__module__ for thing in public} <= {*BEHIND, "bnn_tf.errors", "collections.abc"}
