"""Sweeps: which configurations, who trains what, and what is left when a process dies."""

import contextlib
import dataclasses
import json
import subprocess
import sys

import pytest

from bnn_tf.errors import UnsafeModelError, UntrustedModuleError, UsageError, UserError
from bnn_tf.training import Position, Run, RunConfig, StoppedError, sweep, train
from bnn_tf.training.sweep import Task, counts, draw, grid, load, plan, summaries, work
from zoo import recipes

AXES = {"rate": [0.001, 0.01, 0.1, 1.0], "epochs": range(2, 10), "schedule": ["linear", "cosine"]}
GRID = {"method.delta": [0.02, 0.04], "epochs": [1, 2]}


class TestSpace:
    def test_a_grid_combines_all_values(self):
        assert grid({"a": [1, 2], "b": ["x", None]}) == [
            {"a": 1, "b": "x"}, {"a": 1, "b": None}, {"a": 2, "b": "x"}, {"a": 2, "b": None},
        ]  # fmt: skip
        assert grid({}) == [{}]

    def test_draws_depend_on_the_seed_alone(self):
        assert draw(AXES, 5, seed=3) == draw(AXES, 5, seed=3)
        assert draw(AXES, 5, seed=3) != draw(AXES, 5, seed=4)

    def test_draws_come_from_the_axes(self):
        drawn = draw(AXES, 60, seed=0)
        assert len({tuple(choices.items()) for choices in drawn}) == 60
        assert {choices["schedule"] for choices in drawn} == {"linear", "cosine"}
        assert {choices["epochs"] for choices in drawn} == set(range(2, 10))
        assert {choices["rate"] for choices in drawn} == set(AXES["rate"])

    def test_all_of_a_finite_space_can_be_drawn_but_no_more(self):
        axes = {"bits": [4, 5, [6]], "epochs": range(1, 3)}
        everything = grid(axes)
        assert sorted(map(str, draw(axes, 6, seed=1))) == sorted(map(str, everything))
        with pytest.raises(UsageError, match="only 6 different"):
            draw(axes, 7, seed=1)


@pytest.fixture
def configure(recipe):
    """The configuration of choices, for the tiny network."""

    def make(choices):
        chosen = recipe("ovsw")
        for key, value in choices.items():
            chosen = recipes.override(chosen, key, value)
        return RunConfig(chosen, limit=48)

    return make


@pytest.fixture
def start(configure, tmp_path):
    """`start()` makes or opens the sweep; `start(seeds=[1])` asks for another one there."""

    def make(path=tmp_path / "sweep", seeds=(1, 2)):
        return sweep.start(plan(path, grid(GRID), seeds, configure))

    return make


def states(tasks):
    return [task.outcome()["state"] for task in tasks]


class TestPlan:
    def test_goes_seed_by_seed(self, start):
        assert [task.path.name for task in start()] == [
            f"{number:03d}-seed{seed}" for seed in (1, 2) for number in (1, 2, 3, 4)
        ]
        assert start()[2].config.recipe.method.delta == 0.04

    def test_names_the_configuration_that_is_impossible(self, configure, tmp_path):
        with pytest.raises(UsageError, match=r"^momentum=1\.5: optimizer sgd: momentum must be"):
            plan(tmp_path, [{"momentum": 0.5}, {"momentum": 1.5}], [1], configure)

    def test_an_impossible_configuration_keeps_what_its_error_advises(self, tmp_path):
        def configure(choices):
            raise UntrustedModuleError("the method 'mine:Damped'", "mine")

        with pytest.raises(UntrustedModuleError, match=r"^lr=1: the method .* not installed; .* allows it"):
            plan(tmp_path, [{"lr": 1}], [1], configure)

    def test_finds_configurations_that_are_the_same(self, configure, tmp_path):
        axes = {"momentum": [0.5, 0.9], "train.momentum": [0.1]}
        twice = r"momentum=0\.5 train\.momentum=0\.1 is the same as momentum=0\.9 train\.momentum=0\.1"
        with pytest.raises(UsageError, match=twice):
            plan(tmp_path, grid(axes), [1], configure)


class TestDirectory:
    def test_survives_being_opened_again(self, start):
        first, again = start(), start()
        assert again == first
        assert states(again) == ["waiting"] * 8

    def test_another_sweep_there_is_refused(self, start):
        start()
        known = r"method\.delta=0\.02 epochs=1 seed 1, .* and 5 more"
        with pytest.raises(UsageError, match=rf"holds another sweep \({known}\); resume that one"):
            start(seeds=[1])

    def test_a_half_made_one_is_taken(self, start, tmp_path):
        (tmp_path / "sweep" / "runs").mkdir(parents=True)
        (tmp_path / "sweep" / ".sweep.json.123.part").touch()
        assert states(start()) == ["waiting"] * 8

    def test_other_folders_and_files_are_refused(self, start, tmp_path):
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "thesis.tex").touch()
        with pytest.raises(UserError, match="full is not empty and holds no sweep"):
            start(tmp_path / "full")
        assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.tex"]
        with pytest.raises(UserError, match="there is no sweep in .*nowhere"):
            load(tmp_path / "nowhere")
        (tmp_path / "file").touch()
        with pytest.raises(UserError, match="cannot make the folder .*file"):
            start(tmp_path / "file")

    @pytest.mark.parametrize("content", ["", "[]", "{}", '{"tasks": [1]}', "\0"])
    def test_a_damaged_file_is_named(self, content, start, tmp_path):
        start()
        (tmp_path / "sweep" / "sweep.json").write_text(content)
        with pytest.raises(UserError, match=r"sweep\.json cannot be read: "):
            start()

    def test_a_file_without_trainings_is_named(self, tmp_path):
        (tmp_path / "sweep.json").write_text('{"tasks": []}')
        with pytest.raises(UserError, match=r"sweep\.json names no trainings"):
            load(tmp_path)


