"""Checks whether training works on a GPU as it does on the CPU.

    python scripts/check_gpu.py [--device GPU:0] [--batch-size 128] [--steps 20] [--json]

Four tables, for each method on `cifar_resnet20`:

- kernels: operations of the training step that have no kernel for GPUs and would be computed on the CPU, with
  a copy each way. This one needs no GPU.
- speed: milliseconds of a training step by precision, median and quartiles, beside float32 on the CPU.
- agreement: one step from the same weights on the same images, on the GPU and on the CPU. A sign at a tie may
  turn, which changes one image much and the others not at all; so the median of the relative difference over
  images, and over the variables' gradients, is judged (bounds 1e-3 and 1e-2) and the largest is printed.
- resume: a deterministic training on the embedded digits, stopped by SIGTERM in the middle of its second
  epoch and resumed, holds the same bits at the end as one that nobody stopped. These trainings see the chosen
  GPU alone.

Exits with 1 where a check fails, and with 2 where TensorFlow sees no such device. `--device CPU:0` tries the
script itself. Nobody has run it on a GPU yet: please send what it prints.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

import zoo
from bnn_tf import losses, methods
from bnn_tf._tensorflow import lazy, tf
from bnn_tf.cli.options import print_table
from bnn_tf.errors import UserError
from bnn_tf.training import Run, set_seeds
from bnn_tf.training.strategies import precision

METHODS = ("bireal", "recu", "ovsw", "subbit")
PRECISIONS = ("float32", "float16", "bfloat16")
MODEL = "cifar_resnet20"
STEPS = 20  # of an epoch of the trainings that are stopped
FEEDING = ("Iterator", "Dataset")  # operations that hand over batches belong on the CPU
kernels = lazy("tensorflow.python.framework.kernels")


def compiled(name: str, kind: str = "float32") -> tf.keras.Model:
    """The network with a method, compiled as `bnn-tf train` does it, with the same weights every time."""
    set_seeds(0)
    method = methods.get(name)
    with precision(kind):
        network = zoo.get_model(MODEL)(method=method)
    adam = name in ("bireal", "subbit")
    optimizer = method.optimizer("adam" if adam else "sgd", learning_rate=1e-3, weight_decay=1e-4)
    if kind == "float16":
        optimizer = tf.keras.mixed_precision.LossScaleOptimizer(optimizer)
    network.compile(optimizer, losses.SmoothedCrossentropy(0.1), metrics=["accuracy"])
    return network


@functools.cache
def batch(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Smooth random images, normalised, and labels."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=(size, 8, 8, 3)).astype(np.float32)
    return tf.image.resize(coarse, (32, 32), "bicubic").numpy(), rng.integers(0, 10, size)


def without_gpu_kernel(name: str) -> list[str]:
    """Kinds of operations in the training step that have kernels, but none for GPUs."""
    network = compiled(name)
    batches = iter(tf.data.Dataset.from_tensors(batch(8)).repeat())
    graph = network.make_train_function().get_concrete_function(batches).graph.as_graph_def()
    kinds = {node.op for node in graph.node}
    kinds |= {node.op for function in graph.library.function for node in function.node_def}
    missing = []
    for kind in sorted(kinds):
        devices = {kernel.device_type for kernel in kernels.get_registered_kernels_for_op(kind).kernel}
        if devices and not devices & {"GPU", "DEFAULT"} and not kind.startswith(FEEDING):
            missing.append(kind)
    return missing


def step_times(name: str, kind: str, device: str, size: int, steps: int) -> list[float]:
    """Milliseconds of each step; the first three, which compile, are left out."""
    with tf.device(device):
        network = compiled(name, kind)
        batches = iter(tf.data.Dataset.from_tensors(batch(size)).repeat())
        function, times = network.make_train_function(), []
        for _ in range(steps + 3):
            start = time.perf_counter()
            float(function(batches)["loss"])  # waits for the result
            times.append(1e3 * (time.perf_counter() - start))
    return times[3:]


def one_step(name: str, device: str, size: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Logits of one training step and the gradients of all variables."""
    with tf.device(device):
        network = compiled(name)
        images, labels = (tf.constant(values) for values in batch(size))

        @tf.function
        def step() -> Any:
            with tf.GradientTape() as tape:
                logits = network(images, training=True)
                loss = network.compute_loss(images, labels, logits)
            return logits, tape.gradient(loss, network.trainable_variables)

        logits, gradients = step()
    return logits.numpy(), [gradient.numpy() for gradient in gradients if gradient is not None]


def relative(actual: np.ndarray, expected: np.ndarray) -> float:
    """Length of the difference, as a share of the expected length."""
    return float(np.linalg.norm(actual - expected) / max(np.linalg.norm(expected), 1e-12))


def agreement(name: str, device: str, size: int) -> dict[str, Any]:
    """How far one step on the device is from the same step on the CPU."""
    (logits, gradients), (own, references) = (one_step(name, d, size) for d in (device, "CPU:0"))
    images = [relative(a, b) for a, b in zip(logits, own, strict=True)]
    variables = [relative(a, b) for a, b in zip(gradients, references, strict=True)]
    middles = statistics.median(images), statistics.median(variables)
    return {
        "logits_median": middles[0],
        "logits_largest": max(images),
        "gradients_median": middles[1],
        "gradients_largest": max(variables),
        "passed": middles[0] < 1e-3 and middles[1] < 1e-2,
    }


def visible_devices(device: str, already: str | None) -> str:
    """CUDA_VISIBLE_DEVICES for a process that is to see one device alone.

    Args:
        device: `GPU:1`, as this process counts; `CPU:0`.
        already: The variable's value in this process, if it has one.
    """
    kind, _, number = device.partition(":")
    if kind != "GPU":
        return "-1"
    return already.split(",")[int(number)] if already else number


