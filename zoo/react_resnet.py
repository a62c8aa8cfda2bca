"""ReActNet-style ResNets: learned biases before the sign and around a PReLU (SNN, ReCU two-stage)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bnn_tf._tensorflow import lazy, tf
from zoo import blocks
from zoo.blocks import Builder, architecture

if TYPE_CHECKING:
    from bnn_tf import layers
else:
    layers = lazy("bnn_tf.layers")

WIDTHS = (64, 128, 256, 512)


def _react_resnet(
    net: Builder, image: tf.Tensor, stem: str, shortcut: str, stages: Sequence[int]
) -> tf.Tensor:
    """The network with `stages[i]` binary convolutions in stage i; see `ReActResNet18`."""
    around = blocks.shortcut_of(shortcut)

    def block(x: tf.Tensor, filters: int, strides: int, name: str) -> tf.Tensor:
        side = around(net, x, filters, name, strides)
        x = layers.LearnableBias(name=f"{name}_threshold")(x)
        x = blocks.add(net.binary(x, filters, name, strides=strides), side, f"{name}_add")
        return blocks.react_activation(x, name)

    x = blocks.stem(net, image, WIDTHS[0], stem)
    return blocks.stages(x, blocks.stage_counts(stages), WIDTHS, block)


@architecture("react_resnet18", method="subbit")
def ReActResNet18(
    net: Builder,
    image: tf.Tensor,
    stem: str = "imagenet",
    shortcut: str = "conv",
    stages: Sequence[int] = (4, 4, 4, 4),
) -> tf.Tensor:
    """ResNet-18 of ReActNet blocks, the network of SNN and of ReCU's two-stage training.

    11,704,424 parameters, plus `16 · 9 · 2^b` of codebooks with SNN; 16 binary convolutions. Published
    ImageNet accuracy of SNN: top-1 63.4, 62.1, 60.7 % at b = 6, 5, 4 bits per 3×3 slice.

    Args:
        stem: `"imagenet"` (7×7/2 and max pool), or the cheaper `"quick"` (QuickNet's) and `"patch"` (4×4/4);
            see `zoo.blocks.stem`.
        shortcut: Where the shape changes: `"conv"` (average pool, real 1×1 convolution, BatchNorm) or
            `"concat"` (average pool, channels repeated, no parameters).
        stages: Binary convolutions per stage.

    References:
        [SNN](https://arxiv.org/abs/2110.09195), [ReActNet](https://arxiv.org/abs/2003.03488)

    Example:
        >>> zoo.ReActResNet18(method="recu", stages=(1, 1, 1, 1), num_classes=10).output_shape
        (None, 10)
    """
    return _react_resnet(net, image, stem, shortcut, stages)


@architecture("react_resnet34", method="subbit")
def ReActResNet34(
    net: Builder,
    image: tf.Tensor,
    stem: str = "imagenet",
    shortcut: str = "conv",
    stages: Sequence[int] = (6, 8, 12, 6),
) -> tf.Tensor:
    """ResNet-34 of ReActNet blocks; options as `ReActResNet18`.

    21,827,432 parameters without codebooks; 32 binary convolutions.
    """
    return _react_resnet(net, image, stem, shortcut, stages)


@architecture("react_resnet18_quick", method="subbit", pad_values=1.0)
def ReActResNet18Quick(net: Builder, image: tf.Tensor) -> tf.Tensor:
    """`ReActResNet18` for devices: QuickNet's stem, shortcuts without parameters, one-padding.

    16 binary convolutions; 73 million instructions an image at 224×224 on ARM instead of 126, 3.5 MB. No
    published accuracy.
    """
    return _react_resnet(net, image, "quick", "concat", (4, 4, 4, 4))


@architecture("react_resnet34_quick", method="subbit", pad_values=1.0)
def ReActResNet34Quick(net: Builder, image: tf.Tensor) -> tf.Tensor:
    """`ReActResNet34` for devices, as `ReActResNet18Quick`; 32 binary convolutions."""
    return _react_resnet(net, image, "quick", "concat", (6, 8, 12, 6))
