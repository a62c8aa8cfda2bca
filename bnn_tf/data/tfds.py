"""TensorFlow Datasets by name: kept in memory where it fits, streamed from its record files otherwise."""

from __future__ import annotations

import contextlib
import difflib
import functools
import http.client
import json
import os
import re
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bnn_tf import files
from bnn_tf._runtime import quiet_native_stderr
from bnn_tf._tensorflow import tf
from bnn_tf.data import images
from bnn_tf.data.source import (
    AbsentError,
    Arrays,
    ArraySplit,
    DataError,
    EncodedSplit,
    Facts,
    NamedFolderError,
    OtherFolderError,
    Sizes,
    Source,
    TooDeepError,
    UnknownDatasetError,
    derived,
    permutation,
)
from bnn_tf.errors import some

MEMORY_LIMIT = 2**30
"""Bytes up to which the images of a split are kept in memory (CIFAR: 150 million)."""

SHUFFLE_BLOCK = 4096
"""Encoded examples that a streamed dataset holds at a time to shuffle them."""

_FILES_AT_ONCE = 16
_HELD_OUT_SHARE = 5  # one fifth, where a dataset has no split of its own for testing
_DECODE_BATCH = 500
_NETWORK_TIMEOUT = 20.0  # seconds
_UNLABELLED_TEST = ("imagenet", "places365", "i_naturalist")  # their `test` splits come without labels

# What people type for what they mean; letters, digits and case aside, which `_bare` removes.
_MEANT = {
    "imagenet": "imagenet2012",
    "imagenet1k": "imagenet2012",
    "ilsvrc": "imagenet2012",
    "ilsvrc2012": "imagenet2012",
    "tinyimagenet200": "tiny_imagenet",
    "cifar": "cifar10",
    "handwriting": "digits",
    "optdigits": "digits",
    "sklearndigits": "digits",
    "usps": "mnist",
    "fashion": "fashion_mnist",
    "flowers": "tf_flowers",
    "flowers102": "oxford_flowers102",
    "pets": "oxford_iiit_pet",
    "cats": "cats_vs_dogs",
    "catsanddogs": "cats_vs_dogs",
    "dogs": "stanford_dogs",
    "birds": "caltech_birds2011",
    "cub": "caltech_birds2011",
    "cars": "cars196",
    "stanfordcars": "cars196",
    "food": "food101",
    "places": "places365_small",
    "textures": "dtd",
    "svhn": "svhn_cropped",
    "inaturalist": "i_naturalist2021",
    "images": "folder",
    "imagefolder": "folder",
    "pictures": "folder",
    "photos": "folder",
    "custom": "folder",
    "own": "folder",
}

