"""What extends the package from a file outside of it, in every command."""

import contextlib
import importlib
import json
import sys

import pytest

from bnn_tf import registry
from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy.lint import RULES
from bnn_tf.methods import METHODS
from bnn_tf.training import Run, RunConfig
from zoo import recipes

MINE = '''
import dataclasses
from typing import ClassVar

import larq as lq
import numpy as np
import tensorflow as tf
from bnn_tf import data, methods
from bnn_tf.deploy import lint


@dataclasses.dataclass(frozen=True)
class Swishy(methods.Method):
    """Larq's SwishSign for activations, plain signs for kernels."""

    beta: float = 5.0
    name: ClassVar[str] = "swishy"

    def input_quantizer(self):
        return lq.quantizers.SwishSign(beta=self.beta)

    def kernel_quantizer(self, kernel_size, name):
        return lq.quantizers.SteSign()


def little(*, method="bireal", input_shape=(8, 8, 3), num_classes=10, weights=None, width=32):
    method = methods.get(method)
    image = tf.keras.Input(input_shape)
    x = tf.keras.layers.Conv2D(width, 3, padding="same", use_bias=False, name="stem")(image)
    x = tf.keras.layers.BatchNormalization(name="stem_bn")(x)
    x = method.binary_conv(x, width, pad_values=1.0, name="binary")
    x = tf.keras.layers.GlobalAveragePooling2D()(tf.keras.layers.BatchNormalization(name="binary_bn")(x))
    return tf.keras.Model(image, tf.keras.layers.Dense(num_classes, name="classifier")(x), name="little")


@dataclasses.dataclass(frozen=True)
class Darken(data.Operation):
    """Halves the brightness."""

    def __call__(self, images, draws, settings):
        return images // 2


def dots():
    images, labels = np.zeros((48, 8, 8, 3), np.uint8), np.arange(48) % 2
    images[labels == 1, 4, 4] = 255
    return data.Source(("none", "one"), data.ArraySplit(images, labels), data.ArraySplit(images, labels))


@lint.rule("too-few-classes")
def too_few_classes(network):
    yield lint.Finding("too-few-classes", lint.Severity.WARNING, "classifier", "ten classes", "Add some")


class Sign(lq.quantizers.SteSign):
    pass
'''
NAMES = ("--method", "mine_outside:Swishy", "--model", "mine_outside:little")
LITTLE = ("--dataset", "digits", "--limit", "48", "--bs", "16", "--set", "size=8,8", "--epochs", "1")


