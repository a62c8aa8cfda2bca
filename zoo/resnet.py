"""ResNets of ReCU and OvSW for ImageNet: a shortcut around every binary convolution, hard-tanh."""

import os
from collections.abc import Sequence
from typing import Any

from bnn_tf import methods
from bnn_tf._tensorflow import tf
from zoo import blocks

_WIDTHS = (64, 128, 256, 512)
_GAMMA = 1e-8  # start of the BatchNorm scales


def _shortcut(x: tf.Tensor, filters: int, name: str, strides: int, torch_padding: bool) -> tf.Tensor:
    if strides == 1 and x.shape[-1] == filters:
        return x
    if strides == 2:
        x = blocks.torch_phase(x, f"{name}_shortcut_crop", torch_padding)
    x = blocks.conv(x, filters, 1, f"{name}_shortcut_conv", strides=strides)
    return blocks.batch_norm(x, f"{name}_shortcut_bn", _GAMMA)


def _resnet(
    name: str,
    convs: Sequence[int],
    method: Any,
    input_shape: Sequence[int | None],
    num_classes: int,
    pad_values: float,
    weights: str | os.PathLike | None,
    torch_padding: bool = False,
) -> tf.keras.Model:
    """The network with `convs[i]` binary convolutions in stage i; see `ResNet18`."""
    resolved = methods.get(method)
    binary = blocks.binarizer(resolved, pad_values, _GAMMA, activate=False)

    def block(x: tf.Tensor, filters: int, strides: int, name: str) -> tf.Tensor:
        shortcut = _shortcut(x, filters, name, strides, torch_padding)
        x = blocks.add(binary(x, filters, name, strides=strides), shortcut, f"{name}_add")
        return resolved.clip(x, f"{name}_clip")

    image = blocks.inputs(input_shape)
    x = blocks.imagenet_stem(blocks.oriented(image, torch_padding), _WIDTHS[0], _GAMMA, clip=resolved.clip)
    x = blocks.stages(x, convs, _WIDTHS, block)
    return blocks.finish(image, blocks.classifier(x, num_classes, normalize=True), name, weights)


def ResNet18(
    *,
    method: methods.Method | str | dict[str, Any] = "recu",
    input_shape: Sequence[int | None] = (224, 224, 3),
    num_classes: int = 1000,
    pad_values: float = 0.0,
    weights: str | os.PathLike | None = None,
    torch_padding: bool = False,
) -> tf.keras.Model:
    """ResNet-18 for ImageNet as ReCU and OvSW binarize it.

    11,694,376 parameters with ReCU (whose scales are learned), 11,690,536 with OvSW; 16 binary
    convolutions. Published ImageNet accuracy: ReCU top-1 60.98 %, top-5 82.57 % (finetuned 61.20 %,
    82.93 %).

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
    return _resnet(
        "resnet18", (4, 4, 4, 4),
        method, input_shape, num_classes, pad_values, weights, torch_padding,
    )  # fmt: skip


def ResNet34(
    *,
    method: methods.Method | str | dict[str, Any] = "recu",
    input_shape: Sequence[int | None] = (224, 224, 3),
    num_classes: int = 1000,
    pad_values: float = 0.0,
    weights: str | os.PathLike | None = None,
    torch_padding: bool = False,
) -> tf.keras.Model:
    """ResNet-34 for ImageNet as ReCU and OvSW binarize it; arguments as `ResNet18`.

    21,806,248 parameters with ReCU, 21,798,696 with OvSW; 32 binary convolutions. Published ImageNet
    accuracy: ReCU top-1 65.10 %, top-5 85.78 % (finetuned 65.25 %, 85.98 %).
    """
    return _resnet(
        "resnet34", (6, 8, 12, 6),
        method, input_shape, num_classes, pad_values, weights, torch_padding,
    )  # fmt: skip
