"""What happens to binary kernels in training, measured in every step and after every epoch.

`KernelTelemetry` is a gradient transform that changes nothing and sums figures in variables, inside the
training step; `TelemetryLog` puts their means over each epoch into the logs and into TensorBoard.

`binary_kernels` takes the latent weights and signs of a network as they are, `measure` says in figures what
they look like, and `KernelDiagnostics` writes these before the first epoch and after each one. The figures
are those with which ReCU (ICCV 2021) argues: `W1` is the latent kernel standardised per output channel to
deviation 2√2 (`math.recu_standardize`), `Q(τ)` the bound at which ReCU clamps it. Both are defined for the
latent kernels of any method, so that methods can be compared; which of them mean something for a method, its
`diagnostics` say. Kernels are arrays `(kh, kw, cin, cout)`.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bnn_tf import codebook, files, math
from bnn_tf._tensorflow import lq, tf
from bnn_tf.errors import UserError
from bnn_tf.transforms import (
    FlipTracker,
    Pairs,
    Transform,
    is_binary_kernel,
    latent_value,
    state_beside,
    variable_key,
)

STEP_FIGURES: dict[str, tuple[str, float]] = {
    "flip_ratio": ("sign flips per step (% of weights)", 100),
    "silent_share": ("silent weights (%)", 100),
    "scaled_share": ("channels that AGS scales (%)", 100),
    "gradient_ratio": ("mean ratio of gradient to weight", 1),
}
"""What `KernelTelemetry` measures in every step, by name: the title of its chart and a factor."""

FIGURES: dict[str, tuple[str, float]] = {
    "epoch_flips": ("signs that changed in the epoch (%)", 100),
    "dead_share": ("weights outside ±Q(τ), without gradient (%)", 100),
    "sign_entropy": ("entropy of the signs (bits per weight)", 1),
    "quantization_error": ("quantization error (% of the energy)", 100),
    "pattern_entropy": ("entropy of 3×3 patterns (bits per slice)", 1),
}
"""What `KernelDiagnostics` says in one number each, likewise."""

LAYER_FIGURES = {"tau": ("τ, the quantile of ReCU's clamp", 1.0), **FIGURES}
"""What it writes of a layer and can be drawn: `FIGURES`, and τ, which is the same for all layers."""

REFERENCE_TAU = 0.99
"""τ for kernels that have none: ReCU's last, which leaves 2 % of a Laplace distribution outside."""

EDGES = np.linspace(-12.0, 12.0, 49)
"""Bins of histograms of W1; the outer ones also take what lies beyond."""


@dataclasses.dataclass(frozen=True)
class BinaryKernel:
    """The kernel of a binary layer at one moment.

    Args:
        name: Name of the layer.
        latent: Latent weights.
        signs: The ±1 that the layer convolves with, without scale.
        tau: τ of ReCU's clamp, or `REFERENCE_TAU`.
        patterns: Numbers (see `codebook.all_patterns`) of a sub-bit codebook's patterns; `None` without one.

    Example:
        >>> model = tf.keras.Sequential([tf.keras.Input((6, 6, 2)), lq.layers.QuantConv2D(
        ...     4, 3, kernel_quantizer=bnn_tf.quantizers.ReCU(tau=0.9), name="conv")])
        >>> kernel = binary_kernels(model)[0]
        >>> kernel.name, round(kernel.tau, 2), kernel.has_slices
        ('conv', 0.9, True)
    """

    name: str
    latent: np.ndarray
    signs: np.ndarray
    tau: float
    patterns: np.ndarray | None

    @property
    def has_slices(self) -> bool:
        """Whether it consists of 3×3 slices."""
        return self.signs.ndim == 4 and self.signs.shape[:2] == (3, 3)


def binary_kernels(model: tf.keras.Model) -> list[BinaryKernel]:
    """The kernels of all binary layers of a model, nested models included, in its order.

    Example:
        >>> [kernel.name for kernel in binary_kernels(zoo.CifarResNet18A())][:2]
        ['stage1_block1a_conv', 'stage1_block1b_conv']
    """
    layers = model._flatten_layers()  # in order, which `submodules` is not
    return [_snapshot(layer) for layer in layers if is_binary_kernel(getattr(layer, "kernel", None))]


