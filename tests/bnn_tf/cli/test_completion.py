"""`bnn-tf completion`, and what the shell gets to choose from."""

import os
import shutil
import subprocess
import sys

import click
import pytest
from click.shell_completion import ShellComplete

from bnn_tf import cli
from zoo import pretrained


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
        (["train", "--dataset"], "cifar100", ["cifar100"]),
        (["train", "--dataset"], "pictures/", ["pictures/"]),
        (["import-torch", "--normalization"], "i", ["imagenet"]),
        (["evaluate"], "zoo:cifar_resnet20-o", ["zoo:cifar_resnet20-o", "zoo:cifar_resnet20-ovsw"]),
    ],
)
def test_choices(words, incomplete, expected):
    choices = ShellComplete(cli.cli, {}, "bnn-tf", "_BNN_TF_COMPLETE").get_completions(words, incomplete)
    assert sorted(item.value for item in choices) == expected


def _options():
    context = click.Context(cli.cli)
    for name in cli.cli.list_commands(context):
        found = cli.cli.get_command(context, name)
        commands = [(name,), *((name, part) for part in getattr(found, "commands", {}))]
        for words in commands:
            command = found.commands[words[1]] if len(words) == 2 else found
            for option in command.params:
                yield words, option


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (words, option.opts[-1])
        for words, option in _options()
        if isinstance(option, click.Option) and option.metavar in ("DIR", "FILE", "FILE.json", "RUN")
    ],
)
def test_paths(words, option):
    """The shell completes the values of all options that are paths."""
    choices = ShellComplete(cli.cli, {}, "bnn-tf", "_BNN_TF_COMPLETE").get_completions([*words, option], "ru")
    assert {item.type for item in choices} <= {"file", "dir"}
    assert choices


# What bash does for a line that ends with TAB; only a terminal has `compopt`.
BASH = """
compopt() {{ :; }}
eval "$(bnn-tf completion bash)"
COMP_WORDS=({words})
COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
COMPREPLY=()
_bnn_tf_completion bnn-tf
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("bnn-tf evaluate zoo", [f"zoo:{name}" for name in pretrained.names()]),
        ("bnn-tf evaluate zoo :", pretrained.names()),
        ("bnn-tf evaluate zoo : cifar_resnet20-o", ["cifar_resnet20-ovsw"]),
        ("bnn-tf evaluate zoo : cifar_resnet20-ovsw --bat", ["--batch-size"]),
        ("bnn-tf train --init-from zoo : cifar_resnet20-s", ["cifar_resnet20-subbit"]),
    ],
)
def test_bash_splits_words_at_colons(words, expected, tmp_path):
    program = tmp_path / "bnn-tf"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m bnn_tf "$@"\n')
    program.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", BASH.format(words=words)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": path},
    )
    assert (done.stdout.split(), done.stderr) == (expected, "")
