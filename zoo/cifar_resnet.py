"""ResNets for 32×32 images as ReCU and OvSW binarize them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from bnn_tf._tensorflow import tf
from bnn_tf.values import check
from zoo import blocks
from zoo.blocks import Builder, architecture

WIDTHS = (64, 128, 256, 512)

_STYLE: dict[str, Any] = {
    "method": "recu",
    "input_shape": (32, 32, 3),
    "num_classes": 10,
    "head": "normalized_classifier",
}


@architecture("cifar_resnet20", **_STYLE)
def CifarResNet20(net: Builder, image: tf.Tensor) -> tf.Tensor:
    """ResNet-20 for CIFAR: 16, 32, 64 channels, a shortcut around every binary convolution.

    270,522 parameters with ReCU, 269,850 with OvSW; 18 binary convolutions, 40.1 M binary
    multiply-accumulates. Published CIFAR-10 accuracy: ReCU 87.5 % (finetuned 88.0 %).

    References:
        [ReCU](https://arxiv.org/abs/2103.12369), [OvSW](https://arxiv.org/abs/2407.05257)

    Example:
        >>> zoo.CifarResNet20(method="ovsw", num_classes=100).output_shape
        (None, 100)
    """

    def block(x: tf.Tensor, filters: int, strides: int, name: str) -> tf.Tensor:
        for half, stride in (("a", strides), ("b", 1)):
            side = blocks.padded_shortcut(x, filters, f"{name}{half}", stride)
            x = net.binary(x, filters, f"{name}{half}", strides=stride, activate=False)
            x = net.method.clip(blocks.add(x, side, f"{name}{half}_add"), f"{name}{half}_clip")
        return x

    x = net.batch_norm(net.conv(image, 16, 3, "stem_conv"), "stem_bn")
    return blocks.stages(net.method.clip(x, "stem_clip"), (3, 3, 3), (16, 32, 64), block)


def _resnet(
    net: Builder,
    image: tf.Tensor,
    counts: Sequence[int],
    widths: Sequence[int],
    bottleneck: bool,
    shortcut: str,
) -> tf.Tensor:
    """Blocks of two or three binary convolutions inside one shortcut; see `CifarResNet18`."""
    check("shortcut", shortcut, Literal["pool", "conv"])
    binary, clip = net.binary, net.method.clip

    def around(x: tf.Tensor, filters: int, strides: int, name: str) -> tf.Tensor:
        if strides == 1 and x.shape[-1] == filters:
            return x
        if shortcut == "pool":
            return blocks.padded_shortcut(x, filters, name, strides)
        if strides == 2:
            x = blocks.torch_phase(net, x, f"{name}_shortcut_crop")
        return binary(x, filters, f"{name}_shortcut", kernel_size=1, strides=strides, activate=False)

    def basic(x: tf.Tensor, filters: int, strides: int, name: str) -> tf.Tensor:
        side = around(x, filters, strides, name)
        x = clip(binary(x, filters, f"{name}a", strides=strides, activate=False), f"{name}a_clip")
        x = binary(x, filters, f"{name}b", activate=False)
        return clip(blocks.add(x, side, f"{name}_add"), f"{name}_clip")

    def bottlenecked(x: tf.Tensor, filters: int, strides: int, name: str) -> tf.Tensor:
        side = around(x, 4 * filters, strides, name)
        x = clip(binary(x, filters, f"{name}a", kernel_size=1, activate=False), f"{name}a_clip")
        x = clip(binary(x, filters, f"{name}b", strides=strides, activate=False), f"{name}b_clip")
        x = binary(x, 4 * filters, f"{name}c", kernel_size=1, activate=False)
        return clip(blocks.add(x, side, f"{name}_add"), f"{name}_clip")

    x = net.batch_norm(net.conv(image, widths[0], 3, "stem_conv"), "stem_bn")
    x = net.method.activation(x, "stem_activation")
    return blocks.stages(x, counts, widths, bottlenecked if bottleneck else basic)


@architecture("cifar_resnet18", **_STYLE)
def CifarResNet18(net: Builder, image: tf.Tensor, shortcut: str = "pool") -> tf.Tensor:
    """ResNet-18 for CIFAR: 64 to 512 channels, one shortcut per two binary convolutions.

    11,005,002 parameters with ReCU and 16 binary convolutions; 11,174,986 and 19 with OvSW and
    `shortcut="conv"`. Published CIFAR-10 accuracy: ReCU 92.8 % (finetuned 93.2 %).

    Args:
        shortcut: Where the shape changes: `"pool"` averages and pads channels (ReCU), `"conv"` is a
            binary 1×1 convolution with BatchNorm (OvSW).

    References:
        [ReCU](https://arxiv.org/abs/2103.12369), [OvSW](https://arxiv.org/abs/2407.05257)

    Example:
        >>> zoo.CifarResNet18(method="ovsw", shortcut="conv").name
        'cifar_resnet18'
    """
    return _resnet(net, image, (2, 2, 2, 2), WIDTHS, False, shortcut)


def _variant(
    suffix: str, counts: Sequence[int], widths: Sequence[int], bottleneck: bool, summary: str
) -> Callable[..., tf.keras.Model]:
    """A network like `CifarResNet18` of another depth or width."""

    def body(net: Builder, image: tf.Tensor, shortcut: str = "pool") -> tf.Tensor:
        return _resnet(net, image, counts, widths, bottleneck, shortcut)

    body.__name__ = body.__qualname__ = f"CifarResNet{suffix}"
    body.__doc__ = f'{summary}\n\nArgs:\n    shortcut: `"pool"` or `"conv"`, as in `CifarResNet18`.\n'
    return architecture(f"cifar_resnet{suffix.lower()}", **_STYLE)(body)


_NARROW = "`CifarResNet18` with {} channels: {} parameters with ReCU, 16 binary convolutions."
_VARIANTS = {
    "18A": ((2, 2, 2, 2), (32, 32, 64, 128), False, _NARROW.format("32, 32, 64, 128", "724,394")),
    "18B": ((2, 2, 2, 2), (32, 64, 128, 256), False, _NARROW.format("32, 64, 128, 256", "2,756,138")),
    "18C": ((2, 2, 2, 2), (64, 64, 128, 256), False, _NARROW.format("64, 64, 128, 256", "2,886,474")),
    "34": (
        (3, 4, 6, 3), WIDTHS, False,
        "ResNet-34 for CIFAR in the blocks of `CifarResNet18`, 32 binary convolutions.",
    ),
    "50": ((3, 4, 6, 3), WIDTHS, True, "ResNet-50 for CIFAR in bottlenecks, 48 binary convolutions."),
    "101": ((3, 4, 23, 3), WIDTHS, True, "ResNet-101 for CIFAR in bottlenecks, 99 binary convolutions."),
    "152": ((3, 8, 36, 3), WIDTHS, True, "ResNet-152 for CIFAR in bottlenecks, 150 binary convolutions."),
}  # fmt: skip
(
    CifarResNet18A, CifarResNet18B, CifarResNet18C,
    CifarResNet34, CifarResNet50, CifarResNet101, CifarResNet152,
) = (_variant(suffix, *variant) for suffix, variant in _VARIANTS.items())  # fmt: skip
