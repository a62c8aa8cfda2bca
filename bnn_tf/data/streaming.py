"""Examples in the record files of TensorFlow Datasets, read as a stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bnn_tf._tensorflow import tf
from bnn_tf.data.seeds import derived, permutation
from bnn_tf.data.source import EncodedSplit

SHUFFLE_BLOCK = 4096
"""Encoded examples that a streamed dataset holds at a time to shuffle them."""

_FILES_AT_ONCE = 16


@dataclass(frozen=True)
class Part:
    """Examples `start` to `stop` of one split of a prepared dataset, and how to read them."""

    builder: Any
    split: str
    start: int
    stop: int
    image_key: str
    label_key: str

    @property
    def size(self) -> int:
        """Number of examples."""
        return self.stop - self.start

    @property
    def name(self) -> str:
        """As in messages: `cifar10:train`."""
        return f"{self.builder.name}:{self.split}"

    def limited(self, count: int) -> Part:
        """The first `count` examples."""
        stop = min(self.stop, self.start + count)
        return Part(self.builder, self.split, self.start, stop, self.image_key, self.label_key)

    def files(self) -> list[tuple[str, int, int]]:
        """The record files with the number of records to skip and to take (-1: all) in each."""
        found = self.builder.info.splits[f"{self.split}[{self.start}:{self.stop}]"].file_instructions
        return [(str(item.filename), item.skip, item.take) for item in found]

    def parse(self, record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The encoded image and the label of a record."""
        import tensorflow_datasets as tfds

        features = self.builder.info.features
        used = tfds.features.FeaturesDict({key: features[key] for key in (self.image_key, self.label_key)})
        example = used.deserialize_example(record, decoders={self.image_key: tfds.decode.SkipDecoding()})
        return example[self.image_key], tf.cast(example[self.label_key], tf.int64)


class StreamSplit(EncodedSplit):
    """Record files too large for memory, read in an order that is a pure function of the seed.

    The files come in a random order, 16 at a time in turns; of the stream of records, each block of
    `SHUFFLE_BLOCK` is permuted. (TFDS itself spreads the examples over the files at random.) Two blocks are
    in memory at a time. Entering in the middle of an epoch costs reading, but not decoding, all records
    before that place; of ImageNet's training set that is up to 140 GB.
    """

    def __init__(self, part: Part) -> None:
        self.part = part
        self.size = part.size
        names, skips, takes = zip(*part.files(), strict=True)
        with tf.device("/CPU:0"):
            self._names = tf.constant(names, tf.string)
            self._skips, self._takes = tf.constant(skips, tf.int64), tf.constant(takes, tf.int64)

    def items(self, seed: tf.Tensor | None, start: int | tf.Tensor) -> tf.data.Dataset:
        """The serialized records."""
        if seed is None:
            return self._records(tf.range(len(self._names)), 1).skip(start)
        files = permutation(len(self._names), seed)
        blocks = self._records(files, _FILES_AT_ONCE).batch(SHUFFLE_BLOCK)

        def permuted(number: tf.Tensor, block: tf.Tensor) -> tf.Tensor:
            return tf.gather(block, permutation(tf.shape(block)[0], derived(seed, 2 + number)))

        return blocks.enumerate().map(permuted).prefetch(1).unbatch().skip(start)

    def _records(self, order: tf.Tensor, at_once: int) -> tf.data.Dataset:
        def read(number: tf.Tensor) -> tf.data.Dataset:
            records = tf.data.TFRecordDataset(self._names[number], buffer_size=2**18)
            return records.skip(self._skips[number]).take(self._takes[number])

        at_once = min(at_once, len(self._names))
        files = tf.data.Dataset.from_tensor_slices(order)
        return files.interleave(read, cycle_length=at_once, num_parallel_calls=at_once, deterministic=True)

    def fetch(self, item: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Parses a record."""
        return self.part.parse(item)

    def blame(self, seed: tf.Tensor | None, position: tf.Tensor) -> tf.Tensor:
        """The dataset and how many examples came before; records have no names."""
        where = f"an image of {self.part.name} in {self.part.builder.data_dir}, after "
        return tf.strings.join([where, tf.strings.as_string(position), " others in the order of reading"])

    def limited(self, count: int) -> StreamSplit:
        """The first `count` examples."""
        return StreamSplit(self.part.limited(count))
