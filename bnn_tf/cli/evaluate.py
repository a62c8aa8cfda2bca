"""`bnn-tf evaluate`."""

from pathlib import Path

import click

from bnn_tf.cli import options, targets


@click.command()
@click.argument("target", type=click.Path(path_type=Path))
@options.dataset
@options.data_dir
@options.normalization
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=128, show_default=True, help="Images per step."
)
@options.limit
@options.json_option
def evaluate(
    target: Path,
    dataset: str | None,
    data_dir: str | None,
    normalization: str | None,
    batch_size: int,
    limit: int | None,
    as_json: bool,
) -> None:
    """Accuracy on held-out images of TARGET: a run, a saved Keras model, or a .tflite file.

    A .tflite file runs on Larq Compute Engine's interpreter.
    """
    from bnn_tf.errors import UserError
    from bnn_tf.training import evaluate as run_evaluation

    predict, size = targets.predictor(target)
    images = targets.load_images(target, dataset, data_dir, normalization, size)
    source = images.source(limit)
    if images.class_names and images.class_names != list(source.class_names):
        raise UserError(f"{target} was trained on other classes than {source.name} has")
    result = run_evaluation(predict, source, images.pre(), batch_size)
    options.emit(
        {"target": str(target), "dataset": source.name, **result.to_dict()}, as_json, f"{target}: {result}"
    )
