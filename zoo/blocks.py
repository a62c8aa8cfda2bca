"""What the architectures share: layers with their settings, blocks, and the finished model."""

import os
from collections.abc import Callable, Sequence

from bnn_tf import methods
from bnn_tf._tensorflow import tf
from bnn_tf.errors import UserError
from bnn_tf.layers import BatchNormalization, ChannelPad, Flip, LearnableBias

Block = Callable[..., tf.Tensor]
Clip = Callable[[tf.Tensor, str], tf.Tensor]


def batch_norm(x: tf.Tensor, name: str, gamma: float = 1.0) -> tf.Tensor:
    """BatchNorm with the papers' epsilon 1e-5 and running average 0.9."""
    start = tf.keras.initializers.Constant(gamma)
    return BatchNormalization(epsilon=1e-5, momentum=0.9, gamma_initializer=start, name=name)(x)


def conv(x: tf.Tensor, filters: int, kernel_size: int, name: str, strides: int = 1) -> tf.Tensor:
    """A real-valued convolution without bias."""
    return tf.keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )(x)


def binarizer(method: methods.Method, pad_values: float, gamma: float = 1.0, activate: bool = True) -> Block:
    """A function `(x, filters, name, kernel_size=3, strides=1)`: binary convolution, then BatchNorm."""

    def apply(x: tf.Tensor, filters: int, name: str, kernel_size: int = 3, strides: int = 1) -> tf.Tensor:
        x = method.binary_conv(
            x,
            filters,
            kernel_size,
            strides=strides,
            pad_values=pad_values,
            activate=activate,
            name=f"{name}_conv",
        )
        return batch_norm(x, f"{name}_bn", gamma)

    return apply


def stages(
    x: tf.Tensor, counts: Sequence[int], widths: Sequence[int], block: Callable[..., tf.Tensor]
) -> tf.Tensor:
    """`counts[i]` blocks of `widths[i]` channels in stage i; all stages but the first start with stride 2.

    `block` is a function `(x, filters, strides, name)`; names are `stage1_block1`, `stage1_block2`, …
    """
    for stage, (count, filters) in enumerate(zip(counts, widths, strict=True), start=1):
        for index in range(count):
            strides = 2 if stage > 1 and index == 0 else 1
            x = block(x, filters, strides, f"stage{stage}_block{index + 1}")
    return x


def add(x: tf.Tensor, shortcut: tf.Tensor, name: str) -> tf.Tensor:
    """The sum at the end of a shortcut."""
    return tf.keras.layers.Add(name=name)([x, shortcut])


def average_pool(x: tf.Tensor, name: str) -> tf.Tensor:
    """2×2 average pooling with stride 2; odd sizes are padded, as strided `same` convolutions do."""
    return tf.keras.layers.AveragePooling2D(2, strides=2, padding="same", name=name)(x)


def pooled_conv_shortcut(x: tf.Tensor, filters: int, name: str, strides: int) -> tf.Tensor:
    """Average pool, real 1×1 convolution, BatchNorm (Bi-Real, ReAct); the identity where shapes agree."""
    if strides == 1 and x.shape[-1] == filters:
        return x
    if strides == 2:
        x = average_pool(x, f"{name}_shortcut_pool")
    return batch_norm(conv(x, filters, 1, f"{name}_shortcut_conv"), f"{name}_shortcut_bn")


