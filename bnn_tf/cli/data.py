"""`bnn-tf data`."""

from pathlib import Path

import click

from bnn_tf.cli import options


@click.group(no_args_is_help=False)
def data() -> None:
    """Look at datasets."""


@data.command("check", cls=options.Command)
@click.argument("folder", metavar="DIR", type=options.PATH)
@click.option("--workers", type=click.IntRange(min=1), default=4, help="Images to read at a time.")
@options.json_option
@click.pass_context
def check(context: click.Context, folder: Path, workers: int, as_json: bool) -> None:
    """Read every image below DIR, list all files that cannot be used, and say what a training would read.

    The exit code is 1 if a file cannot be used, or a training would refuse the folder.
    """
    from bnn_tf import data as library

    checked = library.check(folder, workers)
    options.emit(checked.to_dict(), as_json, str(checked))
    context.exit(0 if checked.sound else 1)