@contextlib.contextmanager
def named():
    """What follows the body is as in a new process: nothing of the file is imported or may be."""
    with METHODS.temporary(), RULES.temporary():
        yield
    sys.modules.pop("mine_outside", None)
    tf.keras.utils.get_custom_objects().pop("Sign", None)


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """The current folder, with the file; nothing of it is trusted before and after."""
    (tmp_path / "mine_outside.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with named():
        yield tmp_path


def test_trained_resumed_evaluated_converted_reported(command, outside):
    code, out, _ = command("train", *NAMES, *LITTLE, "--dry-run", "--json")
    assert code == 0
    plan = json.loads(out)
    assert plan["recipe"]["method"] == {"name": "mine_outside:Swishy", "beta": 5.0}
    assert plan["recipe"]["model"] == "mine_outside:little"
    # The same in two phases from a file, the second after a pause.
    (phase,) = plan["recipe"]["phases"]
    plan["recipe"]["phases"] = [{**phase, "name": "first"}, {**phase, "name": "second"}]
    (outside / "recipe.json").write_text(json.dumps(plan))
    arguments = ("--recipe", "recipe.json", *NAMES, "--set", "method.beta=4", "-o", "run")
    code, _, err = command("train", *arguments, "--until-phase", "first", "--quiet")
    assert (code, err) == (0, "")
    config = json.loads((outside / "run" / "config.json").read_text())
    assert config["recipe"]["method"] == {"name": "mine_outside:Swishy", "beta": 4.0}
    assert len(Run.open("run").metrics()) == 1
    code, _, err = command("train", "--resume", "run", *NAMES)
    assert (code, err) == (0, "")
    assert [row["phase"] for row in Run.open("run").metrics()] == ["first", "second"]
    for line in (
        ("evaluate", "run", "--limit", "48"),
        ("convert", "run", "--images", "16"),
        ("report", "run", "--limit", "48"),
        ("lint", "run"),
        ("summary", "run"),
    ):
        code, _, err = command(*line, *NAMES)
        assert (code, err) == (0, ""), line


def trained(command, *options):
    """Trains the network of the file with every kind of thing in it, and forgets the file."""
    darken = 'images.training=[{"name": "mine_outside:Darken"}]'
    with named():
        line = ("train", *NAMES, "--dataset", "mine_outside:dots", "--set", darken, *LITTLE[2:], *options)
        code, _, err = command(*line, "-o", "run", "--quiet")
        assert (code, err) == (0, "")


def test_a_run_does_not_say_what_is_imported(command, outside):
    trained(command)
    for line in (
        ("evaluate", "run"),
        ("report", "run"),
        ("train", "--resume", "run"),
        ("compare", "run", "run"),
    ):
        code, out, err = command(*line)
        assert (code, out) == (1, "")
        assert err.endswith(
            "'mine_outside', which is not installed; if you trust it, add --import mine_outside\n"
        ), line
    assert "mine_outside" not in sys.modules
    (row,) = json.loads(command("runs", ".", "--json")[1])
    assert (row["method"], row["model"]) == ("mine_outside:Swishy", "mine_outside:little")
    assert (row["epochs"], row["epochs_planned"], row["state"]) == (1, 1, "needs --import mine_outside")
    assert row["best"] is not None
    assert "needs --import mine_outside" in command("runs", ".")[1]


@pytest.mark.parametrize("kind", ["dataset", "model"])
def test_a_run_does_not_say_which_function_is_called(command, outside, kind, monkeypatch):
    """An installed module is imported; only networks and registered datasets of it are called."""
    installed = registry._is_installed
    monkeypatch.setattr(registry, "_is_installed", lambda name: name == "mine_outside" or installed(name))
    config = RunConfig(recipes.find("recu", "cifar_resnet20", "digits")).to_dict()
    monkeypatch.syspath_prepend(outside)
    (outside / "run").mkdir()
    path = outside / "run" / "config.json"
    for name in ("numpy:show_config", "mine_outside:dots"):
        config["recipe"][kind] = name
        path.write_text(json.dumps(config))
        module = name.partition(":")[0]
        refusal = {
            "model": f"'{name}' builds no network",
            "dataset": f"which does not register it as a dataset; if you trust it, add --import {module}",
        }[kind]
        for line in (("train", "--resume", "run"), ("train", "--recipe", path)):
            code, out, err = command(*line)
            assert code == 1
            assert "{" not in out  # what the function prints
            assert refusal in err
    if kind == "model":
        config["recipe"]["model"] = "mine_outside:little"
        path.write_text(json.dumps(config))
    assert command("train", "--recipe", path, "--import", "mine_outside", "--dry-run")[0] == 0


def test_a_method_that_derives_from_a_published_one(command, outside):
    """Its recipe is that of the published method, which the screen compares it with."""
    (outside / "damping.py").write_text(
        "import dataclasses\nfrom typing import ClassVar\nfrom bnn_tf import methods\n\n"
        "@dataclasses.dataclass(frozen=True)\nclass Damped(methods.BiReal):\n"
        "    name: ClassVar[str] = 'damped'\n"
    )
    code, out, err = command("train", "--method", "damping:Damped", "--epochs", 2, "--dry-run")
    assert (code, err) == (0, "")
    assert "damped has no recipes; of bireal, from which it derives" in out
    assert "changed: train.epochs 25 → 2" in out


def test_a_recipe_of_a_file_with_a_variant_of_its_own(command, outside):
    recipe = recipes.find("recu", "cifar_resnet20", "cifar10").to_dict()
    (outside / "recipe.json").write_text(json.dumps({"recipe": {**recipe, "variant": "mine"}}))
    code, out, err = command("train", "--recipe", "recipe.json", "--dry-run")
    assert (code, err) == (0, "")
    assert "variant mine" in out


@pytest.mark.parametrize("place", ["teacher", "start", "init_from"])
def test_a_recipe_does_not_say_what_is_imported(command, outside, place):
    config = RunConfig(recipes.find("recu", "cifar_resnet20", "digits")).to_dict()
    owner = {"teacher": config["recipe"], "start": config["recipe"]["phases"][0], "init_from": config}[place]
    owner[place] = "mine_outside:little"
    (outside / "recipe.json").write_text(json.dumps(config))
    code, out, err = command("train", "--recipe", "recipe.json")
    assert (code, out) == (1, "")
    assert err.startswith("bnn-tf: there is no run and no model at mine_outside:little")
    assert "mine_outside" not in sys.modules


def test_a_module_that_is_named_serves_every_command(command, outside):
    trained(command)
    for line in (
        ("evaluate", "run"),
        ("report", "run"),
        ("convert", "run", "--images", "16"),
        ("summary", "run"),
        ("train", "--resume", "run"),
        ("compare", "run", "run"),
    ):
        code, _, err = command(*line, "--import", "mine_outside")
        assert (code, err) == (0, ""), line
    assert json.loads(command("runs", ".", "--json")[1])[0]["state"] == "complete"


def test_lint_rules(command, outside, tiny):
    line = ("lint", "--model", "tiny")
    assert "too-few-classes" not in command(*line)[1]
    assert "too-few-classes" in command(*line, "--import", "mine_outside")[1]


@pytest.mark.filterwarnings("ignore:.*is loaded unchecked")
def test_quantizers_of_saved_models(command, outside):
    sys.path.append(str(outside))
    sign = importlib.import_module("mine_outside").Sign
    x = image = tf.keras.Input((8, 8, 32))
    x = lq.layers.QuantConv2D(32, 3, input_quantizer=sign(), kernel_quantizer=sign(), name="c")(x)
    tf.keras.Model(image, x).save("mine.keras")
    for trust in ((), ("--trust-model",)):
        code, out, err = command("summary", "mine.keras", *trust)
        assert (code, out) == (1, "")
        assert "names 'Sign' of the module 'mine_outside'" in err
        assert err.endswith("; if you trust it, add --import mine_outside\n")
    code, out, err = command("summary", "mine.keras", "--import", "mine_outside")
    assert (code, err) == (0, "")
    assert "3×3×32×32" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--method", "missing_module:Swishy"), "No module named 'missing_module'"),
        (("--method", "mine_outside:Swish"), "the module 'mine_outside' has no 'Swish'"),
        (("--method", "mine_outside:little"), "is no method"),
        (("--method", "recu", "--model", "mine_outside:huge"), "the module 'mine_outside' has no 'huge'"),
    ],
)
def test_what_is_not_there(command, outside, arguments, message):
    code, out, err = command("train", *arguments, *LITTLE)
    assert (code, out) == (1, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_network_of_ones_own_needs_no_run(command, outside):
    code, out, _ = command("summary", *NAMES, "--set", "model.width=64", "--json")
    assert code == 0
    assert json.loads(out)["total"]["binary_parameters"] == 9 * 64 * 64
    assert command("lint", "mine_outside:little")[0] == 0
