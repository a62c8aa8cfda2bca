from pathlib import Path

import numpy as np
import pytest

from bnn_tf import data
from bnn_tf._tensorflow import tf
from bnn_tf.data.source import epoch_seed, permutation
from bnn_tf.errors import UsageError

EPOCHS = 2


@pytest.fixture(params=["digits", "folder", "streamed"])
def source(request, folder_source):
    """One of each kind: in memory, files, record files."""
    if request.param == "digits":
        return data.load("digits", limit=50)
    return folder_source if request.param == "folder" else request.getfixturevalue("streamed_source")


PAD_CROP, RANDOM_CROP = (data.PadCrop(4), data.Flip()), (data.RandomResizedCrop(), data.Flip())
LIGHTING = data.Lighting(0.1)


def images_of(*training, **more):
    return data.Images(training, size=12, **more)


def run(source, pre, batch_size=8, **more):
    options = {"epochs": EPOCHS, "seed": 5, **more}
    return list(data.training_batches(source, pre, batch_size, **options).as_numpy_iterator())


def same(some, others):
    return len(some) == len(others) and all(
        np.array_equal(a, b) for pair in zip(some, others, strict=True) for a, b in zip(*pair, strict=True)
    )


@pytest.mark.sample(1)
def test_a_run_can_be_entered_at_any_step(source):
    augmentation = RANDOM_CROP if source.name == "folder" else PAD_CROP
    pre = images_of(*augmentation, LIGHTING)
    whole = run(source, pre)
    steps = data.steps(source, "train", 8)
    assert len(whole) == EPOCHS * steps
    for epoch, step in [(0, steps), (1, 1)]:
        rest = run(source, pre, initial_epoch=epoch, initial_step=step)
        assert same(rest, whole[epoch * steps + step :]), (epoch, step)
    assert run(source, pre, initial_epoch=EPOCHS) == []


@pytest.mark.sample(2)
def test_a_run_repeats_exactly_however_many_workers_and_whatever_the_global_seed(source):
    pre = images_of(*RANDOM_CROP, LIGHTING)
    first = run(source, pre, workers=1)
    tf.random.set_seed(99)
    assert same(first, run(source, pre, workers=4))


def test_the_seed_changes_order_and_augmentation():
    source = data.load("digits", limit=50)
    assert not same(run(source, images_of(*PAD_CROP)), run(source, images_of(*PAD_CROP), seed=6))


def test_no_epoch_repeats_the_augmentation_of_another():
    source = data.load("digits", limit=1)
    images = [batch.tobytes() for batch, _ in run(source, images_of(*PAD_CROP), epochs=20)]
    assert len(set(images)) > 15


def seen(batches):
    """How bright each image is, which tells images apart that are not augmented."""
    return np.concatenate([images.astype(np.float64).sum((1, 2, 3)) for images, _ in batches])


@pytest.mark.sample(2)
def test_every_epoch_visits_every_example_once_in_an_order_of_its_own(source):
    whole = run(source, images_of())
    steps = len(whole) // EPOCHS
    epochs = [seen(whole[e * steps : (e + 1) * steps]) for e in range(EPOCHS)]
    stored = seen(data.evaluation_batches(source, images_of(), split="train").as_numpy_iterator())
    for epoch in epochs:
        assert np.allclose(np.sort(epoch), np.sort(stored), atol=1e-3)
        assert not np.array_equal(epoch, stored)
    assert not np.array_equal(epochs[0], epochs[1])


def test_labels_stay_with_their_images(streamed_source):
    for images, labels in run(streamed_source, images_of(mean=(0, 0, 0), std=(1, 1, 1))):
        assert np.array_equal(np.round(images[:, 0, 0, 0] * 25.5) % 2, labels)


@pytest.mark.slow
def test_entering_a_stream_reads_only_files_that_are_not_done(streamed_source, monkeypatch):
    order = permutation(3, epoch_seed(5, 0)).numpy()  # the order of the three files, one at a time
    monkeypatch.setattr("bnn_tf.data.tfds._FILES_AT_ONCE", 1)
    whole = run(streamed_source, images_of(), batch_size=1, epochs=1)
    first = Path(streamed_source.train.files[order[0]][0])
    first.rename(first.with_suffix(".away"))
    try:
        assert same(run(streamed_source, images_of(), batch_size=1, epochs=1, initial_step=17), whole[17:])
        with pytest.raises(data.DataError), data.clear_errors():
            run(streamed_source, images_of(), batch_size=1, epochs=1)
    finally:
        first.with_suffix(".away").rename(first)


@pytest.mark.slow
def test_the_size_of_batches_changes_neither_order_nor_augmentation(folder_source):
    for source in (folder_source, data.load("digits", limit=30)):
        joined, others = (
            [
                np.concatenate(part)
                for part in zip(*run(source, images_of(*PAD_CROP), size, epochs=1), strict=True)
            ]
            for size in (8, 5)
        )
        assert same([joined], [others])