# Images to train on and held out, as `load` divides them, of datasets that are not at hand (TFDS keeps these
# numbers with the prepared files), by name and, where they differ, configuration. One number alone: there is
# no split to hold out, so that a share of it is.
# fmt: off
_SIZES: dict[str, int | tuple[int, int]] = {
    "cifar10": (50_000, 10_000), "cifar100": (50_000, 10_000), "imagenet2012": (1_281_167, 50_000),
    "mnist": (60_000, 10_000), "fashion_mnist": (60_000, 10_000), "svhn_cropped": (73_257, 26_032),
    "tf_flowers": 3_670, "oxford_flowers102": (1_020, 6_149), "oxford_iiit_pet": (3_680, 3_669),
    "cats_vs_dogs": 23_262, "stanford_dogs": (12_000, 8_580), "caltech_birds2011": (5_994, 5_794),
    "cars196": (8_144, 8_041), "food101": (75_750, 25_250), "places365_small": (1_803_460, 36_500),
    "dtd": (1_880, 1_880), "beans": (1_034, 128), "binary_alpha_digits": 1_404,
    "caltech101": (3_060, 6_084), "caltech_birds2010": (3_000, 3_033), "cassava": (5_656, 1_885),
    "citrus_leaves": 594, "cmaterdb/bangla": (5_000, 1_000), "cmaterdb/devanagari": (2_500, 500),
    "cmaterdb/telugu": (2_500, 500), "colorectal_histology": 5_000, "deep_weeds": 17_509,
    "dmlab": (65_550, 22_735), "domainnet/clipart": (33_525, 14_604),
    "domainnet/infograph": (36_023, 15_582), "domainnet/painting": (50_416, 21_850),
    "domainnet/quickdraw": (120_750, 51_750), "domainnet/real": (120_906, 52_041),
    "domainnet/sketch": (48_212, 20_916), "emnist/balanced": (112_800, 18_800),
    "emnist/byclass": (697_932, 116_323), "emnist/bymerge": (697_932, 116_323),
    "emnist/digits": (240_000, 40_000), "emnist/letters": (88_800, 14_800),
    "emnist/mnist": (60_000, 10_000), "eurosat": 27_000, "horses_or_humans": (1_027, 256),
    "i_naturalist2017": (579_184, 95_986), "i_naturalist2018": (437_513, 24_426),
    "i_naturalist2021": (2_686_843, 100_000), "imagenet2012_subset/10pct": (128_116, 50_000),
    "imagenet2012_subset/1pct": (12_811, 50_000), "imagenet_resized": (1_281_167, 50_000),
    "imagenette/160px": (12_894, 500), "imagenette/160px-v2": (9_469, 3_925),
    "imagenette/320px": (12_894, 500), "imagenette/320px-v2": (9_469, 3_925),
    "imagenette/full-size": (12_894, 500), "imagenette/full-size-v2": (9_469, 3_925),
    "imagewang": (14_669, 3_929), "kmnist": (60_000, 10_000), "malaria": 27_558,
    "mnist_corrupted": (60_000, 10_000), "patch_camelyon": (262_144, 32_768), "plant_leaves": 4_502,
    "plant_village": 54_303, "plantae_k": 2_153, "quickdraw_bitmap": 50_426_266, "resisc45": 31_500,
    "rock_paper_scissors": (2_520, 372), "stl10": (5_000, 8_000), "sun397/tfds": (76_128, 21_750),
    "uc_merced": 2_100,
}
# fmt: on

# The archives without which TFDS prepares a part only, and says nothing.
_ARCHIVES = {"imagenet2012": {"train": "ILSVRC2012_img_train.tar", "validation": "ILSVRC2012_img_val.tar"}}


def load(
    name: str, data_dir: Path | None = None, download: bool = True, known: tuple[str, ...] = ()
) -> Source:
    """Opens a dataset, downloading it first where it is absent and that is allowed.

    Args:
        name: The dataset's name at TFDS, `name/config` included.
        data_dir: Where prepared datasets are; None: TFDS' own default.
        download: Whether to download.
        known: Other names to suggest where `name` is unknown.

    Raises:
        UnknownDatasetError: TFDS has no dataset of that name.
        AbsentError: it is not in that folder and not to be downloaded.
        DataError: not downloadable, prepared in part only, or not a dataset of images with one label each.
    """
    if data_dir is not None and (root := folder_around(data_dir)) is not None:
        raise TooDeepError(str(data_dir), str(root))
    builder = _builder(name, data_dir, known)
    keys = _keys(builder, name)  # before anything is downloaded in vain
    image, label = (builder.info.features[key] for key in keys)
    if not builder.info.splits:
        if not download:
            error = _NotHereError(f"the dataset {name} is not in {builder.data_dir}")
            sides = None if None in image.shape else (min(image.shape[:2]), max(image.shape[:2]))
            error.facts = Facts(name, list(label.names), *_sizes(builder), sides, sides and sides[0])
            raise error
        _prepare(builder, name)
    if builder.info.file_format.value != "tfrecord":
        raise DataError(
            f"the dataset {name} is stored as {builder.info.file_format.value} in {builder.data_dir}; "
            "remove that folder and prepare it again with the file format tfrecord"
        )
    train, test = (StreamSplit(builder, *place, keys) for place in _ranges(builder, name))
    return Source(list(label.names), _kept(train, image.shape), _kept(test, image.shape), name)


class _NotHereError(OtherFolderError, AbsentError):
    """A dataset is not where it was looked for, and not to be downloaded."""


