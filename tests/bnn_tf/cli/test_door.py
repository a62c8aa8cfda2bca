"""A method and a network from a file outside the package, in every command."""

import json
import subprocess
import sys

import pytest

from bnn_tf import registry
from bnn_tf.training import Run

MINE = '''
import dataclasses
from typing import ClassVar

import larq as lq
import tensorflow as tf
from bnn_tf import methods


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
'''
NAMES = ("--method", "mine_outside:Swishy", "--model", "mine_outside:little")
LITTLE = ("--dataset", "digits", "--limit", "48", "--bs", "16", "--set", "size=8,8", "--epochs", "1")


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """A folder with the file; nothing of it is trusted before and after."""
    (tmp_path / "mine_outside.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(registry, "_trusted", set())
    yield tmp_path
    sys.modules.pop("mine_outside", None)


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
        ("runs", "."),
    ):
        code, out, err = command(*line, *(() if line[0] == "runs" else NAMES))
        assert (code, err) == (0, ""), line
    assert "complete" in out
    # Not named again, and not installed: in a new process nothing of it is imported.
    new = subprocess.run(
        [sys.executable, "-m", "bnn_tf", "evaluate", "run"], capture_output=True, text=True, cwd=outside
    )
    assert new.returncode == 1
    assert "'mine_outside', which is not installed" in new.stderr
    assert "add --method mine_outside:Swishy" in new.stderr
    assert len(new.stderr.splitlines()) == 1


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
