"""Augmentations as pure functions of images and of uniform random numbers in [0, 1).

The caller draws the numbers, so that an augmentation depends on nothing else and a test can choose them.
Images are uint8 `[h, w, 3]`, batches `[b, h, w, 3]`.
"""

import numpy as np

from bnn_tf._tensorflow import tf

ATTEMPTS = 10
"""Boxes that `crop_box` tries before it falls back on the centre."""

# Principal components of the colours of ImageNet's pixels in [0, 1] (Krizhevsky et al., NeurIPS 2012).
EIGENVALUES = np.array([0.2175, 0.0188, 0.0045], np.float32)
EIGENVECTORS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]], np.float32
)


def integer(draws: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Uniform integers 0..count-1 (int32) from uniform numbers in [0, 1)."""
    return tf.cast(draws * tf.cast(count, tf.float32), tf.int32)


def flip(images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """Mirrors left and right the images `[b, h, w, c]` whose draw (`[b]`) is below 1/2."""
    columns = tf.range(images.shape[2])
    columns = tf.where(draws[:, None] < 0.5, columns[::-1], columns)
    return tf.gather(images, columns, axis=2, batch_dims=1)  # several times faster than a reversed slice


def pad_crop(images: tf.Tensor, draws: tf.Tensor, padding: int = 4) -> tf.Tensor:
    """Pads each side with black and cuts each image back to its size at a random place.

    Args:
        images: `[b, h, w, c]`.
        draws: `[b, 2]`, for the top and the left of each crop.
        padding: pixels added at each of the four sides.
    """
    height, width = images.shape[1], images.shape[2]
    margins = [[0, 0], [padding, padding], [padding, padding], [0, 0]]
    corner = integer(draws, 2 * padding + 1)
    rows = corner[:, :1] + tf.range(height)
    columns = corner[:, 1:] + tf.range(width)
    kept = tf.gather(tf.pad(images, margins), rows, axis=1, batch_dims=1)
    return tf.gather(kept, columns, axis=2, batch_dims=1)


def crop_box(
    size: tf.Tensor,
    draws: tf.Tensor,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> tf.Tensor:
    """A random box of a random share of the area and a random ratio of width to height.

    The share is uniform in `scale`, the logarithm of the ratio uniform. The first of `ATTEMPTS` boxes that
    fits is taken; if none does, the largest centred one whose ratio is allowed.

    Args:
        size: height and width of the image, `[2]`.
        draws: `[2 + 2 * ATTEMPTS]`: the position, then share and ratio of each attempt.
        scale: smallest and largest share of the area.
        ratio: smallest and largest ratio of width to height.

    Returns:
        int32 `[4]`: top, left, height, width.
    """
    size = tf.cast(size, tf.int32)
    full = tf.cast(size, tf.float32)
    tries = tf.reshape(draws[2:], [ATTEMPTS, 2])
    low, high = np.log(ratio).astype(np.float32)
    areas = full[0] * full[1] * (scale[0] + tries[:, 0] * (scale[1] - scale[0]))
    ratios = tf.exp(low + tries[:, 1] * (high - low))
    boxes = tf.cast(tf.round(tf.sqrt(tf.stack([areas / ratios, areas * ratios], axis=1))), tf.int32)
    fits = tf.reduce_all((boxes >= 1) & (boxes <= size), axis=1)
    found = tf.reduce_any(fits)
    box = tf.where(found, boxes[tf.argmax(tf.cast(fits, tf.int32))], _largest_box(full, ratio))
    corner = tf.where(found, integer(draws[:2], size - box + 1), (size - box) // 2)
    return tf.concat([corner, box], axis=0)


def _largest_box(size: tf.Tensor, ratio: tuple[float, float]) -> tf.Tensor:
    height, width = size[0], size[1]
    limited = tf.stack([tf.minimum(height, width / ratio[0]), tf.minimum(width, height * ratio[1])])
    return tf.maximum(tf.cast(tf.round(limited), tf.int32), 1)


def crop(image: tf.Tensor, box: tf.Tensor) -> tf.Tensor:
    """The part of an image `[h, w, c]` (or of each of a batch) in a box of top, left, height and width."""
    return image[..., box[0] : box[0] + box[2], box[1] : box[1] + box[3], :]


def resize(images: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Bilinear, anti-aliased where it shrinks; rounded to uint8. `[h, w, c]` or `[b, h, w, c]`."""
    return tf.saturate_cast(tf.round(tf.image.resize(images, size, antialias=True)), tf.uint8)


def resize_to_cover(images: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Scales, keeping proportions, to the smallest size at least `size`."""
    height, width = images.shape[-3], images.shape[-2]
    if height is not None and (height, width) == tuple(size):
        return images
    shape = tf.shape(images)[-3:-1]
    factor = tf.reduce_max(tf.constant(size, tf.float32) / tf.cast(shape, tf.float32))
    scaled = tf.cast(tf.round(tf.cast(shape, tf.float32) * factor), tf.int32)
    return resize(images, tf.maximum(scaled, size))


def centre_crop(images: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """The centre, `size` high and wide; of one image or of each of a batch."""
    return _cut(images, (tf.shape(images)[-3:-1] - size) // 2, size)


def random_crop(image: tf.Tensor, draws: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """A part `size` high and wide at a random place of an image `[h, w, c]`; `draws` `[2]`."""
    return _cut(image, integer(draws, tf.shape(image)[:2] - size + 1), size)


def _cut(images: tf.Tensor, corner: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    cut = crop(images, tf.concat([corner, size], axis=0))
    return tf.ensure_shape(cut, [*images.shape[:-3], *size, images.shape[-1]])


def lighting(alphas: tf.Tensor) -> tf.Tensor:
    """PCA lighting: what is added to the channels of an image in [0, 1].

    `eigenvectors @ (alpha * eigenvalues)` with the principal components of ImageNet's colours
    (Krizhevsky et al., NeurIPS 2012).

    Args:
        alphas: normally distributed `[b, 3]`, of deviation 0.1 in the papers' recipes.

    Returns:
        float32 `[b, 3]`, red, green, blue.
    """
    return tf.linalg.matmul(alphas * EIGENVALUES, EIGENVECTORS, transpose_b=True)


def normal(draws: tf.Tensor) -> tf.Tensor:
    """Standard normal numbers from uniform ones (the inverse of the normal distribution function)."""
    return tf.math.ndtri(tf.clip_by_value(draws, 1e-6, 1 - 1e-6))