def _snapshot(layer: tf.keras.layers.Layer) -> BinaryKernel:
    quantizer = layer.kernel_quantizer
    with lq.context.quantized_scope(True):
        signs = np.where(layer.kernel.numpy() < 0, -1, 1).astype(np.int8)
    patterns = None
    if (rows := codebook.patterns_of(quantizer)) is not None:
        patterns = codebook.pattern_numbers(tf.convert_to_tensor(rows)).numpy()
    return BinaryKernel(
        name=layer.name,
        latent=latent_value(layer.kernel).numpy(),
        signs=signs,
        tau=float(tf.convert_to_tensor(getattr(quantizer, "tau", REFERENCE_TAU))),
        patterns=patterns,
    )


def standardized(latent: np.ndarray) -> np.ndarray:
    """W1: centred and divided per output channel so that its deviation is 2√2.

    Example:
        >>> latent = np.random.default_rng(0).normal(size=(3, 3, 16, 8)).astype(np.float32)
        >>> round(float(standardized(latent).std()), 1)
        2.8
    """
    return math.recu_standardize(tf.convert_to_tensor(latent)).numpy()


def histogram(w1: np.ndarray) -> np.ndarray:
    """Weights per bin of `EDGES`, int64 `(48,)`; they add up to all weights.

    Example:
        >>> histogram(np.array([-100.0, 0.1, 0.2])).sum()
        3
    """
    inside = np.clip(w1, EDGES[0], EDGES[-1])
    return np.histogram(inside, EDGES)[0]


def bound(w1: np.ndarray, tau: float) -> float:
    """`Q(τ) = -mean|W1| · ln(2 - 2τ)`.

    Example:
        >>> round(bound(np.float32([[1.0], [-1.0]]), tau=0.9), 3)
        1.609
    """
    return float(math.recu_bound(tf.convert_to_tensor(w1), tau))


def dead_share(w1: np.ndarray, tau: float) -> float:
    """Share of weights outside the clamp, `|W1| > Q(τ)`: they get no gradient from it.

    Example:
        >>> dead_share(np.float32([[0.1], [-0.1], [0.1], [9.0]]), tau=0.7)
        0.25
    """
    return float(np.mean(np.abs(w1) > bound(w1, tau)))


def quantization_error(w1: np.ndarray, tau: float) -> float:
    """Energy that the best scale per output channel leaves of the clamped kernel, as a share of all energy.

    `mean((|W2| - α_o)²) / mean(W1²)` with `W2 = clip(W1, -Q(τ), Q(τ))` and `α_o = mean|W2|` per output
    channel. The smaller τ, the nearer W2 is to its signs.

    Example:
        >>> round(quantization_error(np.float32([[1.0], [-1.0], [3.0], [-3.0]]), tau=1.0), 6)
        0.2
    """
    magnitude = np.minimum(np.abs(w1), bound(w1, tau))
    alpha = magnitude.mean(axis=tuple(range(w1.ndim - 1)))
    return float(np.mean((magnitude - alpha) ** 2) / np.mean(w1**2))


def entropy(counts: np.ndarray | Sequence[int]) -> float:
    """Entropy `-Σ p log2 p` in bits of a distribution given as counts; 0 for no counts at all.

    Example:
        >>> entropy([5, 5, 5, 5])
        2.0
    """
    counts = np.asarray(counts, np.float64)
    p = counts[counts > 0] / max(counts.sum(), 1)
    return float(max(-np.sum(p * np.log2(p)), 0.0))


def sign_entropy(signs: np.ndarray) -> float:
    """Bits of information per binary weight of a layer: 1 where +1 and -1 are equally frequent.

    Example:
        >>> sign_entropy(np.array([1, 1, -1, -1]))
        1.0
    """
    positive = int(np.count_nonzero(signs > 0))
    return entropy([positive, signs.size - positive])


def pattern_counts(signs: np.ndarray) -> np.ndarray:
    """How many 3×3 slices show each of the 512 patterns, `(512,)`; see `codebook.all_patterns`.

    Example:
        >>> pattern_counts(np.ones((3, 3, 2, 4)))[-1]
        8
    """
    numbers = (signs.reshape(codebook.SLICE, -1) > 0).T @ 2 ** np.arange(codebook.SLICE)
    return np.bincount(numbers, minlength=2**codebook.SLICE)


