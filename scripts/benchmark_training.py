"""Compares a training step of each method with the plain float32 Keras step of the same architecture.

All cases run in one process, one step of each in turn, so that whatever else the machine does falls on all
of them: each ratio is taken between neighbouring steps, and its median and quartiles are printed. CPU time is
that of all threads; on a machine that others use it says more than the clock.

The plain step: real weights, ReLU, Keras' own BatchNormalization and SGD with momentum. The naive Larq
composition (`larq recu`, …): the method's formulas as compositions of TensorFlow's operations with automatic
gradients around Larq's layers and its approximate sign, Keras' BatchNormalization, the same optimizer.

Where PyTorch is installed, `torch` is its float32 step of the same network, for `cifar_resnet20`. Its threads
wait for one another without rest, so that the row means nothing while other programs run. `--memory` trains
each case in a process of its own, too, and prints its peak memory.

Usage: python scripts/benchmark_training.py [--model cifar_resnet20] [--batch-size 256] [--memory] [--json]

Other figures of a training have scripts of their own: `benchmark_data.py` measures the input pipeline, and
docs/speed.md says what the start of `bnn-tf train` takes.
"""

import dataclasses
import importlib.util
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

import zoo
from bnn_tf import layers, losses, methods, quantizers
from bnn_tf._tensorflow import lq, tf
from bnn_tf.cli.options import print_table
from bnn_tf.errors import UserError
from bnn_tf.training.strategies import precision

Step = Callable[[], None]
METHODS = ("bireal", "recu", "ovsw", "subbit")
TORCH_MODEL = "cifar_resnet20"


@dataclasses.dataclass(frozen=True)
class NaiveReCU(methods.ReCU):
    """ReCU with α where the paper has it: behind the convolution."""

    def kernel_quantizer(self, kernel_size: int, name: str) -> lq.quantizers.Quantizer:
        """The clamp unit alone."""
        return quantizers.ReCU(tau=self.tau_min)

    def after_conv(self, x: tf.Tensor, conv: tf.keras.layers.Layer) -> tf.Tensor:
        """α on the activations."""
        return NaiveScale(name=f"{conv.name}_scale")(x)


class NaiveScale(tf.keras.layers.Layer):
    """A learned factor per channel, differentiated by TensorFlow."""

    def build(self, input_shape: Any) -> None:
        """Creates the factors."""
        self.scale = self.add_weight("scale", shape=(input_shape[-1],), initializer="ones")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Multiplies each channel."""
        return inputs * self.scale


def naive_sign(normalize: bool, stop_gradient: bool) -> Callable[[tf.Tensor], tf.Tensor]:
    """Larq's approximate sign, behind a division by each sample's deviation where `normalize`."""
    sign = lq.quantizers.ApproxSign()

    def call(x: tf.Tensor) -> tf.Tensor:
        if normalize:
            axis = list(range(1, len(x.shape)))
            count = tf.cast(tf.reduce_prod(tf.shape(x)[1:]), x.dtype)
            variance = tf.math.reduce_variance(x, axis, keepdims=True) * (count / (count - 1))
            deviation = tf.sqrt(variance + 1e-5)
            x = x / (tf.stop_gradient(deviation) if stop_gradient else deviation)
        return sign(x)

    return call


def plain(layer: tf.keras.layers.Layer) -> tf.keras.layers.Layer:
    """The layer as Keras has it."""
    config = layer.get_config()
    if isinstance(layer, layers.BatchNormalization):
        return tf.keras.layers.BatchNormalization.from_config(config)
    return type(layer).from_config(config)


def naive(layer: tf.keras.layers.Layer) -> tf.keras.layers.Layer:
    """The layer as a composition of Larq's, Keras' and TensorFlow's parts."""
    if isinstance(layer, layers.HardTanh):
        return tf.keras.layers.Activation(lambda x: tf.clip_by_value(x, -1.0, 1.0), name=layer.name)
    copy = plain(layer)
    old = getattr(layer, "input_quantizer", None)
    if isinstance(old, quantizers.ApproxSign):
        copy.input_quantizer = naive_sign(old.normalize, old.stop_gradient)
    return copy


