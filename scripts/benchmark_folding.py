"""Prints what folding removes from every network of the zoo with every method, and checks each file.

The networks are not trained: kernels and biases are random, some scales of BatchNorm are negative, and its
statistics come from real images. Each is converted without folding and with it; the folded file is compared
with Keras on further images. Activations are all tensors that operators make, added up.

With `--int8` it prints the folded file in each 8-bit form beside the float one instead: operators, bytes of
all tensors that they write, bytes of the file, and images that the file and its network classify alike.

Usage: python scripts/benchmark_folding.py [--models vgg_small,...] [--methods recu,...] [--size 96]
       python scripts/benchmark_folding.py --int8 float,classifier,mixed,plus,full --models bireal_net18_quick
       python scripts/benchmark_folding.py --int8 float,plus --models bireal_net18 --stem patch
"""

import collections
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

import zoo
from bnn_tf import convert, data, deploy
from bnn_tf._tensorflow import lq, tf
from bnn_tf.errors import UserError
from bnn_tf.layers import LearnableBias

METHODS = "bireal,recu,subbit,ovsw"
BYTES = {"FLOAT32": 4, "INT32": 4, "INT8": 1}
GROUPS = {
    "ADD": ("ADD",),
    "MUL": ("MUL",),
    "clip": ("RELU_N1_TO_1",),
    "PRELU": ("PRELU",),
    "LceQuantize": ("LceQuantize",),
    "pools": ("MAX_POOL_2D", "AVERAGE_POOL_2D", "MEAN"),
    "LceBMaxPool2d": ("LceBMaxPool2d",),
}
COLUMNS = ("network", "method", "input", "binary", "alike", "flipped", *GROUPS, "operators", "activations kB")


