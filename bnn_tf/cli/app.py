"""The command `bnn-tf`: parses, delegates, and turns errors into one line and an exit code.

Exit codes: 0 done, 2 wrong usage, 128 + n after signal n, 1 anything else. No command imports TensorFlow
before it needs it, so that help and usage errors answer at once.
"""

import difflib
import importlib.metadata
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence

import click

import bnn_tf
from bnn_tf.cli import (
    benchmark,
    compare,
    completion,
    compress,
    convert,
    data,
    device_kit,
    evaluate,
    export,
    hints,
    import_torch,
    launch,
    lint,
    models,
    predict,
    recipes,
    report,
    runs,
    summary,
    sweep,
    train,
    weights,
)
from bnn_tf.errors import UserError

# What people call a command elsewhere.
_SYNONYMS = {
    "accuracy": "evaluate",
    "architectures": "models",
    "bench": "benchmark",
    "check": "lint",
    "classify": "predict",
    "deploy": "device-kit",
    "describe": "summary",
    "detect": "predict",
    "diff": "compare",
    "c": "export",
    "eval": "evaluate",
    "finetune": "train",
    "fit": "train",
    "import": "import-torch",
    "infer": "predict",
    "inference": "predict",
    "info": "summary",
    "inspect": "summary",
    "history": "runs",
    "list": "runs",
    "ls": "runs",
    "pack": "compress",
    "plot": "report",
    "quantise": "convert",
    "quantize": "convert",
    "resume": "train",
    "score": "evaluate",
    "search": "sweep",
    "test": "evaluate",
    "tflite": "convert",
    "tune": "sweep",
    "unpack": "expand",
    "validate": "evaluate",
    "val": "evaluate",
    "zoo": "models",
}


class _Group(click.Group):
    """The group of commands, which knows what its commands are called elsewhere."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which they are needed."""
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands in sections."""
        rows: dict[str, list[tuple[str, str]]] = {}
        section = ""
        for name, command in self.commands.items():
            section = _SECTIONS.get(name, section)
            rows.setdefault(section, []).append((name, command.get_short_help_str()))
        width = max(map(len, self.commands))
        for section, commands in rows.items():
            with formatter.section(section):
                formatter.write_dl([(name.ljust(width), text) for name, text in commands])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command of that name, or an error that names the nearest."""
        name = args[0]
        if name not in self.commands and not name.startswith("-"):
            near = _SYNONYMS.get(name) or next(
                iter(difflib.get_close_matches(name, self.commands, n=1)), None
            )
            hint = f"; did you mean {near!r}?" if near in self.commands else ""
            raise click.UsageError(f"there is no command {name!r}{hint}", ctx)
        return super().resolve_command(ctx, args)


# The sections of `bnn-tf --help`, by their first commands; each ends where the next begins.
_SECTIONS = {"models": "Train", "runs": "Inspect", "lint": "Deploy", "completion": "Shell"}


def _print_versions(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """Prints the versions that results depend on; reads metadata only and imports nothing."""
    if not value or ctx.resilient_parsing:
        return
    names = ("tensorflow", "tf_keras", "larq", "larq-zoo", "larq-compute-engine", "numpy")
    click.echo(f"bnn-tf {bnn_tf.__version__}")
    click.echo(f"python {sys.version.split()[0]}")
    for name in names:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            version = "not installed"
        click.echo(f"{name} {version}")
    ctx.exit()


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_versions,
    help="Show the versions that results depend on, and exit.",
)
@click.option("--debug", is_flag=True, help="Show the traceback of errors (anywhere on the line).")
def cli(debug: bool) -> None:
    """Train binary and sub-bit neural networks for phones, boards, microcontrollers and web pages."""


for command, short_help in (
    (models.models, "List the networks"),
    (recipes.recipes, "List the papers' settings and accuracies"),
    (data.data, "Check a folder of pictures"),
    (train.train, "Train a network, or resume a training"),
    (sweep.sweep, "Train several configurations and seeds"),
    (launch.launch, "Train in several processes"),
    (import_torch.import_torch, "Import a PyTorch checkpoint of the papers"),
    (runs.runs, "List the runs in a folder"),
    (evaluate.evaluate, "Measure the accuracy"),
    (predict.predict, "Classify pictures"),
    (summary.summary, "Count bits and operations of each layer"),
    (compare.compare, "Compare runs in a table"),
    (report.report, "Write a page about runs"),
    (lint.lint, "Say what will break or be slow on a device"),
    (convert.convert, "Write a .tflite file for LCE"),
    (export.export, "Write one C file without dependencies"),
    (device_kit.device_kit, "Write a folder to try it on a device"),
    (benchmark.benchmark, "Measure time and memory on this machine"),
    (weights.weights, "Write binary weights as NumPy arrays"),
    (compress.compress, "Store sub-bit kernels in few bytes"),
    (compress.expand, "Restore a compressed .tflite file"),
    (completion.completion, "Print a script that completes in the shell"),
):
    command.short_help = short_help
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits."""
    warnings.formatwarning = _warning
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    # The error is kept: its traceback holds the training, and dropping it takes TensorFlow's graphs apart.
    code, error = _outcome([word for word in words if word != "--debug"] or ["--help"], debug)
    if arguments is None and (code > 128 or getattr(error, "at_once", False)):
        # A signal or another worker's end ended it, and all is written. For the graphs nobody waits.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning as the user sees it: what it says, without the line of code that gave it."""
    if issubclass(category, UserWarning):
        return f"bnn-tf: warning: {message}\n"
    return _format_warning(message, category, filename, lineno, line)


_format_warning = warnings.formatwarning


def run(arguments: list[str], debug: bool = False) -> int:
    """Runs the command line and returns its exit code."""
    return _outcome(arguments, debug)[0]


def _outcome(arguments: list[str], debug: bool) -> tuple[int, BaseException | None]:
    """Runs the command line and returns its exit code, and the error that ended it."""
    try:
        return cli.main(arguments, prog_name="bnn-tf", standalone_mode=False) or 0, None
    except click.NoSuchOption as error:
        hint = hints.option_hint(error.option_name, error.ctx) if error.ctx else ""
        message = f"there is no option {error.option_name}{hint}{_see(error)}"
        return _fail(message, error.exit_code, debug), error
    except click.ClickException as error:
        return _fail(error.format_message().removesuffix(".") + _see(error), error.exit_code, debug), error
    except UserError as error:
        return _fail(str(error), error.exit_code, debug), error
    except (KeyboardInterrupt, click.Abort) as error:
        return _fail("stopped", 128 + signal.SIGINT, debug), error
    except BrokenPipeError as error:  # the reader of our output (head, less) has gone
        sys.stderr.close()
        return 1, error
    except Exception as error:  # whatever it is, the user gets one line
        return _fail(f"{type(error).__name__}: {error} (--debug shows where)", 1, debug), error


def _see(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return f" (see {context.command_path} --help)" if context else ""


def _fail(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    click.echo("bnn-tf: " + " ".join(message.split()), err=True)
    return code
