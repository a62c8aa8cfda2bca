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
    assert lines["part"].endswith("stopped after epoch 1")
    assert "1/3" in lines["part"]
    assert lines["new"].endswith("not started")
    assert "damaged" in lines["broken"]


def test_only_runs_of_a_method_or_network(command, folder):
    for options, count in (
        ((), 4),
        (("--method", "recu"), 3),
        (("--method", "ReCU", "--model", "vgg_small"), 0),
    ):
        assert len(json.loads(command("runs", *options, "--json")[1])) == count
    out = command("runs", "--method", "ovsw")[1]
    assert out == "runs holds 4 runs, but none with this method and network\n"
    code, _, err = command("runs", "--method", "recuu")
    assert (code, "no method called 'recuu'; did you mean 'recu'?" in err) == (2, True)


def test_a_run_that_is_trained_now(command, folder):
    with Run.open("runs/part").claimed():
        rows = json.loads(command("runs", "runs", "--json")[1])
    assert {row["run"].split("/")[-1]: row["state"] for row in rows}["part"] == "in training"


def checkpointed(path, phase, name):
    """A run with the checkpoint of a stop."""
    run = Run.open(path)
    saved = run.checkpoints.phase_folder(phase) / name
    saved.mkdir(parents=True)
    (saved / "state.json").touch()


def test_a_run_that_was_stopped_in_its_first_epoch(command, folder):
    """It has no row of metrics.csv yet, but a checkpoint to go on from."""
    checkpointed("runs/new", 0, "epoch-0-step-18")
    lines = {line.split()[0]: line for line in command("runs")[1].splitlines()}
    assert lines["new"].endswith("stopped in epoch 1")
    assert "0/3" in lines["new"]
    rows = {row["run"]: row for row in json.loads(command("runs", "--json")[1])}
    assert (rows["runs/new"]["state"], rows["runs/new"]["where"]) == ("stopped", "in epoch 1")


def test_a_stop_in_a_later_phase_names_it(command, folder):
    recipe = recipes.with_epochs(recipes.find("subbit", "cifar_resnet20", "cifar10"), [3, 3])
    Run.create(RunConfig(recipe=recipe, class_names=("a", "b")), "runs/phases")
    checkpointed("runs/phases", 1, "epoch-1-step-5")
    lines = {line.split()[0]: line for line in command("runs")[1].splitlines()}
    assert lines["phases"].endswith(f"stopped in epoch 2 of phase {recipe.phases[1].name}")


def test_without_the_folder_of_runs_it_says_where_they_are(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = command("runs")
    assert code == 1
    assert "there is no folder runs; bnn-tf train writes to runs/ in the working directory" in err
    assert "--run-dir" in err
    assert "bnn-tf runs DIR" in err


def test_best_first(command, folder):
    rows = json.loads(command("runs", "--sort", "best", "--json")[1])
    assert [row["best"] for row in rows] == [0.75, 0.6, None, None]


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
    assert printed["runs"][0]["curve"] == [0.5, 0.75, 0.7]
    assert printed["settings"] == {}


ODD = "phase,epoch,val_accuracy\ntrain,1,0.5\ntrain,2,x\ntrain,3,nan\ntrain,y,0.9\ntrain,3,0.25\n"


def test_an_odd_cell_is_an_empty_one(command, folder):
    (folder / "runs" / "part" / "metrics.csv").write_text(ODD)
    code, out, err = command("runs", "--json")
    assert (code, err) == (0, "")
    part = {row["run"]: row for row in json.loads(out)}["runs/part"]
    assert (part["epochs"], part["last"], part["best"]) == (4, 0.25, 0.5)
    code, out, _ = command("compare", "runs/done", "runs/part", "--json")
    assert code == 0
    assert json.loads(out)["runs"][1]["curve"] == [0.5, None, None, 0.25]


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
