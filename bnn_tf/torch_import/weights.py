"""The state dict of an author's network into the network here that computes the same.

Arrays change from PyTorch's layout into Keras', turned by 180° as `bnn_tf.layers.Flip` asks for:

| what | PyTorch | here |
| --- | --- | --- |
| convolution | `(out, in, kh, kw)`, or flat (Bi-Real Net) | `(kh, kw, in, out)`, both spatial axes reversed |
| dense, also as a 1×1 convolution | `(out, c·h·w)` | `(h·w·c, out)`, rows and columns of the map reversed |
| codebook | `(2^b, 9)` | `(2^b, 9)`, the nine reversed |
| vectors | `(c)`, `(1, c, 1, 1)`, `(c, 1, 1)` | the variable's shape |
"""

import dataclasses
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from bnn_tf._tensorflow import lq, tf
from bnn_tf.codebook import DEAD_ZONE, SLICE
from bnn_tf.errors import UserError, some
from bnn_tf.torch_import import names
from bnn_tf.training.start import Key, variables
from bnn_tf.transforms import latent_value
from bnn_tf.values import InNotebooks

_OWN = ("tau", "memory", "step")  # have no influence on logits, or follow from others
_SHOWN = 4  # names of each kind in a refusal

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Matching(InNotebooks):
    """What an assignment did.

    Args:
        matched: `layer/variable` for each PyTorch name that was taken.
        ignored: Names that were not taken, and why.
        kept: Variables of the network that have no source and need none.
        notes: What else one should know.

    Example:
        >>> print(Matching({"linear.bias": "logits/bias"}, {"conv1.tau": "ReCU's clamp"}))
        matched 1 variables, ignored 1 names
        ignored, ReCU's clamp: conv1.tau
    """

    matched: Mapping[str, str]
    ignored: Mapping[str, str]
    kept: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        reasons: dict[str, list[str]] = {}
        for name, reason in self.ignored.items():
            reasons.setdefault(reason, []).append(name)
        lines = [
            f"matched {len(self.matched)} variables, ignored {len(self.ignored)} names",
            *(f"ignored, {reason}: {some(left_out, 3)}" for reason, left_out in reasons.items()),
            *([f"without a source, and needing none: {some(self.kept, 3)}"] if self.kept else []),
            *(f"note: {note}" for note in self.notes),
        ]
        return "\n".join(lines)


def assign(
    network: tf.keras.Model,
    arrays: Mapping[str, np.ndarray],
    model: str,
    ignore: Sequence[str] = (),
    source: str = "this",
) -> Matching:
    """Gives every variable of a network with `torch_padding` its array, all or none.

    Args:
        network: The network, built with `torch_padding=True`.
        arrays: The authors' state dict, in PyTorch's names and layout.
        model: Name of the architecture, as in `zoo.MODELS`.
        ignore: Patterns (`*`, `?`) of names to leave out.
        source: What errors call the checkpoint.

    Raises:
        UserError: a name has no place, a variable no source, or shapes differ: it is the checkpoint of
            another network.

    Example:
        >>> network = zoo.CifarResNet20(method="recu", torch_padding=True)
        >>> assign(network, {"conv1.weight": np.zeros((16, 3, 3, 3), np.float32)}, "cifar_resnet20")
        Traceback (most recent call last):
        bnn_tf.errors.UserError: this is no checkpoint of cifar_resnet20 with that method and these options: …
    """
    wanted = variables(network)
    full = _full_codebooks(arrays, wanted)
    ignored = {name: reason for name in arrays if (reason := _reason(name, ignore, full))}
    keys: dict[str, Key | None] = {}
    for name in (name for name in arrays if name not in ignored):
        key = names.our_key(model, name)
        keys[name] = None if key in keys.values() else key  # only the first of two names has it
    values, mismatched = _values(network, arrays, keys, wanted)
    homeless = [name for name, key in keys.items() if key not in wanted]
    empty = [key for key in wanted if key not in set(keys.values()) and key[1] not in _OWN]
    if homeless or mismatched or empty:
        what = f"{source} is no checkpoint of {model} with that method and these options"
        raise UserError(f"{what}: {_misfit(mismatched, homeless, empty)}")
    for key, value in values.items():
        wanted[key].assign(value)
    notes = [*_derive_memory(wanted, values), *_zeros(network)]
    return Matching(
        matched={name: "/".join(key) for name, key in keys.items() if key is not None},
        ignored=ignored,
        kept=tuple("/".join(key) for key in wanted if key not in values),
        notes=tuple(notes),
    )


def _reason(name: str, ignore: Sequence[str], full: frozenset[str]) -> str | None:
    """Why a name is left out, or `None`."""
    if any(fnmatchcase(name, pattern) for pattern in ignore):
        return "as asked for"
    if name in full:
        return "holds all 512 patterns, which is the plain sign"
    return names.unused(name)


