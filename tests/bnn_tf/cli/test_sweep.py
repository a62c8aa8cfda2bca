"""`bnn-tf sweep`."""

import json
import types

import pytest

from bnn_tf import cli
from bnn_tf.errors import UserError
from bnn_tf.training.run import Run
from bnn_tf.training.sweep import load

GRID = ("--grid", "method.delta=0.02,0.04", "--grid", "epochs=2,3", "--seeds", "1,2")


@pytest.fixture
def run(capsys):
    """`run("--seeds", "1")`: exit code, standard output, standard error."""

    def call(*arguments):
        with pytest.raises(SystemExit) as left:
            cli.main(["sweep", *map(str, arguments)])
        return left.value.code, *capsys.readouterr()

    return call


@pytest.fixture
def here(tmp_path):
    """Options for the tiny network in a sweep directory."""
    method = ("--method", "ovsw", "--model", "tiny", "--dataset", "digits", "--limit", "40")
    return (*method, "--set", "image_size=[8,8]", "--sweep-dir", tmp_path / "sweep")


@pytest.fixture
def trained(monkeypatch, tiny):
    """Replaces training; accuracy is 0.1 per epoch, and 0.02 more for seed 2."""
    from bnn_tf import training
    from bnn_tf.training import sweep as sweeps

    calls, errors = [], {}

    def stub(run, session, prepared=None):
        calls.append(run)
        if run.path.name in errors:
            raise errors.pop(run.path.name)
        epochs = run.config.recipe.epochs
        top1 = epochs / 10 + 0.02 * (run.config.seed == 2)
        row = {
            "phase": "train",
            "epoch": epochs,
            "val_accuracy": top1,
            "val_top5_accuracy": 1.0,
            "val_loss": 1,
        }
        folder = run.checkpoints.phase_folder(0) / f"epoch-{epochs}"
        folder.mkdir(parents=True)
        (folder / "state.json").touch()
        run.write_metrics([row])

    monkeypatch.setattr(sweeps.trainer, "train", stub)
    monkeypatch.setattr(
        sweeps.trainer, "prepare", lambda config, session: types.SimpleNamespace(config=config)
    )
    return calls, errors, training.StoppedError


def test_a_grid_is_trained_and_tabulated(run, here, trained, tmp_path):
    code, out, err = run(*here, *GRID)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[:2] == [f"Sweep directory: {tmp_path / 'sweep'}", "8 trainings, 0 of them complete"]
    assert lines[2] == "1/8  method.delta=0.02 epochs=2 seed 1  test accuracy 20.00%"
    assert lines[9] == "8/8  method.delta=0.04 epochs=3 seed 2  test accuracy 32.00%"
    assert [line.split() for line in lines[10:]] == [
        ["method.delta", "epochs", "test", "accuracy", "n"],
        ["0.02", "3", "31.00", "±", "1.41", "%", "2"],
        ["0.04", "3", "31.00", "±", "1.41", "%", "2"],
        ["0.02", "2", "21.00", "±", "1.41", "%", "2"],
        ["0.04", "2", "21.00", "±", "1.41", "%", "2"],
    ]
    assert {call.config.recipe.method.delta for call in trained[0]} == {0.02, 0.04}
    assert run("--show", tmp_path / "sweep")[1].splitlines() == lines[10:]
    assert len(trained[0]) == 8


def test_an_interrupted_sweep_continues(run, here, trained, tmp_path):
    trained[1]["002-seed1"] = trained[2]("stopped", 15)
    code, _, err = run(*here, *GRID)
    assert code == 143
    assert f"stopped. Continue: bnn-tf sweep --resume {tmp_path / 'sweep'}" in err
    shown = run("--show", tmp_path / "sweep")[1]
    assert "not complete: 7 waiting of 8" in shown
    trained[1]["003-seed1"] = trained[2]("stopped", 2)
    assert run(*here, *GRID)[0] == 130
    code, out, _ = run("--resume", tmp_path / "sweep", "--workers", "3")
    assert code == 0
    assert "8 trainings, 1 of them complete" in out
    assert trained[0][-1].config.workers == 3
    assert [task.outcome()["state"] for task in load(tmp_path / "sweep")] == ["complete"] * 8


