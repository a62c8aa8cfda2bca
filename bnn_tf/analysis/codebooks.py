"""Pictures of sub-bit codebooks: patterns as 3×3 tiles, with how many slices chose each."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from bnn_tf import kernels
from bnn_tf.analysis.plotting import BLACK, BLUE, GREY, ORANGE, PALE
from bnn_tf.codebook import all_patterns

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
        f"entropy {kernels.entropy(counts):.2f} of {np.log2(len(pairs)):.0f} bits; dark +1, pale −1",
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
