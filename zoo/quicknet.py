"""QuickNet, Larq's network for ARM (https://arxiv.org/abs/2011.09398), with any method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from bnn_tf._tensorflow import lazy, tf
from bnn_tf.values import Range, check
from zoo import blocks
from zoo.blocks import Builder, architecture

if TYPE_CHECKING:
    from bnn_tf import layers
else:
    layers = lazy("bnn_tf.layers")

WIDTHS = (64, 128, 256, 512)
NARROW = (32, 64, 256, 512)
Width = Annotated[int, Range(least=4)]


def _quicknet(net: Builder, image: tf.Tensor, stages: Sequence[int], widths: Sequence[int]) -> tf.Tensor:
    counts = blocks.stage_counts(stages)
    widths = check("widths", widths, tuple[Width, Width, Width, Width])
    x = net.batch_norm(blocks.quick_stem(net, image, widths[0]), "stem_bn")
    for stage, (count, filters) in enumerate(zip(counts, widths, strict=True), start=1):
        if stage > 1:
            x = _transition(net, x, filters, f"stage{stage}_transition")
        for index in range(count):
            name = f"stage{stage}_block{index + 1}"
            y = net.binary_conv(x, filters, f"{name}_conv")
            y = tf.keras.layers.ReLU(name=f"{name}_relu")(y)
            x = blocks.add(net.batch_norm(y, f"{name}_bn"), x, f"{name}_add")
    return tf.keras.layers.ReLU(name="last_relu")(x)


def _transition(net: Builder, x: tf.Tensor, filters: int, name: str) -> tf.Tensor:
    """ReLU, 2×2 max pool without stride, 3×3/2 blur, real 1×1 convolution, BatchNorm."""
    x = tf.keras.layers.ReLU(name=f"{name}_relu")(x)
    x = tf.keras.layers.MaxPool2D(2, strides=1, name=f"{name}_pool")(x)
    x = tf.keras.layers.DepthwiseConv2D(
        3,
        strides=2,
        padding="same",
        use_bias=False,
        depthwise_initializer=layers.BlurInitializer(),
        trainable=False,
        name=f"{name}_blur",
    )(x)
    x = net.conv(x, filters, 1, f"{name}_conv", role="shortcut")
    return net.batch_norm(x, f"{name}_bn")


@architecture("quicknet", pad_values=1.0)
def QuickNet(
    net: Builder,
    image: tf.Tensor,
    stages: Sequence[int] = (4, 4, 4, 4),
    widths: Sequence[int] = WIDTHS,
) -> tf.Tensor:
    """QuickNet: convolution, ReLU, BatchNorm inside shortcuts, blurred pooling between stages; one-padding.

    16 binary convolutions. Larq's own training of it (other quantizers) reaches a top-1 accuracy of 63.3 % on
    ImageNet; with this package's methods none is published.

    Args:
        stages: Binary convolutions per stage.
        widths: Channels per stage; the first one a multiple of 4.

    References:
        [Larq Compute Engine](https://arxiv.org/abs/2011.09398)

    Example:
        >>> zoo.QuickNet(method="ovsw", stages=(1, 1, 1, 1), input_shape=(64, 64, 1)).output_shape
        (None, 1000)
    """
    return _quicknet(net, image, stages, widths)


@architecture("quicknet_small", pad_values=1.0)
def QuickNetSmall(net: Builder, image: tf.Tensor) -> tf.Tensor:
    """`QuickNet` with 32, 64, 256, 512 channels; 16 binary convolutions. Larq's own reaches 59.4 %."""
    return _quicknet(net, image, (4, 4, 4, 4), NARROW)


@architecture("quicknet_large", pad_values=1.0)
def QuickNetLarge(net: Builder, image: tf.Tensor) -> tf.Tensor:
    """`QuickNet` with 6, 8, 12, 6 blocks; 32 binary convolutions. Larq's own reaches 66.9 %."""
    return _quicknet(net, image, (6, 8, 12, 6), WIDTHS)
