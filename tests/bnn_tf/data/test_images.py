import dataclasses
import io
import json
import struct
import subprocess
import sys
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnn_tf import data
from bnn_tf._tensorflow import tf
from bnn_tf.data import images as operations
from bnn_tf.data.images import Images
from bnn_tf.errors import UsageError, UserError


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (20, 9, 7, 3), dtype=np.uint8)


def test_integers_reach_every_number_below_the_count_and_not_the_count():
    counts = np.arange(1, 5000)
    largest_draw = np.nextafter(np.float32(1), np.float32(0))
    assert np.array_equal(operations.integer(largest_draw, counts), counts - 1)
    thirds = operations.integer(tf.constant([0.0, 0.33, 0.34, 0.66, 0.67]), 3)
    assert thirds.numpy().tolist() == [0, 0, 1, 1, 2]


def test_flip_mirrors_where_the_draw_is_below_a_half(images, rng):
    draws = rng.uniform(size=20).astype(np.float32)
    expected = np.where(draws[:, None, None, None] < 0.5, images[:, :, ::-1], images)
    assert np.array_equal(data.Flip()(images, draws[:, None], Images()), expected)


def test_pad_crop_cuts_the_padded_image(images, rng):
    draws = rng.uniform(size=(20, 2)).astype(np.float32)
    padded = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)))
    cropped = data.PadCrop(4)(images, draws, Images()).numpy()
    for image, draw, result in zip(padded, draws, cropped, strict=True):
        top, left = (draw * 9).astype(int)
        assert np.array_equal(result, image[top : top + 9, left : left + 7])


def test_pad_crop_reaches_all_81_places(rng):
    dot = np.zeros((4000, 9, 9, 1), np.uint8)
    dot[:, 4, 4] = 1
    draws = rng.uniform(size=(4000, 2)).astype(np.float32)
    places = data.PadCrop(4)(dot, draws, Images()).numpy()
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
    top, left, height, width = data.RandomResizedCrop(scale).box(size, draws).numpy()
    assert 0 <= top <= top + height <= size[0]
    assert 0 <= left <= left + width <= size[1]
    assert height >= 1
    assert width >= 1


def boxes(size, count=400):
    draws = np.random.default_rng(3).uniform(size=(count, 22)).astype(np.float32)
    view = data.RandomResizedCrop()
    many = tf.function(lambda rows: tf.map_fn(lambda row: view.box(size, row), rows, tf.int32))
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
    assert (operations.resize(plain, (11, 3)).numpy() == 77).all()
    assert np.array_equal(operations.resize(images[0], (9, 7)), images[0])


def test_shrinking_averages():
    checks = np.indices((64, 64)).sum(0)[..., None] % 2 * np.full(3, 200)
    small = operations.resize(checks.astype(np.uint8), (8, 8)).numpy()
    assert small[2:6, 2:6] == pytest.approx(100, abs=3)


@pytest.mark.parametrize("shape", [(50, 80), (80, 50), (20, 31), (32, 32), (33, 32)])
def test_resize_to_cover_then_centre_crop(shape, rng):
    image = tf.constant(rng.integers(0, 256, (*shape, 3), dtype=np.uint8))
    covered = operations.resize_to_cover(image, (32, 32))
    factor = 32 / min(shape)
    assert covered.shape[:2].as_list() == [round(shape[0] * factor), round(shape[1] * factor)]
    cut = operations.centre_crop(covered, (32, 32)).numpy()
    top, left = (covered.shape[0] - 32) // 2, (covered.shape[1] - 32) // 2
    assert np.array_equal(cut, covered[top : top + 32, left : left + 32])


def test_resize_crop_cuts_at_the_place_that_is_drawn(images):
    cut = data.ResizeCrop(1.0)(images[0], tf.constant([0.999, 0.0]), Images(size=7))
    assert np.array_equal(cut, images[0, 2:])


def test_lighting_adds_what_the_authors_code_adds(golden):
    expected = golden("lighting")
    alphas = (expected["rnd_f64"] * 0.1).astype(np.float32)
    assert operations.lighting(alphas).numpy() == pytest.approx(expected["inc"], rel=1e-5, abs=1e-8)
    assert np.array_equal(operations.EIGENVALUES, expected["eigval"])
    assert np.array_equal(operations.EIGENVECTORS, expected["eigvec"])


