"""`bnn-tf weights`."""

from pathlib import Path

import click

from bnn_tf.cli import options
from bnn_tf.cli.target import Target
from bnn_tf.errors import UsageError


@options.command()
@click.argument("target", type=options.TARGET)
@click.option(
    "-o", "--output", metavar="FILE.npz", type=options.PATH, required=True, help="The NumPy file to write."
)
@options.opening
def weights(target: Path, output: Path, as_json: bool) -> None:
    """Write the arrays of TARGET (a run or a saved Keras model) for other hardware and software.

    For every binary layer the kernel as -1 and +1 and as packed bits, its scales, and what follows it as a
    multiplier, an offset and a threshold; real layers as they are. `bnn_tf.deploy.weights` documents names
    and layouts.
    """
    opened = Target.open(target)
    path = opened.output(output, "weights.npz")
    if path.suffix != ".npz":
        raise UsageError(f"the arrays are written as a NumPy file; name one that ends in .npz, not {path}")

    from bnn_tf import deploy

    arrays = deploy.weights(opened.network(), path)
    listed = {name: {"shape": list(array.shape), "dtype": str(array.dtype)} for name, array in arrays.items()}
    binary = sum(name.endswith("/bits") for name in arrays)
    size = sum(array.nbytes for array in arrays.values())
    options.emit(
        {"path": str(path), "arrays": listed},
        as_json,
        f"{path}: {len(arrays)} arrays of {binary} binary layers and all others, {size:,} bytes unpacked",
    )