@pytest.mark.slow
def test_failures_are_reported_and_retried(run, here, trained, tmp_path):
    trained[1]["001-seed2"] = UserError("the loss is not finite any more")
    code, out, err = run(*here, *GRID)
    assert code == 1
    assert "failed: the loss is not finite any more" in out
    assert "1 trainings failed, the first in " in err
    assert "not complete: 1 failed of 8" in out
    code, out, err = run("--resume", tmp_path / "sweep")
    assert (code, err) == (0, "")
    assert "8/8" in out


def test_json_has_every_figure(run, here, trained, tmp_path):
    code, out, err = run(*here, "--seeds", "1,2", "--epochs", "2", "--json")
    assert code == 0
    printed = json.loads(out)
    (configuration,) = printed.pop("configurations")
    assert printed == {
        "sweep_dir": str(tmp_path / "sweep"),
        "complete": 2,
        "running": 0,
        "waiting": 0,
        "failed": 0,
    }
    assert configuration["choices"] == {}
    assert configuration["mean"] == pytest.approx(0.21)
    assert configuration["standard_deviation"] == pytest.approx(0.02 / 2**0.5)
    assert [entry["seed"] for entry in configuration["runs"]] == [1, 2]
    assert "2/2  seed 2" in err


def test_a_training_whose_figures_are_gone_does_not_end_the_sweep(run, here, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(Run, "metrics", lambda self: [])
    code, out, err = run(*here)
    assert (code, err) == (0, "")
    assert "0/1  seed 1  waiting" in out
    assert "not complete: 1 waiting of 1" in out


@pytest.mark.slow
def test_random_search_draws_reproducibly(run, here, trained, tmp_path):
    search = ("--random", "3", "--search", "learning_rate=1e-3..1:log", "--search", "epochs=2..9")
    assert run(*here, *search)[0] == 0
    assert run(*here, *search)[0] == 0
    assert len(trained[0]) == 3
    phases = [call.config.recipe.phases[0] for call in trained[0]]
    assert all(1e-3 <= phase.optimizer.learning_rate <= 1 and 2 <= phase.epochs <= 9 for phase in phases)
    code, _, err = run(*here, *search, "--search-seed", "2")
    assert code == 2
    assert "holds another sweep (learning_rate=" in err


def test_a_changed_grid_is_refused(run, here, trained):
    assert run(*here, "--grid", "epochs=2,3")[0] == 0
    code, _, err = run(*here, "--grid", "epochs=2,4")
    assert code == 2
    assert "holds another sweep (epochs=2 seed 1, epochs=3 seed 1); resume that one" in err
    assert run(*here, "--grid", "epochs=2,3", "--data-dir", ".")[0] == 0


@pytest.mark.slow
def test_methods_and_phases_can_be_swept(run, tmp_path, trained):
    axes = ("--grid", "method=bireal,ovsw", "--grid", "epochs=[2],[3]", "--grid", "weight_decay=0.5")
    options = ("--model", "tiny", "--dataset", "digits", "--limit", "40", "--set", "image_size=[8,8]")
    assert run(*options, *axes, "--sweep-dir", tmp_path / "sweep")[0] == 0
    settings = [(call.config.recipe.method.name, call.config.recipe.epochs) for call in trained[0]]
    assert settings == [("bireal", 2), ("bireal", 3), ("ovsw", 2), ("ovsw", 3)]
    assert trained[0][2].config.recipe.phases[0].optimizer.weight_decay == 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--grid", "learning-rate=0.1,0.2"), "did you mean 'learning_rate'?"),
        (("--grid", "method.delta=0.1", "--grid", "method.delta=0.2"), "names method.delta twice"),
        (("--grid", "epochs=2,2"), "a configuration twice: epochs=2 is the same as epochs=2"),
        (("--grid", "epochs=2,,3"), "epochs=: phase train: epochs must be a whole number"),
        (("--grid", "epochs=1..3"), "--grid takes values, not a range (epochs=1..3)"),
        (("--grid", "epochs"), "--grid takes KEY=A,B,…, not 'epochs'"),
        (("--grid", "seed=1,2"), "seeds are swept by --seeds 1,2"),
        (("--grid", "epochs=0,1"), "epochs=0: phase train: epochs must be"),
        (("--grid", "epochs=[1,x]"), "epochs"),
        (
            ("--grid", "model=tiny,tinny"),
            "model=tinny: there is no model called 'tinny'; did you mean 'tiny'?",
        ),
        (("--seeds", "1,1"), "names a seed twice"),
        (("--seeds", "one"), "--seeds takes whole numbers"),
        (("--random", "2"), "--random draws from --search"),
        (("--search", "epochs=1..3"), "--search needs --random N"),
        (("--random", "2", "--search", "epochs=few..3"), "with two numbers"),
        (("--random", "2", "--search", "epochs=3..1"), "from a lower to a higher"),
        (("--random", "2", "--search", "epochs=1..1"), "from a lower to a higher"),
        (("--random", "2", "--search", "momentum=0..Infinity"), "from a lower to a higher"),
        (("--random", "2", "--search", "momentum=NaN..1"), "from a lower to a higher"),
        (
            ("--random", "2", "--search", "momentum=0..1:log"),
            ":log takes positive ones, not 'momentum=0..1:log'",
        ),
        (
            ("--random", "2", "--search", "learning_rate=-2..-1"),
            "learning_rate must be a number above 0, not -",
        ),
        (("--random", "4", "--search", "epochs=1..3"), "only 3 different"),
        (("--resume", "there"), "leave out "),
        (("--show", "there"), "leave out "),
    ],
)
def test_wrong_usage_is_said_and_leaves_nothing(run, here, tiny, tmp_path, options, message):
    code, out, err = run(*here, *options)
    assert message in err
    assert code == 2
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_directory_and_a_method_are_needed(run, tmp_path):
    assert "name a --sweep-dir" in run("--method", "ovsw")[2]
    assert "name a --method" in run("--sweep-dir", tmp_path / "sweep")[2]