@pytest.mark.usefixtures("quick_fit")
class TestWork:
    def test_a_damaged_run_is_one_training(self, start, session, monkeypatch):
        first, *others = start()
        first.path.mkdir(parents=True)
        (first.path / "config.json").write_text('{"format": 2, "rec')
        assert states([first, *others]) == ["failed", *["waiting"] * 7]
        error = first.outcome()["error"]
        assert error.startswith(f"{first.path / 'config.json'} cannot be read: ")
        assert error.endswith(f"; remove {first.path} to train it again")
        monkeypatch.setattr(sweep.trainer, "train", lambda *_: pytest.fail("it trains"), raising=True)
        assert list(work([first], session, {})) == []

    @pytest.mark.slow
    def test_a_process_works_off_all_tasks(self, start, session):
        done = list(work(start(), session, {}))
        assert done == start()
        assert all(task.outcome()["top1"] == 0.4 for task in done)
        assert states(start()) == ["complete"] * 8
        assert list(work(start(), session, {})) == []

    @pytest.mark.slow
    def test_a_failure_does_not_end_the_work_and_is_retried(self, start, session, monkeypatch):
        errors = [
            UserError("the loss is not finite any more"),
            ZeroDivisionError("division"),
            UnsafeModelError("teacher.keras holds code"),
        ]

        def fail(*args):
            if errors:
                raise errors.pop(0)
            return train(*args)

        monkeypatch.setattr(sweep.trainer, "train", fail)
        done = list(work(start(), session, {}))
        assert states(done) == ["failed"] * 3 + ["complete"] * 5
        assert [task.outcome()["error"] for task in done[:3]] == [
            "the loss is not finite any more",
            "ZeroDivisionError: division",
            "teacher.keras holds code",
        ]
        assert states(work(start(), session, {})) == ["complete"] * 3

    @pytest.mark.slow
    def test_a_stopped_task_goes_on_and_comes_last(self, start, session, send):
        import signal

        send("train", 1, 1, signal.SIGTERM)  # of a task with two epochs
        with pytest.raises(StoppedError):
            list(work(start(), session, {}))
        assert states(start()) == ["complete", *["waiting"] * 7]
        assert Run.open(start()[1].path).position() == Position(0, 1, 2)
        assert list(work(start(), session, {}))[-1] == start()[1]
        assert states(start()) == ["complete"] * 8

    @pytest.mark.slow
    def test_what_another_process_trains_is_left_to_it(self, start, session):
        tasks = start()
        run = Run.create(tasks[0].config, tasks[0].path)
        with holder(run.path / "config.json"):
            assert states(tasks)[0] == "running"
            assert list(work(tasks, session, {})) == tasks[1:]
        assert states(tasks)[0] == "waiting"  # the system frees the lock of a killed process at once

    def test_what_another_process_begins_is_no_failure(self, start, session, tmp_path):
        tasks = start()
        with holder(tmp_path / "sweep" / "sweep.json"):
            assert list(work(tasks[:1], session, {})) == []
        assert states(tasks) == ["waiting"] * 8

    def test_paths_may_be_different_here(self, start, session):
        task = next(work(start(), session, {"workers": 3}))
        assert Run.open(task.path).config.workers == 3


@contextlib.contextmanager
def holder(path):
    """Another process holds the lock of a file, and is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    process.stdout.readline()
    try:
        yield
    finally:
        process.kill()
        process.wait()


HOLD = """
import fcntl, sys
file = open(sys.argv[1], "r+")
fcntl.flock(file, fcntl.LOCK_EX)
print(flush=True)
sys.stdin.read()
"""


class _Ended(Task):
    """A task that has ended as its choices say."""

    def outcome(self):
        return self.choices["outcome"]


class TestSummary:
    @pytest.fixture
    def ended(self, configure, tmp_path):
        def make(number, seed, **outcome):
            config = dataclasses.replace(configure({}), seed=seed)
            return _Ended(tmp_path, number, {"n": number, "outcome": outcome}, config)

        return make

    def test_mean_and_sample_deviation(self, ended):
        tasks = [ended(1, seed, state="complete", top1=top1) for seed, top1 in ((1, 0.5), (2, 0.7))]
        (summary,) = json.loads(json.dumps(summaries(tasks)))
        assert summary["mean"] == pytest.approx(0.6)
        assert summary["standard_deviation"] == pytest.approx(0.02**0.5)
        assert (summary["choices"]["n"], summary["n"]) == (1, 2)
        assert [run["top1"] for run in summary["runs"]] == [0.5, 0.7]

    def test_best_first_and_without_results_last(self, ended):
        tasks = [
            ended(1, 1, state="failed"),
            ended(2, 1, state="complete", top1=0.5),
            ended(3, 1, state="complete", top1=0.7),
        ]
        assert [summary["choices"]["n"] for summary in summaries(tasks)] == [3, 2, 1]
        assert summaries(tasks)[0]["standard_deviation"] is None
        assert counts(tasks) == {"complete": 2, "running": 0, "waiting": 0, "failed": 1}
