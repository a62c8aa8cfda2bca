import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnn_tf._tensorflow import tf
from bnn_tf.data import augment


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (20, 9, 7, 3), dtype=np.uint8)


def test_integers_reach_every_number_below_the_count_and_not_the_count():
    counts = np.arange(1, 5000)
    largest_draw = np.nextafter(np.float32(1), np.float32(0))
    assert np.array_equal(augment.integer(largest_draw, counts), counts - 1)
    thirds = augment.integer(tf.constant([0.0, 0.33, 0.34, 0.66, 0.67]), 3)
    assert thirds.numpy().tolist() == [0, 0, 1, 1, 2]


def test_flip_mirrors_where_the_draw_is_below_a_half(images, rng):
    draws = rng.uniform(size=20).astype(np.float32)
    expected = np.where(draws[:, None, None, None] < 0.5, images[:, :, ::-1], images)
    assert np.array_equal(augment.flip(images, draws), expected)


def test_pad_crop_cuts_the_padded_image(images, rng):
    draws = rng.uniform(size=(20, 2)).astype(np.float32)
    padded = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)))
    for image, draw, result in zip(padded, draws, augment.pad_crop(images, draws).numpy(), strict=True):
        top, left = (draw * 9).astype(int)
        assert np.array_equal(result, image[top : top + 9, left : left + 7])


def test_pad_crop_reaches_all_81_places(rng):
    dot = np.zeros((4000, 9, 9, 1), np.uint8)
    dot[:, 4, 4] = 1
    places = augment.pad_crop(dot, rng.uniform(size=(4000, 2)).astype(np.float32)).numpy()
    assert (places.sum((1, 2, 3)) == 1).all()
    frequency = places.sum((0, 3))
    assert frequency.min() > 0.5 * 4000 / 81
    assert frequency.max() < 1.5 * 4000 / 81


sizes = st.tuples(st.integers(1, 700), st.integers(1, 700))
seeds = st.integers(0, 2**32 - 1)


@settings(deadline=None, max_examples=60)
@given(size=sizes, seed=seeds, scale=st.sampled_from([(0.08, 1.0), (0.08, 1.25), (1.0, 1.0)]))
def test_a_crop_box_lies_within_the_image(size, seed, scale):
    draws = np.random.default_rng(seed).uniform(size=22).astype(np.float32)
    top, left, height, width = augment.crop_box(size, draws, scale).numpy()
    assert 0 <= top <= top + height <= size[0]
    assert 0 <= left <= left + width <= size[1]
    assert height >= 1
    assert width >= 1


def boxes(size, count=400):
    draws = np.random.default_rng(3).uniform(size=(count, 22)).astype(np.float32)
    many = tf.function(lambda rows: tf.map_fn(lambda row: augment.crop_box(size, row), rows, tf.int32))
    return many(draws).numpy().T


def test_crop_boxes_have_the_shares_and_ratios_asked_for():
    top, left, height, width = boxes((300, 400))
    share, ratio = height * width / 120_000, width / height
    assert share.min() > 0.08 * 0.95
    assert share.min() < 0.12
    assert share.max() > 0.9
    assert ratio.min() == pytest.approx(3 / 4, rel=0.05)
    assert ratio.max() == pytest.approx(4 / 3, rel=0.05)
    assert np.median(np.log(ratio)) == pytest.approx(0, abs=0.1)
    room = (300 - height) > 50
    places = (top / (300 - height + 1))[room]
    assert (places.min(), places.mean(), places.max()) == pytest.approx((0, 0.5, 1), abs=0.06)


def test_where_no_box_fits_the_largest_centred_one_is_taken():
    top, left, height, width = boxes((10, 4000), 20)
    assert (height == 10).all()
    assert (width == 13).all()  # 10 * 4/3
    assert (left == (4000 - 13) // 2).all()
    top, left, height, width = boxes((4000, 9), 20)
    assert (width == 9).all()
    assert (height == 12).all()  # 9 / (3/4)
    assert (top == (4000 - 12) // 2).all()


def test_resize_keeps_a_plain_colour_and_an_image_of_the_right_size(images):
    plain = np.full((5, 8, 3), 77, np.uint8)
    assert (augment.resize(plain, (11, 3)).numpy() == 77).all()
    assert np.array_equal(augment.resize(images[0], (9, 7)), images[0])


def test_shrinking_averages():
    checks = np.indices((64, 64)).sum(0)[..., None] % 2 * np.full(3, 200)
    small = augment.resize(checks.astype(np.uint8), (8, 8)).numpy()
    assert small[2:6, 2:6] == pytest.approx(100, abs=3)


@pytest.mark.parametrize("shape", [(50, 80), (80, 50), (20, 31), (32, 32), (33, 32)])
def test_resize_to_cover_then_centre_crop(shape, rng):
    image = tf.constant(rng.integers(0, 256, (*shape, 3), dtype=np.uint8))
    covered = augment.resize_to_cover(image, (32, 32))
    factor = 32 / min(shape)
    assert covered.shape[:2].as_list() == [round(shape[0] * factor), round(shape[1] * factor)]
    cut = augment.centre_crop(covered, (32, 32)).numpy()
    top, left = (covered.shape[0] - 32) // 2, (covered.shape[1] - 32) // 2
    assert np.array_equal(cut, covered[top : top + 32, left : left + 32])


def test_random_crop(images):
    corner = augment.random_crop(images[0], tf.constant([0.0, 0.999]), (4, 4))
    assert np.array_equal(corner, images[0, :4, 3:])


def test_lighting_adds_what_the_authors_code_adds(golden):
    expected = golden("lighting")
    alphas = (expected["rnd_f64"] * 0.1).astype(np.float32)
    assert augment.lighting(alphas).numpy() == pytest.approx(expected["inc"], rel=1e-5, abs=1e-8)
    assert np.array_equal(augment.EIGENVALUES, expected["eigval"])
    assert np.array_equal(augment.EIGENVECTORS, expected["eigvec"])


def test_lighting_is_the_sum_over_the_components():
    added = augment.lighting(tf.constant([[1.0, 0, 0], [0, 2.0, 0]])).numpy()
    assert added[0] == pytest.approx(0.2175 * np.array([-0.5675, -0.5808, -0.5836]), rel=1e-6)
    assert added[1] == pytest.approx(2 * 0.0188 * np.array([0.7192, -0.0045, -0.6948]), rel=1e-6)


def test_normal_numbers(rng):
    numbers = augment.normal(rng.uniform(size=20_000).astype(np.float32)).numpy()
    assert (numbers.mean(), numbers.std()) == pytest.approx((0, 1), abs=0.03)
    assert np.isfinite(augment.normal(tf.constant([0.0, 0.99999994]))).all()
