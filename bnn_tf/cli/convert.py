"""`bnn-tf convert`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnn_tf.cli import options
from bnn_tf.cli.target import ImageSet, Target, write_sidecar
from bnn_tf.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from bnn_tf.deploy import Int8

_FINETUNE_BATCH = 64


class _Form(click.Choice):
    """The form after `--int8`; the option may stand alone, but not directly before TARGET."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in self.choices and Path(value).exists():
            self.fail(f"it was given {value!r}; write TARGET first, or --int8 mixed {value}", param, ctx)
        return super().convert(value, param, ctx)


@options.command()
@click.argument("target", type=options.PATH)
@click.option("-o", "--output", type=options.PATH, help="File to write; default: model.tflite in the run.")
@options.dataset
@options.data_dir
@options.normalization
@options.images
@click.option("--no-fold", is_flag=True, help="Keep scales and biases as operators of their own.")
@click.option(
    "--int8",
    "form",
    type=_Form(["mixed", "full"]),
    is_flag=False,
    flag_value="mixed",
    help="Make parts int8. mixed (the default of --int8): input, first convolution, classifier; "
    "full: everything that is not binary, needs one-padding.",
)
@click.option(
    "--calibration",
    type=click.Choice(["minmax", "percentile"]),
    default="minmax",
    show_default=True,
    help="Int8 ranges: all values, or all but the outermost 0.01 % on either side.",
)
@click.option(
    "--calibration-images",
    type=click.IntRange(min=1),
    default=512,
    show_default=True,
    help="Training images to measure int8 ranges on.",
)
@click.option("--int8-input", is_flag=True, help="Take int8 images instead of float32 ones.")
@click.option("--int8-output", is_flag=True, help="Return int8 logits instead of float32 ones.")
@click.option(
    "--int8-finetune",
    type=click.IntRange(min=1),
    metavar="EPOCHS",
    help="Train the real-valued weights for some epochs to make up for int8.",
)
@click.option("--layers", is_flag=True, help="Show how many signs of each layer differ from Keras'.")
@options.door
@options.json_option
@click.pass_context
def convert(
    context: click.Context,
    target: Path,
    output: Path | None,
    dataset: str | None,
    data_dir: str | None,
    normalization: str | None,
    images: int,
    no_fold: bool,
    layers: bool,
    as_json: bool,
    **int8: Any,
) -> None:
    """Convert TARGET (a run or a saved Keras model) to a .tflite file for Larq Compute Engine.

    Nothing is written, and the exit code is 1, where a binary convolution would stay float or the file
    does not compute what Keras does on held-out images (on noise, for a Keras model without --dataset).
    Then the first layer that differs is named, and the flipped signs of each layer are shown.
    """
    opened = Target.open(target)
    if output is None:
        if opened.kind != "run":
            raise UsageError("name the file to write with -o")
        output = target / "model.tflite"
    if not output.parent.is_dir():
        raise UsageError(f"there is no folder {output.parent} to write {output.name} to")
    if int8["form"] is None:
        orphans = ("calibration", "calibration_images", "int8_input", "int8_output", "int8_finetune")
        options.refuse(context, orphans, "these options need --int8")
    elif no_fold:
        raise UsageError("--int8 needs folding; leave out --no-fold")

    from bnn_tf import convert as convert_model
    from bnn_tf import data
    from bnn_tf.deploy.parity import Disagreement

    network = opened.network()
    image_set, samples, settings, calibration = None, None, None, None
    if dataset is not None or opened.knows_images():
        image_set = opened.images(dataset, data_dir, normalization)
        samples, _ = data.take(image_set.source(), image_set.pre(), images)
    if int8["form"] is not None:
        settings, calibration = _int8(image_set, **int8)
    try:
        report = convert_model(
            network, output, images=samples, fold=not no_fold, int8=settings, calibration=calibration
        )
    except Disagreement as error:
        if as_json or error.report.layers:
            options.emit({"parity": error.report.to_dict()}, as_json, error.report.table())
        raise
    if image_set is not None:
        write_sidecar(output, image_set)
    table = f"\n{report.parity.table()}" if layers and report.parity else ""
    options.emit(report.to_dict(), as_json, f"{report}{table}")


def _int8(
    image_set: ImageSet | None,
    form: str,
    calibration: str,
    calibration_images: int,
    int8_input: bool,
    int8_output: bool,
    int8_finetune: int | None,
) -> "tuple[Int8, np.ndarray]":
    """The settings, and the images to calibrate on."""
    from bnn_tf import data
    from bnn_tf.deploy import Finetune, Int8

    if image_set is None:
        raise UsageError("--int8 measures ranges on images; name a --dataset and a --normalization")
    source, pre = image_set.source(), image_set.pre()
    images, _ = data.take(source, pre, calibration_images, split="train")
    finetune = None
    if int8_finetune is not None:
        epochs = "epoch" if int8_finetune == 1 else "epochs"
        click.echo(f"finetuning for {int8_finetune} {epochs}", err=True)
        finetune = Finetune(data.training_batches(source, pre, _FINETUNE_BATCH, epochs=int8_finetune))
    return Int8(form, calibration, int8_input, int8_output, finetune), images