def test_lighting_is_the_sum_over_the_components():
    added = operations.lighting(tf.constant([[1.0, 0, 0], [0, 2.0, 0]])).numpy()
    assert added[0] == pytest.approx(0.2175 * np.array([-0.5675, -0.5808, -0.5836]), rel=1e-6)
    assert added[1] == pytest.approx(2 * 0.0188 * np.array([0.7192, -0.0045, -0.6948]), rel=1e-6)


def test_normal_numbers(rng):
    numbers = operations.normal(rng.uniform(size=20_000).astype(np.float32)).numpy()
    assert (numbers.mean(), numbers.std()) == pytest.approx((0, 1), abs=0.03)
    assert np.isfinite(operations.normal(tf.constant([0.0, 0.99999994]))).all()


class TestValue:
    """`Images` as a value: checked when it is made, stored as JSON."""

    def test_it_survives_json(self):
        training = (data.RandomResizedCrop((0.2, 0.9)), data.Flip(), data.Lighting(0.1))
        images = Images(training, data.ResizeShort(1.25), (64, 48), normalization="imagenet")
        stored = json.loads(json.dumps(images.to_dict()))
        assert Images.from_dict(stored) == images
        assert hash(Images.from_dict(stored)) == hash(images)
        assert stored["training"][1:] == [{"name": "flip"}, {"name": "lighting", "deviation": 0.1}]

    def test_defaults_and_short_forms(self):
        assert Images(size=32) == Images(size=[32, 32], mean=0.5, std=[0.5]) == Images(normalization="unit")
        assert Images.from_dict({"size": [8, 8]}) == Images(size=8)
        assert dataclasses.replace(Images(), normalization="cifar").std == data.NORMALIZATIONS["cifar"][1]

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("training", data.Flip()),
            ("training", ("flip",)),
            ("training", (data.Flip(), data.RandomResizedCrop())),
            ("training", (data.Lighting(), data.Flip())),
            ("training", (data.ResizeCrop(), data.RandomResizedCrop())),
            ("evaluation", data.Flip()),
            ("evaluation", "cover"),
            ("size", (0, 32)),
            ("size", (32.5, 32)),
            ("size", (32, 32, 3)),
            ("size", 10**9),
            ("channels", 2),
            ("channels", True),
            ("mean", (0.5, 0.5)),
            ("mean", (0.5, float("nan"), 0.5)),
            ("std", (0.5, 0.0, 0.5)),
            ("std", "0.5"),
            ("std", float("inf")),
        ],
    )
    def test_impossible_values_are_refused_by_name(self, field, value):
        with pytest.raises(UsageError, match=f"^images: {field} must"):
            Images(**{field: value})

    @pytest.mark.parametrize(
        ("operation", "field", "value"),
        [
            (data.PadCrop, "padding", -1),
            (data.PadCrop, "padding", 1.5),
            (data.Lighting, "deviation", -0.1),
            (data.Lighting, "deviation", float("nan")),
            (data.RandomResizedCrop, "scale", (0.0, 1.0)),
            (data.RandomResizedCrop, "scale", (0.9, 0.5)),
            (data.RandomResizedCrop, "ratio", (1.0,)),
            (data.ResizeShort, "ratio", 0.9),
            (data.ResizeCrop, "ratio", "big"),
        ],
    )
    def test_operations_refuse_impossible_values(self, operation, field, value):
        with pytest.raises(UsageError, match=f"^image operation {operation.__name__}: {field} must"):
            operation(**{field: value})

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"sise": 3}, "no setting of images called 'sise'; did you mean 'size'"),
            ({"training": [{"name": "flop"}]}, "no image operation called 'flop'; did you mean 'flip'"),
            ({"training": [{"name": "pad_crop", "pad": 4}]}, "no option of image operation pad_crop called"),
            ({"training": [4]}, "image operation"),
            ({"training": {"name": "flip"}}, "training must be a list"),
            ({"evaluation": {"name": "flip"}}, "'flip' is no image operation: it does not derive from Geo"),
            ({"normalization": "imagnet"}, "did you mean 'imagenet'"),
        ],
    )
    def test_wrong_stored_values(self, values, message):
        with pytest.raises(UserError, match=message):
            Images.from_dict(values)

    def test_normalize_is_the_same_in_numpy_and_tensorflow(self, rng):
        pixels = rng.integers(0, 256, (3, 5, 4, 3), dtype=np.uint8)
        mean, std = data.NORMALIZATIONS["cifar"]
        images = Images(normalization="cifar")
        inputs = images.normalize(pixels)
        assert inputs.dtype == np.float32
        assert inputs == pytest.approx((pixels / 255 - mean) / std, abs=1e-6)
        assert np.array_equal(inputs, images.normalize(tf.constant(pixels)))

    def test_unit_reaches_from_minus_one_to_one(self):
        ends = Images().normalize(np.array([[0, 0, 0], [255, 255, 255]], np.uint8))
        assert ends == pytest.approx(np.array([[-1] * 3, [1] * 3]), abs=1e-6)

    def test_one_channel(self):
        images = Images((data.Flip(), data.Lighting()), normalization="imagenet").with_channels(1)
        assert images.input_shape == (32, 32, 1)
        assert images.training == (data.Flip(),)
        assert images.mean == pytest.approx((0.4589,), abs=1e-3)
        assert images.with_channels(3).mean == images.mean * 3
        with pytest.raises(UsageError, match="Lighting with one channel"):
            Images((data.Lighting(),), channels=1)

    @pytest.mark.parametrize(
        "images",
        [
            Images((data.Flip(), data.Lighting()), size=(24, 40), normalization="cifar"),
            Images(evaluation=data.ResizeShort(1.3), size=(20, 30)).with_channels(1),
        ],
    )
    def test_a_contract_is_the_evaluation_and_nothing_of_the_training(self, images):
        contract = json.loads(json.dumps(images.contract(["a", "b"])))
        assert Images.from_contract(contract).contract(["a", "b"]) == contract
        assert contract["shape"] == [1, *images.input_shape]
        assert contract["labels"] == ["a", "b"]
        assert "flip" not in str(contract)

    @pytest.mark.parametrize("change", [{"crop": [8]}, {"cover": [9, 10]}, {"shape": []}, {"std": [0, 1, 1]}])
    def test_a_damaged_contract(self, change):
        with pytest.raises(UsageError, match="^(images: |image operation ResizeShort)"):
            Images.from_contract({**Images().contract(), **change})
        with pytest.raises(UsageError, match="images: the contract lacks"):
            Images.from_contract({})

    def test_the_module_needs_no_tensorflow(self):
        code = "import sys; from bnn_tf.data import Images; Images().to_dict(); print(*sys.modules)"
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert "tensorflow" not in result.stdout.split()


