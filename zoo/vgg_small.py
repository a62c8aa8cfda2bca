"""VGG-Small for 32×32 images as ReCU and OvSW binarize it."""

from __future__ import annotations

from typing import Literal

from bnn_tf import methods
from bnn_tf._tensorflow import tf
from bnn_tf.values import check
from zoo import blocks
from zoo.blocks import Builder, architecture

# The authors start this network by its own rule, whatever the method.
START = methods.Initializers(
    "kaiming_normal_fan_out", "kaiming_normal_fan_out", "kaiming_normal_fan_out", "normal_0.01", "zeros"
)


@architecture(
    "vgg_small",
    method="recu",
    input_shape=(32, 32, 3),
    num_classes=10,
    head="dense",
    initializers=START,
)
def VGGSmall(net: Builder, image: tf.Tensor, last_activation: str = "hard_tanh") -> tf.Tensor:
    """VGG-Small: six convolutions of 128 to 512 channels; max pools before BatchNorm after the 2nd, 4th, 6th.

    4,661,770 parameters with ReCU, 4,660,618 with OvSW and PReLU; 5 binary convolutions. The classifier sees
    the whole map, so that the images' size must be known. Published CIFAR-10 accuracy: ReCU 92.2 % (finetuned
    93.3 %).

    Args:
        last_activation: `"hard_tanh"` (ReCU) or `"prelu"`, with one slope per channel (OvSW).

    References:
        [ReCU](https://arxiv.org/abs/2103.12369), [OvSW](https://arxiv.org/abs/2407.05257)

    Example:
        >>> zoo.VGGSmall(method="ovsw", last_activation="prelu").count_params()
        4664202
    """
    check("last_activation", last_activation, Literal["hard_tanh", "prelu"])
    x = net.batch_norm(net.conv(image, 128, 3, "stem_conv"), "stem_bn")
    for index, filters in enumerate((128, 256, 256, 512, 512), start=2):
        x = net.method.clip(x, f"block{index}_clip")
        x = net.binary_conv(x, filters, f"block{index}_conv", activate=False)
        if index % 2 == 0:
            x = tf.keras.layers.MaxPool2D(2, name=f"block{index}_pool")(x)
        x = net.batch_norm(x, f"block{index}_bn")
    return (
        net.method.clip(x, "last_clip") if last_activation == "hard_tanh" else blocks.prelu(x, "last_prelu")
    )
