import numpy as np
import pytest

from bnn_tf import observe
from bnn_tf.codebook import all_patterns
from bnn_tf.report import plots


def lines(ax):
    return [line.get_xydata() for line in ax.lines]


def cells(figure):
    """The colour numbers of a picture of tiles."""
    (mesh,) = figure.axes[0].collections
    return mesh.get_array()


def test_training_shows_metrics_phase_by_phase(rows):
    accuracy, loss, rate = plots.training(rows, published_top1=62.5).axes
    drawn = {line.get_label(): line for line in accuracy.lines}
    np.testing.assert_allclose(drawn["test"].get_xydata(), [(1, 20), (2, 40)])
    assert drawn["paper, 62.5 %"].get_ydata()[0] == 62.5
    assert any(np.array_equal(xy[:, 1], [50, 80, 70]) for xy in lines(accuracy) if len(xy) == 3)
    assert [text.get_text() for text in accuracy.texts] == ["first", "second"]
    assert accuracy.get_ylabel() == "top-1 accuracy (%)"
    np.testing.assert_allclose(lines(rate)[0], [(1, 0.1), (2, 0.05)])
    assert loss.get_ylabel() == "loss"


def test_training_of_one_phase_has_no_borders(rows):
    accuracy = plots.training(rows[:2]).axes[0]
    assert len(accuracy.lines) == 2
    assert not accuracy.texts


def test_missing_values_are_left_out(rows):
    without = [{**row, "val_accuracy": "", "val_loss": ""} for row in rows[:2]]
    accuracy = plots.training(without).axes[0]
    assert [line.get_label() for line in accuracy.lines] == ["training"]


def test_telemetry(rows):
    assert plots.telemetry(rows) is None
    watched = [{**row, "flip_ratio": "0.01", "silent_share": ""} for row in rows]
    (ax,) = plots.telemetry(watched).axes
    assert ax.get_title(loc="left") == "sign flips per step (% of weights)"
    np.testing.assert_allclose(lines(ax)[0], [(1, 1), (2, 1)])


def test_diagnostics(records):
    figure = plots.diagnostics(records)
    *panels, scale = figure.axes
    assert [len(ax.lines) for ax in panels] == [2, 2, 2, 2]
    np.testing.assert_allclose(
        lines(panels[0])[1], [(r["epoch"], 100 * r["dead_share"]) for r in records if r["layer"] == "sub_bit"]
    )
    assert [label.get_text() for label in scale.get_yticklabels()] == ["plain", "sub_bit"]


def test_diagnostics_without_slices(records):
    plain = [{**record, "pattern_entropy": None} for record in records]
    assert len(plots.diagnostics(plain).axes) == 3 + 1


def test_histograms_are_densities(records):
    figure = plots.histograms(records)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["plain", "sub_bit"]
    for patch in figure.axes[0].patches:
        values, edges, _ = patch.get_data()
        assert np.sum(values * np.diff(edges)) == pytest.approx(1)
    assert {patch.get_label() for patch in figure.axes[0].patches} == {"epoch 1", "epoch 2", "epoch 3"}


def test_over_tau(rng):
    latent = rng.standard_normal((3, 3, 8, 8), np.float32)
    kernel = observe.BinaryKernel("conv", latent, np.sign(latent), 0.9, None)
    error, entropy, dead, _ = plots.over_tau([kernel]).axes
    w1 = observe.standardized(latent)
    tau, share = lines(dead)[0][5]
    assert share == pytest.approx(100 * observe.dead_share(w1, tau))
    assert (np.diff(lines(error)[0][:, 1]) > 0).all()
    assert lines(entropy)[1][0, 0] == 0.9  # where τ is now


@pytest.mark.parametrize(("count", "expected"), [(1, [0]), (3, [0, 1, 2]), (9, [0, 3, 5, 8])])
def test_evenly(count, expected):
    assert plots.evenly(list(range(count)), 4) == expected


def test_tiles_are_the_patterns_by_frequency():
    book = [(7, 1), (448, 6), (0, 0), (511, 3)]
    figure = plots.tiles("conv", book)
    shown = cells(figure)
    first, unused = shown[:3, :3], shown[:3, 12:15]
    np.testing.assert_array_equal(first == plots._PLUS, all_patterns()[448].reshape(3, 3) > 0)
    assert (unused == plots._MINUS).all()
    assert [text.get_text() for text in figure.axes[0].texts] == ["60.0 %", "30.0 %", "10.0 %", "0.0 %"]
    title = figure.axes[0].get_title(loc="left")
    assert "conv: 3 of 4 patterns in use, 10 slices" in title
    assert "entropy 1.30 of 2 bits" in title


def test_tile_rows():
    assert cells(plots.tiles("conv", [(n, 1) for n in range(32)])).shape == (16, 31)


def test_history_marks_what_changed():
    figure = plots.history("conv", [("epoch 1", [(7, 3), (8, 1)]), ("epoch 5", [(7, 2), (9, 2)])])
    shown = cells(figure)
    assert (shown != plots._CHANGED).sum() == shown.size - 2  # pattern 9 has two +1
    assert (shown[9:12, 4:7] == plots._CHANGED).sum() == 2
    assert "1 of 2 patterns differ" in figure.axes[0].get_title(loc="left")
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    np.testing.assert_allclose(heights, [4.5, 1.5, 3, 3])


def test_save_needs_no_pyplot(rows, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it would fail
    path = plots.save(plots.training(rows), tmp_path / "training.png")
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
