"""`bnn-tf convert`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnn_tf import files
from bnn_tf.cli import options
from bnn_tf.cli.target import ImageSet, Target, require_images, sidecar
from bnn_tf.deploy.lce_file import require_converter
from bnn_tf.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from bnn_tf.deploy import Normalization


CONVERSION = "conversion.json"
"""What a run says of its last conversion: the file, its checksum, its agreement with Keras."""


_OTHER_KINDS = (".c", ".h", ".h5", ".keras", ".mlmodel", ".npz", ".onnx", ".pb", ".pt", ".pth", ".snn")


class _Form(click.Choice):
    """The form after `--int8`; the option may stand alone, but not directly before TARGET."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in self.choices and Path(value).exists():
            self.fail(f"it was given {value!r}; write TARGET first, or --int8 mixed {value}", param, ctx)
        return super().convert(value, param, ctx)


@options.command()
@click.argument("target", type=options.TARGET)
@click.option("-o", "--output", type=options.PATH, help="File to write; default: model.tflite in the run.")
@options.pictures
@options.images
@click.option("--no-fold", is_flag=True, help="Keep scales and biases as operators of their own.")
@click.option(
    "--int8",
    "form",
    type=_Form(["auto", "classifier", "mixed", "plus", "full"]),
    is_flag=False,
    flag_value="auto",
    help="Make parts int8. auto (what --int8 alone means): the form that suits the network; classifier: the "
    "dense layers at the end; mixed: input, first convolution, classifier; plus: every real convolution and "
    "the classifier; full: everything that is not binary but the average before the classifier, needs "
    "one-padding.",
)
@click.option(
    "--calibration-images",
    type=click.IntRange(min=1),
    default=512,
    help="Training images to measure int8 ranges on.",
)
@click.option("--int8-input", is_flag=True, help="Take int8 images instead of float32 ones.")
@click.option("--int8-output", is_flag=True, help="Return int8 logits instead of float32 ones.")
@click.option("--batch", type=click.IntRange(min=1), default=1, help="Images at once.")
@click.option(
    "--input",
    "input_type",
    type=click.Choice(["float32", "uint8"]),
    default="float32",
    help="What the file takes: normalised images, or raw pixels.",
)
@click.option(
    "--allow-disagreement",
    is_flag=True,
    help="Write the file although less than 95 % of the images are classified as by Keras.",
)
@click.option("--layers", is_flag=True, help="Show how many signs of each layer differ from Keras'.")
@options.opening
@click.pass_context
def convert(
    context: click.Context,
    target: Path,
    output: Path | None,
    images: int,
    no_fold: bool,
    form: str | None,
    calibration_images: int,
    int8_input: bool,
    int8_output: bool,
    batch: int,
    input_type: str,
    allow_disagreement: bool,
    layers: bool,
    as_json: bool,
    **pictures: Any,
) -> None:
    """Convert TARGET (a run or a saved Keras model) to a .tflite file for Larq Compute Engine.

    Nothing is written, and the exit code is 1, where a binary convolution would stay float or the file
    does not compute what Keras does on held-out images (on random ones, where the dataset is not on this
    machine; on noise, for a Keras model without --dataset).
    Then the first layer that differs is named, and the flipped signs of each layer are shown.
    """
    if output is not None and output.suffix.lower() in _OTHER_KINDS:
        raise UsageError(f"what is written is a TFLite file, and {output} is named like another kind of file")
    opened = Target.open(target)
    require_converter()
    require_images(**pictures)
    path = opened.output(output, "model.tflite")
    if form is None:
        orphans = ("calibration_images", "int8_input", "int8_output")
        options.refuse(context, orphans, "these options need --int8")
    elif no_fold:
        raise UsageError("--int8 needs folding; leave out --no-fold")

    from bnn_tf import convert as convert_model
    from bnn_tf.deploy import Int8
    from bnn_tf.deploy.proof import Disagreement

    network = opened.network()
    known = pictures["dataset"] is not None or opened.knows_images()
    image_set = opened.images(**pictures) if known else None
    samples, compared_on = _samples(image_set, images, required=form is not None)
    int8 = None if form is None else Int8(form, int8_input, int8_output)
    calibration = None if form is None else _calibration(image_set, calibration_images)
    try:
        report = convert_model(
            network,
            path,
            images=samples,
            fold=not no_fold,
            int8=int8,
            calibration=calibration,
            batch=batch,
            input=input_type,
            normalization=_pixels(image_set) if input_type == "uint8" else None,
            contract=image_set and image_set.contract(),
            allow_disagreement=allow_disagreement,
        )
    except Disagreement as error:
        if as_json or error.report.layers:
            options.emit({"parity": error.report.to_dict()}, as_json, error.report.table())
        raise
    result = {**report.to_dict(), "compared_on": compared_on}
    files.write_text(sidecar(path), json.dumps(report.contract, indent=2) + "\n")
    if opened.kind == "run":
        _record(opened.path, path, result, f"{report.parity}, compared on {compared_on}")
    table = f"\n{report.parity.table()}" if layers and report.parity else ""
    options.emit(result, as_json, f"{report}{table}")


def _record(run: Path, file: Path, result: dict[str, Any], agreement: str) -> None:
    """Keeps what the conversion said in the run, for its report."""
    record = {"sha256": files.checksum(file), **result, "agreement": agreement, "path": str(file.resolve())}
    files.write_text(run / CONVERSION, json.dumps(record, indent=2) + "\n")


def _samples(image_set: ImageSet | None, count: int, required: bool) -> "tuple[np.ndarray | None, str]":
    """Normalised images to compare with Keras on, and what they are; without a set `convert` takes noise."""
    if image_set is None:
        return None, "noise"
    shown, source = image_set.samples(count, required)
    return image_set.pre().normalize(shown), "random images" if source is None else source.name


def _calibration(image_set: ImageSet | None, count: int) -> "np.ndarray":
    """The training images to measure int8 ranges on."""
    from bnn_tf import data

    if image_set is None:
        raise UsageError("--int8 measures ranges on images; name a --dataset and a --normalization")
    return data.take(image_set.source(), image_set.pre(), count, split="train")[0]


def _pixels(image_set: ImageSet | None) -> "Normalization":
    """How a file that takes raw pixels normalises them."""
    from bnn_tf.deploy import Normalization

    if image_set is None:
        raise UsageError("--input uint8 needs the normalization: name a --dataset and a --normalization")
    return Normalization(tuple(image_set.pre().mean), tuple(image_set.pre().std))
