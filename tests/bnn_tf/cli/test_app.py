"""Exit codes, and errors that are one line."""

import os
import subprocess
import sys
import weakref

import click
import pytest

import bnn_tf
import zoo
from bnn_tf import cli, errors, methods
from bnn_tf.errors import UsageError, UserError, unknown


@pytest.fixture
def failing(monkeypatch):
    """`failing(error)` adds a command `fail` that raises it."""

    def add(error):
        @click.command()
        @click.option("--number", type=int)
        def fail(number):
            raise error

        monkeypatch.setitem(cli.cli.commands, "fail", fail)

    return add


def test_every_command_has_a_line_in_the_help(command):
    out = command("--help")[1]
    sections = [line.rstrip(":") for line in out.splitlines() if line and line[0] != " "]
    assert sections[-4:] == ["Train", "Inspect", "Deploy", "Shell"]
    for name, one in cli.cli.commands.items():
        assert f"  {name} " in out
        assert len(one.short_help) <= 45
        assert "..." not in out.partition("Options:")[2]


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",), ("--debug",)])
def test_help(command, arguments):
    code, out, err = command(*arguments)
    assert (code, err) == (0, "")
    assert {"train", "evaluate", "convert", "summary", "report", "models", "recipes"} <= set(out.split())


@pytest.mark.parametrize("name", cli.cli.commands)
def test_help_of_each_command(command, name):
    code, out, err = command(name, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: bnn-tf {name}")


def test_every_result_can_be_printed_as_json():
    groups = [group for group in cli.cli.commands.values() if isinstance(group, click.Group)]
    commands = {**cli.cli.commands, **{name: c for group in groups for name, c in group.commands.items()}}
    without = {
        name
        for name, command in commands.items()
        if command not in groups and not any("--json" in parameter.opts for parameter in command.params)
    }
    assert without == {"launch"}  # the commands that it starts print


def test_version_names_what_results_depend_on(command):
    code, out, err = command("--version")
    versions = dict(line.split(" ", 1) for line in out.splitlines())
    assert (code, err) == (0, "")
    assert versions["bnn-tf"] == bnn_tf.__version__
    assert versions["tensorflow"].startswith("2.18")
    assert {"python", "tf_keras", "larq", "larq-compute-engine", "numpy"} <= set(versions)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("trian",), "there is no command 'trian'; did you mean 'train'?"),
        (("train", "--bacth-size", "3"), "--batch-size"),
        (("train", "--batch-size"), "requires an argument"),
        (("train", "--batch-size", "few"), "'few' is not a valid integer"),
        (("train", "--batch-size", "0"), "'--batch-size' / '--bs': 0 is not in the range"),
        (("train", "stray"), "unexpected extra argument"),
        (("train", "recu"), "unexpected extra argument 'recu'; write --method recu"),
        (("train",), "name a --method"),
        (("train", "--method", "birael"), "did you mean 'bireal'"),
        (("evaluate",), "Missing argument 'TARGET'"),
        (("convert",), "Missing argument 'TARGET'"),
        (("recipes", "--method", "rec"), "did you mean 'recu'"),
    ],
)
def test_wrong_usage(command, arguments, message):
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("bnn-tf: ")
    assert len(err.splitlines()) == 1
    assert message in err


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("the file x is missing"), 1, "bnn-tf: the file x is missing"),
        (UsageError("name a file"), 2, "bnn-tf: name a file"),
        (UserError("two\n  lines"), 1, "bnn-tf: two lines"),
        (click.ClickException("from click"), 1, "bnn-tf: from click"),
        (KeyboardInterrupt(), 130, "bnn-tf: stopped"),
        (click.Abort(), 130, "bnn-tf: stopped"),
        (RuntimeError("bro\nken"), 1, "bnn-tf: RuntimeError: bro ken (--debug shows where)"),
        (OSError(28, "No space left on device", "/x"), 1, "No space left on device: '/x'"),
    ],
)
def test_errors_are_one_line(command, failing, error, code, line):
    failing(error)
    exit_code, out, err = command("fail")
    assert (exit_code, out) == (code, "")
    assert line in err
    assert len(err.strip().splitlines()) == 1  # click ends the terminal's "^C" by an empty line
    assert "Traceback" not in err


