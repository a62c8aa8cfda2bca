"""ResNets for 32×32 images as ReCU and OvSW binarize them."""

import os
from collections.abc import Callable, Sequence
from typing import Any

from bnn_tf import methods
from bnn_tf._tensorflow import tf
from zoo import blocks

_WIDTHS = (64, 128, 256, 512)
_SHORTCUTS = ("pool", "conv")


def _build(
    name: str,
    counts: Sequence[int],
    widths: Sequence[int],
    make_block: Callable[[blocks.Block, blocks.Clip], Callable[..., tf.Tensor]],
    method: Any,
    input_shape: Sequence[int | None],
    num_classes: int,
    pad_values: float,
    weights: str | os.PathLike | None,
    torch_padding: bool,
    clip_stem: bool = False,
) -> tf.keras.Model:
    """3×3 stem, stages of blocks, BatchNorm before the classifier."""
    image = blocks.inputs(input_shape)
    x = blocks.conv(blocks.oriented(image, torch_padding), widths[0], 3, "stem_conv")
    x = blocks.batch_norm(x, "stem_bn")
    resolved = methods.get(method)
    x = resolved.clip(x, "stem_clip") if clip_stem else resolved.activation(x, "stem_activation")
    block = make_block(blocks.binarizer(resolved, pad_values, activate=False), resolved.clip)
    x = blocks.stages(x, counts, widths, block)
    return blocks.finish(image, blocks.classifier(x, num_classes, normalize=True), name, weights)


def _shortcut(
    binary: blocks.Block, kind: str, x: tf.Tensor, filters: int, strides: int, name: str, torch_padding: bool
) -> tf.Tensor:
    if strides == 1 and x.shape[-1] == filters:
        return x
    if kind == "conv":
        if strides == 2:
            x = blocks.torch_phase(x, f"{name}_shortcut_crop", torch_padding)
        return binary(x, filters, f"{name}_shortcut", kernel_size=1, strides=strides)
    return blocks.padded_shortcut(x, filters, name, strides)


def _short_blocks(binary: blocks.Block, clip: blocks.Clip) -> Callable[..., tf.Tensor]:
    """Two convolutions, each with a shortcut of its own and a hard-tanh after the sum."""

    def block(x: tf.Tensor, filters: int, strides: int, name: str) -> tf.Tensor:
        for half, stride in (("a", strides), ("b", 1)):
            shortcut = blocks.padded_shortcut(x, filters, f"{name}{half}", stride)
            x = binary(x, filters, f"{name}{half}", strides=stride)
            x = clip(blocks.add(x, shortcut, f"{name}{half}_add"), f"{name}{half}_clip")
        return x

    return block


def _basic_blocks(
    kind: str, torch_padding: bool
) -> Callable[[blocks.Block, blocks.Clip], Callable[..., tf.Tensor]]:
    """Two convolutions inside one shortcut, hard-tanh between them and after the sum."""

    def make(binary: blocks.Block, clip: blocks.Clip) -> Callable[..., tf.Tensor]:
        def block(x: tf.Tensor, filters: int, strides: int, name: str) -> tf.Tensor:
            shortcut = _shortcut(binary, kind, x, filters, strides, name, torch_padding)
            x = clip(binary(x, filters, f"{name}a", strides=strides), f"{name}a_clip")
            x = binary(x, filters, f"{name}b")
            return clip(blocks.add(x, shortcut, f"{name}_add"), f"{name}_clip")

        return block

    return make


def _bottleneck_blocks(
    kind: str, torch_padding: bool
) -> Callable[[blocks.Block, blocks.Clip], Callable[..., tf.Tensor]]:
    """1×1, 3×3, 1×1 (four times as wide) inside one shortcut, hard-tanh between and after the sum."""

    def make(binary: blocks.Block, clip: blocks.Clip) -> Callable[..., tf.Tensor]:
        def block(x: tf.Tensor, filters: int, strides: int, name: str) -> tf.Tensor:
            shortcut = _shortcut(binary, kind, x, 4 * filters, strides, name, torch_padding)
            x = clip(binary(x, filters, f"{name}a", kernel_size=1), f"{name}a_clip")
            x = clip(binary(x, filters, f"{name}b", strides=strides), f"{name}b_clip")
            x = binary(x, 4 * filters, f"{name}c", kernel_size=1)
            return clip(blocks.add(x, shortcut, f"{name}_add"), f"{name}_clip")

        return block

    return make


def CifarResNet20(
    *,
    method: methods.Method | str | dict[str, Any] = "recu",
    input_shape: Sequence[int | None] = (32, 32, 3),
    num_classes: int = 10,
    pad_values: float = 0.0,
    weights: str | os.PathLike | None = None,
    torch_padding: bool = False,
) -> tf.keras.Model:
    """ResNet-20 for CIFAR: 16, 32, 64 channels, a shortcut around every binary convolution.

    270,522 parameters with ReCU, 269,850 with OvSW; 18 binary convolutions, 40.1 M binary
    multiply-accumulates. Published CIFAR-10 accuracy: ReCU 87.5 % (finetuned 88.0 %).

    Args:
        method: How the convolutions are binarized: a method or its name.
        input_shape: `(height, width, channels)`.
        num_classes: Number of logits.
        pad_values: Padding of the binary convolutions: 0 as in the papers, or 1 (faster on device).
        weights: `None` for a random start, or the path of a weights file.
        torch_padding: Pad strided layers as PyTorch does at even sizes: the image is turned by 180°, and
            the kernels must be turned too, as `bnn-tf import-torch` leaves them.

    Returns:
        A Keras model from normalised images to logits.

    Raises:
        UserError: the weights do not load, or there is no such method.
        ValueError: the input size does not go with `torch_padding`.

    References:
        [ReCU](https://arxiv.org/abs/2103.12369), [OvSW](https://arxiv.org/abs/2407.05257)
    """
    return _build(
        "cifar_resnet20", (3, 3, 3), (16, 32, 64), _short_blocks,
        method, input_shape, num_classes, pad_values, weights, torch_padding, clip_stem=True,
    )  # fmt: skip


