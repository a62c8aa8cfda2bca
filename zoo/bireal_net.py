"""Bi-Real Net: one shortcut around every binary convolution (https://arxiv.org/abs/1808.00278)."""

import os
from collections.abc import Sequence
from typing import Any

from bnn_tf import methods
from bnn_tf._tensorflow import tf
from bnn_tf.layers import LeakyClip
from zoo import blocks

_WIDTHS = (64, 128, 256, 512)


def _bireal_net(
    name: str,
    convs: Sequence[int],
    method: Any,
    input_shape: Sequence[int | None],
    num_classes: int,
    pad_values: float,
    weights: str | os.PathLike | None,
    torch_padding: bool = False,
) -> tf.keras.Model:
    """The network with `convs[i]` binary convolutions in stage i; see `BiRealNet18`."""
    binary = blocks.binarizer(methods.get(method), pad_values)

    def block(x: tf.Tensor, filters: int, strides: int, name: str) -> tf.Tensor:
        shortcut = blocks.pooled_conv_shortcut(x, filters, name, strides)
        return blocks.add(binary(x, filters, name, strides=strides), shortcut, f"{name}_add")

    image = blocks.inputs(input_shape)
    x = blocks.imagenet_stem(blocks.oriented(image, torch_padding), _WIDTHS[0])
    x = blocks.stages(x, convs, _WIDTHS, block)
    return blocks.finish(image, blocks.classifier(x, num_classes), name, weights)


def BiRealNet18(
    *,
    method: methods.Method | str | dict[str, Any] = "bireal",
    input_shape: Sequence[int | None] = (224, 224, 3),
    num_classes: int = 1000,
    pad_values: float = 0.0,
    weights: str | os.PathLike | None = None,
    torch_padding: bool = False,
) -> tf.keras.Model:
    """Bi-Real Net with 18 layers.

    11,689,512 parameters, 16 binary convolutions, 33.6 Mbit, 1.63e8 operations at 224×224. Published
    ImageNet accuracy: top-1 56.4 %, top-5 79.5 %.

    Args:
        method: How the convolutions are binarized: a method or its name.
        input_shape: `(height, width, channels)`.
        num_classes: Number of logits.
        pad_values: Padding of the binary convolutions: 0 as in the paper, or 1 (faster on device).
        weights: `None` for a random start, or the path of a weights file.
        torch_padding: Pad strided layers as PyTorch does at even sizes: the image is turned by 180°, and
            the kernels must be turned too, as `bnn-tf import-torch` leaves them.

    Returns:
        A Keras model from normalised images to logits.

    Raises:
        UserError: the weights do not load, or there is no such method.
        ValueError: the input size does not go with `torch_padding`.

    References:
        [Bi-Real Net](https://arxiv.org/abs/1808.00278)
    """
    return _bireal_net(
        "bireal_net18", (4, 4, 4, 4),
        method, input_shape, num_classes, pad_values, weights, torch_padding,
    )  # fmt: skip


def BiRealNet34(
    *,
    method: methods.Method | str | dict[str, Any] = "bireal",
    input_shape: Sequence[int | None] = (224, 224, 3),
    num_classes: int = 1000,
    pad_values: float = 0.0,
    weights: str | os.PathLike | None = None,
    torch_padding: bool = False,
) -> tf.keras.Model:
    """Bi-Real Net with 34 layers; arguments as `BiRealNet18`.

    21,797,672 parameters, 32 binary convolutions, 43.7 Mbit, 1.93e8 operations at 224×224. Published
    ImageNet accuracy: top-1 62.2 %, top-5 83.9 %.
    """
    return _bireal_net(
        "bireal_net34", (6, 8, 12, 6),
        method, input_shape, num_classes, pad_values, weights, torch_padding,
    )  # fmt: skip


def _bottleneck(
    narrow: tf.Tensor,
    wide: tf.Tensor,
    filters: int,
    strides: int,
    first: bool,
    name: str,
    binary: blocks.Block,
) -> tuple[tf.Tensor, tf.Tensor]:
    """1×1, 3×3, 1×1 with a shortcut around each; returns the new narrow and wide streams."""
    if first:
        x = LeakyClip(name=f"{name}_clip")(wide)
        x = blocks.batch_norm(blocks.conv(x, filters, 1, f"{name}_reduce_conv"), f"{name}_reduce_bn")
    else:
        if narrow.shape[-1] != filters:
            narrow = blocks.conv(narrow, filters, 1, f"{name}_narrow_conv")
        x = binary(wide, filters, f"{name}_reduce", kernel_size=1)
        x = blocks.add(x, narrow, f"{name}_reduce_add")
    shortcut = blocks.average_pool(x, f"{name}_pool") if strides == 2 else x
    narrow = blocks.add(
        binary(x, filters, f"{name}_spatial", strides=strides), shortcut, f"{name}_spatial_add"
    )
    shortcut = blocks.pooled_conv_shortcut(wide, 4 * filters, name, strides)
    wide = blocks.add(
        binary(narrow, 4 * filters, f"{name}_expand", kernel_size=1), shortcut, f"{name}_expand_add"
    )
    return narrow, wide


def BiRealNet50(
    *,
    method: methods.Method | str | dict[str, Any] = "bireal",
    input_shape: Sequence[int | None] = (224, 224, 3),
    num_classes: int = 1000,
    pad_values: float = 0.0,
    weights: str | os.PathLike | None = None,
    torch_padding: bool = False,
) -> tf.keras.Model:
    """Bi-Real Net with 50 layers in bottlenecks and two residual streams; arguments as `BiRealNet18`.

    25,729,064 parameters (the authors' model has 1,024 more, which it never uses), 47 binary
    convolutions. Published ImageNet accuracy: top-1 62.6 %, top-5 83.9 %.
    """
    binary = blocks.binarizer(methods.get(method), pad_values)
    image = blocks.inputs(input_shape)
    narrow = wide = blocks.imagenet_stem(blocks.oriented(image, torch_padding), _WIDTHS[0])
    for stage, (count, filters) in enumerate(zip((3, 4, 6, 3), _WIDTHS, strict=True), start=1):
        for index in range(count):
            strides = 2 if stage > 1 and index == 0 else 1
            name = f"stage{stage}_block{index + 1}"
            first = stage == 1 and index == 0
            narrow, wide = _bottleneck(narrow, wide, filters, strides, first, name, binary)
    return blocks.finish(image, blocks.classifier(wide, num_classes), "bireal_net50", weights)
