"""Reads PyTorch's checkpoint files: tensors and plain values, never code."""

import dataclasses
import importlib
import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bnn_tf.errors import UserError, first_line

_LEAST_TORCH = (2, 6)  # before it, `weights_only` had a hole (CVE-2025-32434)
_INSTALL = "pip install '.[torch]' in bnn-tf's checkout, or pip install torch (its CPU build is enough)"
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network")
_PREFIXES = ("module.", "_orig_mod.")  # DataParallel, torch.compile


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The tensors of a network, and what else its file says.

    Args:
        arrays: Arrays by PyTorch's names, in the file's order and PyTorch's layout; floats are float32.
        facts: Numbers and texts beside them: `epoch`, `best_prec1`, `arch`, ….

    Example:
        >>> Checkpoint({"linear.bias": np.zeros(10, np.float32)}, {"epoch": 600}).facts
        {'epoch': 600}
    """

    arrays: Mapping[str, np.ndarray]
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def read(path: str | os.PathLike) -> Checkpoint:
    """The checkpoint in a file that `torch.save` wrote: a state dict, or a dictionary that holds one.

    Nothing that the file names is imported or called (`weights_only=True`).

    Raises:
        UserError: PyTorch is missing or too old, or the file is absent, damaged, no checkpoint, or needs
            more than tensors and plain values.

    Example:
        >>> read("nowhere.pt")
        Traceback (most recent call last):
        bnn_tf.errors.UserError: there is no checkpoint file nowhere.pt
    """
    torch = _torch()
    if not Path(path).is_file():
        raise UserError(f"there is no checkpoint file {path}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        if named is None:
            raise UserError(f"{path} is damaged or no PyTorch checkpoint") from error
        raise UserError(
            f"{path} is refused: it wants to call {named[1]}, and only tensors and plain values are read; if "
            "you trust the file, load it in PyTorch and save its state_dict() alone"
        ) from error
    except Exception as error:  # of a damaged file PyTorch's readers raise whatever they stumble over
        raise UserError(f"{path} is damaged or no PyTorch checkpoint: {first_line(error)}") from error
    return unwrap(_plain(content, torch.Tensor), os.fspath(path))


def _torch() -> Any:
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        raise UserError(f"reading PyTorch's checkpoints needs PyTorch: {_INSTALL}") from error
    version = tuple(int(number) for number in re.findall(r"\d+", torch.__version__)[:2])
    if version < _LEAST_TORCH:
        raise UserError(f"PyTorch {torch.__version__} cannot read files safely; 2.6 or later can: {_INSTALL}")
    return torch


def _plain(value: Any, tensor: type) -> Any:
    """Mappings with arrays and plain values in them; everything else becomes `None`."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item, tensor) for key, item in value.items()}
    if isinstance(value, tensor):
        return _array(value)
    return value if isinstance(value, (bool, int, float, str)) else None


def _array(value: Any) -> np.ndarray | None:
    try:
        value = value.detach()
        return (value.float() if value.is_floating_point() else value).numpy()
    except (RuntimeError, TypeError, NotImplementedError):  # sparse, quantized, without data
        return None


def unwrap(content: Any, source: str) -> Checkpoint:
    """The checkpoint in what a file holds: nested dictionaries of arrays and plain values.

    The state dict is the content itself or stands under `state_dict`, `model`, `net` or the like;
    prefixes that all names share (`module.` of DataParallel) are taken off.

    Raises:
        UserError: there is no state dict.

    Example:
        >>> content = {"epoch": 600, "state_dict": {"module.linear.bias": np.zeros(10, np.float32)}}
        >>> list(unwrap(content, "model.pt").arrays)
        ['linear.bias']
    """
    holder = content if isinstance(content, Mapping) else {}
    inner = next((holder[key] for key in _WRAPPERS if _tensors(holder.get(key))), None)
    arrays = _tensors(holder if inner is None else inner)
    if not arrays:
        what = f"has only {', '.join(map(str, holder))}" if holder else "is no dictionary"
        raise UserError(f"{source} holds no state dict: it {what}")
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in arrays):
            arrays = {name.removeprefix(prefix): array for name, array in arrays.items()}
    return Checkpoint(arrays, {} if inner is None else _facts(holder))


def _tensors(content: Any) -> dict[str, np.ndarray]:
    values = content.items() if isinstance(content, Mapping) else ()
    return {name: value for name, value in values if isinstance(value, np.ndarray)}


def _facts(content: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values, and tensors of one element as such."""
    numbers = {name: array.item() for name, array in _tensors(content).items() if array.size == 1}
    plain = {**content, **numbers}
    return {key: value for key, value in plain.items() if isinstance(value, (bool, int, float, str))}
