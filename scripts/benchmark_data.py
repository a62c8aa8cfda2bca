"""Measures images per second of the input pipelines, beside plain `tf.image` code and a training step.

    python scripts/benchmark_data.py [--data-dir TFDS] [--cores 1 2] [--rounds 5] [--train] [--json FILE]

Each number of cores runs in a process of its own. The cases of a process are measured in turns, so that what
else the machine does meets all of them alike; the table shows medians, and the ratio to the case named
`reference`. The pictures of the folder are 500×375 JPEGs, written for the measurement.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BATCH, PICTURES = 64, 256


def write_pictures(root: Path) -> None:
    """Two classes of smooth pictures with some noise, as large as those of ImageNet."""
    import numpy as np

    from bnn_tf._tensorflow import tf

    rng = np.random.default_rng(0)
    for number in range(PICTURES):
        coarse = tf.image.resize(rng.uniform(0, 255, (12, 16, 3)), (375, 500), "bicubic")
        pixels = tf.saturate_cast(coarse + rng.normal(0, 8, (375, 500, 3)), tf.uint8)
        path = root / "train" / f"class{number % 2}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tf.io.encode_jpeg(pixels, quality=90).numpy())


def plain_pictures(root: Path) -> Any:
    """What TensorFlow's own guides write for ImageNet: distorted box, resize, flip, normalise."""
    from bnn_tf._tensorflow import tf

    def prepare(path: Any) -> Any:
        contents = tf.io.read_file(path)
        box = tf.image.sample_distorted_bounding_box(
            tf.image.extract_jpeg_shape(contents),
            tf.zeros([1, 0, 4]),
            area_range=(0.08, 1.0),
            use_image_if_no_bounding_boxes=True,
        )
        top, left, _ = tf.unstack(box.begin)
        height, width, _ = tf.unstack(box.size)
        image = tf.io.decode_and_crop_jpeg(contents, [top, left, height, width], channels=3)
        image = tf.image.random_flip_left_right(tf.image.resize(image, (224, 224)))
        return (image / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]

    files = tf.data.Dataset.list_files(str(root / "train" / "*" / "*.jpg"), shuffle=True)
    return files.repeat().map(prepare, tf.data.AUTOTUNE).batch(BATCH).prefetch(2)


def plain_arrays(source: Any) -> Any:
    """CIFAR's augmentation with `tf.image`, image by image."""
    from bnn_tf._tensorflow import tf

    def prepare(image: Any) -> Any:
        image = tf.image.random_crop(tf.pad(image, [[4, 4], [4, 4], [0, 0]]), (32, 32, 3))
        return tf.cast(tf.image.random_flip_left_right(image), tf.float32) / 127.5 - 1

    pixels = tf.data.Dataset.from_tensor_slices(source.train.tensors[0])
    return pixels.repeat().shuffle(10_000).map(prepare, tf.data.AUTOTUNE).batch(128).prefetch(2)


def cases(pictures: Path, data_dir: Path | None) -> Iterator[tuple[str, str, Callable[[], Any]]]:
    """Name of the case, name of its reference, and a function that makes endless batches."""
    from bnn_tf import data
    from bnn_tf.data import tfds

    small = data.Images((data.PadCrop(4), data.Flip()), size=32)
    large = data.Images((data.RandomResizedCrop(), data.Flip()), data.ResizeShort(), 224)
    lit = data.Images((*large.training, data.Lighting()), data.ResizeShort(), 224, normalization="imagenet")
    arrays = data.load("digits") if data_dir is None else data.load("cifar10", data_dir, download=False)
    folder = data.load("folder", pictures)
    yield "arrays: tf.image", "", lambda: plain_arrays(arrays)
    yield (
        "arrays: pad, crop, flip",
        "arrays: tf.image",
        lambda: data.training_batches(arrays, small, 128, epochs=99),
    )
    if data_dir is not None:
        limit, tfds.MEMORY_LIMIT = tfds.MEMORY_LIMIT, 0
        records = data.load("cifar10", data_dir, download=False)
        tfds.MEMORY_LIMIT = limit
        yield (
            "records: pad, crop, flip",
            "arrays: tf.image",
            lambda: data.training_batches(records, small, 128, epochs=99),
        )
    yield "folder, 224: tf.image", "", lambda: plain_pictures(pictures)
    yield (
        "folder, 224: random crop, flip",
        "folder, 224: tf.image",
        lambda: data.training_batches(folder, large, BATCH, epochs=999),
    )
    yield (
        "folder, 224: with lighting",
        "folder, 224: tf.image",
        lambda: data.training_batches(folder, lit, BATCH, epochs=999),
    )
    yield (
        "folder, 224: evaluation",
        "folder, 224: tf.image",
        lambda: data.evaluation_batches(folder, large, BATCH, "train").repeat(),
    )


