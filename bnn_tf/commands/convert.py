"""`bnn-tf convert`."""

from pathlib import Path

import click

from bnn_tf.commands import options, targets


@click.command()
@click.argument("target", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="File to write; default: model.tflite in the run."
)
@options.dataset
@options.data_dir
@options.normalization
@click.option(
    "--images",
    type=click.IntRange(min=1),
    default=512,
    show_default=True,
    help="Images to compare with Keras on.",
)
@click.option("--no-fold", is_flag=True, help="Keep scales and biases as operators of their own.")
@options.json_option
def convert(
    target: Path,
    output: Path | None,
    dataset: str | None,
    data_dir: str | None,
    normalization: str | None,
    images: int,
    no_fold: bool,
    as_json: bool,
) -> None:
    """Convert TARGET (a run or a saved Keras model) to a .tflite file for Larq Compute Engine.

    Nothing is written, and the exit code is 1, where a binary convolution would stay float or the file
    does not compute what Keras does on held-out images (on noise, for a Keras model without --dataset).
    """
    from bnn_tf import convert as convert_model
    from bnn_tf import data
    from bnn_tf.errors import UsageError

    if output is None:
        if not targets.is_run(target):
            raise UsageError("name the file to write with -o")
        output = target / "model.tflite"
    if not output.parent.is_dir():
        raise UsageError(f"there is no folder {output.parent} to write {output.name} to")
    network = targets.load_network(target)
    found, samples = None, None
    if dataset is not None or targets.knows_images(target):
        found = targets.load_images(target, dataset, data_dir, normalization, network.input_shape[1:3])
        samples, _ = data.take(found.source(), found.pre(), images)
    report = convert_model(network, output, images=samples, fold=not no_fold)
    if found is not None:
        targets.write_sidecar(output, found)
    options.emit(report.to_dict(), as_json, str(report))