@pytest.mark.parametrize("option", ["--show", "--resume"])
def test_a_folder_without_sweep(run, tmp_path, option):
    code, _, err = run(option, tmp_path)
    assert code == 1
    assert "there is no sweep in" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        ("learning_rate=1,2.5,9e-4", [1, 2.5, 9e-4]),
        ("schedule=cosine, linear", ["cosine", "linear"]),
        ("decay_only=none,kernels", [None, "kernels"]),
        ("image_size=[8,8],[8,16]", [[8, 8], [8, 16]]),
        ("nesterov=true,false", [True, False]),
        ("teacher=a=b", ["a=b"]),
        ("teacher=../a,../b", ["../a", "../b"]),
    ],
)
def test_values(run, here, trained, tmp_path, axis, values):
    assert run(*here, "--grid", axis)[0] == 0
    key = axis.partition("=")[0]
    assert [task.choices[key] for task in load(tmp_path / "sweep")] == values


def drawn(run, here, tmp_path, axis, count):
    """The sorted values that a sweep has drawn."""
    code, _, err = run(*here, "--random", count, "--search", axis)
    assert (code, err) == (0, "")
    return sorted(task.choices[axis.partition("=")[0]] for task in load(tmp_path / "sweep"))


def test_whole_numbers_are_drawn_from_whole_bounds(run, here, trained, tmp_path):
    assert drawn(run, here, tmp_path, "epochs=1..3", 3) == [1, 2, 3]


def test_numbers_are_drawn_with_four_digits(run, here, trained, tmp_path):
    values = drawn(run, here, tmp_path, "momentum=.1...5", 12)
    assert 0.1 <= values[0] < 0.2 < 0.4 < values[-1] <= 0.5
    assert all(float(f"{value:.4g}") == value for value in values)


def test_rounding_leaves_numbers_in_their_range(run, here, trained, tmp_path):
    assert drawn(run, here, tmp_path, "momentum=.99987...99999", 2) == [0.9999, 0.99999]


def test_logarithms_are_drawn_evenly(run, here, trained, tmp_path):
    values = drawn(run, here, tmp_path, "learning_rate=1e-4..1:log", 12)
    assert 1e-4 <= values[0] < 1e-3
    assert 1e-3 < values[6] < 1e-1  # drawn evenly themselves the median would be near 0.5


def test_a_list_can_be_drawn_from(run, here, trained, tmp_path):
    assert drawn(run, here, tmp_path, "epochs=4,5", 2) == [4, 5]
