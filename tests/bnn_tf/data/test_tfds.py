import numpy as np
import pytest

from bnn_tf import data
from bnn_tf._tensorflow import tf
from bnn_tf.data import tfds
from bnn_tf.data.source import ArraySplit
from bnn_tf.data.tfds import StreamSplit, entered


def brightness(images):
    """Which examples of `tiny_squares` these are."""
    return np.round(images[:, 6, 6, 0] / 10).astype(int)


def in_order(source, split="test"):
    pre = data.Images(size=12)
    images, labels = data.take(source, pre, source.size(split), split, normalize=False)
    return brightness(images), labels


def test_a_small_dataset_is_kept_in_memory_and_becomes_coloured(prepared):
    source = data.load("tiny_squares", prepared, download=False)
    assert isinstance(source.split("train"), ArraySplit)
    assert (source.num_classes, source.class_names) == (2, ["even", "odd"])
    assert (source.size("train"), source.size("test"), source.train.image_shape) == (23, 9, (12, 12, 1))
    numbers, labels = in_order(source, "train")
    assert sorted(numbers) == list(range(23))
    assert np.array_equal(labels, numbers % 2)


@pytest.mark.slow
def test_networks_with_one_channel(prepared, streamed_source):
    images = data.Images((data.PadCrop(2), data.Flip()), size=12).with_channels(1)
    kept = data.load("tiny_squares", prepared, download=False)
    for source in (kept, streamed_source):
        pixels, _ = next(iter(data.training_batches(source, images, 4)))
        assert pixels.shape == (4, 12, 12, 1)
        seen, _ = data.take(source, images, 9, normalize=False)
        assert np.array_equal(seen[:, 6, 6, 0], 10 * in_order(source)[0])


def test_a_large_dataset_is_streamed_and_has_the_same_examples_in_the_same_order(prepared, streamed_source):
    assert isinstance(streamed_source.split("train"), StreamSplit)
    assert len(streamed_source.split("train").files) == 3
    numbers, labels = in_order(streamed_source, "train")
    assert sorted(numbers) == list(range(23))
    assert np.array_equal(labels, numbers % 2)


def test_images_of_several_sizes_are_streamed_and_fitted(prepare_tfds):
    source = data.load("tiny_varied", prepare_tfds("tiny_varied"), download=False)
    assert source.train.sizes() == []
    numbers, labels = in_order(source)
    assert sorted(numbers) == list(range(9))
    assert np.array_equal(labels, numbers % 2)


def test_a_dataset_without_test_split_gives_its_last_fifth(prepare_tfds):
    source = data.load("tiny_train_only", prepare_tfds("tiny_train_only"), download=False)
    assert (source.size("train"), source.size("test")) == (16, 4)
    assert sorted([*in_order(source, "train")[0], *in_order(source)[0]]) == list(range(20))


def test_limit_reads_the_first_examples(prepared, streamed_source):
    whole = in_order(streamed_source, "train")[0]
    for limited in (streamed_source.limited(5), data.load("tiny_squares", prepared, limit=5)):
        assert (limited.size("train"), limited.size("test")) == (5, 5)
        assert np.array_equal(in_order(limited, "train")[0], whole[:5])


def test_an_absent_dataset_is_prepared_where_that_is_allowed(tmp_path, prepared, capfd):
    source = data.load("tiny_squares", tmp_path)
    assert np.array_equal(np.sort(in_order(source)[0]), np.arange(9))
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "train", "test"),
    [
        ("kmnist", 60_000, 10_000),
        ("emnist/letters", 88_800, 14_800),  # a configuration
        ("imagenet_resized/32x32", 1_281_167, 50_000),  # all configurations; its test split has no labels
        ("beans", 1_034, 128),  # test before validation
        ("eurosat", 21_600, 5_400),  # no split to hold out
        ("omniglot", None, None),  # nobody counted
    ],
)
def test_how_many_images_an_absent_dataset_has(tmp_path, name, train, test):
    facts = data.facts(name, tmp_path)
    assert (facts.train, facts.test) == (train, test)


@pytest.mark.parametrize("inside", ["tiny_squares", "tiny_squares/1.0.0"])
def test_a_folder_one_level_too_deep(prepared, inside):
    with pytest.raises(
        data.DataError, match="is the folder of one dataset; name the folder that contains it"
    ) as error:
        data.load("tiny_squares", prepared / inside)
    assert str(prepared) in str(error.value)


