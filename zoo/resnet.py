"""ResNets of ReCU and OvSW for ImageNet: a shortcut around every binary convolution, hard-tanh."""

from __future__ import annotations

from collections.abc import Sequence

from bnn_tf._tensorflow import tf
from zoo import blocks
from zoo.blocks import Builder, architecture

WIDTHS = (64, 128, 256, 512)
GAMMA = 1e-8  # start of the BatchNorm scales


def _strided_shortcut(net: Builder, x: tf.Tensor, filters: int, name: str, strides: int) -> tf.Tensor:
    """A real 1×1 convolution with the stride, BatchNorm; the identity where shapes agree."""
    if strides == 1 and x.shape[-1] == filters:
        return x
    if strides == 2:
        x = blocks.torch_phase(net, x, f"{name}_shortcut_crop")
    x = net.conv(x, filters, 1, f"{name}_shortcut_conv", strides=strides, role="shortcut")
    return net.batch_norm(x, f"{name}_shortcut_bn", GAMMA)


def _resnet(net: Builder, image: tf.Tensor, stem: str, shortcut: str, stages: Sequence[int]) -> tf.Tensor:
    """The network with `stages[i]` binary convolutions in stage i; see `ResNet18`."""
    around = blocks.shortcut_of(shortcut, _strided_shortcut)

    def block(x: tf.Tensor, filters: int, strides: int, name: str) -> tf.Tensor:
        side = around(net, x, filters, name, strides)
        x = net.binary(x, filters, name, strides=strides, activate=False, gamma=GAMMA)
        return net.method.clip(blocks.add(x, side, f"{name}_add"), f"{name}_clip")

    x = blocks.stem(net, image, WIDTHS[0], stem, GAMMA, clip=True)
    return blocks.stages(x, blocks.stage_counts(stages), WIDTHS, block)


@architecture("resnet18", method="recu", head="normalized_classifier")
def ResNet18(
    net: Builder,
    image: tf.Tensor,
    stem: str = "imagenet",
    shortcut: str = "conv",
    stages: Sequence[int] = (4, 4, 4, 4),
) -> tf.Tensor:
    """ResNet-18 for ImageNet as ReCU and OvSW binarize it.

    11,694,376 parameters with ReCU (whose scales are learned), 11,690,536 with OvSW; 16 binary
    convolutions. Published ImageNet accuracy: ReCU top-1 60.98 %, top-5 82.57 % (finetuned 61.20 %,
    82.93 %).

    Args:
        stem: `"imagenet"` (7×7/2 and max pool), or the cheaper `"quick"` (QuickNet's) and `"patch"` (4×4/4);
            see `zoo.blocks.stem`.
        shortcut: Where the shape changes: `"conv"` (real 1×1 convolution with stride 2, BatchNorm) or
            `"concat"` (average pool, channels repeated, no parameters).
        stages: Binary convolutions per stage.

    References:
        [ReCU](https://arxiv.org/abs/2103.12369), [OvSW](https://arxiv.org/abs/2407.05257)

    Example:
        >>> zoo.ResNet18(method="ovsw", stages=(1, 1, 1, 1), include_top=False).output_shape
        (None, 7, 7, 512)
    """
    return _resnet(net, image, stem, shortcut, stages)


@architecture("resnet34", method="recu", head="normalized_classifier")
def ResNet34(
    net: Builder,
    image: tf.Tensor,
    stem: str = "imagenet",
    shortcut: str = "conv",
    stages: Sequence[int] = (6, 8, 12, 6),
) -> tf.Tensor:
    """ResNet-34 for ImageNet as ReCU and OvSW binarize it; options as `ResNet18`.

    21,806,248 parameters with ReCU, 21,798,696 with OvSW; 32 binary convolutions. Published ImageNet
    accuracy: ReCU top-1 65.10 %, top-5 85.78 % (finetuned 65.25 %, 85.98 %).
    """
    return _resnet(net, image, stem, shortcut, stages)


@architecture("resnet18_quick", method="recu", head="normalized_classifier", pad_values=1.0)
def ResNet18Quick(net: Builder, image: tf.Tensor) -> tf.Tensor:
    """`ResNet18` for devices: QuickNet's stem, shortcuts without parameters, one-padding.

    16 binary convolutions. No published accuracy.
    """
    return _resnet(net, image, "quick", "concat", (4, 4, 4, 4))


@architecture("resnet34_quick", method="recu", head="normalized_classifier", pad_values=1.0)
def ResNet34Quick(net: Builder, image: tf.Tensor) -> tf.Tensor:
    """`ResNet34` for devices, as `ResNet18Quick`; 32 binary convolutions."""
    return _resnet(net, image, "quick", "concat", (6, 8, 12, 6))
