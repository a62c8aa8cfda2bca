"""Pictures of trainings, kernels and codebooks.

No global state of pyplot, and colours that the colour-blind can tell apart.
"""

import math
from collections.abc import Mapping, Sequence, Sized
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bnn_tf import observe
from bnn_tf.codebook import all_patterns
from bnn_tf.observe import BinaryKernel

# From the palette of Okabe and Ito.
BLUE, ORANGE, GREEN, BLACK = "#0072B2", "#D55E00", "#009E73", "#000000"
GREY, PALE = "#767676", "#E8E8E8"


def figure(
    width: float, height: float, rows: int = 1, columns: int = 1, **options: Any
) -> tuple[Figure, Any]:
    """A figure of so many inches, and its axes as an array `(rows, columns)`."""
    made = Figure(figsize=(width, height), layout="constrained")
    axes = made.subplots(rows, columns, squeeze=False, **options)
    for ax in axes.flat:
        tidy(ax)
    return made, axes


def tidy(ax: Axes) -> None:
    """Takes away what carries no information and adds a pale grid."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color=PALE, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=9)
    ax.title.set_fontsize(10)


def epoch_axis(ax: Axes, last: int) -> None:
    """Labels a horizontal axis of epochs 1 … `last`, with whole numbers only."""
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    margin = max(0.02 * (last - 1), 0.2)
    ax.set_xlim(1 - margin, last + margin)
    ax.set_xlabel("epoch")


def shades(count: int) -> np.ndarray:
    """So many colours from dark to light, `(count, 4)`, none too pale for white paper."""
    return colormaps["viridis"](np.linspace(0.0, 0.88, max(count, 1)))


def depth_scale(made: Figure, axes: Sequence[Axes], names: Sequence[str]) -> None:
    """A colour bar that says which shade is which layer."""
    mappable = ScalarMappable(Normalize(0, max(len(names) - 1, 1)), ListedColormap(shades(256)))
    bar = made.colorbar(mappable, ax=list(axes), fraction=0.03, pad=0.01, aspect=40)
    ticks = np.unique(np.linspace(0, len(names) - 1, min(len(names), 8)).round().astype(int))
    bar.set_ticks(ticks.tolist(), labels=[names[i] for i in ticks])
    bar.ax.invert_yaxis()
    bar.ax.tick_params(labelsize=8)


def save(made: Figure, path: Path) -> Path:
    """Writes a PNG and returns its path."""
    made.savefig(path, dpi=120, metadata={"Software": None})
    return path


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
    made, axes = figure(8, 7.5, rows=3, sharex=True)
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
    epoch_axis(rate, len(rows))
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
    made, axes = figure(8, 2.4 * len(present), rows=len(present), sharex=True)
    for ax, name in zip(axes[:, 0], present, strict=True):
        _draw(ax, rows, 100 * column(rows, name), color=BLUE)
        ax.set_title(TELEMETRY[name], loc="left", fontsize=10)
        ax.set_ylim(bottom=0)
    _name_phases(axes[:, 0], rows)
    epoch_axis(axes[-1, 0], len(rows))
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
        records: What `observe.KernelDiagnostics` wrote in the phase.
    """
    layers = list(dict.fromkeys(record["layer"] for record in records))
    present = [name for name in _FIGURES if any(record[name] is not None for record in records)]
    made, axes = figure(10, 6.5, rows=2, columns=2, sharex=True)
    for ax, name in zip(axes.flat, present, strict=False):
        title, factor = _FIGURES[name]
        ax.set_title(title, loc="left", fontsize=10)
        for layer, colour in zip(layers, shades(len(layers)), strict=True):
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
        epoch_axis(ax, max(record["epoch"] for record in records))
    depth_scale(made, axes.flat[: len(present)], layers)
    return made


def evenly(items: Sequence[Any], count: int) -> list[Any]:
    """At most so many items, the first and last among them, at even distances."""
    places = np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int))
    return [items[i] for i in places]


