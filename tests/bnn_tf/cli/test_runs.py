"""`bnn-tf runs` and `bnn-tf compare` on the files of runs; nothing is trained."""

import json

import pytest

from bnn_tf.cli.compare import spark
from bnn_tf.training import Run, RunConfig
from zoo import recipes


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Four runs: complete, stopped, not started, damaged."""
    monkeypatch.chdir(tmp_path)
    for name, accuracies, seed in (("done", (0.5, 0.75, 0.7), 1), ("part", (0.6,), 2), ("new", (), 1)):
        recipe = recipes.with_epochs(recipes.find("recu", "cifar_resnet20", "cifar10"), [3])
        run = Run.create(RunConfig(recipe=recipe, seed=seed, class_names=("a", "b")), f"runs/{name}")
        rows = [
            {"phase": "train", "epoch": epoch, "val_accuracy": accuracy}
            for epoch, accuracy in enumerate(accuracies, 1)
        ]
        run.write_metrics(rows)
    broken = tmp_path / "runs" / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{")
    return tmp_path


def test_runs(command, folder):
    code, out, err = command("runs", "--sort", "name")
    assert (code, err) == (0, "")
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert lines["done"].split()[1:] == (
        "recu cifar_resnet20 cifar10 3/3 70.00 % 75.00 % 87.5 % complete".replace("87.5", "87.50").split()
    )
    assert lines["part"].endswith("stopped")
    assert "1/3" in lines["part"]
    assert lines["new"].endswith("not started")
    assert "damaged" in lines["broken"]


def test_a_run_that_is_trained_now(command, folder):
    with Run.open("runs/part").claimed():
        rows = json.loads(command("runs", "runs", "--json")[1])
    assert {row["run"].split("/")[-1]: row["state"] for row in rows}["part"] == "in training"


def test_best_first(command, folder):
    rows = json.loads(command("runs", "--sort", "best", "--json")[1])
    assert [row["best"] for row in rows] == [75, 60, None, None]


def test_no_runs(command, tmp_path):
    code, out, _ = command("runs", tmp_path)
    assert (code, out) == (0, f"{tmp_path} holds no runs; `bnn-tf train` makes one\n")


def test_compare(command, folder):
    code, out, err = command("compare", "runs/done", "runs/part")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[1].split()[:2] == ["done", "3/3"]
    assert lines[1].endswith("▁█▇")
    assert lines[-1].split() == ["seed", "1", "2"]


def test_compare_as_json(command, folder):
    printed = json.loads(command("compare", "runs/done", "runs/new", "--json")[1])
    assert printed["runs"][0]["curve"] == [50, 75, 70]
    assert printed["settings"] == {}


def test_a_damaged_run_is_not_compared(command, folder):
    code, _, err = command("compare", "runs/done", "runs/broken")
    assert code == 1
    assert "broken" in err


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], ""),
        ([50], "▅"),
        ([0, 100], "▁█"),
        ([None, 0, 50, 100], "▁▅█"),
        ([0] * 32 + [100] * 32, "▁" * 16 + "█" * 16),
    ],
)
def test_spark(values, expected):
    assert spark(values, 0, 100) == expected