def train_step() -> Callable[[], int]:
    """One training step of `cifar_resnet20`; returns its number of images."""
    import numpy as np

    import zoo
    from bnn_tf import methods
    from bnn_tf._tensorflow import tf

    method = methods.BiReal()
    network = zoo.CifarResNet20(method=method)
    network.compile(
        optimizer=method.optimizer("sgd", learning_rate=0.1),
        loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    images, labels = np.zeros((128, 32, 32, 3), np.float32), np.zeros(128, np.int64)

    def step() -> int:
        network.train_on_batch(images, labels)
        return len(labels)

    return step


def measure(
    pictures: Path, data_dir: Path | None, rounds: int, seconds: float, train: bool
) -> dict[str, Any]:
    """Images per second of every case, one value a round."""
    rates: dict[str, list[float]] = {}
    references, sources = {}, {}
    for name, reference, make in cases(pictures, data_dir):
        batches = iter(make())
        references[name], rates[name] = reference, []
        sources[name] = lambda batches=batches: len(_images(next(batches)))
    if train:
        references["train step, cifar_resnet20"], rates["train step, cifar_resnet20"] = "", []
        sources["train step, cifar_resnet20"] = train_step()
    for step in sources.values():  # traces, fills the buffers
        for _ in range(3):
            step()
    for _ in range(rounds):
        for name, step in sources.items():
            for _ in range(4):  # what was prepared while the others were measured
                step()
            count, start = 0, time.perf_counter()
            while time.perf_counter() - start < seconds:
                count += step()
            rates[name].append(count / (time.perf_counter() - start))
    return {"rates": rates, "references": references}


def _images(batch: Any) -> Any:
    return batch[0] if isinstance(batch, tuple) else batch


def table(results: dict[int, dict[str, Any]]) -> str:
    """Medians and ratios as Markdown."""
    lines = ["| cores | case | images/s | spread | ratio |", "| ---: | --- | ---: | ---: | ---: |"]
    for cores, result in results.items():
        for name, rates in result["rates"].items():
            reference = result["references"][name]
            ratio = ""
            if reference:
                pairs = zip(rates, result["rates"][reference], strict=True)
                ratio = f"{statistics.median(own / other for own, other in pairs):.2f}"
            spread = f"{min(rates):,.0f}–{max(rates):,.0f}"
            lines.append(f"| {cores} | {name} | {statistics.median(rates):,.0f} | {spread} | {ratio} |")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--data-dir", type=Path, help="TFDS directory with a prepared cifar10; default: digits"
    )
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each case and round")
    parser.add_argument("--train", action="store_true", help="also a training step of cifar_resnet20")
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--pictures", type=Path, help=argparse.SUPPRESS
    )  # in the processes for the measurement
    options = parser.parse_args()
    if options.pictures is not None:
        result = measure(options.pictures, options.data_dir, options.rounds, options.seconds, options.train)
        print(json.dumps(result))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(Path(folder))
        results = {}
        for cores in options.cores:
            allowed = sorted(os.sched_getaffinity(0))[:cores]
            arguments = [*sys.argv, "--pictures", folder]
            process = subprocess.run(
                [sys.executable, *arguments],
                stdout=subprocess.PIPE,
                check=True,
                preexec_fn=lambda allowed=allowed: os.sched_setaffinity(0, allowed),
            )
            results[cores] = json.loads(process.stdout.splitlines()[-1])
    print(table(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