def folder_around(folder: Path) -> Path | None:
    """The folder that holds the datasets, where `folder` is that of one prepared dataset or lies in it.

    None where `folder` is itself one that holds datasets, or holds none.
    """
    place = files.expanded(folder).absolute()
    for depth in ("", "*/", "*/*/"):
        for path in place.glob(f"{depth}dataset_info.json"):
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
                name = json.loads(path.read_text())["name"]
                own = next((parent for parent in path.parents if parent.name == name), None)
                return own.parent if own is not None and (own == place or own in place.parents) else None
    return None


def _builder(name: str, data_dir: Path | None, known: tuple[str, ...]) -> Any:
    if _is_path(name):
        raise NamedFolderError(name)
    with quiet_native_stderr():
        import tensorflow_datasets as tfds

        place = None if data_dir is None else str(data_dir)
        try:
            # A namespace (`user:name`) would download code, and run it. A version begins with a digit.
            foreign = re.match(r"\w+:[^\d*]", name)
            if foreign or not re.fullmatch(r"[\w/:.=,+-]+", name) or "-" in name.split("/")[0]:
                raise tfds.core.DatasetNotFoundError(name)  # TFDS says a page about how names are written
            return tfds.builder(name, data_dir=place, try_gcs=False)
        except tfds.core.DatasetNotFoundError as error:
            if Path(name).is_dir():
                raise NamedFolderError(name) from error
            valid = [*known, *tfds.list_builders(with_community_datasets=False)]
            raise _unknown(name, _nearest(name, valid), known) from error
        except Exception as error:  # a wrong config or version, a library that it needs, damaged files
            raise DataError(f"the dataset {name} cannot be opened: {_in_one_line(error)}") from error


def refuse_misspelt(name: str, known: tuple[str, ...]) -> None:
    """Refuses what can only be a misspelling of a common dataset's name; does not need TensorFlow.

    Some of TFDS' names are longer forms of common ones (`imagenet_v2`), but none differs from one by so few
    letters otherwise. What is prepared in TFDS' default folder may have any name.

    Raises:
        UnknownDatasetError: the name is misspelt, or that of a folder.
    """
    default = files.expanded(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets"))
    if _is_path(name):
        raise NamedFolderError(name)
    if name in known or (default / name).exists():
        return
    if name not in _SIZES and Path(name).is_dir():
        raise NamedFolderError(name)
    wanted = _bare(name)
    common = _spellings(wanted, known)
    longer = wanted not in common and any(bare in wanted for bare in common)
    near = None if longer else _nearest(name, known, cutoff=0.8)
    if near:
        raise _unknown(name, near, known)


def _is_path(name: str) -> bool:
    """Whether a name can only be a path: no dataset's begins like this."""
    return name.startswith((".", "/", "~")) or "\\" in name


def _unknown(name: str, near: str | None, known: tuple[str, ...]) -> UnknownDatasetError:
    hint = f" Did you mean {near}?" if near else ""
    return UnknownDatasetError(
        f"there is no dataset {name!r}, neither here ({', '.join(known)}) nor in TensorFlow Datasets.{hint}"
    )


def _nearest(name: str, valid: Sequence[str], cutoff: float = 0.6) -> str | None:
    """The valid name that is meant: the same but for punctuation and case, by meaning, or by letters."""
    wanted = _bare(name)
    names = _spellings(wanted, valid)
    near = difflib.get_close_matches(wanted, names, n=1, cutoff=cutoff)
    return names[near[0]] if near else None


def _spellings(wanted: str, valid: Sequence[str]) -> dict[str, str]:
    """Valid names by their letters and digits, and what means them; of short words only `wanted` itself."""
    meant = {bare: name for bare, name in _MEANT.items() if len(bare) > 5 or bare == wanted}
    return meant | {_bare(name): name for name in reversed(valid)}


def _bare(name: str) -> str:
    """The letters and digits of a name, without its configuration."""
    return re.sub(r"[\W_]", "", name.split("/")[0]).lower()


def _prepare(builder: Any, name: str) -> None:
    import tensorflow_datasets as tfds

    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    try:
        _require_archives(builder, name)
        _require_network(builder, name)
        with contextlib.redirect_stdout(sys.stderr):  # standard output is for results
            builder.download_and_prepare(
                file_format="tfrecord", download_config=tfds.download.DownloadConfig(try_download_gcs=False)
            )
    except DataError:
        raise
    except Exception as error:  # whatever network, disk and the dataset's own code can raise
        raise OtherFolderError(
            f"the dataset {name} is not in {builder.data_dir} and could not be downloaded and prepared "
            f"({_in_one_line(error)})"
        ) from error


def _archive_folder(builder: Any) -> Path:
    return Path(builder._data_dir_root) / "downloads" / "manual"  # TFDS' default


def _require_archives(builder: Any, name: str) -> None:
    """Before the records are written, because TFDS takes a part of the archives for the whole."""
    folder = _archive_folder(builder)
    archives = _ARCHIVES.get(builder.name, {}).values()
    missing = [archive for archive in archives if not (folder / archive).is_file()]
    if missing:
        raise OtherFolderError(
            f"the dataset {name} is not in {builder.data_dir}",
            f"put {' and '.join(missing)} (from https://image-net.org/download-images) into {folder}, so "
            f"that it can be prepared",
        )


def _require_network(builder: Any, name: str) -> None:
    """TFDS itself tries for several minutes before it says that there is no network."""
    url = next((url for url in builder.url_infos or () if url.startswith("http")), None)
    if url is None or builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        return
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_NETWORK_TIMEOUT).close()
    except urllib.error.HTTPError:
        return  # an answer, at any rate
    except (OSError, http.client.HTTPException) as error:
        if isinstance(getattr(error, "reason", None), ssl.SSLError):
            return  # other certificates than those that TFDS brings
        host = urllib.parse.urlsplit(url).netloc
        raise OtherFolderError(
            f"the dataset {name} is not in {builder.data_dir} and {host} cannot be reached to download it "
            f"({getattr(error, 'reason', error)})",
            "check the network",
        ) from error