def smooth(height, width):
    y, x = np.mgrid[:height, :width]
    return np.stack([y % 256, x % 256, (x + y) // 2 % 256], axis=-1).astype(np.uint8)


TRAINING = {
    "none": (),
    "pad_crop": (data.PadCrop(4), data.Flip()),
    "random_resized_crop": (data.RandomResizedCrop(), data.Flip(), data.Lighting()),
    "resize_crop": (data.ResizeCrop(), data.Flip()),
    "geometry": (data.ResizeShort(2.0), data.PadCrop(1)),
}


def images_of(name="random_resized_crop", size=(24, 20), **more):
    return Images(TRAINING[name], size=size, **more)


@pytest.fixture
def draws(rng):
    return tf.constant(rng.uniform(size=26), tf.float32)


@pytest.mark.parametrize("encode", [tf.io.encode_jpeg, tf.io.encode_png])
def test_an_encoded_crop_is_the_crop_of_the_decoded_image(encode, draws):
    contents = encode(smooth(120, 90))
    images = images_of()
    direct = images.view(contents, draws).numpy()
    via_image = images.views(operations.decode(contents)[None], draws[None])[0].numpy()
    assert direct.shape == (24, 20, 3)
    assert direct.astype(int) == pytest.approx(via_image.astype(int), abs=3)


def test_only_the_crop_of_a_jpeg_is_decoded(draws, monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("decoded the whole image")

    monkeypatch.setattr(operations, "decode", fail)
    images_of().view(tf.io.encode_jpeg(smooth(120, 90)), draws)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", TRAINING)
@pytest.mark.parametrize("shape", [(120, 90), (18, 40), (24, 20)])
def test_every_view_has_the_size_of_the_network(name, shape, channels, draws):
    contents = tf.io.encode_png(smooth(*shape))
    images = images_of(name).with_channels(channels)
    draws = draws[: images.draws]
    for view in (images.view(contents, draws), images.view(contents)):
        assert view.shape == (24, 20, channels)
        assert view.dtype == tf.uint8
    batch = images.augment(view[None], draws[None])
    assert images.inputs(batch, draws[None]).shape == (1, 24, 20, channels)


def test_evaluation_resizes_the_short_side_and_cuts_the_centre():
    image = smooth(60, 100)
    images = images_of(size=24, evaluation=data.ResizeShort(1.25))
    half = operations.resize(image, (30, 50)).numpy()
    assert np.array_equal(images.views(image[None])[0], half[3:27, 13:37])


def test_an_image_of_the_right_size_is_left_alone():
    assert np.array_equal(Images(size=(24, 20)).views(smooth(24, 20)[None])[0], smooth(24, 20))


@pytest.mark.parametrize("name", TRAINING)
def test_a_batch_is_viewed_as_its_images_are(rng, name):
    pixels = np.stack([smooth(40, 40), smooth(40, 40)[::-1]])
    images = images_of(name)
    draws = tf.constant(rng.uniform(size=(2, images.draws)), tf.float32)
    together = images.views(tf.constant(pixels), draws)
    alone = [images.view(tf.io.encode_png(pixels[i]), draws[i]) for i in (0, 1)]
    assert np.array_equal(together, alone)


def test_lighting_shifts_each_channel_of_an_image_by_one_value(rng):
    pixels = rng.integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
    draws = tf.constant(rng.uniform(size=(3, 4)), tf.float32)
    images = Images((data.Lighting(0.1),), size=4, std=(0.2, 0.3, 0.4))
    shift = (images.inputs(pixels, draws) - images.normalize(pixels)).numpy() * images.std
    expected = operations.lighting(0.1 * operations.normal(draws[:, 1:4])).numpy()
    assert shift == pytest.approx(np.broadcast_to(expected[:, None, None], shift.shape), abs=1e-6)


def test_operations_run_in_their_order_each_with_numbers_of_its_own():
    @dataclasses.dataclass(frozen=True)
    class Add(data.Operation):
        amount: int = 1
        draws: ClassVar[int] = 2

        def __call__(self, images, draws, settings):
            return images * 2 + tf.cast(tf.reduce_sum(draws) + self.amount, tf.uint8)

    images = Images((data.PadCrop(0), Add(1), data.Flip(), Add(5)), size=2)
    assert images.draws == 4 + 2 + 2 + 2
    # PadCrop has columns 4 and 5, the first Add 6 and 7, Flip 0, the second Add 8 and 9.
    draws = tf.constant([[0, 0, 0, 0, 0, 0, 10, 3, 20, 4]], tf.float32)
    result = images.augment(tf.ones([1, 2, 2, 3], tf.uint8), draws)
    assert np.unique(result).tolist() == [(1 * 2 + 1 + 13) * 2 + 5 + 24]


def test_a_view_of_ones_own_may_have_any_field():
    @dataclasses.dataclass(frozen=True)
    class Corner(data.Operation):
        box: float = 0.5
        stage: ClassVar[str] = "view"

        def __call__(self, images, draws, settings):
            side = tf.cast(self.box * tf.cast(tf.shape(images)[0], tf.float32), tf.int32)
            return operations.resize(images[:side, :side], settings.size)

    contents = tf.io.encode_png(smooth(8, 8))
    view = Images((Corner(),), size=4).view(contents, tf.zeros([4]))
    assert np.array_equal(view, smooth(8, 8)[:4, :4])


@pytest.mark.parametrize("field", ["suits", "draws", "stage", "name", "get_config"])
def test_a_field_of_an_operation_that_hides_a_hook(field):
    words = f"the field '{field}' of the image operation Mine hides the hook Operation.{field}"
    with pytest.raises(TypeError, match=words):
        type("Mine", (data.Operation,), {"__annotations__": {field: "float"}, field: 1.0})


def test_a_field_that_hides_the_hook_of_a_geometry():
    with pytest.raises(TypeError, match="hides the hook Geometry.cover"):
        type("Mine", (data.Geometry,), {"__annotations__": {"cover": int}, "cover": 1})


def test_a_subclass_may_give_a_field_another_default():
    fields = {"__annotations__": {"padding": "int"}, "padding": 2}
    mine = dataclasses.dataclass(frozen=True)(type("Mine", (data.PadCrop,), fields))
    assert (mine().padding, mine(3).from_epochs) == (2, 0)
    again = type("Mine", (mine,), {"padding": 5})
    assert type("More", (again,), fields).padding == 2


def test_channels_are_repeated_or_become_brightness():
    grey = tf.constant([[[[7]]]], tf.uint8)
    assert operations.to_channels(grey, 3).numpy().tolist() == [[[[7, 7, 7]]]]
    assert operations.to_channels(grey, 1) is grey
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]], np.uint8)
    assert operations.to_channels(tf.constant(colours), 1).numpy().ravel().tolist() == [76, 150, 29, 9]


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "JPEG", "WebP", "TIFF", "PPM"])
def test_the_size_is_read_from_the_header_and_bounds_what_is_decoded(kind, monkeypatch):
    image = pytest.importorskip("PIL.Image")
    file = io.BytesIO()
    image.fromarray(smooth(21, 300)).save(file, kind.lower())
    contents = file.getvalue()
    assert (operations.kind(contents), operations.size(contents)) == (kind, (21, 300))
    assert operations.decode(tf.constant(contents)).shape == (21, 300, 3)
    monkeypatch.setattr(operations, "MAX_PIXELS", 21 * 300 - 1)
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError), match="too many pixels"):
        operations.decode(tf.constant(contents))


