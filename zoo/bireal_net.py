"""Bi-Real Net: one shortcut around every binary convolution (https://arxiv.org/abs/1808.00278)."""

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


def _bireal_net(net: Builder, image: tf.Tensor, stem: str, shortcut: str, stages: Sequence[int]) -> tf.Tensor:
    """The network with `stages[i]` binary convolutions in stage i; see `BiRealNet18`."""
    around = blocks.shortcut_of(shortcut)

    def block(x: tf.Tensor, filters: int, strides: int, name: str) -> tf.Tensor:
        side = around(net, x, filters, name, strides)
        return blocks.add(net.binary(x, filters, name, strides=strides), side, f"{name}_add")

    x = blocks.stem(net, image, WIDTHS[0], stem)
    return blocks.stages(x, blocks.stage_counts(stages), WIDTHS, block)


@architecture("bireal_net18")
def BiRealNet18(
    net: Builder,
    image: tf.Tensor,
    stem: str = "imagenet",
    shortcut: str = "conv",
    stages: Sequence[int] = (4, 4, 4, 4),
) -> tf.Tensor:
    """Bi-Real Net with 18 layers.

    11,689,512 parameters, 16 binary convolutions, 33.6 Mbit, 1.63e8 operations at 224×224. Published
    ImageNet accuracy: top-1 56.4 %, top-5 79.5 %.

    Args:
        stem: `"imagenet"` (7×7/2 and max pool), or the cheaper `"quick"` (QuickNet's) and `"patch"` (4×4/4);
            see `zoo.blocks.stem`.
        shortcut: Where the shape changes: `"conv"` (average pool, real 1×1 convolution, BatchNorm) or
            `"concat"` (average pool, channels repeated, no parameters).
        stages: Binary convolutions per stage.

    References:
        [Bi-Real Net](https://arxiv.org/abs/1808.00278)

    Example:
        >>> zoo.BiRealNet18(stem="quick", shortcut="concat", stages=(1, 1, 1, 1)).count_params()
        2103976
    """
    return _bireal_net(net, image, stem, shortcut, stages)


@architecture("bireal_net34")
def BiRealNet34(
    net: Builder,
    image: tf.Tensor,
    stem: str = "imagenet",
    shortcut: str = "conv",
    stages: Sequence[int] = (6, 8, 12, 6),
) -> tf.Tensor:
    """Bi-Real Net with 34 layers; options as `BiRealNet18`.

    21,797,672 parameters, 32 binary convolutions, 43.7 Mbit, 1.93e8 operations at 224×224. Published
    ImageNet accuracy: top-1 62.2 %, top-5 83.9 %.
    """
    return _bireal_net(net, image, stem, shortcut, stages)


@architecture("bireal_net18_quick", pad_values=1.0)
def BiRealNet18Quick(net: Builder, image: tf.Tensor) -> tf.Tensor:
    """`BiRealNet18` for devices: QuickNet's stem, shortcuts without parameters, one-padding.

    11,507,944 parameters, 16 binary convolutions; 67 million instructions an image at 224×224 on ARM instead
    of 120, 3.5 MB. No published accuracy.
    """
    return _bireal_net(net, image, "quick", "concat", (4, 4, 4, 4))


@architecture("bireal_net34_quick", pad_values=1.0)
def BiRealNet34Quick(net: Builder, image: tf.Tensor) -> tf.Tensor:
    """`BiRealNet34` for devices, as `BiRealNet18Quick`; 32 binary convolutions."""
    return _bireal_net(net, image, "quick", "concat", (6, 8, 12, 6))


@architecture("bireal_net50")
def BiRealNet50(
    net: Builder,
    image: tf.Tensor,
    stem: str = "imagenet",
    shortcut: str = "conv",
    stages: Sequence[int] = (3, 4, 6, 3),
) -> tf.Tensor:
    """Bi-Real Net with 50 layers in bottlenecks and two residual streams; options as `BiRealNet18`.

    25,729,064 parameters (the authors' model has 1,024 more, which it never uses), 47 binary
    convolutions. `stages` counts bottlenecks. Published ImageNet accuracy: top-1 62.6 %, top-5 83.9 %.
    """
    around = blocks.shortcut_of(shortcut)
    narrow = wide = blocks.stem(net, image, WIDTHS[0], stem)
    for stage, (count, filters) in enumerate(zip(blocks.stage_counts(stages), WIDTHS, strict=True), start=1):
        for index in range(count):
            strides = 2 if stage > 1 and index == 0 else 1
            first = stage == 1 and index == 0
            name = f"stage{stage}_block{index + 1}"
            narrow, wide = _bottleneck(net, narrow, wide, filters, strides, first, name, around)
    return wide


def _bottleneck(
    net: Builder,
    narrow: tf.Tensor,
    wide: tf.Tensor,
    filters: int,
    strides: int,
    first: bool,
    name: str,
    around: blocks.Shortcut,
) -> tuple[tf.Tensor, tf.Tensor]:
    """1×1, 3×3, 1×1 with a shortcut around each; returns the new narrow and wide streams."""
    if first:
        x = layers.LeakyClip(name=f"{name}_clip")(wide)
        x = net.conv(x, filters, 1, f"{name}_reduce_conv", role="shortcut")
        x = net.batch_norm(x, f"{name}_reduce_bn")
    else:
        if narrow.shape[-1] != filters:
            narrow = net.conv(narrow, filters, 1, f"{name}_narrow_conv", role="shortcut")
        x = blocks.add(
            net.binary(wide, filters, f"{name}_reduce", kernel_size=1), narrow, f"{name}_reduce_add"
        )
    side = blocks.average_pool(x, f"{name}_pool") if strides == 2 else x
    narrow = blocks.add(
        net.binary(x, filters, f"{name}_spatial", strides=strides), side, f"{name}_spatial_add"
    )
    side = around(net, wide, 4 * filters, name, strides)
    wide = blocks.add(
        net.binary(narrow, 4 * filters, f"{name}_expand", kernel_size=1), side, f"{name}_expand_add"
    )
    return narrow, wide
