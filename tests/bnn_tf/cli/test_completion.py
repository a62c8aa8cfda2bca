"""`bnn-tf completion`, and what the shell gets to choose from."""

import shutil
import subprocess

import pytest
from click.shell_completion import ShellComplete

from bnn_tf import cli


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_script(command, shell):
    code, out, err = command("completion", shell)
    assert (code, err) == (0, "")
    assert "_BNN_TF_COMPLETE" in out
    assert "bnn-tf" in out
    if shutil.which(shell):
        checked = subprocess.run([shell, "-n"], input=out, capture_output=True, text=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "incomplete", "expected"),
    [
        ([], "ev", ["evaluate"]),
        (["train", "--method"], "re", ["real", "recu"]),
        (["train", "--model"], "vgg", ["vgg_small"]),
        (["train"], "--learn", ["--learning-rate"]),
        (["completion"], "z", ["zsh"]),
        (["train", "--method", "recu", "--variant"], "", ["default", "fast", "two-stage"]),
        (["train", "--schedule"], "c", ["constant", "cosine"]),
        (["models", "--sort"], "par", ["parameters"]),
        (["models", "--filter"], "bin", ["binary_macs", "binary_share"]),
        (["evaluate"], "zoo:cifar_resnet20-o", ["zoo:cifar_resnet20-o", "zoo:cifar_resnet20-ovsw"]),
    ],
)
def test_choices(words, incomplete, expected):
    choices = ShellComplete(cli.cli, {}, "bnn-tf", "_BNN_TF_COMPLETE").get_completions(words, incomplete)
    assert sorted(item.value for item in choices) == expected
