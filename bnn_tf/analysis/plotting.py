"""How pictures look: no global state of pyplot, colours that the colour-blind can tell apart."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

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