def measure(kernel: BinaryKernel) -> dict[str, Any]:
    """The figures of one kernel, plain values.

    `bound`, `dead_share` and `quantization_error` are those at `tau`. `pattern_entropy` (bits per 3×3 slice)
    is `None` for other kernels, `codebook` (pairs of pattern number and slices that chose it) where there is
    none. `histogram` counts W1 in the bins of `EDGES`.

    Example:
        >>> model = tf.keras.Sequential([tf.keras.Input((6, 6, 2)), lq.layers.QuantConv2D(
        ...     4, 3, kernel_quantizer=bnn_tf.quantizers.ReCU(tau=0.9), name="conv")])
        >>> measure(binary_kernels(model)[0])["tau"]
        0.9
    """
    w1 = standardized(kernel.latent)
    counts = pattern_counts(kernel.signs) if kernel.has_slices else None
    return {
        "tau": round(kernel.tau, 6),
        "bound": round(bound(w1, kernel.tau), 6),
        "dead_share": round(dead_share(w1, kernel.tau), 6),
        "sign_entropy": round(sign_entropy(kernel.signs), 6),
        "quantization_error": round(quantization_error(w1, kernel.tau), 6),
        "pattern_entropy": None if counts is None else round(entropy(counts), 6),
        "histogram": histogram(w1).tolist(),
        "codebook": None
        if kernel.patterns is None or counts is None
        else [[int(number), int(counts[number])] for number in kernel.patterns],
    }


def read(path: str | os.PathLike) -> list[dict[str, Any]]:
    """The records of a file, one per layer and epoch; none where there is no file.

    A line that is cut short, as while it is being written, or damaged ends the reading.

    Example:
        >>> read("no/such/file.jsonl")
        []
    """
    records: list[dict[str, Any]] = []
    if not Path(path).is_file():
        return records
    for line in Path(path).read_text(errors="replace").splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not isinstance(record, dict) or not record.keys() >= {"phase", "epoch", "layer"}:
            break
        records.append(record)
    return records


class KernelDiagnostics(tf.keras.callbacks.Callback):
    """Appends the figures of every binary kernel to a file after each epoch, one line of JSON per layer.

    Each line holds `phase`, `epoch` (from 1; 0 is the start, before any training), `layer`, `epoch_flips` and
    what `measure` says. `epoch_flips` is the share of signs that are not what they were an epoch before;
    `None` at the start and for the epoch in which a training is resumed. Training that is resumed with
    `model.fit(initial_epoch=…)` first drops what the file says of later epochs. Nothing is written for a
    network without binary kernels.

    Args:
        path: The file.
        phase: Tells apart trainings that share the file.
        network: The network to look at where it is not the one that is fitted (a distiller's student).
        log_dir: Folder of TensorBoard's logs, for the figures and histograms of W1; `None` for none.
        logged: What TensorBoard gets, of `FIGURES` and `"histogram"`; such as the method's `diagnostics`, of
            which other names are passed over. The file holds all figures, so that methods can be compared.

    Example:
        >>> model = tf.keras.Sequential([tf.keras.Input((6, 6, 2)), lq.layers.QuantConv2D(
        ...     4, 3, kernel_quantizer=bnn_tf.quantizers.ReCU(tau=0.9), name="conv")])
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/diagnostics.jsonl"
        >>> model.compile("sgd", "mse")
        >>> x, y = np.ones((2, 6, 6, 2)), np.ones((2, 4, 4, 4))
        >>> _ = model.fit(x, y, verbose=0, callbacks=[KernelDiagnostics(path)])
        >>> [(record["epoch"], record["layer"]) for record in read(path)]
        [(0, 'conv'), (1, 'conv')]
    """

    def __init__(
        self,
        path: str | os.PathLike,
        phase: str = "train",
        network: tf.keras.Model | None = None,
        log_dir: str | os.PathLike | None = None,
        logged: Sequence[str] = (*FIGURES, "histogram"),
    ) -> None:
        super().__init__()
        self.path, self.phase, self.network, self.log_dir = Path(path), phase, network, log_dir
        self.logged = tuple(logged)
        self._started = False
        self._signs: dict[str, np.ndarray] = {}
        self._writer: tf.summary.SummaryWriter | None = None

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Makes the next epoch the first of this training."""
        self._started = False

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Writes the start, and forgets what an interrupted training said of this epoch and later ones.

        Raises:
            UserError: the disk is full, or the file cannot be written.
        """
        if self._started:
            return
        self._started, self._signs = True, {}
        records = read(self.path)
        kept = [r for r in records if r["phase"] != self.phase or r["epoch"] <= epoch]
        if self.path.is_file():
            files.write_text(self.path, "".join(map(_line, kept)))
        if epoch == 0:
            # Read in any case, as every worker must; after a stop in the first epoch it is no start any more.
            snapshots = binary_kernels(self.network or self.model)
            if not any(r["phase"] == self.phase for r in kept):
                self._write(0, snapshots)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Writes the epoch.

        Raises:
            UserError: the disk is full, or the file cannot be written.
        """
        snapshots = binary_kernels(self.network or self.model)
        records = self._write(epoch + 1, snapshots)
        if self.log_dir is not None and records:
            self._writer = self._writer or tf.summary.create_file_writer(str(Path(self.log_dir) / "layers"))
            with self._writer.as_default(step=epoch):
                _summarize(snapshots, records, self.logged)
            self._writer.flush()

    def _write(self, epoch: int, snapshots: Sequence[BinaryKernel]) -> list[dict[str, Any]]:
        """Appends a record per kernel, and keeps the signs for the next epoch's."""
        records = []
        for kernel in snapshots:
            before = self._signs.get(kernel.name)
            flips = None if before is None else round(float(np.mean(kernel.signs != before)), 6)
            place = {"phase": self.phase, "epoch": epoch, "layer": kernel.name}
            records.append({**place, "epoch_flips": flips, **measure(kernel)})
        self._signs = {kernel.name: kernel.signs for kernel in snapshots}
        if records:
            try:
                with self.path.open("a") as file:
                    file.writelines(map(_line, records))
            except OSError as error:
                raise UserError(f"cannot write {self.path}: {error.strerror}") from error
        return records

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Closes TensorBoard's file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, separators=(",", ":")) + "\n"