def CifarResNet18(
    *,
    method: methods.Method | str | dict[str, Any] = "recu",
    input_shape: Sequence[int | None] = (32, 32, 3),
    num_classes: int = 10,
    pad_values: float = 0.0,
    weights: str | os.PathLike | None = None,
    shortcut: str = "pool",
    torch_padding: bool = False,
) -> tf.keras.Model:
    """ResNet-18 for CIFAR: 64 to 512 channels, one shortcut per two binary convolutions.

    11,005,002 parameters with ReCU and 16 binary convolutions; 11,174,986 and 19 with OvSW and
    `shortcut="conv"`. Published CIFAR-10 accuracy: ReCU 92.8 % (finetuned 93.2 %).

    Args:
        method: How the convolutions are binarized: a method or its name.
        input_shape: `(height, width, channels)`.
        num_classes: Number of logits.
        pad_values: Padding of the binary convolutions: 0 as in the papers, or 1 (faster on device).
        weights: `None` for a random start, or the path of a weights file.
        shortcut: Where the shape changes: `"pool"` averages and pads channels (ReCU), `"conv"` is a
            binary 1×1 convolution with BatchNorm (OvSW).
        torch_padding: Pad strided layers as PyTorch does at even sizes: the image is turned by 180°, and
            the kernels must be turned too, as `bnn-tf import-torch` leaves them.

    Returns:
        A Keras model from normalised images to logits.

    Raises:
        UserError: the weights do not load, or there is no such method.
        ValueError: `shortcut` is something else, or the input size does not go with `torch_padding`.

    References:
        [ReCU](https://arxiv.org/abs/2103.12369), [OvSW](https://arxiv.org/abs/2407.05257)
    """
    return _resnet(
        "cifar_resnet18", (2, 2, 2, 2), _WIDTHS, False,
        shortcut, method, input_shape, num_classes, pad_values, weights, torch_padding,
    )  # fmt: skip


def _resnet(
    name: str,
    counts: Sequence[int],
    widths: Sequence[int],
    bottleneck: bool,
    shortcut: str,
    method: Any,
    input_shape: Sequence[int | None],
    num_classes: int,
    pad_values: float,
    weights: str | os.PathLike | None,
    torch_padding: bool,
) -> tf.keras.Model:
    if shortcut not in _SHORTCUTS:
        raise ValueError(f"shortcut must be 'pool' or 'conv', not {shortcut!r}")
    make_block = (_bottleneck_blocks if bottleneck else _basic_blocks)(shortcut, torch_padding)
    return _build(
        name, counts, widths, make_block,
        method, input_shape, num_classes, pad_values, weights, torch_padding,
    )  # fmt: skip


def _variant(
    snake: str, name: str, counts: Sequence[int], widths: Sequence[int], bottleneck: bool, summary: str
) -> Callable[..., tf.keras.Model]:
    """A public function like `CifarResNet18` for another depth or width."""

    def build(
        *,
        method: methods.Method | str | dict[str, Any] = "recu",
        input_shape: Sequence[int | None] = (32, 32, 3),
        num_classes: int = 10,
        pad_values: float = 0.0,
        weights: str | os.PathLike | None = None,
        shortcut: str = "pool",
        torch_padding: bool = False,
    ) -> tf.keras.Model:
        return _resnet(
            snake, counts, widths, bottleneck,
            shortcut, method, input_shape, num_classes, pad_values, weights, torch_padding,
        )  # fmt: skip

    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"{summary} Arguments as `CifarResNet18`."
    return build


CifarResNet18A = _variant(
    "cifar_resnet18a", "CifarResNet18A", (2, 2, 2, 2), (32, 32, 64, 128), False,
    "`CifarResNet18` with 32, 32, 64, 128 channels: 724,394 parameters with ReCU.",
)  # fmt: skip
CifarResNet18B = _variant(
    "cifar_resnet18b", "CifarResNet18B", (2, 2, 2, 2), (32, 64, 128, 256), False,
    "`CifarResNet18` with 32, 64, 128, 256 channels: 2,756,138 parameters with ReCU.",
)  # fmt: skip
CifarResNet18C = _variant(
    "cifar_resnet18c", "CifarResNet18C", (2, 2, 2, 2), (64, 64, 128, 256), False,
    "`CifarResNet18` with 64, 64, 128, 256 channels: 2,886,474 parameters with ReCU.",
)  # fmt: skip
CifarResNet34 = _variant(
    "cifar_resnet34", "CifarResNet34", (3, 4, 6, 3), _WIDTHS, False,
    "ResNet-34 for CIFAR in the blocks of `CifarResNet18`, 32 binary convolutions.",
)  # fmt: skip
CifarResNet50 = _variant(
    "cifar_resnet50", "CifarResNet50", (3, 4, 6, 3), _WIDTHS, True,
    "ResNet-50 for CIFAR in bottlenecks, 48 binary convolutions.",
)  # fmt: skip
CifarResNet101 = _variant(
    "cifar_resnet101", "CifarResNet101", (3, 4, 23, 3), _WIDTHS, True,
    "ResNet-101 for CIFAR in bottlenecks, 99 binary convolutions.",
)  # fmt: skip
CifarResNet152 = _variant(
    "cifar_resnet152", "CifarResNet152", (3, 8, 36, 3), _WIDTHS, True,
    "ResNet-152 for CIFAR in bottlenecks, 150 binary convolutions.",
)  # fmt: skip
