"""Pictures of a training: accuracy, loss and rate; flips; figures and histograms of binary kernels."""

import math
from collections.abc import Mapping, Sequence, Sized
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bnn_tf import kernels
from bnn_tf.analysis import plotting
from bnn_tf.analysis.plotting import BLACK, BLUE, GREEN, GREY, ORANGE
from bnn_tf.kernels import BinaryKernel

TAUS = np.linspace(0.55, 0.995, 24)

Row = Mapping[str, Any]


def column(rows: Sequence[Row], name: str) -> np.ndarray:
    """A column of metrics.csv as numbers, NaN where it is empty."""
    return np.array([float(row.get(name) or math.nan) for row in rows])


def training(rows: Sequence[Row], published_top1: float | None = None) -> Figure:
    """Accuracy, loss and learning rate over the epochs of all phases.

    Args:
        rows: The rows of metrics.csv.
        published_top1: The paper's accuracy in percent, drawn as a line.
    """
    made, axes = plotting.figure(8, 7.5, rows=3, sharex=True)
    accuracy, loss, rate = axes[:, 0]
    _draw(accuracy, rows, 100 * column(rows, "accuracy"), label="training", color=BLUE, linestyle="--")
    _draw(accuracy, rows, 100 * column(rows, "val_accuracy"), label="test", color=ORANGE)
    accuracy.set_ylabel("top-1 accuracy (%)")
    if published_top1 is not None:
        accuracy.axhline(published_top1, color=BLACK, linestyle=":", label=f"paper, {published_top1:g} %")
    accuracy.legend(frameon=False, fontsize=9)
    _draw(loss, rows, column(rows, "loss"), color=BLUE, linestyle="--")
    _draw(loss, rows, column(rows, "val_loss"), color=ORANGE)
    loss.set_ylabel("loss")
    _draw(rate, rows, column(rows, "learning_rate"), color=GREEN)
    rate.set_ylabel("learning rate")
    rate.set_ylim(bottom=0)
    rate.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    _name_phases(axes[:, 0], rows)
    plotting.epoch_axis(rate, len(rows))
    return made


def _spans(rows: Sequence[Row]) -> list[slice]:
    """Where each phase's rows are."""
    names = [row["phase"] for row in rows]
    starts = [i for i, name in enumerate(names) if i == 0 or name != names[i - 1]]
    return [slice(start, end) for start, end in zip(starts, [*starts[1:], len(rows)], strict=True)]


def _draw(ax: Axes, rows: Sequence[Row], values: np.ndarray, label: str = "", **style: Any) -> None:
    """A line over the epochs, with a gap between phases."""
    epochs = np.arange(1, len(rows) + 1)
    for index, span in enumerate(_spans(rows)):
        if np.isfinite(values[span]).any():
            name = label if label and index == 0 else None
            marker = _marker(values[span])
            ax.plot(epochs[span], values[span], label=name, marker=marker, markersize=4, **style)


def _marker(values: Sized) -> str:
    return "o" if len(values) < 25 else ""  # single points must be seen, hundreds need not


def _name_phases(axes: Sequence[Axes], rows: Sequence[Row]) -> None:
    """Lines between phases, and their names at the top; nothing where there is only one."""
    spans = _spans(rows)
    for span in spans if len(spans) > 1 else ():
        top = axes[0].get_xaxis_transform()
        axes[0].text(span.start + 1, 1.02, rows[span.start]["phase"], transform=top, fontsize=9)
        for ax in axes if span.start else ():
            ax.axvline(span.start + 0.5, color=GREY, linewidth=0.8)


TELEMETRY = {
    "flip_ratio": "sign flips per step (% of weights)",
    "silent_share": "silent weights (%)",
    "scaled_share": "scaled channels (%)",
}


def telemetry(rows: Sequence[Row]) -> Figure | None:
    """Sign flips and silent weights over epochs; `None` where metrics.csv has no such columns."""
    present = [name for name in TELEMETRY if np.isfinite(column(rows, name)).any()]
    if not present:
        return None
    made, axes = plotting.figure(8, 2.4 * len(present), rows=len(present), sharex=True)
    for ax, name in zip(axes[:, 0], present, strict=True):
        _draw(ax, rows, 100 * column(rows, name), color=BLUE)
        ax.set_title(TELEMETRY[name], loc="left", fontsize=10)
        ax.set_ylim(bottom=0)
    _name_phases(axes[:, 0], rows)
    plotting.epoch_axis(axes[-1, 0], len(rows))
    return made


_FIGURES = {
    "dead_share": ("dead weights, outside ±Q(τ) (%)", 100),
    "quantization_error": ("quantization error (% of energy)", 100),
    "sign_entropy": ("entropy of the signs (bits per weight)", 1),
    "pattern_entropy": ("entropy of 3×3 patterns (bits per slice)", 1),
}


