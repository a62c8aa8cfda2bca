"""VGG-Small for 32×32 images as ReCU and OvSW binarize it."""

import os
from collections.abc import Sequence
from typing import Any

from bnn_tf import methods
from bnn_tf._tensorflow import tf
from zoo import blocks


def _last_activation(method: methods.Method, x: tf.Tensor, kind: str) -> tf.Tensor:
    if kind == "hard_tanh":
        return method.clip(x, "last_clip")
    if kind == "prelu":
        start = tf.keras.initializers.Constant(0.25)
        return tf.keras.layers.PReLU(alpha_initializer=start, shared_axes=[1, 2], name="last_prelu")(x)
    raise ValueError(f"last_activation must be 'hard_tanh' or 'prelu', not {kind!r}")


def VGGSmall(
    *,
    method: methods.Method | str | dict[str, Any] = "recu",
    input_shape: Sequence[int | None] = (32, 32, 3),
    num_classes: int = 10,
    pad_values: float = 0.0,
    weights: str | os.PathLike | None = None,
    last_activation: str = "hard_tanh",
    torch_padding: bool = False,
) -> tf.keras.Model:
    """VGG-Small: six convolutions of 128 to 512 channels; max pools before BatchNorm after the 2nd, 4th, 6th.

    4,661,770 parameters with ReCU, 4,660,618 with OvSW and PReLU; 5 binary convolutions. Published
    CIFAR-10 accuracy: ReCU 92.2 % (finetuned 93.3 %).

    Args:
        method: How the convolutions are binarized: a method or its name.
        input_shape: `(height, width, channels)`; the size must be known, the classifier sees the map.
        num_classes: Number of logits.
        pad_values: Padding of the binary convolutions: 0 as in the papers, or 1 (faster on device).
        weights: `None` for a random start, or the path of a weights file.
        last_activation: `"hard_tanh"` (ReCU) or `"prelu"`, with one slope per channel (OvSW).
        torch_padding: Pad strided layers as PyTorch does at even sizes: the image is turned by 180°, and
            the kernels must be turned too, as `bnn-tf import-torch` leaves them.

    Returns:
        A Keras model from normalised images to logits.

    Raises:
        UserError: the weights do not load, or there is no such method.
        ValueError: `last_activation` is something else, or the input size does not go with
            `torch_padding`.

    References:
        [ReCU](https://arxiv.org/abs/2103.12369), [OvSW](https://arxiv.org/abs/2407.05257)
    """
    resolved = methods.get(method)
    image = blocks.inputs(input_shape)
    x = blocks.batch_norm(blocks.conv(blocks.oriented(image, torch_padding), 128, 3, "stem_conv"), "stem_bn")
    for index, filters in enumerate((128, 256, 256, 512, 512), start=2):
        x = resolved.clip(x, f"block{index}_clip")
        x = resolved.binary_conv(x, filters, pad_values=pad_values, activate=False, name=f"block{index}_conv")
        if index % 2 == 0:
            x = tf.keras.layers.MaxPool2D(2, name=f"block{index}_pool")(x)
        x = blocks.batch_norm(x, f"block{index}_bn")
    x = _last_activation(resolved, x, last_activation)
    return blocks.finish(image, blocks.dense(x, num_classes), "vgg_small", weights)
