"""`--trust-model`: what the commands do with a file that could run code."""

import re
import subprocess
import sys

import pytest

from bnn_tf import cli
from bnn_tf._tensorflow import tf


@pytest.fixture
def saved(tmp_path):
    """A model with a Lambda layer: its file holds Python bytecode."""
    image = tf.keras.Input((8, 8, 3))
    x = tf.keras.layers.Lambda(lambda x: 2 * x, name="twice")(image)
    path = tmp_path / "lambda.keras"
    tf.keras.Model(image, tf.keras.layers.Dense(2)(tf.keras.layers.Flatten()(x))).save(path)
    return str(path)


def run(capsys, *arguments):
    """Exit code, output and error lines of a command."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(list(arguments))
    said = capsys.readouterr()
    return stopped.value.code, said.out, said.err.strip().splitlines()


@pytest.mark.parametrize(
    "command",
    [
        "lint {}",
        "summary {}",
        "convert {} -o out.tflite",
        "evaluate {} --dataset digits --normalization unit",
        "train --method recu --model cifar_resnet20 --dataset digits --teacher {}",
        "train --method recu --model cifar_resnet20 --dataset digits --init-from {}",
    ],
)
def test_refused_in_one_line(saved, capsys, command, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, _, errors = run(capsys, *command.format(saved).split())
    assert code == 1
    assert len(errors) == 1
    assert "Lambda 'twice' runs Python code from the file" in errors[0]
    assert errors[0].endswith("only if you trust its author, add --trust-model")


@pytest.mark.filterwarnings("ignore:.*is loaded unchecked")
def test_loaded_on_request(saved, capsys):
    code, output, _ = run(capsys, "summary", saved, "--trust-model")
    assert code in (0, None)
    assert "dense" in output


@pytest.mark.filterwarnings("ignore:.*is loaded unchecked")
@pytest.mark.parametrize(
    ("option", "message"),
    [("--teacher", "knows 2 classes, digits has 10"), ("--init-from", "no kernel of .* fits this network")],
)
def test_training_takes_it_on_request(saved, capsys, option, message):
    """The model is loaded; it does not fit."""
    arguments = f"train --method recu --model cifar_resnet20 --dataset digits {option} {saved} --trust-model"
    code, _, errors = run(capsys, *arguments.split())
    assert code == 1
    assert re.search(message, errors[-1])


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_a_resumed_training_takes_it_too(command, capsys):
    """It loads its teacher again."""
    code, _, errors = run(capsys, command, "--resume", "nothing", "--trust-model")
    assert code == 1
    assert "nothing" in errors[-1]


@pytest.mark.slow
def test_the_warning_is_one_line_without_code(saved):
    done = subprocess.run(
        [sys.executable, "-m", "bnn_tf", "summary", saved, "--trust-model"], capture_output=True, text=True
    )
    expected = f"bnn-tf: warning: {saved} is loaded unchecked: code in it runs with your rights"
    assert expected in done.stderr.splitlines()
    assert all(line.startswith("bnn-tf: warning: ") for line in done.stderr.splitlines())
