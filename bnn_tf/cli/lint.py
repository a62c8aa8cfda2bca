"""`bnn-tf lint`."""

from typing import Any

import click

from bnn_tf.cli import options
from bnn_tf.cli.target import named_target, target_or_model


@options.command()
@target_or_model
@options.imports
@click.option("--strict", is_flag=True, help="Fail on warnings, too.")
@options.json_option
@options.trust_model
@click.pass_context
def lint(
    context: click.Context,
    strict: bool,
    as_json: bool,
    input_size: tuple[int, int] | None,
    channels: int | None,
    **chosen: Any,
) -> None:
    """What will break or be slow on Larq Compute Engine, before any training.

    Takes TARGET (a run or a saved Keras model) or a --model with --method. The exit code is 1 where a layer
    would stay float although it is binary, or the converted file would not run or compute something else.
    """
    target = named_target(**chosen)
    network = target.untrained(input_size, channels)

    from bnn_tf import lint as lint_model

    report = lint_model(network)
    text = str(report)
    if target.kind in ("run", "architecture", "zoo"):
        text = text.replace("Train with pad_values=1", "Train with --set model.pad_values=1")
    options.emit(report.to_dict(), as_json, text)
    context.exit(1 if report.errors or (strict and report.warnings) else 0)
