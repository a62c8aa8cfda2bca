"""The command `bnn-tf`: parses, delegates, and turns errors into one line and an exit code.

Exit codes: 0 done, 2 wrong usage, 1 anything else. No command imports TensorFlow before it runs, so that
help and usage errors answer at once.
"""

import sys
import traceback
from collections.abc import Sequence

import click

import bnn_tf
from bnn_tf.cli import (
    benchmark,
    compress,
    convert,
    device_kit,
    evaluate,
    import_torch,
    lint,
    listings,
    report,
    summary,
    sweep,
    train,
)
from bnn_tf.errors import UserError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(bnn_tf.__version__, prog_name="bnn-tf")
@click.option("--debug", is_flag=True, help="Show the traceback of errors (anywhere on the line).")
def cli(debug: bool) -> None:
    """Train binary and sub-bit neural networks and ship them to ARM."""


for command in (
    train.train,
    sweep.sweep,
    import_torch.import_torch,
    evaluate.evaluate,
    lint.lint,
    convert.convert,
    benchmark.benchmark,
    device_kit.device_kit,
    summary.summary,
    report.report,
    compress.compress,
    compress.expand,
    listings.models,
    listings.recipes,
):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    sys.exit(_run([argument for argument in given if argument != "--debug"] or ["--help"], debug))


def _run(arguments: list[str], debug: bool) -> int:
    try:
        return cli.main(arguments, prog_name="bnn-tf", standalone_mode=False) or 0
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f" (see {context.command_path} --help)" if context else ""
        return _fail(error.format_message() + hint, error.exit_code, debug)
    except UserError as error:
        return _fail(str(error), error.exit_code, debug)
    except (KeyboardInterrupt, click.Abort):
        return _fail("stopped", 1, debug)
    except BrokenPipeError:  # the reader of our output (head, less) has gone
        sys.stderr.close()
        return 1
    except Exception as error:  # whatever it is, the user gets one line
        return _fail(f"{type(error).__name__}: {error} (--debug shows where)", 1, debug)


def _fail(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    click.echo("bnn-tf: " + " ".join(message.split()), err=True)
    return code
