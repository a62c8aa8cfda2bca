"""What a checkpoint's names and shapes say about the method and the network that it is of."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from bnn_tf.errors import UsageError, UserError


@dataclasses.dataclass(frozen=True)
class Settings:
    """A method and options of a network.

    Args:
        method: Name of the method.
        method_options: Options of it that the checkpoint shows.
        model_options: Options of the architecture that it shows.
        classes: Number of logits.
    """

    method: str
    method_options: Mapping[str, Any]
    model_options: Mapping[str, Any]
    classes: int


def infer(arrays: Mapping[str, np.ndarray], model: str, method: str | None = None) -> Settings:
    """Method and options of the network in a state dict.

    Args:
        arrays: The state dict.
        model: Name of the architecture that it is said to be of.
        method: Name of the method where it is known.

    Raises:
        UsageError: it could be one of several methods.
        UserError: there is no classifier.
    """
    method = method or _method(arrays, model)
    return Settings(method, _method_options(arrays, method), _model_options(arrays, model), _classes(arrays))


def _ends(arrays: Mapping[str, np.ndarray], *fields: str) -> list[np.ndarray]:
    return [array for name, array in arrays.items() if name.endswith(fields)]


def _method(arrays: Mapping[str, np.ndarray], model: str) -> str:
    if _ends(arrays, ".alpha"):
        return "recu"
    if _ends(arrays, ".binarize.patterns"):
        return "subbit"
    if model.startswith("bireal") or _ends(arrays, ".binary_conv.weights"):
        return "bireal"
    if model.startswith("react"):
        raise UsageError(
            "the checkpoint does not show its method; name it: --method bireal (ReActNet's second step), or "
            "--method real --set method.activation_name=sign (the first step: real weights)"
        )
    return "ovsw"


def _method_options(arrays: Mapping[str, np.ndarray], method: str) -> dict[str, Any]:
    patterns = _ends(arrays, ".binarize.patterns")
    if method == "subbit" and patterns:
        return {"bits": int(np.log2(len(patterns[0])))}
    if method == "ovsw":
        return {"scale": "learned" if _ends(arrays, ".scaling_factor") else "standardized"}
    return {}


def _model_options(arrays: Mapping[str, np.ndarray], model: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if model.startswith("cifar_") and model != "cifar_resnet20":
        conv = any(".shortcut.0." in name for name in arrays)
        options["shortcut"] = "conv" if conv else "pool"
    if model == "vgg_small":
        options["last_activation"] = "prelu" if "nonlinear5.weight" in arrays else "hard_tanh"
    return options


def _classes(arrays: Mapping[str, np.ndarray]) -> int:
    for name in ("fc.weight", "linear.weight"):
        if name in arrays:
            return len(arrays[name])
    first = ", ".join(list(arrays)[:3])
    raise UserError(f"this is no checkpoint of the four papers' networks: no fc or linear among {first}, …")
