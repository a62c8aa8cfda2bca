import json
import shutil

import pytest
from click.testing import CliRunner

from bnn_tf import cli
from bnn_tf.cli.target import Target


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A run of one epoch, with the files that training leaves."""
    from bnn_tf.training import Run, RunConfig, build_network
    from bnn_tf.training.run import Position
    from zoo import recipes

    recipe = recipes.with_epochs(recipes.find("recu", "cifar_resnet20", "cifar10"), [3])
    config = RunConfig(recipe=recipe, class_names=tuple("0123456789"))
    made = Run.create(config, tmp_path_factory.mktemp("original") / "run")
    network = build_network(recipe, 10)
    made.save_weights(network, Position(0, 1))
    figures = {"accuracy": 0.3, "val_accuracy": 0.4, "val_top5_accuracy": 0.8, "loss": 2.0, "val_loss": 1.9}
    made.write_metrics([{"phase": "train", "epoch": 1, **figures, "learning_rate": 0.02, "seconds": 5.0}])
    return made.path


@pytest.fixture
def run(original, tmp_path):
    """A copy of it, which a test may change."""
    return shutil.copytree(original, tmp_path / "run")


def test_report(run):
    arguments = ["report", str(run), "--json", "--no-images"]
    result = CliRunner().invoke(cli.cli, arguments, catch_exceptions=False)
    written = json.loads(result.output)
    (figures,) = written["runs"]
    assert figures["published_top1"] == 0.875
    assert figures["difference"] == pytest.approx(-0.475)
    assert figures["differences"] == ["train.epochs: 600 → 3"]
    assert written["report"] == str(run / "report.html")
    assert len(figures["layers"]) == 18
    assert all((run / name).is_file() for name in ("report.html", "report.metrics.csv", "report.layers.csv"))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", "run"], 2, "name the page to write with -o"),
        (["run", "-o", "report.md"], 2, "name a file that ends in .html"),
        (["run", "-o", "nowhere/report.html"], 2, "there is no folder nowhere"),
        (["run", "-o", "run"], 2, "run is a folder"),
        (["model.keras"], 1, "model.keras is no run directory"),
        ([], 2, "Missing argument 'RUN…'"),
    ],
)
def test_wrong_usage(run, arguments, code, message, capsys, monkeypatch):
    monkeypatch.chdir(run.parent)
    monkeypatch.setattr(Target, "network", lambda _: pytest.fail("nothing is computed before"))
    (run.parent / "model.keras").write_bytes(b"")
    with pytest.raises(SystemExit) as stopped:
        cli.main(["report", *arguments])
    assert stopped.value.code == code
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("dataset", "variant", "full"),
    [
        ("cifar10", "fast", {"published_top1": 0.875, "epochs": 600}),
        ("cifar10", "default", None),
        ("cifar100", "fast", None),
    ],
)
def test_a_run_of_a_short_recipe_shows_the_papers_full_one(command, run, dataset, variant, full):
    from zoo import recipes

    config = json.loads((run / "config.json").read_text())
    config["recipe"] = recipes.find("recu", "cifar_resnet20", dataset, variant).to_dict()
    (run / "config.json").write_text(json.dumps(config))
    code, out, err = command("report", run, "--json", "--no-images")
    assert (code, err) == (0, "")
    assert json.loads(out)["runs"][0]["full_recipe"] == full


def test_a_run_with_a_variant_and_an_odd_cell_of_its_own(command, run):
    config = json.loads((run / "config.json").read_text())
    config["recipe"]["variant"] = "mine"
    (run / "config.json").write_text(json.dumps(config))
    head, row, *rest = (run / "metrics.csv").read_text().splitlines()
    cells = dict(zip(head.split(","), row.split(","), strict=True)) | {"val_accuracy": "x", "seconds": "-"}
    (run / "metrics.csv").write_text("\n".join([head, ",".join(cells.values()), *rest]) + "\n")
    code, _, err = command("report", run, "--no-images")
    assert (code, err) == (0, "")
    assert "variant: default → mine" in (run / "report.html").read_text()


def test_nothing_to_report(run, capsys, tmp_path):
    (run / "metrics.csv").unlink()
    with pytest.raises(SystemExit) as stopped:
        cli.main(["report", str(run)])
    assert stopped.value.code == 1
    assert "not one epoch is complete" in capsys.readouterr().err


def test_no_run(capsys, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["report", str(tmp_path)])
    assert stopped.value.code == 1
    assert "neither a run directory" in capsys.readouterr().err


def test_the_report_shows_what_the_conversion_said(command, trained):
    assert command("convert", trained, "-o", trained / "small.tflite", "--images", 20)[0] == 0
    assert command("report", trained, "--no-images")[0] == 0
    page = (trained / "report.html").read_text()
    assert "small.tflite" in page
    assert "100.00% of 20 images classified alike" in page


def test_a_converted_file_that_is_gone_is_known_from_its_conversion(command, trained):
    assert command("convert", trained, "-o", trained / "small.tflite", "--images", 20)[0] == 0
    size = (trained / "small.tflite").stat().st_size
    (trained / "small.tflite").unlink()
    assert command("report", trained, "--no-images")[0] == 0
    page = (trained / "report.html").read_text()
    assert f"<code>small.tflite</code>, {size:,} bytes. Operators:" in page
    assert "1 LceBconv2d" in page
    assert "100.00% of 20 images classified alike" in page
    assert "The file is not where it was written any more" in page


RECORD = {
    "sha256": "0", "path": "model.tflite", "size": 1234, "operators": {"LceBconv2d": 3},
    "parity": {"images": 20}, "agreement": "all alike",
}  # fmt: skip


@pytest.mark.parametrize(
    ("file", "record", "shown"),
    [
        (None, None, ["The run was not converted: <code>bnn-tf convert trained</code>"]),
        (None, {"path": 5, "size": "?"}, ["The run was not converted"]),
        (None, [], ["The run was not converted"]),
        (None, RECORD, ["model.tflite</code>, 1,234 bytes", "3 LceBconv2d", "all alike", "not where it was"]),
        (b"no model", RECORD, ["1,234 bytes", "3 LceBconv2d", "all alike", "The file cannot be read"]),
        (b"no model", None, ["8 bytes", "not recorded", "there is no record of its conversion"]),
    ],
)
def test_conversions_of_which_little_is_left(file, record, shown, command, trained, monkeypatch):
    monkeypatch.chdir(trained.parent)
    if file is not None:
        (trained / "model.tflite").write_bytes(file)
    if record is not None:
        (trained / "conversion.json").write_text(json.dumps(record))
    code, _, err = command("report", trained, "--no-images")
    assert code == 0
    assert ("model.tflite" in err) == (file is not None)
    page = (trained / "report.html").read_text()
    assert [words for words in shown if words not in page] == []


def test_tensorboard_has_what_the_method_declares(trained):
    from bnn_tf._tensorflow import tf
    from bnn_tf.methods import METHODS

    assert "dead_share" not in METHODS.get("bireal").diagnostics
    (events,) = (trained / "tensorboard").glob("*/layers/*")
    tags = {
        value.tag.partition("/")[0]
        for event in tf.compat.v1.train.summary_iterator(str(events))
        for value in event.summary.value
    }
    assert tags == {"epoch_flips", "sign_entropy", "pattern_entropy", "standardized_weights"}
