"""`bnn-tf lint`."""

import dataclasses
from typing import Any

import click

from bnn_tf.cli import options
from bnn_tf.cli.target import named_target, target_or_model

_REMEDIES = {"zero-padding": "Train with --set model.pad_values=1"}
"""What to do about findings on the command line, by their codes."""


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
    shown = report
    if target.kind in ("run", "architecture", "zoo"):  # what the command line trains
        findings = (
            dataclasses.replace(one, remedy=_REMEDIES.get(one.code, one.remedy)) for one in report.findings
        )
        shown = dataclasses.replace(report, findings=tuple(findings))
    options.emit(report.to_dict(), as_json, str(shown))
    context.exit(1 if report.errors or (strict and report.warnings) else 0)