def diagnostics(records: Sequence[Row]) -> Figure:
    """The figures of every binary layer over the epochs of one phase.

    Args:
        records: What `diagnostics.KernelDiagnostics` wrote in the phase.
    """
    layers = list(dict.fromkeys(record["layer"] for record in records))
    present = [name for name in _FIGURES if any(record[name] is not None for record in records)]
    made, axes = plotting.figure(10, 6.5, rows=2, columns=2, sharex=True)
    for ax, name in zip(axes.flat, present, strict=False):
        title, factor = _FIGURES[name]
        ax.set_title(title, loc="left", fontsize=10)
        for layer, colour in zip(layers, plotting.shades(len(layers)), strict=True):
            points = [
                (r["epoch"], factor * r[name]) for r in records if r["layer"] == layer and r[name] is not None
            ]
            if points:
                ax.plot(
                    *zip(*points, strict=True),
                    color=colour,
                    linewidth=1.2,
                    marker=_marker(points),
                    markersize=3,
                )
        if name == "sign_entropy":
            ax.set_ylim(min(ax.get_ylim()[0], 0.99), 1.0005)  # differences in the fifth digit mean nothing
    for ax in axes.flat[len(present) :]:
        ax.remove()
    for ax in axes[1]:
        plotting.epoch_axis(ax, max(record["epoch"] for record in records))
    plotting.depth_scale(made, axes.flat[: len(present)], layers)
    return made


def evenly(items: Sequence[Any], count: int) -> list[Any]:
    """At most so many items, the first and last among them, at even distances."""
    places = np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int))
    return [items[i] for i in places]


def histograms(records: Sequence[Row]) -> Figure:
    """Densities of the standardised latent weights W1 in up to six layers, at up to five epochs.

    Args:
        records: What `diagnostics.KernelDiagnostics` wrote in one phase.
    """
    layers = evenly(list(dict.fromkeys(record["layer"] for record in records)), 6)
    columns = min(3, len(layers))
    rows = -(-len(layers) // columns)
    made, axes = plotting.figure(3.4 * columns, 2.7 * rows + 0.4, rows, columns, sharex=True)
    for ax in axes.flat[len(layers) :]:
        ax.remove()
    for ax, layer in zip(axes.flat, layers, strict=False):
        chosen = evenly([record for record in records if record["layer"] == layer], 5)
        for record, colour in zip(chosen, plotting.shades(len(chosen)), strict=True):
            counts = np.array(record["histogram"])
            density = counts / counts.sum() / np.diff(kernels.EDGES)
            ax.stairs(density, kernels.EDGES, color=colour, linewidth=1.3, label=f"epoch {record['epoch']}")
        for side in (-1, 1):
            label = "±Q(τ), last" if side > 0 else None
            ax.axvline(side * chosen[-1]["bound"], color=BLACK, linestyle=":", linewidth=1, label=label)
        ax.set_title(layer, loc="left", fontsize=9)
    made.supxlabel("latent weight, standardised to deviation 2√2", fontsize=10)
    made.supylabel("density", fontsize=10)
    made.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=6, frameon=False)
    return made


def over_tau(found: Sequence[BinaryKernel]) -> Figure:
    """Quantization error, entropy and dead weights of every layer over τ, for weights as they are now."""
    made, axes = plotting.figure(11, 4, columns=3)
    error, variety, dead = axes[0]
    for kernel, colour in zip(found, plotting.shades(len(found)), strict=True):
        w1 = kernels.standardized(kernel.latent)
        line = {"color": colour, "linewidth": 1.2}
        error.plot(TAUS, [100 * kernels.quantization_error(w1, tau) for tau in TAUS], **line)
        variety.plot(TAUS, [kernels.clamped_entropy(w1, tau) for tau in TAUS], **line)
        dead.plot(TAUS, [100 * kernels.dead_share(w1, tau) for tau in TAUS], **line)
    dead.plot(TAUS, 100 * (2 - 2 * TAUS), color=BLACK, linestyle=":", label="Laplace distribution")
    dead.legend(frameon=False, fontsize=9)
    error.set_title("quantization error (% of energy)", loc="left", fontsize=10)
    variety.set_title("entropy of clamped weights (bits)", loc="left", fontsize=10)
    dead.set_title("dead weights (%)", loc="left", fontsize=10)
    for ax in axes[0]:
        ax.set_xlabel("τ")
        ax.axvline(found[0].tau, color=GREY, linewidth=0.8)
        ax.annotate(
            f"τ = {found[0].tau:.3g}",
            (found[0].tau, 0.02),
            xycoords=("data", "axes fraction"),
            fontsize=8,
            ha="right",
            color=GREY,
            xytext=(-3, 0),
            textcoords="offset points",
        )
    plotting.depth_scale(made, axes[0], [kernel.name for kernel in found])
    return made
