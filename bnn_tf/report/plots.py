"""Charts as SVG text: lines, histograms, confusion matrices, bars and codebooks.

A chart takes its colours from CSS variables (`STYLE`), so that it follows the reader's light or dark mode and
prints in black on white. It stands inside a page that has `STYLE`. The colours of lines are those of Okabe
and Ito, which the colour-blind can tell apart.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

STYLE = """
:root { --paper: #ffffff; --ink: #1b1f24; --muted: #5b6470; --rule: #e3e6ea; --unused: #b5bbc2;
  --s0: #0072b2; --s1: #d55e00; --s2: #009e73; --s3: #b8578f; --s4: #b07d00; --s5: #3f8fc0; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171b; --ink: #e6e9ed; --muted: #9aa4b0;
  --rule: #2c3239; --unused: #59616b; --s0: #4fb0f0; --s1: #ff8a4c; --s2: #3ccb9a; --s3: #e59bc6;
  --s4: #f2b84b; --s5: #8fd0f5; } }
@media print { :root { --paper: #ffffff; --ink: #000000; --muted: #444444; --rule: #dddddd; --unused: #aaaaaa;
  --s0: #0072b2; --s1: #d55e00; --s2: #009e73; --s3: #b8578f; --s4: #b07d00; --s5: #3f8fc0; } }
.chart { background: var(--paper); max-width: 100%; height: auto; }
.chart text { font: 11px system-ui, "DejaVu Sans", sans-serif; fill: var(--ink); }
.chart .title { font-size: 12.5px; font-weight: 600; }
.chart .small { font-size: 10px; fill: var(--muted); }
.chart .rule { stroke: var(--rule); fill: none; }
.chart .axis, .chart .level { stroke: var(--muted); fill: none; }
.chart .level { stroke-dasharray: 2 3; }
.chart .line { fill: none; stroke-width: 1.6; stroke-linejoin: round; }
.chart .dashed { stroke-dasharray: 5 3; }
"""

WIDTH, HEIGHT = 420, 250
_LEFT, _RIGHT, _BOTTOM = 50, 12, 36
_SERIES = 6  # colours in STYLE
# Points of viridis between dark and light, none so near to black or white that it vanishes on either page.
_RAMP = ((72, 80, 160), (45, 120, 160), (31, 158, 137), (90, 185, 90), (190, 190, 50))


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of a chart.

    Args:
        label: What the legend calls it; empty for a line without an entry.
        xs: Where its points are.
        ys: Their values; `None` and NaN leave a gap.
        color: A CSS colour; see `series` and `ramp`.
        dashed: Whether the line is dashed.
        steps: Whether each value holds until the next x (a histogram's outline); `xs` has one more then.
    """

    label: str
    xs: Sequence[float]
    ys: Sequence[float | None]
    color: str = "var(--s0)"
    dashed: bool = False
    steps: bool = False


def series(index: int) -> str:
    """The colour of the line with this index among a few that differ in kind."""
    return f"var(--s{index % _SERIES})"


def ramp(index: int, count: int) -> str:
    """The colour of one of many lines in an order, such as layers by depth."""
    place = (len(_RAMP) - 1) * index / max(count - 1, 1)
    low = min(int(place), len(_RAMP) - 2)
    mixed = (round(a + (b - a) * (place - low)) for a, b in zip(_RAMP[low], _RAMP[low + 1], strict=True))
    return f"rgb({','.join(map(str, mixed))})"


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers that span an interval, the outer ones inside it.

    Example:
        >>> ticks(0, 97)
        [0.0, 20.0, 40.0, 60.0, 80.0]
    """
    if not high > low:
        return [low]
    step = (high - low) / count
    magnitude = 10.0 ** math.floor(math.log10(step))
    step = next(magnitude * factor for factor in (1, 2, 5, 10) if magnitude * factor >= step * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(step * i, 12) for i in range(first, last + 1)]


def lines(
    title: str,
    drawn: Sequence[Line],
    x_label: str = "epoch",
    *,
    levels: Sequence[tuple[float, str]] = (),
    borders: Sequence[tuple[float, str]] = (),
    verticals: Sequence[float] = (),
    least: float | None = None,
    whole: bool = True,
    depth: Sequence[str] = (),
) -> str:
    """A chart of lines over a common axis.

    Args:
        title: What is shown, with its unit.
        drawn: The lines.
        x_label: What the horizontal axis is.
        levels: Values with a horizontal line across the chart, and their names in the legend.
        borders: Places between phases, with the name of the phase that begins there.
        verticals: Places of dotted vertical lines.
        least: Where the vertical axis begins at the latest.
        whole: Whether only whole numbers stand on the horizontal axis.
        depth: Names of the first and the last line where the colours are a `ramp`.
    """
    xs = [x for line in drawn for x in line.xs]
    ys = [y for line in drawn for y in line.ys if y is not None and math.isfinite(y)]
    ys += [value for value, _ in levels]
    if not ys:
        return ""
    x0, x1 = min(xs), max(xs)
    if x0 == x1:
        x0, x1 = x0 - 0.5, x1 + 0.5
    y0, y1 = _range(ys, least)
    if borders:
        y1 += 0.12 * (y1 - y0)  # room for the phases' names above the lines
    entries = [(line.label, line.color, line.dashed) for line in drawn if line.label]
    entries += [(name, "var(--muted)", True) for _, name in levels]
    legend, top = _legend(entries)
    if depth:
        legend, top = _scale(depth), 44
    plane = _Plane(x0, x1, y0, y1, top)
    body = [_text(0, 14, title, "title"), legend, *_grid(plane, x_label, whole)]
    for place, name in borders:
        if place > x0:
            body.append(f'<path class="rule" d="M{plane.x(place):.1f} {top}V{plane.bottom}"/>')
        body.append(_text(plane.x(max(place, x0)) + 3, top + 10, name, "small"))
    for value, _ in levels:
        body.append(f'<path class="level" d="M{_LEFT} {plane.y(value):.1f}H{WIDTH - _RIGHT}"/>')
    for place in verticals:
        if x0 <= place <= x1:
            body.append(f'<path class="level" d="M{plane.x(place):.1f} {top}V{plane.bottom}"/>')
    body += [_drawn(line, plane) for line in drawn]
    return _svg(WIDTH, HEIGHT, body, title)


@dataclasses.dataclass(frozen=True)
class _Plane:
    """From values to places on the page."""

    x0: float
    x1: float
    y0: float
    y1: float
    top: float
    bottom: float = HEIGHT - _BOTTOM

    def x(self, value: float) -> float:
        return _LEFT + (value - self.x0) / (self.x1 - self.x0) * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return self.bottom - (value - self.y0) / (self.y1 - self.y0) * (self.bottom - self.top)


def _finite(value: Any) -> bool:
    return value is not None and math.isfinite(value)


def _range(ys: Sequence[float], least: float | None) -> tuple[float, float]:
    low, high = min(ys), max(ys)
    margin = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
    low, high = low - margin, high + margin
    if least is not None:
        low = least if min(ys) >= least else min(low, least)
    return low, high


def _grid(plane: _Plane, x_label: str, whole: bool) -> Iterable[str]:
    for value in ticks(plane.y0, plane.y1):
        y = plane.y(value)
        yield f'<path class="rule" d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}"/>'
        yield _text(_LEFT - 6, y + 4, _number(value), "small", "end")
    for value in ticks(plane.x0, plane.x1, 6):
        if not whole or value == round(value):
            yield _text(plane.x(value), plane.bottom + 15, _number(value), "small", "middle")
    yield f'<path class="axis" d="M{_LEFT} {plane.bottom}H{WIDTH - _RIGHT}"/>'
    yield _text((WIDTH + _LEFT) / 2, HEIGHT - 5, x_label, "small", "middle")


def _drawn(line: Line, plane: _Plane) -> str:
    path, pen, places = [], False, []
    for index, value in enumerate(line.ys):
        if not _finite(value):
            pen = False
            continue
        x, y = plane.x(line.xs[index]), plane.y(value)  # type: ignore[arg-type]
        path.append(f"{'L' if pen else 'M'}{x:.1f} {y:.1f}")
        if line.steps:
            path.append(f"H{plane.x(line.xs[index + 1]):.1f}")
        places.append((x, y))
        pen = True
    dashed = " dashed" if line.dashed else ""
    dots = ""
    if len(places) < 25 and not line.steps:  # single points must be seen, hundreds need not
        dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.2" fill="{line.color}"/>' for x, y in places)
    name = f"<title>{escape(line.label)}</title>" if line.label else ""
    return f'<g>{name}<path class="line{dashed}" stroke="{line.color}" d="{"".join(path)}"/>{dots}</g>'


def _legend(entries: Sequence[tuple[str, str, bool]]) -> tuple[str, float]:
    """The legend under the title, in as many rows as it takes, and where the plane begins."""
    parts, x, y = [], 0.0, 31.0
    for name, color, dashed in entries:
        width = 24 + 6.2 * len(name)
        if x and x + width > WIDTH:
            x, y = 0.0, y + 15
        style = " dashed" if dashed else ""
        parts.append(f'<path class="line{style}" stroke="{color}" d="M{x:.1f} {y - 4}h14"/>')
        parts.append(_text(x + 18, y, name))
        x += width + 8
    return "".join(parts), (y + 10 if entries else 26)


def _scale(depth: Sequence[str]) -> str:
    """A strip of colours between the names of the first and the last line."""
    first = _text(0, 31, depth[0])
    start = 6.2 * len(depth[0]) + 8
    strip = "".join(
        f'<rect x="{start + 6 * i:.1f}" y="23" width="6" height="8" fill="{ramp(i, 16)}"/>' for i in range(16)
    )
    return first + strip + _text(start + 104, 31, depth[-1])


def _number(value: float) -> str:
    if value and (abs(value) < 1e-3 or abs(value) >= 1e5):
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:g}"


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "") -> str:
    attributes = f' class="{kind}"' if kind else ""
    attributes += f' text-anchor="{anchor}"' if anchor else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{attributes}>{escape(str(text))}</text>'


def _svg(width: float, height: float, body: Iterable[str], title: str) -> str:
    return (
        f'<svg class="chart" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" role="img" aria-label="{escape(title)}">{"".join(body)}</svg>'
    )


# Trainings

Row = Mapping[str, Any]


def column(rows: Sequence[Row], name: str, factor: float = 1.0) -> list[float | None]:
    """A column of metrics.csv as numbers, `None` where it is empty."""
    return [None if row.get(name) in (None, "") else factor * float(row[name]) for row in rows]


def borders(rows: Sequence[Row]) -> list[tuple[float, str]]:
    """Where phases begin, half an epoch before their first, and their names; none where there is only one."""
    names = [row["phase"] for row in rows]
    starts = [i for i, name in enumerate(names) if i == 0 or name != names[i - 1]]
    return [(i + 0.5, names[i]) for i in starts] if len(starts) > 1 else []


def accuracy(runs: Mapping[str, Sequence[Row]], published: Mapping[str, float | None]) -> str:
    """Top-1 accuracy over the epochs; of a single run also that on the training images.

    Args:
        runs: The rows of metrics.csv by the run's name.
        published: The paper's accuracy in percent, by the name of what it is the accuracy of.
    """
    only = next(iter(runs.values())) if len(runs) == 1 else []
    drawn = []
    if only:
        training = column(only, "accuracy", 100)
        drawn.append(Line("training", _epochs(only), training, series(0), dashed=True))
    for name, rows in runs.items():
        label = "test" if only else name
        drawn.append(Line(label, _epochs(rows), column(rows, "val_accuracy", 100), series(len(drawn))))
    levels = [(value, f"{name}, {value:g} %") for name, value in published.items() if value is not None]
    return lines("top-1 accuracy (%)", drawn, levels=levels, borders=borders(only))


def _epochs(rows: Sequence[Row]) -> range:
    return range(1, len(rows) + 1)


def over_epochs(runs: Mapping[str, Sequence[Row]], name: str, title: str, factor: float = 1.0) -> str:
    """One column of metrics.csv over the epochs of one or several runs; empty where no run has it."""
    drawn = [
        Line(label if len(runs) > 1 else "", _epochs(rows), column(rows, name, factor), series(i))
        for i, (label, rows) in enumerate(runs.items())
    ]
    marks = borders(next(iter(runs.values()))) if len(runs) == 1 else []
    return lines(title, drawn, borders=marks, least=0)


def layers(records: Sequence[Row], name: str, title: str, factor: float = 1.0) -> str:
    """A figure of every binary layer over the epochs of one phase; empty where no layer has it.

    Args:
        records: What `observe.KernelDiagnostics` wrote in the phase.
        name: The figure's name in the records.
        title: What is shown, with its unit.
        factor: What to multiply the figure by.
    """
    known = [record for record in records if record.get(name) is not None]
    names = list(dict.fromkeys(record["layer"] for record in known))
    drawn = []
    for index, layer in enumerate(names):
        own = [record for record in known if record["layer"] == layer]
        xs, ys = [record["epoch"] for record in own], [factor * record[name] for record in own]
        drawn.append(Line("", xs, ys, ramp(index, len(names))))
    return lines(title, drawn, depth=(names[0], names[-1]) if names else ())


def evenly(items: Sequence[Any], count: int) -> list[Any]:
    """At most `count` items, the first and the last among them, at even distances.

    Example:
        >>> evenly(range(9), 4)
        [0, 3, 5, 8]
    """
    count = min(count, len(items))
    places = dict.fromkeys(round(i * (len(items) - 1) / max(count - 1, 1)) for i in range(count))
    return [items[place] for place in places]


def moment(record: Row) -> str:
    """When a record was taken, in words.

    Example:
        >>> moment({"epoch": 0}), moment({"epoch": 3})
        ('start', 'epoch 3')
    """
    return f"epoch {record['epoch']}" if record["epoch"] else "start"


def histogram(layer: str, records: Sequence[Row], edges: Sequence[float], *, clamp: bool = False) -> str:
    """Densities of a layer's standardised latent weights in its first and in its last record.

    Args:
        layer: Its name.
        records: Its records, in the order of the epochs.
        edges: The bins (`observe.EDGES`).
        clamp: Whether to mark ±Q(τ) of the last epoch, where ReCU's clamp is.
    """
    drawn = []
    chosen = records if len(records) < 2 else (records[0], records[-1])
    for index, record in enumerate(chosen):
        total = sum(record["histogram"]) or 1
        density = [count / total / (edges[i + 1] - edges[i]) for i, count in enumerate(record["histogram"])]
        last = index == len(chosen) - 1
        color = series(0 if last else 1)
        drawn.append(Line(moment(record), edges, density, color, dashed=not last, steps=True))
    bound = chosen[-1]["bound"]
    marks = (-bound, bound) if clamp else ()
    return lines(layer, drawn, "latent weight, standardised", verticals=marks, least=0, whole=False)


# Codebooks

Pairs = Sequence[Sequence[int]]
"""For each pattern of a codebook, in its order: the pattern's number and how many slices chose it."""

_TILES_PER_ROW = 8


def _cells(number: int, x: float, y: float, size: float) -> tuple[str, str]:
    """Paths of the +1 and of the -1 of a 3×3 pattern; bit i of its number is the sign of element i."""
    paths = {True: "", False: ""}
    side = size - 0.08 * size
    for i in range(9):
        left, top = x + size * (i % 3), y + size * (i // 3)
        paths[bool(number >> i & 1)] += f"M{left:.1f} {top:.1f}h{side:.2f}v{side:.2f}h-{side:.2f}z"
    return paths[True], paths[False]


def tiles(name: str, pairs: Pairs) -> str:
    """A layer's patterns, the most frequent first, each over its share of the slices; dark is +1.

    Args:
        name: Name of the layer.
        pairs: Its codebook.
    """
    ordered = sorted(pairs, key=lambda pair: -pair[1])
    total = max(sum(count for _, count in ordered), 1)
    columns = min(_TILES_PER_ROW, len(ordered))
    step, cell = WIDTH / _TILES_PER_ROW, 11.0
    used = {True: ["", ""], False: ["", ""]}
    shares = []
    for place, (number, count) in enumerate(ordered):
        row, col = divmod(place, columns)
        x, y = step * col + 6, 42 + 50 * row
        for index, path in enumerate(_cells(number, x, y, cell)):
            used[count > 0][index] += path
        shares.append(_text(x + 1.5 * cell, y + 44, f"{100 * count / total:.1f} %", "small", "middle"))
    drawn = sum(count > 0 for _, count in ordered)
    entropy = -sum(c / total * math.log2(c / total) for _, c in ordered if c)
    bits = math.log2(len(ordered)) if ordered else 0
    note = f"{drawn} of {len(ordered)} patterns in use, {total:,} slices, {entropy:.2f} of {bits:.0f} bits"
    body = [
        _text(0, 14, name, "title"),
        _text(0, 30, note, "small"),
        f'<path fill="var(--rule)" d="{used[True][1]}{used[False][1]}"/>',
        f'<path fill="var(--s0)" d="{used[True][0]}"/>',
        f'<path fill="var(--unused)" d="{used[False][0]}"/>',
        *shares,
    ]
    rows = -(-len(ordered) // columns) if columns else 0
    return _svg(WIDTH, 44 + 50 * rows, body, f"codebook of {name}")


def history(name: str, snapshots: Sequence[tuple[str, Pairs]]) -> str:
    """A layer's codebook over training: a row for each snapshot, a column for each pattern.

    Patterns that changed since the row above are orange; bars are shares of the slices.

    Args:
        name: Name of the layer.
        snapshots: Labels, such as epochs, and codebooks; the order of their patterns is kept.
    """
    size = len(snapshots[0][1])
    cell = min(11.0, (WIDTH - 60) / (4 * size))
    step = 3 * cell + 24
    peak = (
        max((c / max(sum(n for _, n in book), 1) for _, book in snapshots for _, c in book), default=0) or 1
    )
    plus, minus, changed, bars, labels = "", "", "", "", []
    for row, (label, book) in enumerate(snapshots):
        y, total = 40 + step * row, max(sum(count for _, count in book), 1)
        before = snapshots[max(row - 1, 0)][1]
        labels.append(_text(0, y + 1.5 * cell + 4, label, "small"))
        for place, (number, count) in enumerate(book):
            x = 58 + 4 * cell * place
            dark, pale = _cells(number, x, y, cell)
            minus += pale
            if number == before[place][0]:
                plus += dark
            else:
                changed += dark
            height = 14 * count / total / peak
            bars += f"M{x:.1f} {y + 3 * cell + 2:.1f}h{3 * cell:.2f}v{height:.2f}h-{3 * cell:.2f}z"
    first, last = snapshots[0][1], snapshots[-1][1]
    moved = sum(old[0] != new[0] for old, new in zip(first, last, strict=True))
    note = f"{moved} of {size} patterns differ between first and last row; largest share {100 * peak:.2g} %"
    body = [
        _text(0, 14, f"{name} over training", "title"),
        _text(0, 30, note, "small"),
        f'<path fill="var(--rule)" d="{minus}"/><path fill="var(--s0)" d="{plus}"/>',
        f'<path fill="var(--s1)" d="{changed}"/><path fill="var(--unused)" d="{bars}"/>',
        *labels,
    ]
    return _svg(WIDTH, 44 + step * len(snapshots), body, f"codebook of {name} over training")


# Evaluation


def confusion(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    """A confusion matrix: a row for each true class, a column for each answer, darker for larger shares.

    Args:
        matrix: Counts, `[true class][answer]`.
        names: Names of the classes.
    """
    count = len(names)
    longest = min(max(map(len, names)), 14)
    margin = 12 + 6 * longest
    cell = (WIDTH - margin) / count
    body = [_text(0, 14, "true class (rows), answer (columns), % of the row", "title")]
    top = 24 + (6 * longest if count > 10 else 14)
    for i, row in enumerate(matrix):
        total = max(sum(row), 1)
        y = top + cell * i
        body.append(_text(margin - 6, y + cell / 2 + 4, _cut(names[i]), "small", "end"))
        x = margin + cell * (i + 0.5)
        if count > 10:
            label = f'<text class="small" transform="translate({x + 3:.1f},{top - 5:.1f})rotate(-90)">'
            body.append(f"{label}{escape(_cut(names[i]))}</text>")
        else:
            body.append(_text(x, top - 5, names[i][: max(int(cell / 6), 2)], "small", "middle"))
        for j, value in enumerate(row):
            if not value:
                continue
            share, color = value / total, "var(--s0)" if i == j else "var(--s1)"
            opacity = 0.1 + 0.4 * (share if i == j else min(1.0, 3 * share))  # the numbers stay readable
            title = f"<title>{escape(names[i])} taken for {escape(names[j])}: {value} of {total}</title>"
            body.append(
                f'<rect x="{margin + cell * j:.1f}" y="{y:.1f}" width="{cell - 1:.2f}" '
                f'height="{cell - 1:.2f}" fill="{color}" fill-opacity="{opacity:.2f}">{title}</rect>'
            )
            if count <= 12:
                x = margin + cell * (j + 0.5)
                body.append(_text(x, y + cell / 2 + 4, f"{100 * share:.0f}", "", "middle"))
    return _svg(WIDTH, top + cell * count + 6, body, "confusion matrix")


def bars(title: str, values: Sequence[tuple[str, float]]) -> str:
    """Horizontal bars of percentages, with names before and values behind them."""
    margin = 14 + 6.2 * min(max((len(name) for name, _ in values), default=0), 22)
    body = [_text(0, 14, title, "title")]
    for i, (name, value) in enumerate(values):
        y = 26 + 18 * i
        width = max((WIDTH - margin - 62) * value / 100, 0)
        body.append(_text(margin - 6, y + 11, _cut(name, 22), "small", "end"))
        body.append(f'<rect x="{margin:.1f}" y="{y}" width="{width:.1f}" height="13" fill="var(--s0)"/>')
        body.append(_text(margin + width + 5, y + 11, f"{value:.3g} %", "small"))
    return _svg(WIDTH, 30 + 18 * len(values), body, title)


def _cut(name: str, length: int = 14) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"
