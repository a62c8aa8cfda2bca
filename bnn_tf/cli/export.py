"""`bnn-tf export`."""

import shlex
from pathlib import Path
from typing import Any

import click

from bnn_tf.cli import options
from bnn_tf.cli.target import Target, read_class_names
from bnn_tf.errors import UsageError


@options.command()
@click.argument("target", type=options.TARGET)
@click.option("-o", "--output", type=options.PATH, help="C file to write; default: model.c in the run.")
@click.option("--name", help="What the functions' names begin with; default: the file's name.")
@click.option("--header", is_flag=True, help="Write a header file beside it.")
@click.option(
    "--subbit",
    is_flag=True,
    help="Store binary filters of few patterns as indices into a codebook; the first run expands them.",
)
@click.option(
    "--int8-weights",
    is_flag=True,
    help="Store the weights of real layers as int8, with a step for each output channel.",
)
@click.option(
    "--check/--no-check",
    default=None,
    help="Compile and run the program and compare it with Keras (a converted file: with LCE's interpreter), "
    "layer by layer; default: where there is a C compiler.",
)
@options.pictures
@options.images
@options.class_names
@options.opening
def export(
    target: Path,
    output: Path | None,
    name: str | None,
    header: bool,
    subbit: bool,
    int8_weights: bool,
    class_names: Path | None,
    check: bool | None,
    images: int,
    as_json: bool,
    **pictures: Any,
) -> None:
    """Write TARGET as one C file that needs nothing but a C compiler.

    TARGET is a run, a saved Keras model, or a .tflite file (or a .snn file of the sub-bit method) that
    `convert` or LCE's converter wrote, with int8 values or without. The name of a network does as well: it
    gets random weights, to know its flash, RAM and speed before training it.

    The file runs on a Raspberry Pi, a phone, a microcontroller or in a browser, without Larq Compute Engine.
    What is printed includes the flash and the RAM that it takes. Nothing is written, and the exit code is 1,
    where a layer cannot be exported or the program does not compute what Keras does.
    """
    opened = Target.open(target)
    opened.require_lce()
    path = opened.output(output, "model.c")
    if path.suffix not in (".c", ".cc", ".cpp", ".inc"):
        raise UsageError(f"a C program is written; name a file that ends in .c, not {path}")
    names = read_class_names(class_names) if class_names is not None else []

    from bnn_tf import export_c
    from bnn_tf.export.timing import FAST

    network = opened.content() if opened.is_converted else opened.network()
    samples = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    if pictures["dataset"] is not None or opened.knows_images():
        image_set = opened.images(**pictures)
        settings = image_set.pre()
        names, mean, std = names or image_set.class_names, settings.mean, settings.std
        if check is not False:
            samples = settings.normalize(image_set.samples(images)[0])
    elif pictures["normalization"] is not None:
        settings = opened.images("any", None, pictures["normalization"]).pre()
        mean, std = settings.mean, settings.std
    report = export_c(
        network,
        path,
        name=name,
        classes=names,
        mean=mean,
        std=std,
        images=samples,
        check=check,
        header=header,
        subbit=subbit,
        int8_weights=int8_weights,
    )
    # Often there is a run of that name, which is a folder.
    program = f"{report.name}_main" if Path(report.name).is_dir() else report.name
    compiled = shlex.join(["cc", *FAST, f"-D{report.name.upper()}_MAIN", str(path), "-o", program])
    text = report.text(answers=opened.kind != "architecture")
    options.emit(report.to_dict(), as_json, f"{text}\nas a program that takes PPM files: {compiled} -lm")
