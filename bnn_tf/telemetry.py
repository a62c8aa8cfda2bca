"""What binary kernels do in training: flips, silent weights, small gradients.

`KernelTelemetry` is a gradient transform that changes nothing and sums figures in variables, inside the
training step; `TelemetryLog` puts their means over each epoch into the logs and into TensorBoard.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bnn_tf import math
from bnn_tf._tensorflow import tf
from bnn_tf.transforms import (
    FlipTracker,
    Pairs,
    Transform,
    is_binary_kernel,
    latent_value,
    state_beside,
    variable_key,
)

FIGURES = ("flip_ratio", "silent_share", "scaled_share", "gradient_ratio")


class KernelTelemetry(Transform):
    """Watches gradients and latent weights of binary kernels, and passes all gradients on unchanged.

    Per kernel and step: the share of weights whose sign changed since the last step (`flip_ratio`), the
    share that is silent, i.e. whose averaged flips are below the threshold (`silent_share`), the share of
    output channels whose gradient-to-weight ratio is below δ (`scaled_share`, those that AGS scales),
    and the mean of that ratio (`gradient_ratio`).

    Args:
        delta: δ of adaptive gradient scaling, 0 where it is off.
        momentum: Of the averaged flips.
        threshold: Below it a weight is silent.
    """

    def __init__(self, delta: float = 0.0, momentum: float = 0.999, threshold: float = 1e-4) -> None:
        super().__init__()
        self.delta, self.momentum, self.threshold = delta, momentum, threshold
        self._flips = FlipTracker(momentum)
        self._keys: dict[Any, int] = {}
        self._names: list[str] = []
        self._sizes: list[int] = []
        self._sums: list[tf.Variable] = []

    def build(self, variables: list[tf.Variable]) -> None:
        """Creates the state of the binary kernels among the variables."""
        self._flips.build(variables)
        for variable in variables:
            if is_binary_kernel(variable) and variable_key(variable) not in self._keys:
                self._keys[variable_key(variable)] = len(self._sums)
                self._names.append(variable.name.split("/")[0])
                self._sizes.append(int(variable.shape.num_elements()))
                with tf.init_scope():
                    start = tf.zeros(len(FIGURES) + 1)
                    self._sums.append(state_beside(variable, "telemetry", start))

    def __call__(self, pairs: Iterable[tuple[tf.Tensor, tf.Variable]]) -> Pairs:
        """Adds this step's figures to the sums."""
        pairs = list(pairs)
        self.build([variable for _, variable in pairs])
        for gradient, variable in pairs:
            if is_binary_kernel(variable):
                self._sums[self._keys[variable_key(variable)]].assign_add(self._figures(gradient, variable))
        return pairs

    def _figures(self, gradient: tf.Tensor, variable: tf.Variable) -> tf.Tensor:
        flipped, tracker = self._flips.step(variable)
        ratio = math.gradient_ratio(gradient, latent_value(variable))
        silent = tf.cast(tracker < self.threshold, tf.float32)
        scaled = tf.cast(ratio < self.delta, tf.float32)
        means = [tf.reduce_mean(tf.cast(value, tf.float32)) for value in (flipped, silent, scaled, ratio)]
        return tf.stack([*means, 1.0])

    def take(self) -> dict[str, dict[str, float]]:
        """Means since the last call, by layer and figure, and over all weights under the key `""`."""
        found: dict[str, dict[str, float]] = {}
        total = [0.0] * len(FIGURES)
        for name, size, sums in zip(self._names, self._sizes, self._sums, strict=True):
            *values, steps = sums.numpy().tolist()
            sums.assign(tf.zeros_like(sums))
            means = [value / max(steps, 1.0) for value in values]
            found[name] = dict(zip(FIGURES, means, strict=True))
            total = [old + size * mean for old, mean in zip(total, means, strict=True)]
        weights = max(sum(self._sizes), 1)
        found[""] = {figure: value / weights for figure, value in zip(FIGURES, total, strict=True)}
        return found

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {"delta": self.delta, "momentum": self.momentum, "threshold": self.threshold}


class TelemetryLog(tf.keras.callbacks.Callback):
    """Writes the telemetry's means over each epoch into the epoch's logs, and per layer to TensorBoard.

    Does nothing where the optimizer carries no `KernelTelemetry`. Callbacks that read the logs come after it.

    Args:
        log_dir: Folder of TensorBoard's logs for the figures of single layers; `None` for none.
    """

    def __init__(self, log_dir: str | os.PathLike | None = None) -> None:
        super().__init__()
        self.log_dir = log_dir

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Reports the epoch."""
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        for transform in getattr(optimizer, "transforms", ()):
            if isinstance(transform, KernelTelemetry):
                figures = transform.take()
                if logs is not None:
                    logs.update(figures.pop(""))
                self._write(epoch, figures)

    def _write(self, epoch: int, figures: dict[str, dict[str, float]]) -> None:
        if self.log_dir is None:
            return
        writer = tf.summary.create_file_writer(str(Path(self.log_dir) / "layers"))
        with writer.as_default():
            for layer, values in figures.items():
                for figure, value in values.items():
                    if layer:
                        tf.summary.scalar(f"{figure}/{layer}", value, step=epoch)
        writer.close()
