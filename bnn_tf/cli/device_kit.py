"""`bnn-tf device-kit`."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnn_tf import files
from bnn_tf.cli import options
from bnn_tf.cli.target import Target, read_class_names
from bnn_tf.deploy.lce_file import is_installed, require_converter
from bnn_tf.errors import UsageError, UserError

if TYPE_CHECKING:
    from bnn_tf._tensorflow import tf
    from bnn_tf.deploy import Interpreter

_CANDIDATES = 32  # images among which the reference is chosen


@options.command("device-kit")
@click.argument("target", type=options.TARGET)
@click.option("-o", "--output", type=options.PATH, required=True, metavar="DIR", help="Folder to write.")
@click.option(
    "--tflite",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="Take this converted file instead of converting TARGET.",
)
@click.option("--force", is_flag=True, help="Write into a folder that holds something; replace our files.")
@options.pictures
@options.images
@options.class_names
@options.opening
def device_kit(
    target: Path,
    output: Path,
    tflite: Path | None,
    force: bool,
    images: int,
    class_names: Path | None,
    as_json: bool,
    **pictures: Any,
) -> None:
    """Write a folder that takes TARGET (a run or a saved Keras model) to a phone or board.

    It holds the converted model, its preprocessing in NumPy, a reference image with its expected output,
    scripts that run it on an Android phone or a 64-bit Raspberry Pi and compare, and a README; beside it the
    network as a C program and a web page, which are all that is written where Larq Compute Engine is not
    installed. It needs nothing of bnn-tf.
    """
    opened = Target.open(target)
    if opened.is_converted:
        raise UsageError(
            f"a device kit compares {target} with the Keras network that it was made from; "
            f"write bnn-tf device-kit RUN --tflite {target} -o {output}"
        )
    if tflite is not None:
        require_converter()
    if not (force and output.is_dir()):
        files.require_empty(output, "name another folder with -o, or add --force")
    names = None if class_names is None else read_class_names(class_names)
    image_set = opened.images(**pictures)

    from bnn_tf import convert, device_kit
    from bnn_tf.deploy import Interpreter

    network, keras = opened.network(), opened.predict()
    pre = image_set.pre()
    pixels, source = image_set.samples(images)
    known = image_set.class_names or (list(source.class_names) if source else [])
    few = pixels[:_CANDIDATES]
    inputs = pre.normalize(few)
    if not is_installed():
        reference = device_kit.choose(keras, keras, few, inputs)
        labels = _labels(names, known, reference.outputs.size)
        report = device_kit.write(output, None, labels, pre, reference, network=network)
        options.emit(report.to_dict(), as_json, str(report))
        return
    with tempfile.TemporaryDirectory() as folder:
        file = tflite or Path(folder) / "model.tflite"
        if tflite is None:
            convert(network, file, images=pre.normalize(pixels))
        interpreter = Interpreter(file)
        _check_shapes(interpreter, network)
        reference = device_kit.choose(interpreter.predict, keras, few, inputs)
        report = device_kit.write(
            output,
            file,
            _labels(names, known, reference.outputs.size),
            pre,
            reference,
            interpreter.input_quantization,
            interpreter.output_quantization,
            network,
        )
    options.emit(report.to_dict(), as_json, str(report))


def _check_shapes(interpreter: "Interpreter", network: "tf.keras.Model") -> None:
    file_shape, network_shape = interpreter.output_shape[1:], tuple(network.output_shape[1:])
    if file_shape != network_shape:
        raise UserError(f"the .tflite file gives outputs of shape {file_shape}, the network {network_shape}")


def _labels(chosen: list[str] | None, known: list[str], count: int) -> list[str]:
    """A name for each output; their numbers where the dataset has another number of classes."""
    if chosen is not None and len(chosen) != count:
        raise UserError(f"--class-names gives {len(chosen)} names, the network has {count} outputs")
    names = known if chosen is None else chosen
    return names if len(names) == count else [str(number) for number in range(count)]
