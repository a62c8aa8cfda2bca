"""Trained weights that come with the package: `weights="cifar10"` in a network, `zoo:NAME` in every command.

Each name (`cifar_resnet20-ovsw`: network and method) has two files in `zoo/weights`: `NAME.npz` with an
array per variable, latent kernels as float16, and `NAME.json` with their checksum, the run's configuration,
environment and metrics, and the accuracy of exactly these arrays in Keras and in Larq Compute Engine.
`scripts/make_results.py --ship` writes both.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bnn_tf import files
from bnn_tf._tensorflow import lazy
from bnn_tf.errors import UserError, unknown

if TYPE_CHECKING:
    from bnn_tf import transforms
    from bnn_tf._tensorflow import tf
else:
    transforms = lazy("bnn_tf.transforms")

PREFIX = "zoo:"
FOLDER = Path(__file__).parent / "weights"


def names() -> list[str]:
    """Names of all weights that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def record(name: str) -> dict[str, Any]:
    """What is known of weights: `config`, `environment`, `metrics`, `accuracy`, `checksum`.

    Raises:
        UsageError: there are no weights of that name.
    """
    if name not in names():
        raise unknown("trained network in the zoo", name, names())
    return json.loads((FOLDER / f"{name}.json").read_text())


def datasets() -> set[str]:
    """The datasets that there are weights for."""
    return {record(name)["config"]["recipe"]["dataset"] for name in names()}


def name_for(model: str, method: str, dataset: str) -> str:
    """The name of a network's weights.

    Raises:
        UsageError: this network, method and dataset have none.
    """
    name = f"{model}-{method}"
    if name not in names() or record(name)["config"]["recipe"]["dataset"] != dataset:
        raise unknown(f"network trained on {dataset} in the zoo", name, names())
    return name


def save(network: tf.keras.Model, path: Path) -> str:
    """Writes a network's variables as compressed arrays; returns the file's checksum.

    Latent kernels become float16. A kernel's rounding can turn single signs where a method standardizes its
    kernels; what the zoo states is therefore measured with the arrays as they are read back.
    """
    arrays = {}
    for key, variable in _variables(network).items():
        value = transforms.latent_value(variable).numpy()
        arrays[key] = value.astype(np.float16) if value.ndim >= 2 else value
    with files.replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)
    return files.checksum(path)


def assign(network: tf.keras.Model, name: str) -> None:
    """Gives a network the weights of a name.

    Raises:
        UserError: the file is damaged, or the network is not the one that was trained.
    """
    path = FOLDER / f"{name}.npz"
    if files.checksum(path) != record(name)["checksum"]:
        raise UserError(f"{path} is damaged: install the package again")
    with np.load(path, allow_pickle=False) as arrays:
        values = {key: arrays[key].astype(np.float32) for key in arrays.files}
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