def resumes(name: str, device: str, folder: Path) -> bool:
    """Whether a stopped and resumed training ends with the same tensors in its last checkpoint."""
    visible = visible_devices(device, os.environ.get("CUDA_VISIBLE_DEVICES"))
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": visible}
    errors = folder / "errors"

    def train(*arguments: Any, stop: bool = False) -> None:
        wanted = 128 + signal.SIGTERM if stop else 0
        command = [sys.executable, "-m", "bnn_tf", "train", *map(str, arguments)]
        with errors.open("wb") as file:
            process = subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=file, text=True
            )
        epochs = 0
        for line in process.stdout:
            epochs += "test accuracy" in line
            if stop and epochs == 1 and line.startswith("  step "):  # the first that the second epoch shows
                process.send_signal(signal.SIGTERM)
                stop = False
        if process.wait() != wanted:
            raise click.ClickException(
                f"training with {name} ended with {process.returncode} and not with {wanted}:\n"
                + errors.read_text()
            )

    options = ("--method", name, "--model", MODEL, "--dataset", "digits", "--limit", 16 * STEPS)
    options += ("--batch-size", 16, "--epochs", 3, "--deterministic", "--print-every", 1)
    whole, stopped = folder / f"{name}-whole", folder / f"{name}-stopped"
    train(*options, "-o", whole)
    train(*options, "-o", stopped, stop=True)
    position = Run.open(stopped).position()
    if position is None or position.epoch != 1 or not 0 < position.step < STEPS:
        raise click.ClickException(f"training with {name} was not stopped in its second epoch: {position}")
    train("--resume", stopped)
    return _tensors(stopped) == _tensors(whole)


def _tensors(run: Path) -> dict[str, bytes]:
    """The bytes of every tensor of the newest checkpoint."""
    reader = tf.train.load_checkpoint(Run.open(run).checkpoints.all()[-1].prefix)
    return {key: np.asarray(reader.get_tensor(key)).tobytes() for key in reader.get_variable_to_shape_map()}


def quartiles(times: list[float]) -> str:
    """The middle half of the values."""
    low, _, high = statistics.quantiles(times, n=4)
    return f"{low:.1f}–{high:.1f}"


@click.command(help=__doc__)
@click.option("--device", default="GPU:0", show_default=True)
@click.option("--methods", "names", default=",".join(METHODS), show_default=True, help="With commas.")
@click.option("--batch-size", type=click.IntRange(min=1), default=128, show_default=True)
@click.option(
    "--steps",
    type=click.IntRange(min=2),
    default=20,
    show_default=True,
    help="Steps of each kind that are timed.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(device: str, names: str, batch_size: int, steps: int, as_json: bool) -> None:
    """Prints the tables."""
    devices = {d.name.removeprefix("/device:"): d for d in tf.config.list_logical_devices()}
    if device not in devices:
        click.echo(f"TensorFlow {tf.__version__} sees no {device}, only {', '.join(devices)}", err=True)
        sys.exit(2)
    physical = tf.config.list_physical_devices(device.split(":")[0])
    hardware = [tf.config.experimental.get_device_details(each).get("device_name") for each in physical]
    chosen = names.split(",")
    try:
        for name in chosen:
            methods.get(name)
    except UserError as error:
        raise click.UsageError(str(error)) from error
    say: Callable[..., None] = functools.partial(click.echo, err=as_json)
    results: dict[str, Any] = {
        "device": device,
        "hardware": hardware,
        "processor": platform.processor() or platform.machine(),
        "tensorflow": tf.__version__,
        "cuda": tf.sysconfig.get_build_info().get("cuda_version"),
        "batch_size": batch_size,
    }
    say(f"{device} {hardware}, TensorFlow {tf.__version__}, {MODEL}, batch size {batch_size}")

    results["without_gpu_kernel"] = {name: without_gpu_kernel(name) for name in chosen}
    for name, kinds in results["without_gpu_kernel"].items():
        say(f"{name}: operations without a kernel for GPUs: {', '.join(kinds) or 'none'}")

    speed = results["milliseconds"] = {}
    for name in chosen:
        for kind in PRECISIONS if device.startswith("GPU") else PRECISIONS[:1]:
            speed[f"{name} {kind}"] = step_times(name, kind, device, batch_size, steps)
        speed[f"{name} float32 on the CPU"] = step_times(name, "float32", "CPU:0", batch_size, 3)
    if not as_json:
        rows = [[case, f"{statistics.median(t):.1f}", quartiles(t)] for case, t in speed.items()]
        print_table(("step", "ms", "quartiles"), rows, numbers_from=1)

    results["agreement"] = {name: agreement(name, device, batch_size) for name in chosen}
    if not as_json:
        head = ("method", "logits, median", "largest", "gradients, median", "largest", "")
        rows = [
            [name, *(f"{value:.1e}" for value in figures), "ok" if passed else "FAILED"]
            for name, (*figures, passed) in ((n, row.values()) for n, row in results["agreement"].items())
        ]
        print_table(head, rows, numbers_from=1)

    with tempfile.TemporaryDirectory() as folder:
        results["resumes_bit_for_bit"] = {name: resumes(name, device, Path(folder)) for name in chosen}
    for name, same in results["resumes_bit_for_bit"].items():
        say(f"{name}: a stopped and resumed training is {'the same, bit for bit' if same else 'DIFFERENT'}")

    if as_json:
        click.echo(json.dumps(results, indent=2))
    passed = all(row["passed"] for row in results["agreement"].values())
    sys.exit(0 if passed and all(results["resumes_bit_for_bit"].values()) else 1)


if __name__ == "__main__":
    main()
