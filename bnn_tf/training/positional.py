"""Weights from a network whose layers bear other names, matched by kind, order and shape."""

import dataclasses

import numpy as np

from bnn_tf._tensorflow import lq, tf
from bnn_tf.errors import UserError
from bnn_tf.training.transfer import TransferReport, own_name
from bnn_tf.transforms import latent_value

_KINDS = ("binary convolution", "real convolution", "dense layer")


@dataclasses.dataclass(frozen=True)
class Unit:
    """A layer with a kernel and the BatchNorm behind it.

    Attributes:
        layer: The convolution or dense layer.
        norm: Its BatchNorm; `None` where none follows.
    """

    layer: tf.keras.layers.Layer
    norm: tf.keras.layers.BatchNormalization | None

    @property
    def parts(self) -> list[tf.keras.layers.Layer]:
        """The layers that are there."""
        return [layer for layer in (self.layer, self.norm) if layer is not None]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the kernel."""
        return tuple(self.layer.kernel.shape)


def transfer_in_order(source: tf.keras.Model, target: tf.keras.Model) -> TransferReport:
    """Copies the weights of `source` to the layers of `target` of the same kind, order and kernel shape.

    The two must have equally many binary convolutions, real convolutions and dense layers. Dense layers of
    another shape are left out (another number of classes), anything else must fit. BatchNorms give the
    same although their epsilons differ: the variance takes up the difference, so that with equal arithmetic
    in between the networks compute the same.

    Raises:
        UserError: a count or the shape of a convolution differs.
    """
    theirs, ours = units(source), units(target)
    matched: list[str] = []
    mismatched: list[str] = []
    taken: set[int] = set()
    for kind in _KINDS:
        _check_count(kind, source, target, len(theirs[kind]), len(ours[kind]))
        for given, wanted in zip(theirs[kind], ours[kind], strict=True):
            if given.shape == wanted.shape:
                matched += _copy(given, wanted, taken)
            elif kind == _KINDS[-1]:
                mismatched.append(f"{wanted.layer.name}/kernel {given.shape} -> {wanted.shape}")
            else:
                raise UserError(
                    f"{source.name} does not fit {target.name}: kernel of {wanted.layer.name} is "
                    f"{wanted.shape}, that of {given.layer.name} {given.shape}"
                )
    return TransferReport(
        matched=tuple(sorted(matched)),
        missing=_others(target, set(matched)),
        unused=tuple(sorted(v.name for v in source.weights if id(v) not in taken)),
        mismatched=tuple(mismatched),
    )


def units(model: tf.keras.Model) -> dict[str, list[Unit]]:
    """The layers with kernels by kind, each kind in the network's order."""
    found: dict[str, list[Unit]] = {kind: [] for kind in _KINDS}
    for layer in model.layers:
        if isinstance(layer, tf.keras.layers.Dense):
            found[_KINDS[2]].append(Unit(layer, None))
        elif isinstance(layer, tf.keras.layers.Conv2D):
            binary = isinstance(layer, lq.layers.QuantConv2D) and layer.kernel_quantizer is not None
            found[_KINDS[0 if binary else 1]].append(Unit(layer, _norm_behind(layer)))
    return found


def _norm_behind(layer: tf.keras.layers.Layer) -> tf.keras.layers.BatchNormalization | None:
    """The BatchNorm that follows, perhaps after a scale."""
    while len(layer.outbound_nodes) == 1:
        layer = layer.outbound_nodes[0].layer
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            return layer
        if isinstance(layer, (tf.keras.layers.Conv2D, tf.keras.layers.Add)):
            break
    return None


def _check_count(kind: str, source: tf.keras.Model, target: tf.keras.Model, theirs: int, ours: int) -> None:
    if theirs != ours:
        raise UserError(
            f"{source.name} does not fit {target.name}: one has {theirs} of the kind {kind}, the other {ours}"
        )


def _copy(given: Unit, wanted: Unit, taken: set[int]) -> list[str]:
    """Copies the variables that both have; returns their names in the target."""
    names = []
    for theirs, ours in zip(given.parts, wanted.parts, strict=False):
        variables = {own_name(variable): variable for variable in theirs.weights}
        for variable in ours.weights:
            name = own_name(variable)
            if name in variables:
                variable.assign(_value(name, variables[name], theirs, ours))
                taken.add(id(variables[name]))
                names.append(f"{ours.name}/{name}")
    return names


def _value(
    name: str, variable: tf.Variable, theirs: tf.keras.layers.Layer, ours: tf.keras.layers.Layer
) -> np.ndarray:
    value = latent_value(variable)
    if name == "moving_variance":
        return np.maximum(value + (theirs.epsilon - ours.epsilon), 0)
    return value


def _others(model: tf.keras.Model, done: set[str]) -> tuple[str, ...]:
    names = {f"{layer.name}/{own_name(v)}" for layer in model.layers for v in layer.weights}
    return tuple(sorted(names - done))