def _full_codebooks(arrays: Mapping[str, np.ndarray], wanted: Mapping[Key, tf.Variable]) -> frozenset[str]:
    """Codebooks with every pattern (nine bits), for a network that has none."""
    if any(variable == "codebook" for _, variable in wanted):
        return frozenset()
    return frozenset(
        name
        for name, array in arrays.items()
        if name.endswith(".binarize.patterns")
        and array.shape == (2**SLICE, SLICE)
        and len(np.unique(array > 0, axis=0)) == len(array)
    )


def _values(
    network: tf.keras.Model,
    arrays: Mapping[str, np.ndarray],
    keys: Mapping[str, Key | None],
    wanted: Mapping[Key, tf.Variable],
) -> tuple[dict[Key, np.ndarray], list[str]]:
    """Converted arrays by variable, and a description of each that does not fit."""
    map_size = tuple(network.get_layer("flatten").input_shape[1:3])
    values, mismatched = {}, []
    for name, key in keys.items():
        if key is None or key not in wanted:
            continue
        shape = tuple(wanted[key].shape)
        value = from_torch(arrays[name], key[1], shape, map_size)
        if value is None:
            expected = torch_shape(key[1], shape)
            mismatched.append(f"{name} is {arrays[name].shape}, {'/'.join(key)} wants {expected}")
        else:
            values[key] = value
    return values, mismatched


def _misfit(mismatched: list[str], homeless: list[str], empty: list[Key]) -> str:
    """The first names of each kind."""
    parts = [
        f"{len(entries)} {what}: {', '.join(entries[:_SHOWN])}{', …' if len(entries) > _SHOWN else ''}"
        for what, entries in (
            ("of other shapes", mismatched),
            ("names without a place", homeless),
            ("variables without a source", ["/".join(key) for key in empty]),
        )
        if entries
    ]
    return "; ".join(parts)


def _derive_memory(wanted: Mapping[Key, tf.Variable], values: Mapping[Key, np.ndarray]) -> list[str]:
    """Sets the patterns in force, which SNN's code keeps outside its checkpoints, to the latent signs."""
    codebooks = {layer: latent for (layer, variable), latent in values.items() if variable == "codebook"}
    undecided = 0
    for layer, latent in codebooks.items():
        if (layer, "memory") not in values:
            wanted[layer, "memory"].assign(np.where(latent >= 0, 1, -1).astype(np.float32))
            undecided += int(np.sum(np.abs(latent) < DEAD_ZONE))
    note = "patterns in force are the signs of the latent ones: the authors' checkpoints do not hold them"
    if undecided:
        note += f"; {undecided} elements below {DEAD_ZONE} may have had the other sign"
    return [note] if codebooks else []


def _zeros(network: tf.keras.Model) -> list[str]:
    """PyTorch's sign of 0 is 0, which no binary kernel can hold."""
    count = sum(
        int(np.sum(latent_value(layer.kernel).numpy() == 0))
        for layer in network.layers
        if isinstance(layer, lq.layers.QuantConv2D) and getattr(layer.kernel_quantizer, "elementwise", False)
    )
    if not count:
        return []
    return [f"{count} binary weights are exactly 0: PyTorch leaves them out, here they count as +1"]


def torch_shape(variable: str, shape: Sequence[int]) -> Shape:
    """The shape that PyTorch's tensor has for a variable, for messages and checks."""
    if variable == "kernel":
        return (*reversed(shape[-2:]), *shape[:-2])
    return _long_axes(shape) if len(shape) > 1 else tuple(shape)


def from_torch(
    array: np.ndarray, variable: str, shape: Sequence[int], map_size: Shape = (1, 1)
) -> np.ndarray | None:
    """The array as a variable holds it, or `None` where the shapes do not go together.

    Args:
        array: In PyTorch's layout.
        variable: Own name of the variable: `kernel`, `gamma`, `codebook`, ….
        shape: Its shape.
        map_size: Height and width of the map that a dense layer flattens.
    """
    if variable == "kernel":
        return _kernel(array, tuple(shape)) if len(shape) == 4 else _dense(array, tuple(shape), map_size)
    if variable in ("codebook", "memory"):
        return np.ascontiguousarray(array[:, ::-1]) if array.shape == tuple(shape) else None
    if _long_axes(array.shape) != _long_axes(shape):
        return None
    return array.reshape(shape)


def _long_axes(shape: Sequence[int]) -> Shape:
    return tuple(size for size in shape if size != 1)


def _kernel(array: np.ndarray, shape: Shape) -> np.ndarray | None:
    height, width, channels, filters = shape
    size = int(np.prod(shape))
    if array.shape not in ((filters, channels, height, width), (size, 1), (size,)):
        return None
    kernel = array.reshape(filters, channels, height, width).transpose(2, 3, 1, 0)
    return np.ascontiguousarray(kernel[::-1, ::-1])


def _dense(array: np.ndarray, shape: Shape, map_size: Shape) -> np.ndarray | None:
    inputs, outputs = shape
    if array.shape not in ((outputs, inputs), (outputs, inputs, 1, 1)):
        return None
    maps = array.reshape(outputs, -1, *map_size)[:, :, ::-1, ::-1]
    return np.ascontiguousarray(maps.transpose(2, 3, 1, 0).reshape(shape))