def make_step(model: tf.keras.Model, optimizer: Any, batch_size: int) -> Step:
    """A function that trains `model` by one step of `model.fit`, always on the same batch."""
    model.compile(optimizer, losses.SmoothedCrossentropy(0.0), metrics=["accuracy"])
    rng = np.random.default_rng(0)
    images = rng.normal(size=(batch_size, *model.input_shape[1:])).astype(np.float32)
    labels = rng.integers(0, model.output_shape[-1], batch_size)
    batches = iter(tf.data.Dataset.from_tensors((images, labels)).repeat())
    function = model.make_train_function()

    def step() -> None:
        float(function(batches)["loss"])  # waits for the result

    return step


def optimizer_of(method: methods.Method) -> Any:
    """The optimizer that the method's recipes use."""
    if method.name in ("bireal", "subbit"):
        return method.optimizer("adam", learning_rate=1e-3, weight_decay=1e-5)
    return method.optimizer("sgd", learning_rate=1e-3, momentum=0.9, weight_decay=5e-4)


def keras_network(build: Callable[..., tf.keras.Model]) -> tf.keras.Model:
    """The architecture with real weights, ReLU and nothing but Keras' own layers."""
    return tf.keras.models.clone_model(build(method=methods.Real("relu")), clone_function=plain)


def torch_step(batch_size: int) -> Step:
    """The plain step of `cifar_resnet20` in PyTorch: the same layers, loss and optimizer.

    Raises:
        ImportError: PyTorch is not installed.
    """
    import torch
    from torch import nn
    from torch.nn import functional

    class Unit(nn.Module):
        """A convolution and BatchNorm with a shortcut around them, then ReLU."""

        def __init__(self, before: int, after: int, stride: int) -> None:
            super().__init__()
            self.conv = nn.Conv2d(before, after, 3, stride, 1, bias=False)
            self.norm, self.missing, self.stride = nn.BatchNorm2d(after), after - before, stride

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            side = functional.avg_pool2d(x, 2) if self.stride == 2 else x
            half = self.missing // 2
            side = functional.pad(side, (0, 0, 0, 0, half, self.missing - half)) if self.missing else side
            return functional.relu(self.norm(self.conv(x)) + side)

    widths = [16] * 7 + [32] * 6 + [64] * 6
    units = [Unit(a, b, 1 if a == b else 2) for a, b in zip(widths, widths[1:], strict=False)]
    stem = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
    head = nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(64), nn.Flatten(), nn.Linear(64, 10)
    network = nn.Sequential(*stem, *units, *head)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
    images, labels = torch.randn(batch_size, 3, 32, 32), torch.randint(0, 10, (batch_size,))

    def step() -> None:
        optimizer.zero_grad()
        loss = functional.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        loss.item()

    return step


def case(model: str, batch_size: int, name: str) -> Step:
    """The step of one row.

    Raises:
        UserError: there is no such row, or no such network.
    """
    build, match = zoo.get_model(model), re.fullmatch(r"(larq )?(\w+)(?: (b?float16))?", name)
    composition, label, kind = match.groups() if match else (None, name, None)
    if label == "torch" and model != TORCH_MODEL:
        raise UserError(f"torch has {TORCH_MODEL} alone, not {model}")
    known = ("plain", "torch", *methods.METHODS)
    if label not in known or (label in ("plain", "torch") and composition) or (label == "torch" and kind):
        raise UserError(
            f"there is no case {name!r}: write {', '.join(known)}, one of the methods as `larq recu`, or any "
            "but torch as `recu bfloat16`"
        )
    if label == "torch":
        return torch_step(batch_size)
    with precision(kind or "float32"):
        if label == "plain":
            return make_step(keras_network(build), tf.keras.optimizers.SGD(1e-3, 0.9), batch_size)
        method = NaiveReCU() if composition and label == "recu" else methods.get(label)
        network = build(method=method)
        if composition:
            network = tf.keras.models.clone_model(network, clone_function=naive)
        return make_step(network, optimizer_of(method), batch_size)


def cases(model: str, batch_size: int, names: list[str]) -> dict[str, Step]:
    """One step for each row of the table, the plain one first."""
    return {name: case(model, batch_size, name) for name in dict.fromkeys(["plain", *names])}


def default_cases(model: str) -> list[str]:
    """Every method and its naive composition; PyTorch where it is there."""
    names = [f"{kind}{name}" for name in METHODS for kind in ("", "larq ")]
    has_torch = model == TORCH_MODEL and importlib.util.find_spec("torch") is not None
    return [*(["torch"] if has_torch else []), *names]