def _keys(builder: Any, name: str) -> tuple[str, str]:
    """The names of the image and the label among the dataset's features."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    supervised = builder.info.supervised_keys
    if not (isinstance(supervised, tuple) and len(supervised) == 2 and set(supervised) <= set(features)):
        pictures = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
        labels = [key for key, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)]
        supervised = (pictures[0], labels[0]) if len(pictures) == len(labels) == 1 else None
    if supervised is None or not _is_classification(*(features[key] for key in supervised)):
        raise DataError(
            f"the dataset {name} is not one of 8-bit images with one class label each; "
            f"its features are {', '.join(features)}"
        )
    return supervised


def _is_classification(image: Any, label: Any) -> bool:
    import tensorflow_datasets as tfds

    return (
        isinstance(image, tfds.features.Image)
        and image.shape[-1] in (1, 3)
        and image.np_dtype == np.uint8
        and isinstance(label, tfds.features.ClassLabel)
    )


def _ranges(builder: Any, name: str) -> list[tuple[str, int, int]]:
    """Which examples train and which test: TFDS' split, first and last + 1."""
    splits = builder.info.splits
    missing = [split for split in _ARCHIVES.get(builder.name, {}) if split not in splits]
    if missing:
        archives = " and ".join(_ARCHIVES[builder.name][split] for split in missing)
        raise DataError(
            f"the dataset {name} in {builder.data_dir} was prepared without {' and '.join(missing)}: put "
            f"{archives} into {_archive_folder(builder)} and remove {builder.data_dir}, so that it is "
            "prepared again"
        )
    if "train" not in splits:
        raise DataError(
            f"the dataset {name} in {builder.data_dir} has no split named train, only {some(splits)}"
        )
    size = splits["train"].num_examples
    labelled = ("validation", "val") if name.startswith(_UNLABELLED_TEST) else ("test", "validation")
    for held_out in labelled:
        if held_out in splits:
            return [("train", 0, size), (held_out, 0, splits[held_out].num_examples)]
    border, _ = _divided(size)
    return [("train", 0, border), ("train", border, size)]


def _divided(size: int) -> tuple[int, int]:
    """How many examples of a split train and are held out where there is no other split."""
    return size - size // _HELD_OUT_SHARE, size // _HELD_OUT_SHARE