def test_a_folder_in_place_of_a_dataset(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    for name in ("pictures", "./pictures", str(tmp_path)):
        with pytest.raises(data.UnknownDatasetError, match="that is a folder; give it as data_dir="):
            data.load(name)


def test_not_downloaded(tmp_path):
    with pytest.raises(data.DataError, match=r"cifar100 is not in .*cifar100.*say in which folder it is"):
        data.load("cifar100", tmp_path, download=False)


@pytest.mark.parametrize("reason", ["Name or service not known", "timed out"])
def test_no_network_is_noticed_before_tfds_tries_for_minutes(tmp_path, monkeypatch, reason):
    def fail(*args, **kwargs):
        raise OSError(reason)

    monkeypatch.setattr("urllib.request.urlopen", fail)
    with pytest.raises(data.DataError, match=rf"cifar100.*cannot be reached.*{reason}.*say in which"):
        data.load("cifar100", tmp_path)


def test_a_failed_download_is_one_sentence(tmp_path, prepared):
    with pytest.raises(data.DataError, match=r"tiny_offline.*could not.*no route to host") as error:
        data.load("tiny_offline", tmp_path)
    assert "\n" not in str(error.value)


def test_imagenet_needs_both_archives_before_anything_is_prepared(tmp_path):
    """TFDS would prepare what is there, say nothing, and use that for ever."""
    manual = tmp_path / "downloads" / "manual"
    with pytest.raises(
        data.DataError, match=rf"put ILSVRC2012_img_train.tar and .*_val.tar .* into {manual}"
    ):
        data.load("imagenet2012", tmp_path)
    manual.mkdir(parents=True)
    (manual / "ILSVRC2012_img_train.tar").touch()
    with pytest.raises(data.DataError, match=r"put ILSVRC2012_img_val.tar \(from"):
        data.load("imagenet2012", tmp_path)
    assert not (tmp_path / "imagenet2012").exists()


def test_a_half_prepared_dataset_names_what_to_remove(prepared, monkeypatch):
    monkeypatch.setitem(tfds._ARCHIVES, "tiny_squares", {"train": "a.tar", "validation": "b.tar"})
    with pytest.raises(
        data.DataError, match=r"prepared without validation: put b.tar into .* and remove .*1.0.0"
    ):
        data.load("tiny_squares", prepared)


def test_what_is_known_of_an_absent_dataset(tmp_path):
    assert str(data.facts("cifar10", tmp_path)) == "10 classes, 50,000 + 10,000 images, 32 px"
    facts = data.facts("imagenet2012", tmp_path)
    assert (facts.train, facts.test, facts.pixels) == (1_281_167, 50_000, None)
    assert len(facts.class_names) == 1000
    assert str(data.facts("tf_flowers", tmp_path)) == "5 classes, 2,936 + 734 images"  # of 3,670
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("cifra10", "cifar10"),
        ("digit", "digits"),
        ("mnits", "mnist"),
        ("cifar-10", "cifar10"),
        ("CIFAR_100", "cifar100"),
        ("Image Net", "imagenet2012"),
        ("imagenet-1k", "imagenet2012"),
        ("tiny-imagenet", "tiny_imagenet"),
        ("flowers", "tf_flowers"),
        ("photos", "folder"),
        ("catsanddog", "cats_vs_dogs"),
    ],
)
def test_an_unknown_name_brings_the_nearest(name, meant):
    with pytest.raises(data.UnknownDatasetError, match=f"no dataset '{name}'.*mean {meant}[?]$") as error:
        data.load(name)
    assert error.value.exit_code == 2


@pytest.mark.parametrize("name", ["huggingface:mnist/mnist", "someone:thing/small"])
def test_a_namespace_downloads_no_code(name, monkeypatch):
    monkeypatch.setattr("tensorflow_datasets.builder", lambda *_, **__: pytest.fail("TFDS was asked"))
    with pytest.raises(data.UnknownDatasetError):
        data.load(name)


def test_an_unknown_configuration(tmp_path):
    with pytest.raises(data.DataError, match=r"imagenet_resized/63x63 cannot be opened.*64x64"):
        data.load("imagenet_resized/63x63", tmp_path)