def test_after_a_signal_the_process_ends_before_anything_is_freed(monkeypatch, capsys):
    """What the traceback of the error holds are TensorFlow's graphs, and freeing them takes seconds."""

    class Graphs:
        pass

    class Stopped(UserError):
        exit_code = 130

    held, alive_at_exit = [], []

    @click.command()
    def stopped():
        graphs = Graphs()
        held.append(weakref.ref(graphs))
        raise Stopped("stopped")

    def leave(code):
        alive_at_exit.append(held[0]() is not None)
        raise SystemExit(code)

    monkeypatch.setitem(cli.cli.commands, "stopped", stopped)
    monkeypatch.setattr(sys, "argv", ["bnn-tf", "stopped"])
    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130
    assert alive_at_exit == [True]
    assert capsys.readouterr().err == "bnn-tf: stopped\n"


@pytest.mark.parametrize(
    "arguments", [("--debug", "fail"), ("fail", "--debug"), ("fail", "--number", "1", "--debug")]
)
def test_debug_anywhere_shows_the_traceback(command, failing, arguments):
    failing(UserError("the file x is missing"))
    code, _, err = command(*arguments)
    assert code == 1
    assert "Traceback (most recent call last)" in err
    assert err.splitlines()[-1] == "bnn-tf: the file x is missing"


def test_a_reader_that_goes_away_is_no_error():
    process = subprocess.Popen(
        [sys.executable, "-m", "bnn_tf", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() in (0, 1)
    process.stderr.close()


class TestUnknown:
    def test_nearest_and_all(self):
        assert str(unknown("fruit", "aple", ["apple", "pear"])) == (
            "there is no fruit called 'aple'; did you mean 'apple'? (there are: apple, pear)"
        )

    def test_nothing_near(self):
        assert (
            str(unknown("fruit", "x", iter(["apple"]))) == "there is no fruit called 'x' (there are: apple)"
        )
        assert unknown("fruit", "x", []).exit_code == 2

    @pytest.mark.parametrize(("name", "meant"), [("snn", "subbit"), ("XNOR", "bireal"), ("float", "real")])
    def test_what_a_method_is_called_elsewhere(self, name, meant):
        with pytest.raises(UsageError, match=rf"did you mean {meant!r}\?"):
            methods.METHODS.get(name)
        assert "did you mean" not in str(unknown("fruit", name, methods.METHODS))

    @pytest.mark.parametrize(
        ("name", "nearest"),
        [
            ("vgg16", "vgg_small"),
            ("VGG-16-BN", "vgg_small"),
            ("alexnet", "vgg_small"),
            ("mobilenetv2", "quicknet_small"),
            ("mobilenet_v3_large", "quicknet_small"),
            ("efficientnet-b0", "quicknet"),
            ("squeezenet", "quicknet_small"),
            ("vit_b16", "quicknet_large"),
            ("densenet121", "quicknet_large"),
            ("lenet5", "cifar_resnet20"),
            ("resnet110", "cifar_resnet20"),
            ("preactresnet18", "cifar_resnet18"),
        ],
    )
    def test_networks_of_the_same_kind(self, name, nearest):
        with pytest.raises(UsageError, match=rf"called {name!r}; the nearest here is {nearest!r} \("):
            zoo.MODELS.get(name)

    @pytest.mark.parametrize(
        ("name", "nearest"),
        [
            *(("dorefa", "bireal"), ("reactnet", "bireal"), ("ir-net", "recu"), ("AdaBin", "recu")),
            *(("ste", "bireal"), ("sign", "bireal"), ("xnor-net", "bireal"), ("real-valued", "real")),
        ],
    )
    def test_methods_of_the_same_kind(self, name, nearest):
        assert errors.nearest(name, methods.METHODS, methods.METHODS.elsewhere) == nearest

    @pytest.mark.parametrize("name", ["unet", "yolov8", "transformer"])
    def test_letters_alone_do_not_make_networks_alike(self, name):
        assert errors.nearest(name, zoo.MODELS, zoo.MODELS.elsewhere) is None

    def test_of_many_names_a_handful_is_listed(self):
        with pytest.raises(UsageError) as caught:
            zoo.MODELS.get("yolo")
        message = str(caught.value)
        assert message.endswith(f" and {len(zoo.list_models()) - 5} more; `bnn-tf models` lists all)")
        assert len(message) < 200
        assert str(unknown("fruit", "x", map(str, range(30)))).endswith("4 and 25 more)")

    def test_every_hint_is_a_name(self):
        for registry in (zoo.MODELS, methods.METHODS):
            hints = registry.elsewhere
            assert {*hints.synonyms.values(), *hints.relatives.values()} <= set(registry)
