"""ReActNet-style ResNets: learned biases before the sign and around a PReLU (SNN, ReCU two-stage)."""

import os
from collections.abc import Sequence
from typing import Any

from bnn_tf import methods
from bnn_tf._tensorflow import tf
from bnn_tf.layers import LearnableBias
from zoo import blocks

_WIDTHS = (64, 128, 256, 512)


def _react_resnet(
    name: str,
    convs: Sequence[int],
    method: Any,
    input_shape: Sequence[int | None],
    num_classes: int,
    pad_values: float,
    weights: str | os.PathLike | None,
    torch_padding: bool = False,
) -> tf.keras.Model:
    """The network with `convs[i]` binary convolutions in stage i; see `ReActResNet18`."""
    binary = blocks.binarizer(methods.get(method), pad_values)

    def block(x: tf.Tensor, filters: int, strides: int, name: str) -> tf.Tensor:
        shortcut = blocks.pooled_conv_shortcut(x, filters, name, strides)
        x = LearnableBias(name=f"{name}_threshold")(x)
        x = blocks.add(binary(x, filters, name, strides=strides), shortcut, f"{name}_add")
        return blocks.react_activation(x, name)

    image = blocks.inputs(input_shape)
    x = blocks.imagenet_stem(blocks.oriented(image, torch_padding), _WIDTHS[0])
    x = blocks.stages(x, convs, _WIDTHS, block)
    return blocks.finish(image, blocks.classifier(x, num_classes), name, weights)


def ReActResNet18(
    *,
    method: methods.Method | str | dict[str, Any] = "subbit",
    input_shape: Sequence[int | None] = (224, 224, 3),
    num_classes: int = 1000,
    pad_values: float = 0.0,
    weights: str | os.PathLike | None = None,
    torch_padding: bool = False,
) -> tf.keras.Model:
    """ResNet-18 of ReActNet blocks, the network of SNN and of ReCU's two-stage training.

    11,704,424 parameters, plus `16 · 9 · 2^b` of codebooks with SNN; 16 binary convolutions. Published
    ImageNet accuracy of SNN: top-1 63.4, 62.1, 60.7 % at b = 6, 5, 4 bits per 3×3 slice.

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
        [SNN](https://arxiv.org/abs/2110.09195), [ReActNet](https://arxiv.org/abs/2003.03488)
    """
    return _react_resnet(
        "react_resnet18", (4, 4, 4, 4),
        method, input_shape, num_classes, pad_values, weights, torch_padding,
    )  # fmt: skip


def ReActResNet34(
    *,
    method: methods.Method | str | dict[str, Any] = "subbit",
    input_shape: Sequence[int | None] = (224, 224, 3),
    num_classes: int = 1000,
    pad_values: float = 0.0,
    weights: str | os.PathLike | None = None,
    torch_padding: bool = False,
) -> tf.keras.Model:
    """ResNet-34 of ReActNet blocks; arguments as `ReActResNet18`.

    21,827,432 parameters without codebooks; 32 binary convolutions.
    """
    return _react_resnet(
        "react_resnet34", (6, 8, 12, 6),
        method, input_shape, num_classes, pad_values, weights, torch_padding,
    )  # fmt: skip