def peak_of_this_process() -> float:
    """Megabytes that were resident at most."""
    status = Path("/proc/self/status")
    if status.exists():  # `ru_maxrss` counts there what the parent had before
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def peak_megabytes(model: str, batch_size: int, name: str) -> float:
    """Peak memory of a process that does nothing but three steps of a case."""
    command = [sys.executable, __file__, "--model", model, "--batch-size", str(batch_size), "--peak", name]
    return float(subprocess.check_output(command, stderr=subprocess.DEVNULL, text=True))


def measure(steps: dict[str, Step], rounds: int) -> list[dict[str, Any]]:
    """Times `rounds` steps of each case in turn, after two that trace and compile it."""
    starts, walls, cpus = {}, {}, {}
    for name, step in steps.items():
        begin = time.process_time()
        step(), step()
        starts[name], walls[name], cpus[name] = time.process_time() - begin, [], []
    for _ in range(rounds):
        for name, step in steps.items():
            wall, cpu = time.perf_counter(), time.process_time()
            step()
            walls[name].append(time.perf_counter() - wall)
            cpus[name].append(time.process_time() - cpu)
    rows = []
    for name in steps:
        ratios = [a / b for a, b in zip(walls[name], walls["plain"], strict=True)]
        low, _, high = statistics.quantiles(ratios, n=4)
        cpu_ratios = [a / b for a, b in zip(cpus[name], cpus["plain"], strict=True)]
        rows.append(
            {
                "case": name,
                "milliseconds": 1e3 * statistics.median(walls[name]),
                "ratio": statistics.median(ratios),
                "ratio_quartiles": [low, high],
                "cpu_milliseconds": 1e3 * statistics.median(cpus[name]),
                "cpu_ratio": statistics.median(cpu_ratios),
                "first_two_steps_cpu_seconds": starts[name],
            }
        )
    return rows


@click.command(help=__doc__)
@click.option("--model", default="cifar_resnet20", show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=256, show_default=True)
@click.option(
    "--rounds",
    type=click.IntRange(min=2),
    default=15,
    show_default=True,
    help="Steps of each case that are timed.",
)
@click.option(
    "--cases",
    "names",
    help="Rows, with commas; default: all methods, each also as `larq recu`, and torch; `ovsw bfloat16` and "
    "`plain bfloat16` compute in that precision.",
)
@click.option("--memory", is_flag=True, help="Measure peak memory, each case in a process of its own.")
@click.option("--peak", hidden=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(
    model: str,
    batch_size: int,
    rounds: int,
    names: str | None,
    memory: bool,
    peak: str | None,
    as_json: bool,
) -> None:
    """Prints the table."""
    chosen = names.split(",") if names else None
    try:
        if peak is not None:
            step = case(model, batch_size, peak)
            step(), step(), step()
            click.echo(peak_of_this_process())
            return
        steps = cases(model, batch_size, chosen or default_cases(model))
    except UserError as error:
        raise click.UsageError(str(error)) from error
    except ImportError as error:
        raise click.UsageError(f"the case torch needs PyTorch: {error}") from error
    rows = measure(steps, rounds)
    if memory:
        for row in rows:
            row["peak_megabytes"] = peak_megabytes(model, batch_size, row["case"])
    if as_json:
        machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
        settings = {"model": model, "batch_size": batch_size, "rounds": rounds, "tensorflow": tf.__version__}
        click.echo(json.dumps({**settings, **machine, "rows": rows}, indent=2))
        return
    click.echo(f"{model}, batch size {batch_size}, {rounds} steps each")
    columns = ("step", "ms", "ratio to plain", "quartiles", "CPU ms", "CPU ratio", "start, CPU s")
    columns += ("peak MB",) if memory else ()
    print_table(
        columns,
        [
            [
                row["case"],
                f"{row['milliseconds']:.0f}",
                f"{row['ratio']:.2f}",
                "{:.2f}–{:.2f}".format(*row["ratio_quartiles"]),
                f"{row['cpu_milliseconds']:.0f}",
                f"{row['cpu_ratio']:.2f}",
                f"{row['first_two_steps_cpu_seconds']:.0f}",
                *([f"{row['peak_megabytes']:.0f}"] if memory else []),
            ]
            for row in rows
        ],
        numbers_from=1,
    )


if __name__ == "__main__":
    main()
