"""Trained weights that come with the package: `weights="cifar10"` in a network, `zoo:NAME` in every command.

Each name (`cifar_resnet20-ovsw`: network and method) has two files in `zoo/weights`: `NAME.npz` with an
array per variable, latent kernels as float16 but where that would turn a sign, and `NAME.json` with their
checksum, the run's configuration, environment and metrics, and the accuracy of exactly these arrays in Keras
and in Larq Compute Engine.
`scripts/make_results.py --ship` writes both.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bnn_tf import files
from bnn_tf._tensorflow import lazy
from bnn_tf.errors import UsageError, UserError, unknown

if TYPE_CHECKING:
    from bnn_tf import transforms
    from bnn_tf._tensorflow import tf
else:
    transforms = lazy("bnn_tf.transforms")

PREFIX = "zoo:"
FOLDER = Path(__file__).parent / "weights"
_MARK = "@"
_SLICES, _EXACT = f"{_MARK}slices", f"{_MARK}exact"


def names() -> list[str]:
    """Names of all weights that come with the package.

    Example:
        >>> "cifar_resnet20-ovsw" in names()
        True
    """
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def record(name: str) -> dict[str, Any]:
    """What is known of weights: `config`, `environment`, `metrics`, `accuracy`, `checksum`.

    Raises:
        UsageError: there are no weights of that name.

    Example:
        >>> round(record("cifar_resnet20-ovsw")["accuracy"]["keras"], 2)
        0.81
    """
    if name not in names():
        raise unknown("trained network in the zoo", name, names())
    return json.loads((FOLDER / f"{name}.json").read_text())


def datasets() -> set[str]:
    """The datasets that there are weights for.

    Example:
        >>> datasets()
        {'cifar10'}
    """
    return {record(name)["config"]["recipe"]["dataset"] for name in names()}


def name_for(model: str, method: str, dataset: str) -> str:
    """The name of a network's weights.

    Raises:
        UsageError: this network, method and dataset have none.

    Example:
        >>> name_for("cifar_resnet20", "ovsw", "cifar10")
        'cifar_resnet20-ovsw'
    """
    name = f"{model}-{method}"
    if name not in names() or record(name)["config"]["recipe"]["dataset"] != dataset:
        known = ", ".join(names())
        raise UsageError(
            f"{model} has no trained weights for {method} on {dataset}; weights come with: {known}"
        )
    return name


def save(network: tf.keras.Model, path: Path) -> str:
    """Writes a network's variables as compressed arrays; returns the file's checksum.

    Kernels become float16. Training leaves many latent kernels next to where their signs turn, so that the
    rounding would turn some: those 3×3 slices are stored as float32 beside it, and the binary kernels are
    exactly the network's.

    Example:
        >>> import tempfile
        >>> checksum = save(zoo.CifarResNet20(method="ovsw"), Path(tempfile.mkdtemp(), "weights.npz"))
        >>> len(checksum)
        64
    """
    arrays = {}
    for key, variable in _variables(network).items():
        value = transforms.latent_value(variable).numpy()
        arrays[key] = value.astype(np.float16) if value.ndim >= 2 else value
        if transforms.is_binary_kernel(variable):
            exact = _exact_slices(value, variable.quantizer)
            arrays[f"{key}{_SLICES}"] = np.flatnonzero(exact).astype(np.int32)
            arrays[f"{key}{_EXACT}"] = value[:, :, exact]
    with files.replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)
    return files.checksum(path)


def _exact_slices(kernel: np.ndarray, quantizer: Callable[[np.ndarray], tf.Tensor]) -> np.ndarray:
    """Which slices of a latent kernel need float32 so that all signs stay where the others are float16."""
    signs = np.sign(quantizer(kernel))
    rounded = kernel.astype(np.float16).astype(np.float32)
    exact = np.zeros(kernel.shape[2:], bool)
    while not exact.all():
        turned = (np.sign(quantizer(np.where(exact, kernel, rounded))) != signs).any((0, 1))
        if not turned.any():
            break
        if (turned & ~exact).any():
            exact |= turned
        else:  # a slice that is exact already turns where all of a filter decide together, by their mean
            filters = turned.any(0)
            exact |= True if exact[:, filters].all() else filters
    return exact


def assign(network: tf.keras.Model, name: str) -> None:
    """Gives a network the weights of a name.

    Raises:
        UserError: the file is damaged, or the network is not the one that was trained.

    Example:
        >>> network = zoo.CifarResNet20(method="ovsw")
        >>> assign(network, "cifar_resnet20-ovsw")
    """
    path = FOLDER / f"{name}.npz"
    if files.checksum(path) != record(name)["checksum"]:
        raise UserError(f"{path} is damaged: install the package again")
    with np.load(path, allow_pickle=False) as arrays:
        values = {key: arrays[key].astype(np.float32) for key in arrays.files if _MARK not in key}
        for key in arrays.files:
            if key.endswith(_SLICES):
                kernel = key.removesuffix(_SLICES)
                height, width, inputs, outputs = values[kernel].shape
                slices = values[kernel].reshape(height, width, inputs * outputs)
                slices[:, :, arrays[key]] = arrays[f"{kernel}{_EXACT}"]
    variables = _variables(network)
    for key in sorted({*values, *variables}):
        here = tuple(variables[key].shape) if key in variables else "missing"
        there = values[key].shape if key in values else "missing"
        if here != there:
            raise UserError(
                f"the weights {name} do not fit this network: {key} is {here} in it and {there} in the file; "
                "`zoo.pretrained.record` names its options"
            )
    for key, value in values.items():
        variables[key].assign(value.astype(variables[key].dtype.as_numpy_dtype))


def _variables(network: tf.keras.Model) -> dict[str, tf.Variable]:
    """Variables by their layer's name and their own; those of quantizers count on in every process."""
    return {
        f"{layer.name}/{variable.name.split('/')[-1].split(':')[0]}": variable
        for layer in network.layers
        for variable in layer.weights
    }