def _summarize(snapshots: list[BinaryKernel], records: list[dict[str, Any]], logged: Sequence[str]) -> None:
    for kernel, record in zip(snapshots, records, strict=True):
        if "histogram" in logged:
            tf.summary.histogram(f"standardized_weights/{kernel.name}", standardized(kernel.latent))
        for figure in FIGURES:
            if figure in logged and record[figure] is not None:
                tf.summary.scalar(f"{figure}/{kernel.name}", record[figure])


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

    Example:
        >>> watched = KernelTelemetry(delta=0.04)
        >>> optimizer = bnn_tf.optimizers.SGD(0.1, transforms=[watched])
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
                    start = tf.zeros(len(STEP_FIGURES) + 1)
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
        figures: dict[str, dict[str, float]] = {}
        total = [0.0] * len(STEP_FIGURES)
        for name, size, sums in zip(self._names, self._sizes, self._sums, strict=True):
            *values, steps = sums.numpy().tolist()
            sums.assign(tf.zeros_like(sums))
            means = [value / max(steps, 1.0) for value in values]
            figures[name] = dict(zip(STEP_FIGURES, means, strict=True))
            total = [old + size * mean for old, mean in zip(total, means, strict=True)]
        weights = max(sum(self._sizes), 1)
        figures[""] = {figure: value / weights for figure, value in zip(STEP_FIGURES, total, strict=True)}
        return figures

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {"delta": self.delta, "momentum": self.momentum, "threshold": self.threshold}


class TelemetryLog(tf.keras.callbacks.Callback):
    """Writes the telemetry's means over each epoch into the epoch's logs, and per layer to TensorBoard.

    Does nothing where the optimizer carries no `KernelTelemetry`. Callbacks that read the logs come after it.

    Args:
        log_dir: Folder of TensorBoard's logs for the figures of single layers; `None` for none.

    Example:
        >>> model = tf.keras.Sequential([tf.keras.Input((6, 6, 2)), lq.layers.QuantConv2D(
        ...     4, 3, kernel_quantizer=bnn_tf.quantizers.IdentitySign())])
        >>> model.compile(bnn_tf.optimizers.SGD(0.1, transforms=[KernelTelemetry()]), "mse")
        >>> x, y = np.ones((2, 6, 6, 2)), np.ones((2, 4, 4, 4))
        >>> "flip_ratio" in model.fit(x, y, verbose=0, callbacks=[TelemetryLog()]).history
        True
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
