"""TensorFlow Datasets by name: kept in memory where it fits, streamed from its record files otherwise."""

from __future__ import annotations

import contextlib
import difflib
import http.client
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bnn_tf._runtime import quiet_native_stderr
from bnn_tf._tensorflow import tf
from bnn_tf.data.errors import DataError, UnknownDatasetError
from bnn_tf.data.images import decode as decode_image
from bnn_tf.data.source import Arrays, ArraySplit, EncodedSplit, Source
from bnn_tf.data.streaming import Part, StreamSplit

MEMORY_LIMIT = 2**30
"""Bytes up to which the images of a split are kept in memory (CIFAR: 150 million)."""

_HELD_OUT_SHARE = 5  # one fifth, where a dataset has no split of its own for testing
_DECODE_BATCH = 500
_ELSEWHERE = "name its folder with --data-dir (prepared by TFDS, or train/<class>/* and val/<class>/*)"
_NETWORK_TIMEOUT = 20.0  # seconds
_UNLABELLED_TEST = ("imagenet", "places365", "i_naturalist")  # their `test` splits come without labels


def load(
    name: str, data_dir: Path | None = None, download: bool = True, known: tuple[str, ...] = ()
) -> Source:
    """Opens a dataset, downloading it first where it is absent and that is allowed.

    Args:
        name: the dataset's name at TFDS, `name/config` included.
        data_dir: where prepared datasets are; None: TFDS' own default.
        download: whether to download.
        known: other names to suggest where `name` is unknown.

    Raises:
        UnknownDatasetError: TFDS has no dataset of that name.
        DataError: not downloaded, not downloadable, or not a dataset of images with one label each.
    """
    builder = _builder(name, data_dir, known)
    image_key, label_key = _keys(builder, name)  # before anything is downloaded in vain
    if not builder.info.splits:
        _prepare(builder, name, download)
    if builder.info.file_format.value != "tfrecord":
        raise DataError(
            f"The dataset {name} is stored as {builder.info.file_format.value} in {builder.data_dir}; "
            "prepare it anew with the file format tfrecord."
        )
    image, label = builder.info.features[image_key], builder.info.features[label_key]
    parts = {
        split: Part(builder, tfds_split, start, stop, image_key, label_key)
        for split, (tfds_split, start, stop) in _ranges(builder, name).items()
    }
    fixed = None not in image.shape
    splits = {split: _split(part, image.shape if fixed else None) for split, part in parts.items()}
    shape = (image.shape[0], image.shape[1], 3) if fixed else None
    return Source(name, list(label.names), shape, splits)


def _builder(name: str, data_dir: Path | None, known: tuple[str, ...]) -> Any:
    with quiet_native_stderr():
        import tensorflow_datasets as tfds

        try:
            return tfds.builder(name, data_dir=None if data_dir is None else str(data_dir), try_gcs=False)
        except tfds.core.DatasetNotFoundError as error:
            names = [*known, *tfds.list_builders(with_community_datasets=False)]
            nearest = difflib.get_close_matches(name.split("/")[0], names, n=1)
            hint = f" Did you mean {nearest[0]}?" if nearest else ""
            here = ", ".join(known)
            raise UnknownDatasetError(
                f"There is no dataset {name!r}, neither here ({here}) nor in TensorFlow Datasets.{hint}"
            ) from error
        except Exception as error:  # a wrong config or version, a library that it needs, damaged files
            raise DataError(f"The dataset {name} cannot be opened: {_first_line(error)}") from error


def _prepare(builder: Any, name: str, download: bool) -> None:
    import tensorflow_datasets as tfds

    place = builder.data_dir
    if not download:
        raise DataError(f"The dataset {name} is not in {place}; {_ELSEWHERE}.")
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    try:
        _require_network(builder, name)
        with contextlib.redirect_stdout(sys.stderr):  # standard output is for results
            builder.download_and_prepare(
                file_format="tfrecord", download_config=tfds.download.DownloadConfig(try_download_gcs=False)
            )
    except DataError:
        raise
    except Exception as error:  # whatever network, disk and the dataset's own code can raise
        raise DataError(
            f"The dataset {name} is not in {place} and could not be downloaded and prepared "
            f"({_first_line(error)}); {_ELSEWHERE}."
        ) from error


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
        raise DataError(
            f"The dataset {name} is not in {builder.data_dir} and {host} cannot be reached to download it "
            f"({getattr(error, 'reason', error)}); check the network, or {_ELSEWHERE}."
        ) from error


def _keys(builder: Any, name: str) -> tuple[str, str]:
    """The names of the image and the label among the dataset's features."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    supervised = builder.info.supervised_keys
    if not (isinstance(supervised, tuple) and len(supervised) == 2 and set(supervised) <= set(features)):
        images = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
        labels = [key for key, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)]
        supervised = (images[0], labels[0]) if len(images) == len(labels) == 1 else None
    if supervised is None or not _is_classification(*(features[key] for key in supervised)):
        raise DataError(
            f"The dataset {name} is not one of 8-bit images with one class label each; "
            f"its features are {', '.join(features)}."
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


def _ranges(builder: Any, name: str) -> dict[str, tuple[str, int, int]]:
    """Which examples train and which test: TFDS' split, first and last + 1."""
    splits = builder.info.splits
    if "train" not in splits:
        raise DataError(f"The dataset {name} has no split named train, only {', '.join(splits)}.")
    size = splits["train"].num_examples
    for held_out in ("validation", "test") if name.startswith(_UNLABELLED_TEST) else ("test", "validation"):
        if held_out in splits:
            return {"train": ("train", 0, size), "test": (held_out, 0, splits[held_out].num_examples)}
    border = size - size // _HELD_OUT_SHARE
    return {"train": ("train", 0, border), "test": ("train", border, size)}


def _split(part: Part, shape: tuple[int, int, int] | None) -> ArraySplit | EncodedSplit:
    if shape is not None and part.size * int(np.prod(shape)) <= MEMORY_LIMIT:
        return ArraySplit(part.size, partial(_decoded, part, shape))
    return StreamSplit(part)


def _decoded(part: Part, shape: tuple[int, int, int], count: int) -> Arrays:
    """The first `count` images and labels of a part; decoded in parallel, straight into one array."""
    split = StreamSplit(part.limited(count))

    def decode(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        contents, label = split.fetch(record)
        return tf.ensure_shape(decode_image(contents, shape[-1]), shape), label

    batches = split.items(None, 0).map(decode, tf.data.AUTOTUNE).batch(_DECODE_BATCH).prefetch(2)
    images, labels = np.empty((count, *shape), np.uint8), np.empty(count, np.int64)
    filled = 0
    with contextlib.suppress(tf.errors.OpError):
        for some_images, some_labels in batches:
            end = filled + len(some_labels)
            images[filled:end], labels[filled:end] = some_images, some_labels
            filled = end
    if filled < count:
        place = part.builder.data_dir
        raise DataError(f"The files of {part.name} in {place} are corrupt; prepare them anew.")
    if labels.min() < 0:
        raise DataError(f"The split {part.name} has no labels.")
    return images, labels


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
