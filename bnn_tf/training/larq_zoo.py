"""Larq Zoo's networks by name: `larq-zoo:NAME`, wherever a run or a saved model is taken.

`larq-zoo:QuickNet` has the weights that Larq Zoo trained on ImageNet, `larq-zoo:QuickNet:random` random ones;
a size (`larq-zoo:QuickNet:192`, `larq-zoo:QuickNet:random:128x96`) takes the place of 224×224.
"""

import contextlib
import dataclasses
import inspect
import io
import os
import re
from collections.abc import Callable

from bnn_tf import data
from bnn_tf._runtime import quiet_native_stderr
from bnn_tf._tensorflow import tf
from bnn_tf.errors import UsageError, UserError, unknown

PREFIX = "larq-zoo:"
NORMALIZATION = "imagenet"
"""Larq Zoo's networks take images normalised this way (`larq_zoo.preprocess_input`)."""

_SIZE = re.compile(r"([1-9]\d{0,3})(?:x([1-9]\d{0,3}))?")


@dataclasses.dataclass(frozen=True)
class Name:
    """One of Larq Zoo's networks.

    Attributes:
        name: As Larq Zoo spells it.
        random: Whether it starts with random weights instead of those trained on ImageNet.
        size: Height and width of its images.
    """

    name: str
    random: bool = False
    size: tuple[int, int] = (224, 224)


def is_name(text: str | os.PathLike) -> bool:
    """Whether this names a network of Larq Zoo."""
    return os.fspath(text).startswith(PREFIX)


def parse(text: str | os.PathLike) -> Name:
    """Reads `larq-zoo:NAME[:random][:HEIGHTxWIDTH]`.

    Raises:
        UsageError: there is no such network, or something else follows.
    """
    name, *options = os.fspath(text).removeprefix(PREFIX).split(":")
    if name not in builders():
        raise unknown("network in Larq Zoo", name, builders())
    found = Name(name)
    for option in options:
        size = _SIZE.fullmatch(option)
        if size:
            found = dataclasses.replace(found, size=(int(size[1]), int(size[2] or size[1])))
        elif option == "random":
            found = dataclasses.replace(found, random=True)
        else:
            raise UsageError(f"{text}: after {PREFIX}{name} come :random and a size (:192), not {option!r}")
    return found


def builders() -> dict[str, Callable[..., tf.keras.Model]]:
    """Larq Zoo's networks by name."""
    with quiet_native_stderr():
        from larq_zoo import literature, sota
    found = {**vars(literature), **vars(sota)}
    return {name: build for name, build in sorted(found.items()) if inspect.isfunction(build)}


def load(text: str | os.PathLike) -> tf.keras.Model:
    """The network, from images normalised as `NORMALIZATION` says to logits (without Larq Zoo's softmax).

    Raises:
        UserError: there is no such network, its weights cannot be had, or it does not take that size.
    """
    wanted = parse(text)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # the progress of the download
            network = _build(wanted)
    except Exception as error:  # what Keras raises for a failed download is a plain Exception
        what = f"{PREFIX}{wanted.name} for images of {wanted.size[0]}×{wanted.size[1]}"
        if wanted.random:
            raise UserError(f"{what} cannot be built: {_first(error)}") from error
        raise UserError(
            f"the weights of {what} are not to be had ({_first(error)}); "
            f"for random ones say {PREFIX}{wanted.name}:random"
        ) from error
    return tf.keras.Model(network.input, network.layers[-1].input, name=network.name)


def _first(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _build(wanted: Name) -> tf.keras.Model:
    build = builders()[wanted.name]
    trained = None if wanted.random else build(weights="imagenet")
    if trained is not None and trained.input_shape[1:3] == wanted.size:
        return trained
    network = build(weights=None, input_shape=(*wanted.size, 3))
    if trained is not None:  # Keras loads the weights at 224×224 only
        network.set_weights(trained.get_weights())
    return network


def preprocessing(size: tuple[int, int]) -> data.Images:
    """Its images: the centre 7/8 of the short side.

    Larq Zoo's own `preprocess_input` cuts out the same part and then resizes with a bicubic filter, where
    ours is bilinear and anti-aliased.
    """
    return data.Images(evaluation=data.ResizeShort(), size=size, normalization=NORMALIZATION)


def for_normalization(network: tf.keras.Model, normalization: str) -> tf.keras.Model:
    """The network for images that are normalised otherwise."""
    if normalization == NORMALIZATION:
        return network
    mean, std = (tf.constant(values) for values in data.NORMALIZATIONS[normalization])
    own_mean, own_std = (tf.constant(values) for values in data.NORMALIZATIONS[NORMALIZATION])
    image = tf.keras.Input(network.input_shape[1:])
    return tf.keras.Model(image, network((image * std + mean - own_mean) / own_std), name=network.name)
