"""From a stored image to the network's input: geometry per image or batch, then colour per batch."""

from bnn_tf._tensorflow import tf
from bnn_tf.data import augment
from bnn_tf.data.preprocessing import Preprocessing

# Which uniform numbers of an image's row serve what.
_FLIP, _LIGHTING, _CROP = 0, slice(1, 4), slice(4, None)

# TensorFlow's default, the fast one, shifts the mean of red and blue by about one level of 255 and differs
# from what the papers' image library computes.
_JPEG_TRANSFORM = "INTEGER_ACCURATE"


def draws_per_image(pre: Preprocessing) -> int:
    """How many uniform random numbers the augmentation of one image takes."""
    places = {"none": 0, "random_resized_crop": 2 + 2 * augment.ATTEMPTS}
    return 4 + places.get(pre.augmentation, 2)


def colour(images: tf.Tensor) -> tf.Tensor:
    """Three channels from one (grey) or three."""
    return images if images.shape[-1] == 3 else tf.repeat(images, 3, axis=-1)


def decode(contents: tf.Tensor, channels: int = 3) -> tf.Tensor:
    """An encoded JPEG, PNG, GIF (first frame) or BMP as uint8 `[h, w, channels]`."""
    image = tf.cond(
        tf.io.is_jpeg(contents),
        lambda: tf.io.decode_jpeg(contents, channels=channels, dct_method=_JPEG_TRANSFORM),
        lambda: tf.io.decode_image(contents, channels=channels, expand_animations=False),
    )
    return tf.ensure_shape(image, [None, None, channels])


def training_view(image: tf.Tensor, draws: tf.Tensor, pre: Preprocessing) -> tf.Tensor:
    """The part of an image that training sees this time, uint8 of `pre.image_size`."""
    if pre.augmentation == "random_resized_crop":
        box = augment.crop_box(tf.shape(image)[:2], draws[_CROP], pre.crop_scale)
        return augment.resize(augment.crop(image, box), pre.image_size)
    if pre.augmentation == "resize_crop_flip":
        return augment.random_crop(_shrunk(image, pre), draws[_CROP], pre.image_size)
    return evaluation_view(image, pre)


def training_views(images: tf.Tensor, draws: tf.Tensor, pre: Preprocessing) -> tf.Tensor:
    """`training_view` of each image of a batch `[b, h, w, 3]`; `draws` `[b, draws_per_image(pre)]`."""
    if pre.augmentation in ("none", "pad_crop_flip"):
        return evaluation_view(images, pre)
    result = tf.TensorSpec([*pre.image_size, 3], tf.uint8)
    return tf.map_fn(
        lambda pair: training_view(pair[0], pair[1], pre), (images, draws), fn_output_signature=result
    )


def encoded_training_view(contents: tf.Tensor, draws: tf.Tensor, pre: Preprocessing) -> tf.Tensor:
    """`training_view` of an encoded image; of a JPEG, no more than a random resized crop is decoded."""
    if pre.augmentation != "random_resized_crop":
        return training_view(decode(contents), draws, pre)

    def cut_from_jpeg() -> tf.Tensor:
        shape = tf.image.extract_jpeg_shape(contents)
        box = augment.crop_box(shape[:2], draws[_CROP], pre.crop_scale)
        return tf.image.decode_and_crop_jpeg(contents, box, channels=3, dct_method=_JPEG_TRANSFORM)

    def cut_from_other() -> tf.Tensor:
        image = decode(contents)
        return augment.crop(image, augment.crop_box(tf.shape(image)[:2], draws[_CROP], pre.crop_scale))

    return augment.resize(tf.cond(tf.io.is_jpeg(contents), cut_from_jpeg, cut_from_other), pre.image_size)


def evaluation_view(images: tf.Tensor, pre: Preprocessing) -> tf.Tensor:
    """The part of an image, or of each of a batch, that evaluation sees; uint8 of `pre.image_size`."""
    if pre.augmentation in ("random_resized_crop", "resize_crop_flip"):
        images = _shrunk(images, pre)
    else:
        images = augment.resize_to_cover(images, pre.image_size)
    return augment.centre_crop(images, pre.image_size)


def jitter(images: tf.Tensor, draws: tf.Tensor, pre: Preprocessing) -> tf.Tensor:
    """What training does to a whole batch of views at once: pad and crop, flip. uint8 to uint8."""
    if pre.augmentation == "pad_crop_flip":
        images = augment.pad_crop(images, draws[:, _CROP])
    return images if pre.augmentation == "none" else augment.flip(images, draws[:, _FLIP])


def training_input(images: tf.Tensor, draws: tf.Tensor, pre: Preprocessing) -> tf.Tensor:
    """Lighting and normalisation: float32 from uint8."""
    inputs = pre.normalize(images)
    if not pre.lighting:
        return inputs
    added = augment.lighting(pre.lighting * augment.normal(draws[:, _LIGHTING])) / pre.std
    return inputs + added[:, None, None, :]


def _shrunk(images: tf.Tensor, pre: Preprocessing) -> tf.Tensor:
    return augment.resize_to_cover(images, (pre.short_side, pre.short_side))