@pytest.mark.sample(2)
def test_shapes_and_types_and_partial_batches(source):
    pre = data.Images((data.ResizeCrop(), data.Flip()), size=(20, 16))
    for batches, split in (
        (data.training_batches(source, pre, 8), "train"),
        (data.evaluation_batches(source, pre, 8), "test"),
    ):
        assert batches.element_spec[0].shape.as_list() == [None, 20, 16, 3]
        read = list(batches)
        sizes = [len(labels) for _, labels in read]
        assert [images.shape for images, _ in read] == [(size, 20, 16, 3) for size in sizes]
        assert {images.dtype for images, _ in read} == {tf.float32}
        assert {labels.dtype for _, labels in read} == {tf.int64}
        assert len(sizes) == data.steps(source, split, 8) == batches.cardinality()
        assert sum(sizes) == source.size(split)
        assert set(sizes[:-1]) <= {8}


@pytest.mark.sample(2)
def test_take_gives_the_first_evaluation_images(source):
    if source.name == "folder":
        source = source.limited(6)  # `take` itself spreads the files
    pre = images_of(data.ResizeCrop(), data.Flip())
    images, labels = next(data.evaluation_batches(source, pre, 6).as_numpy_iterator())
    taken = data.take(source, pre, 6)
    assert same([(images, labels)], [taken])
    raw, _ = data.take(source, pre, 6, normalize=False)
    assert raw.dtype == np.uint8
    assert np.array_equal(pre.normalize(raw), images)
    assert len(data.take(source, pre, 10_000)[1]) == source.size("test")


def test_pad_crop_flip_shows_a_shifted_image_or_its_mirror_image():
    source = data.load("digits", limit=12)
    pre = data.Images(PAD_CROP, mean=0, std=1 / 255)
    seen, _ = next(data.training_batches(source, pre, 12).as_numpy_iterator())
    padded = np.pad(source.split("train").tensors[0], ((0, 0), (4, 4), (4, 4), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded[..., 0], (32, 32), axis=(1, 2))
    for image in np.round(seen[..., 0]):
        matches = (windows == image).all((-2, -1)) | (windows == image[:, ::-1]).all((-2, -1))
        assert matches.any()


def test_model_fit_runs_through_the_epochs():
    source = data.load("digits", limit=20)
    model = tf.keras.Sequential([tf.keras.layers.Flatten(), tf.keras.layers.Dense(10)])
    model.compile("sgd", tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    batches = data.training_batches(source, data.Images(), 8, epochs=3, initial_epoch=1)
    test = data.evaluation_batches(source, data.Images(), 8)
    steps = data.steps(source, "train", 8)
    history = model.fit(
        batches, epochs=3, initial_epoch=1, steps_per_epoch=steps, validation_data=test, verbose=0
    )
    assert history.epoch == [1, 2]


@pytest.mark.parametrize(
    "wrong", [{"initial_epoch": 4}, {"initial_epoch": -1}, {"initial_step": 99}, {"batch_size": 0}]
)
def test_impossible_entries(wrong):
    options = {"batch_size": 8, "epochs": 3, **wrong}
    with pytest.raises(UsageError):
        data.training_batches(data.load("digits", limit=20), data.Images(), **options)


def test_no_such_split():
    with pytest.raises(UsageError, match="'val' is not one of train, test"):
        data.steps(data.load("digits"), "val", 8)


@pytest.mark.sample(2)
def test_the_shares_of_a_batch_are_the_batch(source):
    """Of two processes with two replicas and one, also where fewer images than replicas are left."""
    pre = images_of(*RANDOM_CROP, LIGHTING)
    size = source.size("train")
    batch_size = next(number for number in range(5, 12) if size % number in (1, 2))
    whole = run(source, pre, batch_size, initial_step=1)
    shares = [
        run(source, pre, batch_size, initial_step=1, share=data.Share(3, first, count))
        for first, count in ((0, 2), (2, 1))
    ]
    assert [len(share) for share in shares] == [2 * len(whole), len(whole)]
    for step, (images, labels) in enumerate(whole):
        parts = [*shares[0][2 * step : 2 * step + 2], shares[1][step]]
        if len(labels) < 3:
            for seen, known, weights in parts:
                assert same([(seen, known)], [(images, labels)])
                np.testing.assert_allclose(weights, 1 / 3)
        else:
            sizes = [len(known) for _, known, _ in parts]
            assert max(sizes) - min(sizes) <= 1
            seen, known, weights = (np.concatenate(column) for column in zip(*parts, strict=True))
            np.testing.assert_allclose(seen, images, atol=1e-5)  # sums over other numbers of images round
            np.testing.assert_array_equal(known, labels)
            np.testing.assert_array_equal(weights, 1)


@pytest.mark.sample(1)
def test_every_example_is_evaluated_once(source):
    whole = list(data.evaluation_batches(source, images_of(), 4).as_numpy_iterator())
    weights = np.zeros(3)
    for replica in range(3):
        share = data.Share(3, replica)
        for _, labels, own in data.evaluation_batches(
            source, images_of(), 4, share=share
        ).as_numpy_iterator():
            weights += np.bincount(labels % 3, own, 3)
    np.testing.assert_allclose(
        weights, sum(np.bincount(labels % 3, minlength=3) for _, labels in whole), rtol=1e-6
    )


def test_what_another_process_sees_is_not_decoded(folder):
    """A damaged file stops only the process whose share it is in."""
    (folder / "train" / "bee" / "3.JPEG").write_bytes(b"no picture")
    source = data.load("folder", folder)
    errors = []
    for process in range(2):
        try:
            with data.clear_errors():
                run(source, images_of(), epochs=1, share=data.Share(2, process))
        except data.DataError as error:
            errors.append(str(error))
    assert len(errors) == 1
    assert "3.JPEG" in errors[0]
