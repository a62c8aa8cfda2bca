"""Charts as SVG: what they draw, and that texts cannot break out of them."""

import math
import re
from xml.etree import ElementTree

import pytest

from bnn_tf import observe
from bnn_tf.codebook import all_patterns
from bnn_tf.report import plots


def parse(chart):
    """The chart as XML; anything that is not well formed raises."""
    return ElementTree.fromstring(re.sub(r' xmlns="[^"]*"', "", chart, count=1))


def texts(chart):
    return [node.text for node in parse(chart).iter("text")]


def drawn(chart):
    """The paths of the lines, without the legend's."""
    return [node.get("d") for node in parse(chart).iterfind("g/path")]


def cells(path):
    """How many squares a path has."""
    return path.count("z")


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0.4, 87, [20, 40, 60, 80]), (5, 5, [5]), (-3, 3, [-2, 0, 2])],
)
def test_ticks(low, high, expected):
    assert plots.ticks(low, high) == pytest.approx(expected)


def test_accuracy_of_one_run_shows_training_and_paper(rows):
    chart = plots.accuracy({"mine": rows}, {"paper": 62.5})
    assert len(drawn(chart)) == 2
    assert {"training", "test", "paper, 62.5 %", "first", "second", "top-1 accuracy (%)"} <= set(texts(chart))


def test_accuracy_of_several_runs_names_them(rows):
    chart = plots.accuracy({"one": rows, "two": rows[:3]}, {"paper": None})
    assert len(drawn(chart)) == 2
    assert {"one", "two"} <= set(texts(chart))
    assert "training" not in texts(chart)
    assert [path.count("L") for path in drawn(chart)] == [4, 2]


def test_gaps_are_gaps(rows):
    rows = [*rows[:1], {**rows[1], "val_loss": ""}, *rows[2:]]
    (path,) = drawn(plots.over_epochs({"": rows}, "val_loss", "loss"))
    assert path.count("M") == 2


def test_absent_columns_make_no_chart(rows):
    assert plots.over_epochs({"": rows}, "flip_ratio", "flips") == ""
    assert plots.layers([], "dead_share", "dead") == ""


def test_larger_values_are_higher(rows):
    (path,) = drawn(plots.over_epochs({"": rows[:2]}, "val_accuracy", "accuracy", 100))
    (x1, y1), (x2, y2) = (map(float, point.split()) for point in re.findall(r"[ML]([\d. ]+)", path))
    assert x2 > x1
    assert y2 < y1  # 20 %, then 40 %


def test_layers_have_a_line_each(records):
    chart = plots.layers(records, "dead_share", "dead weights (%)", 100)
    assert [path.count("L") for path in drawn(chart)] == [2, 2]
    assert {"plain", "sub_bit"} <= set(texts(chart))


def test_histogram_compares_first_and_last_epoch(records):
    own = [record for record in records if record["layer"] == "plain"]
    edges = observe.EDGES.tolist()
    chart = plots.histogram("plain", own, edges, clamp=True)
    assert {"epoch 1", "epoch 3"} <= set(texts(chart))
    assert "epoch 2" not in texts(chart)
    assert chart.count('class="level"') == 2
    assert plots.histogram("plain", own, edges).count('class="level"') == 0


@pytest.mark.parametrize(("count", "expected"), [(1, [0]), (3, [0, 1, 2]), (9, [0, 3, 5, 8])])
def test_evenly(count, expected):
    assert plots.evenly(list(range(count)), 4) == expected


def test_tiles_are_the_patterns_by_frequency():
    chart = plots.tiles("conv", [(7, 1), (448, 6), (0, 0), (511, 3)])
    shares = [text for text in texts(chart) if re.fullmatch(r"[\d.]+ %", text)]
    assert shares == ["60.0 %", "30.0 %", "10.0 %", "0.0 %"]
    assert "3 of 4 patterns in use, 10 slices, 1.30 of 2 bits" in texts(chart)
    plus = next(node.get("d") for node in parse(chart).iter("path") if node.get("fill") == "var(--s0)")
    assert cells(plus) == 3 + 3 + 9
    first = re.match(r"M([\d.]+) ([\d.]+)", plus)
    # Pattern 448 has its +1 in the last row, as all_patterns has them.
    assert (all_patterns()[448].reshape(3, 3)[2] > 0).all()
    assert float(first[2]) > 42 + 20


def test_history_marks_what_changed():
    chart = plots.history("conv", [("epoch 1", [(7, 3), (8, 1)]), ("epoch 5", [(7, 2), (9, 2)])])
    changed = next(node.get("d") for node in parse(chart).iter("path") if node.get("fill") == "var(--s1)")
    assert cells(changed) == 2  # pattern 9 has two +1
    assert any(text.startswith("1 of 2 patterns differ") for text in texts(chart))


def test_confusion_matrix_counts_by_row():
    chart = plots.confusion([[9, 1], [4, 6]], ["cat", "dog"])
    titles = [node.text for node in parse(chart).iter("title")]
    assert titles == [
        "cat taken for cat: 9 of 10", "cat taken for dog: 1 of 10",
        "dog taken for cat: 4 of 10", "dog taken for dog: 6 of 10",
    ]  # fmt: skip
    assert {"90", "10", "40", "60"} <= set(texts(chart))


def test_names_are_no_markup(rows):
    hostile = '<script>alert(1)</script>"&'
    for chart in (
        plots.accuracy({hostile: rows, "b": rows}, {hostile: 50}),
        plots.confusion([[1, 0], [1, 1]], [hostile, "b"]),
        plots.bars(hostile, [(hostile, 50.0)]),
        plots.tiles(hostile, [(7, 1)]),
    ):
        parse(chart)
        assert "<script" not in chart


def test_values_that_are_no_numbers_are_left_out():
    chart = plots.lines("title", [plots.Line("a", range(3), [1.0, math.nan, None])])
    assert "nan" not in chart
