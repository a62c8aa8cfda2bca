"""`bnn-tf import-torch`."""

from pathlib import Path
from typing import Any

import click

from bnn_tf.cli import options
from bnn_tf.cli.target import read_class_names, require_inputs
from bnn_tf.errors import UserError


@options.command("import-torch")
@click.argument("file", type=options.PATH)
@click.option(
    "--model",
    metavar="NAME",
    required=True,
    type=options.MODEL,
    help="Architecture; `bnn-tf models` lists them.",
)
@click.option(
    "-o", "--output", metavar="RUN", type=options.PATH, required=True, help="Run directory to make."
)
@click.option(
    "--method",
    metavar="NAME",
    type=options.METHOD,
    help="Method; default: as the checkpoint shows.",
)
@click.option(
    "--dataset",
    metavar="NAME",
    type=options.DATASET,
    help="What it was trained on; default: as the authors.",
)
@options.data_dir
@options.class_names
@click.option(
    "--normalization",
    metavar="NAME",
    type=options.NORMALIZATION,
    help="imagenet, cifar, unit or none; default: as the authors.",
)
@options.settings
@click.option(
    "--ignore", metavar="PATTERN", multiple=True, help="Leave out names of the checkpoint: 'aux.*'."
)
@options.imports
@options.json_option
def import_torch(
    file: Path, as_json: bool, class_names: Path | None, settings: tuple[str, ...], **chosen: Any
) -> None:
    """Import FILE, a PyTorch checkpoint of the four papers, as a run with exactly its logits.

    FILE is a state dict or a dictionary that holds one. Only tensors and plain values are read, no code.
    Every tensor needs its place and every variable its tensor, else nothing is written. `evaluate`,
    `convert` and `train --init-from` take the run like any other.

    The network turns its image by 180°, because TensorFlow pads strided layers on the other side than
    PyTorch; the kernels are turned as well (model.torch_padding).
    """
    if not file.is_file():  # said before TensorFlow is loaded
        raise UserError(f"there is no checkpoint {file}")
    require_inputs(chosen["dataset"], chosen["data_dir"], ())

    from bnn_tf.torch_import import Request, import_checkpoint

    request = Request(
        file,
        class_names=None if class_names is None else read_class_names(class_names),
        settings=[options.parse_setting(text) for text in settings],
        **chosen,
    )
    imported = import_checkpoint(request)
    options.emit(imported.to_dict(), as_json, str(imported))