def randomize(model: tf.keras.Model, images: np.ndarray, positive: bool) -> None:
    """Gives scales, biases and slopes random values, and BatchNorm the statistics of the images."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            channels = layer.gamma.shape
            signs = 1 if positive else rng.choice([1, -1], channels, p=[0.95, 0.05])
            layer.gamma.assign(signs * rng.uniform(0.5, 1.5, channels))
            layer.beta.assign(rng.normal(0, 0.3, channels))
            layer.momentum = 0.0
        elif isinstance(layer, LearnableBias):
            layer.bias.assign(rng.normal(0, 0.3, layer.bias.shape))
        elif isinstance(layer, tf.keras.layers.PReLU):
            layer.alpha.assign(rng.uniform(0.1, 0.4, layer.alpha.shape))
        elif isinstance(layer, lq.layers.QuantConv2D):  # Bi-Real's kernels start with one sign throughout
            latent = getattr(layer.kernel, "latent_variable", layer.kernel)
            latent.assign(rng.normal(0, 0.05, latent.shape))
            if (scale := getattr(layer.kernel_quantizer, "learned_scale", None)) is not None:
                scale.assign(rng.uniform(0.1, 1, scale.shape))
    model(images, training=True)


def measure(path: Path) -> tuple[collections.Counter, float]:
    """The operators of a file by name, and the kilobytes that they write."""
    operators = deploy.LceFile(path).operators
    made = [tensor for operator in operators for tensor in operator.outputs]
    size = sum(BYTES[tensor.type] * math.prod(tensor.shape) for tensor in made)
    return collections.Counter(operator.name for operator in operators), size / 1e3


def prepared(
    name: str, method: str, size: int, positive: bool, images: np.ndarray, options: dict[str, Any]
) -> tuple[tf.keras.Model, np.ndarray]:
    """A network with random values, and the images in its size."""
    model = zoo.get_model(name)(method=method, input_shape=(size, size, 3), num_classes=10, **options)
    images = tf.image.resize(images, (size, size)).numpy()
    randomize(model, images[: len(images) // 2], positive)
    return model, images


def row(name: str, method: str, size: int, model: tf.keras.Model, images: np.ndarray) -> list[str]:
    """The cells of one network with one method."""
    half = len(images) // 2
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "before.tflite", Path(folder) / "after.tflite"
        try:
            report = convert(model, after, images=images[half:], allow_disagreement=True)
            convert(model, before, fold=False, parity=False)
        except deploy.ConversionError as error:
            return [name, method, str(size), str(error)]
        (old, old_size), (new, new_size) = measure(before), measure(after)
    parity = report.parity
    assert parity is not None
    alike = f"{parity.agreement:.1%}" + (" (layers agree)" if parity.layers_agree else "")
    counts = [
        f"{sum(old[kind] for kind in kinds)} → {sum(new[kind] for kind in kinds)}"
        for kinds in (*GROUPS.values(), [*old, *(new.keys() - old.keys())])
    ]
    binary = f"{report.actual_binary_convs} of {report.expected_binary_convs}"
    flipped = f"{sum(one.flipped for one in parity.layers)} of {sum(one.signs for one in parity.layers):,}"
    return [name, method, str(size), binary, alike, flipped, *counts, f"{old_size:,.0f} → {new_size:,.0f}"]


FORM_COLUMNS = ("network", "method", "form", "binary", "alike", "operators", "activations kB", "file kB")


def form_row(name: str, method: str, form: str, model: tf.keras.Model, images: np.ndarray) -> list[str]:
    """The cells of one network in one form; `float` is the folded file without int8."""
    half = len(images) // 2
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        try:
            report = convert(
                model,
                path,
                images=images[half:],
                int8=None if form == "float" else form,
                calibration=None if form == "float" else images[:half],
                allow_disagreement=True,
            )
        except UserError as error:
            return [name, method, form, "", "", str(error), "", ""]
        counts, size = measure(path)
    parity = report.parity
    assert parity is not None
    alike = f"{parity.agreement:.1%}" + ("*" if parity.layers_agree else "")
    operators = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    binary = f"{report.actual_binary_convs} of {report.expected_binary_convs}"
    return [name, method, form, binary, alike, operators, f"{size:,.0f}", f"{report.size / 1e3:,.0f}"]


@click.command()
@click.option("--int8", "forms", default="", help="Print each of these forms, with commas between.")
@click.option("--models", default=",".join(zoo.list_models()), help="Networks, with commas between.")
@click.option("--methods", default=METHODS, show_default=True, help="Methods, with commas between.")
@click.option("--size", default=96, show_default=True, help="Image size of the networks for ImageNet.")
@click.option("--pad-values", default=0.0, show_default=True, help="Padding of the binary convolutions.")
@click.option("--stem", help="Stem of the networks, where they have a choice.")
@click.option("--positive", is_flag=True, help="Let no scale of BatchNorm be negative.")
@click.option("--images", "count", default=64, show_default=True, help="Images; half of them calibrate.")
@click.option("--dataset", default="cifar10", show_default=True)
@click.option("--data-dir", default=None, help="Folder with the dataset.")
def main(
    forms: str,
    models: str,
    methods: str,
    size: int,
    pad_values: float,
    stem: str | None,
    positive: bool,
    count: int,
    dataset: str,
    data_dir: str | None,
) -> None:
    """Prints the table in Markdown, row by row."""
    pre = data.Images()
    pictures, _ = data.take(data.load(dataset, data_dir=data_dir), pre, count)
    options = {"pad_values": pad_values} | ({"stem": stem} if stem else {})
    columns = FORM_COLUMNS if forms else COLUMNS
    click.echo(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    for name in models.split(","):
        for method in methods.split(","):
            start = time.monotonic()
            native = 32 if name.startswith(("cifar", "vgg")) else size
            model, images = prepared(name, method, native, positive, pictures, options)
            label = f"{name} stem={stem}" if stem else name
            if forms:
                rows = [form_row(label, method, form, model, images) for form in forms.split(",")]
            else:
                rows = [row(label, method, native, model, images)]
            for cells in rows:
                click.echo(f"| {' | '.join(cells)} |")
            click.echo(f"{name} {method}: {time.monotonic() - start:.0f} s", err=True)
            tf.keras.backend.clear_session()


if __name__ == "__main__":
    main()