def test_a_dataset_without_labels(prepare_tfds):
    with pytest.raises(data.DataError, match="tiny_unlabelled is not one of 8-bit images with one"):
        data.load("tiny_unlabelled", prepare_tfds("tiny_unlabelled"))


def test_a_dataset_without_images_is_not_downloaded_first(tmp_path):
    with pytest.raises(data.DataError, match="glue/cola is not one of 8-bit images"):
        data.load("glue/cola", tmp_path)


def test_a_split_with_hidden_labels(prepare_tfds):
    source = data.load("tiny_hidden_labels", prepare_tfds("tiny_hidden_labels"))
    with pytest.raises(data.DataError, match="tiny_hidden_labels:test has no labels"):
        data.take(source, data.Images(), 1)


def rewrite(root, change):
    """Changes the records of the first training file, with the right checksums."""
    path = next(root.rglob("*train.tfrecord-00000*"))
    records = [bytes(record.numpy()) for record in tf.data.TFRecordDataset(str(path))]
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in change(records):
            writer.write(record)


def with_a_bad_picture(records):
    assert b"\x89PNG" in records[1]
    return [records[0], records[1].replace(b"\x89PNG", b"\x89PMG"), *records[2:]]


def without_the_last(records):
    return records[:-1]


@pytest.mark.parametrize(
    ("change", "place"), [(with_a_bad_picture, "after 1 others"), (without_the_last, "after 22 others")]
)
def test_corrupt_files_in_memory_or_streamed(prepare_tfds, monkeypatch, change, place):
    root = prepare_tfds("tiny_squares")
    rewrite(root, change)
    pre = data.Images(size=12)
    with pytest.raises(data.DataError, match=r"tiny_squares:train in .*tiny_squares.* are corrupt"):
        data.take(data.load("tiny_squares", root), pre, 23, "train")
    monkeypatch.setattr("bnn_tf.data.tfds.MEMORY_LIMIT", 0)
    with pytest.raises(data.DataError, match=f"image of tiny_squares:train in .*, {place}"):
        data.take(data.load("tiny_squares", root), pre, 23, "train")


def test_a_cut_record_file(prepare_tfds, monkeypatch):
    root = prepare_tfds("tiny_squares")
    path = next(root.rglob("*train.tfrecord-00000*"))
    path.write_bytes(path.read_bytes()[:-100])
    monkeypatch.setattr("bnn_tf.data.tfds.MEMORY_LIMIT", 0)
    source = data.load("tiny_squares", root)
    with pytest.raises(data.DataError, match=r"image of tiny_squares:train in .*, after \d+ others"):
        data.take(source, data.Images(size=12), 23, "train")


@pytest.mark.slow
def test_entering_an_interleaving_gives_the_rest_of_it(rng):
    def interleaved(files, counts, read, at_once):
        of_file = lambda i: tf.data.Dataset.range(read[i], counts[i]).map(lambda j: i * 1000 + j)  # noqa: E731
        dataset = tf.data.Dataset.from_tensor_slices(tf.constant(files, tf.int64))
        dataset = dataset.interleave(
            of_file, cycle_length=at_once, num_parallel_calls=at_once, deterministic=True
        )
        return list(dataset.as_numpy_iterator())

    for trial in range(6):
        counts = [int(n) for n in (rng.integers(0, 9, 11) if trial % 2 else 5 + rng.integers(0, 2, 9))]
        at_once = trial + 1
        whole = interleaved(
            range(len(counts)), tf.constant(counts, tf.int64), tf.zeros(11, tf.int64), at_once
        )
        for position in (0, 1, len(whole) // 2, len(whole) - 1):
            files, read = entered(counts, at_once, position)
            rest = interleaved(files, tf.constant(counts, tf.int64), tf.constant(read, tf.int64), at_once)
            assert rest == whole[position:], (counts, at_once, position)


@pytest.mark.slow
def test_cifar10(shared):
    source = data.load("cifar10", shared / "tfds", download=False)
    assert str(data.describe(source)) == "10 classes, 50,000 + 10,000 images, 32 px"
    assert source.class_names[0] == "airplane"
    images, labels = source.train.tensors
    assert np.bincount(labels).tolist() == [5000] * 10
    mean = images.numpy().mean((0, 1, 2)) / 255
    assert mean == pytest.approx(data.NORMALIZATIONS["cifar"][0], abs=2e-3)