def padded_shortcut(x: tf.Tensor, filters: int, name: str, strides: int) -> tf.Tensor:
    """Average pool and zero channels, half on either side, without parameters (CIFAR networks)."""
    if strides == 2:
        x = average_pool(x, f"{name}_shortcut_pool")
    missing = filters - x.shape[-1]
    if missing:
        x = ChannelPad(missing // 2, missing - missing // 2, name=f"{name}_shortcut_pad")(x)
    return x


def imagenet_stem(x: tf.Tensor, filters: int, gamma: float = 1.0, clip: Clip | None = None) -> tf.Tensor:
    """7×7/2 convolution, BatchNorm, `clip(x, name)` if there is one, 3×3/2 max pool."""
    x = batch_norm(conv(x, filters, 7, "stem_conv", strides=2), "stem_bn", gamma)
    if clip:
        x = clip(x, "stem_clip")
    return tf.keras.layers.MaxPool2D(3, strides=2, padding="same", name="stem_pool")(x)


def react_activation(x: tf.Tensor, name: str) -> tf.Tensor:
    """Bias, PReLU with one slope per channel, bias (ReActNet's RPReLU)."""
    x = LearnableBias(name=f"{name}_bias_before")(x)
    x = tf.keras.layers.PReLU(
        alpha_initializer=tf.keras.initializers.Constant(0.25), shared_axes=[1, 2], name=f"{name}_prelu"
    )(x)
    return LearnableBias(name=f"{name}_bias_after")(x)


def classifier(x: tf.Tensor, num_classes: int, normalize: bool = False) -> tf.Tensor:
    """Average over the whole map, BatchNorm if `normalize`, dense layer; float32 logits.

    A pool of the map's size is what Larq Compute Engine runs fast; where the size is unknown, or the map
    is to be averaged at any size, global pooling does it.
    """
    height, width = x.shape[1:3]
    if height and width:
        x = tf.keras.layers.AveragePooling2D((height, width), name="pool")(x)
    else:
        x = tf.keras.layers.GlobalAveragePooling2D(keepdims=True, name="pool")(x)
    if normalize:
        x = batch_norm(x, "head_bn")
    return dense(x, num_classes)


def dense(x: tf.Tensor, num_classes: int) -> tf.Tensor:
    """Flatten and the dense layer; float32 logits."""
    x = tf.keras.layers.Flatten(name="flatten")(x)
    return tf.keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)


def inputs(input_shape: Sequence[int | None]) -> tf.Tensor:
    """The model's input, normalised images."""
    return tf.keras.layers.Input(shape=tuple(input_shape), name="image")


def oriented(image: tf.Tensor, torch_padding: bool) -> tf.Tensor:
    """The image as it is, or turned by 180° for a network with PyTorch's padding and turned kernels."""
    return Flip(name="flip")(image) if torch_padding else image


def torch_phase(x: tf.Tensor, name: str, torch_padding: bool) -> tf.Tensor:
    """What a 1×1 convolution with stride 2 shall see, so that it takes the pixels that PyTorch takes.

    These are rows and columns 0, 2, 4, …; of a turned map with an even size that means 1, 3, 5, ….

    Raises:
        ValueError: the size of the map is unknown.
    """
    if not torch_padding:
        return x
    _require_known_size(x.shape)
    rows, columns = (1 - size % 2 for size in x.shape[1:3])
    return tf.keras.layers.Cropping2D(((rows, 0), (columns, 0)), name=name)(x)


def _require_known_size(shape: Sequence[int | None]) -> None:
    if None in shape[1:3]:
        raise ValueError("torch_padding needs a known input size")


def _require_even_pools(model: tf.keras.Model) -> None:
    """PyTorch's 2×2 pools leave out the last row of an odd size, which a turned map has first."""
    pools = (tf.keras.layers.AveragePooling2D, tf.keras.layers.MaxPool2D)
    for layer in model.layers:
        if isinstance(layer, pools) and layer.pool_size == (2, 2):
            _require_known_size(layer.input_shape)
            if any(size % 2 for size in layer.input_shape[1:3]):
                raise ValueError(
                    f"torch_padding needs an input size that stays even up to {layer.name}, "
                    f"which halves {'×'.join(map(str, layer.input_shape[1:3]))} pixels"
                )


def finish(
    image: tf.Tensor, logits: tf.Tensor, name: str, weights: str | os.PathLike | None
) -> tf.keras.Model:
    """The model, with the weights of the file `weights` if one is named.

    Raises:
        UserError: the file does not exist or does not fit the architecture.
        ValueError: the network is one with PyTorch's padding, and a 2×2 pool sees an odd size.
    """
    model = tf.keras.Model(image, logits, name=name)
    if any(isinstance(layer, Flip) for layer in model.layers):
        _require_even_pools(model)
    if weights is not None:
        try:
            model.load_weights(weights)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"weights={os.fspath(weights)!r} do not load into {name}: {error}") from error
    return model
