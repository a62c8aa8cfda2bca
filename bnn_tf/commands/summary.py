"""`bnn-tf summary`."""

from pathlib import Path

import click

from bnn_tf.commands import options


@click.command()
@click.argument("target", required=False, type=click.Path(path_type=Path))
@options.method
@options.model
@options.json_option
def summary(target: Path | None, method: str | None, model: str | None, as_json: bool) -> None:
    """Layers, bits and multiply-accumulates of TARGET (a run or saved model) or of --model with --method."""