def histograms(records: Sequence[Row]) -> Figure:
    """Densities of the standardised latent weights W1 in up to six layers, at up to five epochs.

    Args:
        records: What `observe.KernelDiagnostics` wrote in one phase.
    """
    layers = evenly(list(dict.fromkeys(record["layer"] for record in records)), 6)
    columns = min(3, len(layers))
    rows = -(-len(layers) // columns)
    made, axes = figure(3.4 * columns, 2.7 * rows + 0.4, rows, columns, sharex=True)
    for ax in axes.flat[len(layers) :]:
        ax.remove()
    for ax, layer in zip(axes.flat, layers, strict=False):
        chosen = evenly([record for record in records if record["layer"] == layer], 5)
        for record, colour in zip(chosen, shades(len(chosen)), strict=True):
            counts = np.array(record["histogram"])
            density = counts / counts.sum() / np.diff(observe.EDGES)
            ax.stairs(density, observe.EDGES, color=colour, linewidth=1.3, label=f"epoch {record['epoch']}")
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
    made, axes = figure(11, 4, columns=3)
    error, variety, dead = axes[0]
    for kernel, colour in zip(found, shades(len(found)), strict=True):
        w1 = observe.standardized(kernel.latent)
        line = {"color": colour, "linewidth": 1.2}
        error.plot(TAUS, [100 * observe.quantization_error(w1, tau) for tau in TAUS], **line)
        variety.plot(TAUS, [observe.clamped_entropy(w1, tau) for tau in TAUS], **line)
        dead.plot(TAUS, [100 * observe.dead_share(w1, tau) for tau in TAUS], **line)
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
    depth_scale(made, axes[0], [kernel.name for kernel in found])
    return made


Pairs = Sequence[Sequence[int]]
"""For each pattern of a codebook, in its order: the pattern's number and how many slices chose it."""

_GAP, _MINUS, _PLUS, _CHANGED, _UNUSED = range(5)
_COLOURS = ListedColormap(["white", PALE, BLUE, ORANGE, "#A9A9A9"])
_TILES_PER_ROW = 8


def tiles(name: str, pairs: Pairs) -> Figure:
    """A layer's patterns, the most frequent first, each over its share of the slices.

    Args:
        name: Name of the layer.
        pairs: Its codebook.
    """
    ordered = sorted(pairs, key=lambda pair: -pair[1])
    counts = np.array([count for _, count in ordered])
    columns = min(_TILES_PER_ROW, len(pairs))
    rows = -(-len(pairs) // columns)
    cells = np.full((4 * rows, 4 * columns - 1), _GAP)
    made, ax = _canvas(4 * rows, 4 * columns - 1, inches=0.26, header=0.6)
    for place, (number, count) in enumerate(ordered):
        row, column = divmod(place, columns)
        tile = _tile(number, _PLUS if count else _UNUSED)
        cells[4 * row : 4 * row + 3, 4 * column : 4 * column + 3] = tile
        share = f"{100 * count / max(counts.sum(), 1):.1f} %"
        colour = BLACK if count else GREY
        ax.text(4 * column + 1.5, 4 * row + 3.45, share, ha="center", va="center", fontsize=8.5, color=colour)
    ax.pcolormesh(cells, cmap=_COLOURS, vmin=0, vmax=4, edgecolors="white", linewidth=1.5)
    ax.set_title(
        f"{name}: {np.count_nonzero(counts)} of {len(pairs)} patterns in use, {counts.sum():,} slices\n"
        f"entropy {observe.entropy(counts):.2f} of {np.log2(len(pairs)):.0f} bits; dark +1, pale −1",
        fontsize=9.5,
        loc="left",
    )
    return made


_STEP = 9  # cells from one snapshot to the next: a tile of 3, the bar hanging from it, a gap


def history(name: str, snapshots: Sequence[tuple[str, Pairs]]) -> Figure:
    """A layer's codebook over training: a row for each snapshot, a column for each pattern.

    Args:
        name: Name of the layer.
        snapshots: Labels, such as epochs, and codebooks; the order of their patterns is kept.
    """
    books = [pairs for _, pairs in snapshots]
    counts = np.array([[count for _, count in pairs] for pairs in books])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    peak = max(shares.max(), 1e-9)
    rows, size = counts.shape
    made, ax = _canvas(
        _STEP * rows, 4 * size - 1, inches=min(max(0.06, 1.3 / size), 0.12), header=0.55, margin=0.9
    )
    ax.pcolormesh(_grid(books), cmap=_COLOURS, vmin=0, vmax=4)
    for row, heights in enumerate(4.5 * shares / peak):
        ax.bar(4 * np.arange(size) + 1.5, heights, 2.4, bottom=_STEP * row + 3.3, color=GREY)
        ax.text(-1, _STEP * row + 1.5, snapshots[row][0], ha="right", va="center", fontsize=8.5)
    changed = sum(old[0] != new[0] for old, new in zip(books[0], books[-1], strict=True))
    ax.set_title(
        f"{name}: {changed} of {size} patterns differ between first and last row\n"
        f"orange: changed since the row above; bars: share of slices, at most {100 * peak:.2g} %",
        fontsize=9.5,
        loc="left",
    )
    return made


def _canvas(
    rows: int, columns: int, inches: float, header: float, margin: float = 0.15
) -> tuple[Figure, Axes]:
    """A figure whose cells are squares of so many inches, with room above and to the left."""
    width, height = columns * inches + margin + 0.15, rows * inches + header
    made = Figure(figsize=(max(width, 5), height))
    scale = 1 / np.array([made.get_figwidth(), height, made.get_figwidth(), height])
    ax = made.add_axes(tuple(np.array([margin, 0, columns * inches, rows * inches]) * scale))
    ax.set_xlim(0, columns)
    ax.set_ylim(rows, 0)
    ax.axis("off")
    return made, ax


def _tile(number: int, plus: int) -> np.ndarray:
    """The pattern as 3×3 indices into `_COLOURS`."""
    return np.where(all_patterns()[number].reshape(3, 3) > 0, plus, _MINUS)


def _grid(books: Sequence[Pairs]) -> np.ndarray:
    """The tiles of all snapshots in one array of indices into `_COLOURS`."""
    cells = np.full((_STEP * len(books), 4 * len(books[0]) - 1), _GAP)
    for row, pairs in enumerate(books):
        before = books[max(row - 1, 0)]
        for place, (number, _) in enumerate(pairs):
            tile = _tile(number, _PLUS if number == before[place][0] else _CHANGED)
            cells[_STEP * row : _STEP * row + 3, 4 * place : 4 * place + 3] = tile
    return cells
