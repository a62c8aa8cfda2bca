"""Records, epoch by epoch, what the weights of binary layers look like."""

import json
import os
from pathlib import Path
from typing import Any

from bnn_tf import kernels
from bnn_tf._tensorflow import tf
from bnn_tf.kernels import BinaryKernel

FIGURES = ("dead_share", "sign_entropy", "quantization_error", "pattern_entropy")


def measure(kernel: BinaryKernel) -> dict[str, Any]:
    """The figures of one kernel, plain values.

    `bound`, `dead_share` and `quantization_error` are those at `tau`. `pattern_entropy` (bits per 3×3 slice)
    is `None` for other kernels, `codebook` (pairs of pattern number and slices that chose it) where there is
    none. `histogram` counts W1 in the bins of `kernels.EDGES`.
    """
    w1 = kernels.standardized(kernel.latent)
    counts = kernels.pattern_counts(kernel.signs) if kernel.has_slices else None
    return {
        "tau": round(kernel.tau, 6),
        "bound": round(kernels.bound(w1, kernel.tau), 6),
        "dead_share": round(kernels.dead_share(w1, kernel.tau), 6),
        "sign_entropy": round(kernels.sign_entropy(kernel.signs), 6),
        "quantization_error": round(kernels.quantization_error(w1, kernel.tau), 6),
        "pattern_entropy": None if counts is None else round(kernels.entropy(counts), 6),
        "histogram": kernels.histogram(w1).tolist(),
        "codebook": None
        if kernel.patterns is None or counts is None
        else [[int(number), int(counts[number])] for number in kernel.patterns],
    }


def read(path: str | os.PathLike) -> list[dict[str, Any]]:
    """The records of a file, one per layer and epoch; none where there is no file.

    A line that is cut short, as while it is being written, ends the reading.
    """
    records: list[dict[str, Any]] = []
    if not Path(path).is_file():
        return records
    for line in Path(path).read_text().splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    return records


class KernelDiagnostics(tf.keras.callbacks.Callback):
    """Appends the figures of every binary kernel to a file after each epoch, one line of JSON per layer.

    Each line holds `phase`, `epoch` (from 1), `layer` and what `measure` says. Training that is resumed with
    `model.fit(initial_epoch=…)` first drops what the file says of later epochs. Nothing is written for a
    network without binary kernels.

    Args:
        path: The file.
        phase: Tells apart trainings that share the file.
        network: The network to look at where it is not the one that is fitted (a distiller's student).
        log_dir: Folder of TensorBoard's logs, for the figures and histograms of W1; `None` for none.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        phase: str = "train",
        network: tf.keras.Model | None = None,
        log_dir: str | os.PathLike | None = None,
    ) -> None:
        super().__init__()
        self.path, self.phase, self.network, self.log_dir = Path(path), phase, network, log_dir
        self._started = False
        self._writer: tf.summary.SummaryWriter | None = None

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Starts anew."""
        self._started = False

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Forgets, before the first epoch, what an interrupted training said of this one and later ones."""
        if not self._started:
            self._started = True
            records = read(self.path)
            kept = [r for r in records if r["phase"] != self.phase or r["epoch"] <= epoch]
            if self.path.is_file():
                partial = self.path.with_name(self.path.name + ".part")
                partial.write_text("".join(map(_line, kept)))
                os.replace(partial, self.path)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Writes the epoch."""
        found = kernels.binary_kernels(self.network or self.model)
        if not found:
            return
        records = [
            {"phase": self.phase, "epoch": epoch + 1, "layer": kernel.name, **measure(kernel)}
            for kernel in found
        ]
        with self.path.open("a") as file:
            file.writelines(map(_line, records))
        if self.log_dir is not None:
            self._writer = self._writer or tf.summary.create_file_writer(str(Path(self.log_dir) / "layers"))
            with self._writer.as_default(step=epoch):
                _summarize(found, records)
            self._writer.flush()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Closes TensorBoard's file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, separators=(",", ":")) + "\n"


def _summarize(found: list[BinaryKernel], records: list[dict[str, Any]]) -> None:
    for kernel, record in zip(found, records, strict=True):
        tf.summary.histogram(f"standardized_weights/{kernel.name}", kernels.standardized(kernel.latent))
        for figure in FIGURES:
            if record[figure] is not None:
                tf.summary.scalar(f"{figure}/{kernel.name}", record[figure])
