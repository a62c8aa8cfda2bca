import numpy as np
import pytest

from bnn_tf import data
from bnn_tf._tensorflow import tf
from bnn_tf.data import augment, views


def smooth(height, width):
    y, x = np.mgrid[:height, :width]
    return np.stack([y % 256, x % 256, (x + y) // 2 % 256], axis=-1).astype(np.uint8)


@pytest.fixture
def draws(rng):
    return tf.constant(rng.uniform(size=26), tf.float32)


def pre_of(augmentation, size=(24, 20), **more):
    return data.Preprocessing(augmentation, size, **more)


@pytest.mark.parametrize("encode", [tf.io.encode_jpeg, tf.io.encode_png])
def test_an_encoded_crop_is_the_crop_of_the_decoded_image(encode, draws):
    contents = encode(smooth(120, 90))
    pre = pre_of("random_resized_crop")
    direct = views.encoded_training_view(contents, draws, pre).numpy()
    via_image = views.training_view(views.decode(contents), draws, pre).numpy()
    assert direct.shape == (24, 20, 3)
    assert direct.astype(int) == pytest.approx(via_image.astype(int), abs=3)


def test_only_the_crop_of_a_jpeg_is_decoded(draws, monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("decoded the whole image")

    monkeypatch.setattr(views, "decode", fail)
    views.encoded_training_view(tf.io.encode_jpeg(smooth(120, 90)), draws, pre_of("random_resized_crop"))


@pytest.mark.parametrize("augmentation", data.AUGMENTATIONS)
@pytest.mark.parametrize("shape", [(120, 90), (18, 40), (24, 20)])
def test_every_view_has_the_size_of_the_network(augmentation, shape, draws):
    image = tf.constant(smooth(*shape))
    pre = pre_of(augmentation)
    draws = draws[: views.draws_per_image(pre)]
    for view in (views.training_view(image, draws, pre), views.evaluation_view(image, pre)):
        assert view.shape == (24, 20, 3)
        assert view.dtype == tf.uint8


def test_evaluation_resizes_the_short_side_and_cuts_the_centre():
    image = smooth(60, 100)
    view = views.evaluation_view(image, pre_of("random_resized_crop", (24, 24), resize=30)).numpy()
    half = augment.resize(image, (30, 50)).numpy()
    assert np.array_equal(view, half[3:27, 13:37])


def test_an_image_of_the_right_size_is_left_alone():
    image = smooth(24, 20)
    for augmentation in ("none", "pad_crop_flip"):
        assert np.array_equal(views.evaluation_view(image, pre_of(augmentation)), image)


def test_a_batch_is_viewed_as_its_images_are(rng):
    images = np.stack([smooth(40, 40), smooth(40, 40)[::-1]])
    for augmentation in data.AUGMENTATIONS:
        pre = pre_of(augmentation)
        draws = tf.constant(rng.uniform(size=(2, views.draws_per_image(pre))), tf.float32)
        together = views.training_views(tf.constant(images), draws, pre)
        alone = [views.training_view(tf.constant(images[i]), draws[i], pre) for i in (0, 1)]
        assert np.array_equal(together, alone)


def test_lighting_shifts_each_channel_of_an_image_by_one_value(rng):
    images = rng.integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
    draws = tf.constant(rng.uniform(size=(3, 4)), tf.float32)
    pre = data.Preprocessing(image_size=(4, 4), std=(0.2, 0.3, 0.4), lighting=0.1)
    shift = (views.training_input(images, draws, pre) - pre.normalize(images)).numpy() * pre.std
    alphas = 0.1 * augment.normal(draws[:, 1:4])
    expected = augment.lighting(alphas).numpy()
    assert shift == pytest.approx(np.broadcast_to(expected[:, None, None], shift.shape), abs=1e-6)


def test_grey_becomes_coloured():
    grey = tf.constant([[[[7]]]], tf.uint8)
    assert views.colour(grey).numpy().tolist() == [[[[7, 7, 7]]]]


def test_decoding_of_grey_transparent_and_animated_images():
    assert views.decode(tf.io.encode_png(smooth(5, 6)[..., :1])).shape == (5, 6, 3)
    transparent = np.concatenate([smooth(5, 6), np.zeros((5, 6, 1), np.uint8)], axis=-1)
    assert np.array_equal(views.decode(tf.io.encode_png(transparent)), smooth(5, 6))


def test_jpeg_keeps_the_colours(rng):
    """TensorFlow's default decoder shifts red and blue of this picture by more than one level."""
    picture = np.clip(rng.normal(120, 40, (64, 64, 3)), 0, 255).astype(np.uint8)
    contents = tf.io.encode_jpeg(picture, quality=75)
    assert views.decode(contents).numpy().mean((0, 1)) == pytest.approx(picture.mean((0, 1)), abs=0.3)
    whole = tf.constant([0.5] * 4 + [0.0, 0.0] + [1.0, 0.5] * 10)
    cut = views.encoded_training_view(
        contents, whole, pre_of("random_resized_crop", (64, 64), crop_scale=(1, 1))
    )
    assert cut.numpy().mean((0, 1)) == pytest.approx(picture.mean((0, 1)), abs=0.3)