def test_a_gif_of_an_unknown_version_is_bounded_too():
    """TensorFlow decodes whatever follows `GIF8`."""
    contents = b"GIF88a" + struct.pack("<HH", 60_000, 60_000) + bytes(20)
    assert (operations.kind(contents), operations.size(contents)) == ("GIF", (60_000, 60_000))
    with pytest.raises(tf.errors.InvalidArgumentError, match="too many pixels"):
        operations.decode(tf.constant(contents))


def test_grey_pgm():
    pytest.importorskip("PIL.Image")
    contents = b"P5\n# comment\n3 2\n255\n" + bytes(range(6))
    assert (operations.kind(contents), operations.size(contents)) == ("PGM", (2, 3))
    assert operations.decode(tf.constant(contents), 1).numpy().ravel().tolist() == list(range(6))
    assert operations.decode(tf.constant(contents)).shape == (2, 3, 3)
    with pytest.raises((tf.errors.OpError, OSError)):
        operations.decode(tf.constant(contents[:-1]))


def test_a_bitmap_from_top_to_bottom():
    """Its height is negative in the file."""
    rows = bytes(range(4)) * 2  # one pixel of three bytes and padding, twice
    head = struct.pack("<2sIHHI", b"BM", 54 + len(rows), 0, 0, 54)
    head += struct.pack("<IiiHHIIiiII", 40, 1, -2, 1, 24, 0, len(rows), 0, 0, 0, 0)
    assert operations.size(head + rows) == (2, 1)
    assert operations.decode(tf.constant(head + rows)).shape == (2, 1, 3)


def test_decoding_of_grey_transparent_and_animated_images():
    assert operations.decode(tf.io.encode_png(smooth(5, 6)[..., :1])).shape == (5, 6, 3)
    transparent = np.concatenate([smooth(5, 6), np.zeros((5, 6, 1), np.uint8)], axis=-1)
    assert np.array_equal(operations.decode(tf.io.encode_png(transparent)), smooth(5, 6))


def test_jpeg_keeps_the_colours(rng):
    """TensorFlow's default decoder shifts red and blue of this picture by more than one level."""
    picture = np.clip(rng.normal(120, 40, (64, 64, 3)), 0, 255).astype(np.uint8)
    contents = tf.io.encode_jpeg(picture, quality=75)
    assert operations.decode(contents).numpy().mean((0, 1)) == pytest.approx(picture.mean((0, 1)), abs=0.3)
    whole = tf.constant([0.5] * 4 + [0.0, 0.0] + [1.0, 0.5] * 10)
    cut = Images((data.RandomResizedCrop((1, 1)),), size=64).view(contents, whole)
    assert cut.numpy().mean((0, 1)) == pytest.approx(picture.mean((0, 1)), abs=0.3)
