import dataclasses
import json
import re

import pytest

from bnn_tf import quantizers
from bnn_tf._tensorflow import lq, tf
from bnn_tf.report import page as report


def plan(**changes):
    recipe = {
        "method": "subbit",
        "model": "small",
        "dataset": "cifar10",
        "phases": [
            {"name": "first", "epochs": 2},
            {"name": "second", "epochs": 9, "schedule_options": {"warmup": 1}},
        ],
        "method_options": {},
        "published_top1": 75.5,
        "published_top5": None,
        "note": "the paper's settings",
    }
    return {**recipe, **changes}


def network():
    convs = [
        lq.layers.QuantConv2D(6, 3, kernel_quantizer=quantizers.ScaledSign(), name="plain"),
        lq.layers.QuantConv2D(6, 3, kernel_quantizer=quantizers.SubBit(bits=2), name="sub_bit"),
    ]
    return tf.keras.Sequential([tf.keras.Input((8, 8, 5)), *convs])


@pytest.fixture
def material(rows, records):
    actual = plan(method_options={"bits": 2})
    actual["phases"] = [
        actual["phases"][0],
        {**actual["phases"][1], "epochs": 4, "schedule_options": {"warmup": 0}},
    ]
    return report.Material(
        name="my-run",
        config={"recipe": actual, "seed": 3, "limit": 100},
        recipe=plan(),
        environment={"python": "3.11", "packages": {"larq": "0.14.0"}},
        metrics=rows,
        records=records,
        network=network(),
    )


def test_imported_weights_have_no_epochs(material, tmp_path):
    material = dataclasses.replace(material, metrics=[], records=[])
    written = report.write(material, tmp_path / "report")
    figures = written.to_dict()
    assert (figures["epochs"], figures["top1"], figures["published_top1"]) == (0, None, 75.5)
    assert not (tmp_path / "report" / "training.png").exists()
    text = written.path.read_text()
    assert "the weights were imported. `bnn-tf evaluate` measures them." in text
    assert "| the paper | 75.50 % |  |" in text
    assert "this run" not in text


def test_result_beside_the_papers(material, tmp_path):
    written = report.write(material, tmp_path / "report")
    figures = written.to_dict()
    assert (figures["epochs"], figures["epochs_planned"]) == (5, 6)
    assert figures["top1"] == pytest.approx(70)
    assert (figures["best_top1"], figures["best_epoch"]) == (pytest.approx(80), 2)
    assert figures["difference"] == pytest.approx(-5.5)
    assert figures["layers"]["plain"]["tau"] == 0.99
    assert figures["cost"]["binary_parameters"] == 9 * 5 * 6 + 9 * 6 * 6
    assert json.loads(json.dumps(figures)) == figures
    text = written.path.read_text()
    for line in (
        "# subbit · small · cifar10",
        "| this run, epoch 5 of 6 | 70.00 % | 90.00 % |",
        "| its best epoch on these images: 2 of phase second | 80.00 % |  |",
        "| the paper | 75.50 % |  |",
        "| this run − the paper (points) | -5.50 |  |",
        "The run is not complete: 5 of 6 epochs.",
        "Only 100 images of each split were used.",
        "- `second.epochs: 9 → 4`",
        "- `second.schedule_options.warmup: 1 → 0`",
        "- `method_options.bits: unset → 2`",
        "| packages | larq 0.14.0 |",
    ):
        assert line in text.splitlines()


def test_pictures_are_those_of_the_text(material, tmp_path):
    written = report.write(material, tmp_path)
    named = re.findall(r"!\[.*\]\((.*)\)", written.path.read_text())
    assert named == [path.name for path in written.pictures]
    assert sorted(named) == sorted(path.name for path in tmp_path.glob("*.png"))
    assert named[:4] == ["training.png", "kernels.png", "histograms.png", "tau.png"]
    assert named[4:] == ["codebook-sub_bit.png", "codebook-sub_bit-history.png"]


def test_run_without_diagnostics(material, tmp_path):
    import dataclasses

    written = report.write(dataclasses.replace(material, records=[]), tmp_path)
    names = [path.name for path in written.pictures]
    assert names == ["training.png", "histograms.png", "tau.png", "codebook-sub_bit.png"]


def test_real_network_without_published_result(material, tmp_path):
    import dataclasses

    recipe = plan(published_top1=None)
    real = tf.keras.Sequential([tf.keras.Input((8, 8, 5)), tf.keras.layers.Conv2D(4, 3)])
    config = {**material.config, "recipe": recipe, "limit": None}
    changed = dataclasses.replace(material, config=config, recipe=recipe, records=[], network=real)
    written = report.write(changed, tmp_path)
    assert [path.name for path in written.pictures] == ["training.png"]
    assert "The paper has no result" in written.path.read_text()
    assert written.figures["differences"] == []
    assert written.figures["difference"] is None
