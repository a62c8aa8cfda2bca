"""`bnn-tf evaluate`."""

from pathlib import Path
from typing import Any

import click

from bnn_tf.cli import options
from bnn_tf.cli.target import Target


@options.command()
@click.argument("target", type=options.TARGET)
@options.pictures
@click.option("--batch-size", "--bs", type=click.IntRange(min=1), default=128, help="Images per step.")
@options.limit
@options.opening
def evaluate(target: Path, batch_size: int, limit: int | None, as_json: bool, **pictures: Any) -> None:
    """Accuracy on held-out images of TARGET: a run, a saved Keras model, a .tflite or a .snn file.

    Converted files run on Larq Compute Engine's interpreter.
    """
    opened = Target.open(target)
    opened.require_weights()
    opened.require_lce()
    images = opened.images(**pictures)

    from bnn_tf.errors import UserError
    from bnn_tf.training import evaluate as run_evaluation

    source = images.source(limit)
    if images.class_names and images.class_names != list(source.class_names):
        raise UserError(f"{target} was trained on other classes than {source.name} has")
    result = run_evaluation(opened.predict(), source, images.pre(), batch_size)
    options.emit(
        {"target": str(target), "dataset": source.name, **result.to_dict()}, as_json, f"{target}: {result}"
    )