def _sizes(builder: Any) -> tuple[int | None, int | None]:
    """How many images of an absent dataset would train and be held out; None where nobody counted them."""
    config = getattr(builder.builder_config, "name", "")
    known = _SIZES.get(f"{builder.name}/{config}", _SIZES.get(builder.name, (None, None)))
    return _divided(known) if isinstance(known, int) else known


def _kept(split: StreamSplit, shape: tuple[int, ...]) -> ArraySplit | StreamSplit:
    """A split in memory where its images have one size and fit; otherwise the split itself."""
    if None in shape or split.size * int(np.prod(shape)) > MEMORY_LIMIT:
        return split
    return ArraySplit.deferred(split.size, shape, lambda count: _decoded(split.limited(count), shape))


def _decoded(split: StreamSplit, shape: tuple[int, ...]) -> Arrays:
    """All images and labels; decoded in parallel, straight into one array."""

    def decode(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        contents, label = split.fetch(record)
        return tf.ensure_shape(images.decode(contents, shape[-1]), shape), label

    batches = split.items(None, 0).map(decode, tf.data.AUTOTUNE).batch(_DECODE_BATCH).prefetch(2)
    pixels, labels = np.empty((split.size, *shape), np.uint8), np.empty(split.size, np.int64)
    filled = 0
    with contextlib.suppress(tf.errors.OpError):
        for some_pixels, some_labels in batches:
            end = filled + len(some_labels)
            pixels[filled:end], labels[filled:end] = some_pixels, some_labels
            filled = end
    if filled < split.size:
        raise DataError(
            f"the files of {split.name} in {split.builder.data_dir} are corrupt; remove that folder, so that "
            "they are prepared again"
        )
    if labels.min() < 0:
        raise DataError(f"the split {split.name} has no labels")
    return pixels, labels


def _in_one_line(error: BaseException) -> str:
    """The message of TFDS without line ends; it names the files that it needs at the end."""
    text = " ".join(str(error).split())
    return text[:600] if text else type(error).__name__


class StreamSplit(EncodedSplit):
    """Record files too large for memory, read in an order that is a pure function of the seed.

    The files come in a random order, 16 at a time in turns; of the stream of records, each block of
    `SHUFFLE_BLOCK` is permuted. (TFDS itself spreads the examples over the files at random.) Two blocks are
    in memory at a time. Entering in the middle of an epoch skips the files that were read by then, and reads
    again what came before in the 16 files in turn, and the block that was under way.

    Args:
        builder: TFDS' builder of the prepared dataset.
        split: The name of the split there.
        start: The first of its examples.
        stop: The one after the last.
        keys: The names of the image and the label among the dataset's features.
    """

    def __init__(self, builder: Any, split: str, start: int, stop: int, keys: tuple[str, str]) -> None:
        self.builder, self.split, self.start, self.keys = builder, split, start, keys
        self.size = stop - start
        self.name = f"{builder.name}:{split}"  # for messages

    @functools.cached_property
    def files(self) -> list[tuple[str, int, int]]:
        """The record files, how many records to skip in each, and how many to take."""
        part = f"{self.split}[{self.start}:{self.start + self.size}]"
        return [
            (
                str(item.filename),
                item.skip,
                item.take if item.take >= 0 else item.examples_in_shard - item.skip,
            )
            for item in self.builder.info.splits[part].file_instructions
        ]

    def items(self, seed: tf.Tensor | None, start: int) -> tf.data.Dataset:
        """The serialized records."""
        count = len(self.files)
        if seed is None:
            return self._records(tf.range(count), 1).skip(start)
        files, read = permutation(count, seed), None
        if start:
            order = files.numpy()
            counts = [self.files[i][2] for i in order]
            entry, done = entered(counts, _FILES_AT_ONCE, _block_start(start))
            files = tf.constant(order[entry], tf.int32)
            read = tf.constant(np.array(done)[np.argsort(order)], tf.int64)
        blocks = self._records(files, _FILES_AT_ONCE, read).batch(SHUFFLE_BLOCK)

        def permuted(number: tf.Tensor, block: tf.Tensor) -> tf.Tensor:
            return tf.gather(block, permutation(tf.shape(block)[0], derived(seed, 2 + number)))

        numbered = blocks.enumerate(_block_start(start) // SHUFFLE_BLOCK)
        return numbered.map(permuted).prefetch(1).unbatch().skip(start - _block_start(start))

    def _records(self, order: tf.Tensor, at_once: int, read: tf.Tensor | None = None) -> tf.data.Dataset:
        """The records of the files in an order, without the first `read` of each."""
        names, *counts = zip(*self.files, strict=True)
        paths = tf.constant(names)
        all_skips, all_takes = (tf.constant(count, tf.int64) for count in counts)

        def of_file(number: tf.Tensor) -> tf.data.Dataset:
            skips, takes = all_skips[number], all_takes[number]
            if read is not None:
                skips, takes = skips + read[number], takes - read[number]
            return tf.data.TFRecordDataset(paths[number], buffer_size=2**18).skip(skips).take(takes)

        at_once = min(at_once, len(self.files))
        files = tf.data.Dataset.from_tensor_slices(order)
        return files.interleave(of_file, cycle_length=at_once, num_parallel_calls=at_once, deterministic=True)

    def fetch(self, item: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """The encoded image and the label of a record."""
        import tensorflow_datasets as tfds

        image, label = self.keys
        used = tfds.features.FeaturesDict({key: self.builder.info.features[key] for key in self.keys})
        example = used.deserialize_example(item, decoders={image: tfds.decode.SkipDecoding()})
        return example[image], tf.cast(example[label], tf.int64)

    def place(self, seed: tf.Tensor | None, position: tf.Tensor) -> tf.Tensor:
        """The dataset and how many examples came before; records have no names."""
        where = f"an image of {self.name} in {self.builder.data_dir}, after "
        return tf.strings.join([where, tf.strings.as_string(position), " others in the order of reading"])

    def limited(self, count: int) -> StreamSplit:
        """The first `count` examples."""
        stop = self.start + min(count, self.size)
        return StreamSplit(self.builder, self.split, self.start, stop, self.keys)

    def sizes(self) -> Sizes:
        """Of images of one size."""
        size = self.builder.info.features[self.keys[0]].shape[:2]
        return [] if None in size else [tuple(size)]


def _block_start(position: int) -> int:
    return position // SHUFFLE_BLOCK * SHUFFLE_BLOCK


def entered(counts: Sequence[int], at_once: int, position: int) -> tuple[list[int], list[int]]:
    """How to enter an interleaving of files at a position without reading what came before.

    `tf.data` takes one record of each of `at_once` files in turn; where a file ends, its turn is lost and the
    next file has its place from then on. This follows the turns by the numbers of records alone.

    Args:
        counts: Records in each file, in the order of the files.
        at_once: Files in turn at a time.
        position: Records that came before.

    Returns:
        The files in the order in which an interleaving that starts here takes them, and how many records of
        each file (in the order of `counts`) came before.

    Example:
        >>> entered([3, 3, 3], at_once=2, position=3)
        ([1, 0, 2], [2, 1, 0])
    """
    at_once = min(at_once, len(counts))
    turns: list[int | None] = [None] * at_once
    read, turn, opened, done = [0] * len(counts), 0, 0, 0
    while done < position:
        file = turns[turn]
        if file is None and opened < len(counts):
            turns[turn], opened = opened, opened + 1
            continue
        in_turn = [other for other in turns if other is not None]
        rounds = min(counts[other] - read[other] for other in in_turn)
        rounds = min(rounds, (position - done) // at_once) if len(in_turn) == at_once else 0
        if rounds:
            for other in in_turn:
                read[other] += rounds
            done += rounds * at_once
            continue
        if file is not None and read[file] == counts[file]:
            turns[turn] = None
        elif file is not None:
            read[file], done = read[file] + 1, done + 1
        turn = (turn + 1) % at_once
    order = []
    for file in turns[turn:] + turns[:turn]:
        if file is None and opened < len(counts):
            file, opened = opened, opened + 1
        if file is not None:
            order.append(file)
    return order + list(range(opened, len(counts))), read
