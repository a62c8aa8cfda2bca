"""Sweeps: which configurations, who trains what, and what is left when a process dies."""

import dataclasses
import json
import math
import subprocess
import sys

import pytest

from bnn_tf.errors import UnsafeModelError, UntrustedModuleError, UsageError, UserError
from bnn_tf.training import Position, Run, RunConfig, StoppedError, sweep, train
from bnn_tf.training.sweep import Outcome, Range, Sweep, Task, counts, draw, grid, plan, summarize
from zoo import recipes

AXES = {"rate": Range(1e-4, 1.0, log=True), "epochs": Range(2, 9), "schedule": ["linear", "cosine"]}
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
        rates = sorted(choices["rate"] for choices in drawn)
        assert rates[0] >= 1e-4
        assert rates[-1] <= 1.0
        assert 1e-3 < rates[30] < 1e-1  # drawn uniformly the median would be near 0.5

    def test_all_of_a_finite_space_can_be_drawn_but_no_more(self):
        axes = {"bits": [4, 5, [6]], "epochs": Range(1, 2)}
        everything = grid({"bits": [4, 5, [6]], "epochs": [1, 2]})
        assert sorted(map(str, draw(axes, 6, seed=1))) == sorted(map(str, everything))
        with pytest.raises(UsageError, match="only 6 different"):
            draw(axes, 7, seed=1)

    @pytest.mark.parametrize("bounds", [(1, 1), (2, 1), (math.nan, 1), (0, math.inf)])
    def test_bounds_must_be_ordered_and_finite(self, bounds):
        with pytest.raises(UsageError, match="from a lower to a higher"):
            Range(*bounds)

    def test_a_logarithmic_range_is_positive(self):
        with pytest.raises(UsageError, match=r"0\.\.1:log: .* positive"):
            Range(0, 1, log=True)


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
    """`start()` makes or opens the sweep; `start(limit=7)` asks for another one there."""

    def make(path=tmp_path / "sweep", **asked):
        return Sweep.start(path, {"grid": GRID, **asked}, lambda: plan(grid(GRID), [1, 2], configure))

    return make


def states(sweep):
    return [outcome.state for outcome in sweep.outcomes()]


class TestPlan:
    def test_goes_seed_by_seed(self, start):
        assert [task.name for task in start().tasks] == [
            f"{number:03d}-seed{seed}" for seed in (1, 2) for number in (1, 2, 3, 4)
        ]
        assert start().tasks[2].config.recipe.method.delta == 0.04

    def test_names_the_configuration_that_is_impossible(self, configure):
        with pytest.raises(UsageError, match=r"^momentum=1\.5: optimizer sgd: momentum must be"):
            plan([{"momentum": 0.5}, {"momentum": 1.5}], [1], configure)

    def test_an_impossible_configuration_keeps_what_its_error_advises(self):
        def configure(choices):
            raise UntrustedModuleError("the method 'mine:Damped'", "mine")

        with pytest.raises(UntrustedModuleError, match=r"^lr=1: the method .* not installed; .* allows it"):
            plan([{"lr": 1}], [1], configure)

    def test_finds_configurations_that_are_the_same(self, configure):
        axes = {"momentum": [0.5, 0.9], "train.momentum": [0.1]}
        twice = r"momentum=0\.5 train\.momentum=0\.1 is the same as momentum=0\.9 train\.momentum=0\.1"
        with pytest.raises(UsageError, match=twice):
            plan(grid(axes), [1], configure)


class TestDirectory:
    def test_survives_being_opened_again(self, start):
        first, again = start(), start()
        assert again.tasks == first.tasks
        assert states(again) == ["waiting"] * 8

    def test_another_sweep_there_is_refused(self, start):
        start(seeds=[1, 2])
        with pytest.raises(UsageError, match=r"holds another sweep: seeds is \[1, 2\] there and \[1\] here"):
            start(seeds=[1])
        with pytest.raises(UsageError, match=r"seeds is \[1, 2\] there and null here"):
            start()

    def test_a_half_made_one_is_taken(self, start, tmp_path):
        (tmp_path / "sweep" / "runs").mkdir(parents=True)
        (tmp_path / "sweep" / "sweep.lock").touch()
        assert states(start()) == ["waiting"] * 8

    def test_other_folders_and_files_are_refused(self, start, tmp_path):
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "thesis.tex").touch()
        with pytest.raises(UserError, match="full is not empty and holds no sweep"):
            start(tmp_path / "full")
        with pytest.raises(UserError, match="there is no sweep in .*nowhere"):
            Sweep.open(tmp_path / "nowhere")
        (tmp_path / "file").touch()
        with pytest.raises(UserError, match="cannot make the folder .*file"):
            start(tmp_path / "file")

    @pytest.mark.parametrize("content", ["", "[]", "{}", '{"tasks": [1], "definition": {}}', "\0"])
    def test_a_damaged_file_is_named(self, content, start):
        (start().path / "sweep.json").write_text(content)
        with pytest.raises(UserError, match=r"sweep\.json cannot be read: "):
            start()


@pytest.mark.usefixtures("quick_fit")
class TestWork:
    def test_a_damaged_run_is_one_training(self, start, session, monkeypatch):
        begun = start()
        path = begun.run_path(begun.tasks[0])
        path.mkdir(parents=True)
        (path / "config.json").write_text('{"format": 2, "rec')
        outcome, *others = begun.outcomes()
        assert (outcome.state, {other.state for other in others}) == ("failed", {"waiting"})
        assert outcome.error.startswith(f"{path / 'config.json'} cannot be read: ")
        assert outcome.error.endswith(f"; remove {path} to train it again")
        monkeypatch.setattr(begun, "_train", lambda *_: pytest.fail("it trains"), raising=True)
        begun.tasks = begun.tasks[:1]
        assert list(begun.work(session, {})) == []

    @pytest.mark.slow
    def test_a_process_works_off_all_tasks(self, start, session):
        outcomes = list(start().work(session, {}))
        assert [outcome.task for outcome in outcomes] == start().tasks
        assert all(outcome.result == {"top1": 0.4} for outcome in outcomes)
        assert states(start()) == ["complete"] * 8
        assert list(start().work(session, {})) == []

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
        outcomes = list(start().work(session, {}))
        assert [outcome.state for outcome in outcomes] == ["failed"] * 3 + ["complete"] * 5
        assert [outcome.error for outcome in outcomes[:3]] == [
            "the loss is not finite any more",
            "ZeroDivisionError: division",
            "teacher.keras holds code",
        ]
        assert [outcome.state for outcome in start().work(session, {})] == ["complete"] * 3

    @pytest.mark.slow
    def test_a_stopped_task_goes_on_and_comes_last(self, start, session, send):
        import signal

        send("train", 1, 1, signal.SIGTERM)  # of a task with two epochs
        with pytest.raises(StoppedError):
            list(start().work(session, {}))
        assert states(start()) == ["complete", *["waiting"] * 7]
        assert Run.open(start().run_path(start().tasks[1])).position() == Position(0, 1, 2)
        names = [outcome.task.name for outcome in start().work(session, {})]
        assert names[-1] == "002-seed1"
        assert states(start()) == ["complete"] * 8

    @pytest.mark.slow
    def test_what_another_process_trains_is_left_to_it(self, start, session):
        sweep = start()
        run = Run.create(sweep.tasks[0].config, sweep.run_path(sweep.tasks[0]))
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLD, run.path / "config.json"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        holder.stdout.readline()
        assert states(sweep)[0] == "running"
        assert [outcome.task.name for outcome in sweep.work(session, {})] == [t.name for t in sweep.tasks[1:]]
        holder.kill()
        holder.wait()
        assert states(sweep)[0] == "waiting"  # the system frees the lock of a killed process at once

    def test_paths_may_be_different_here(self, start, session):
        sweep = start()
        next(sweep.work(session, {"workers": 3}))
        assert Run.open(sweep.run_path(sweep.tasks[0])).config.workers == 3


HOLD = """
import fcntl, sys
file = open(sys.argv[1], "r+")
fcntl.flock(file, fcntl.LOCK_EX)
print(flush=True)
sys.stdin.read()
"""


class TestSummary:
    @pytest.fixture
    def outcome(self, configure, tmp_path):
        def make(number, seed, top1=None, state="complete"):
            config = dataclasses.replace(configure({}), seed=seed)
            result = None if top1 is None else {"top1": top1}
            return Outcome(Task(number, {"n": number}, config), tmp_path, state, result)

        return make

    def test_mean_and_sample_deviation(self, outcome):
        (summary,) = summarize([outcome(1, seed, top1) for seed, top1 in ((1, 0.5), (2, 0.7))])
        assert summary.mean == pytest.approx(0.6)
        assert summary.deviation == pytest.approx(0.02**0.5)
        values = json.loads(json.dumps(summary.to_dict()))
        assert (values["choices"], values["n"]) == ({"n": 1}, 2)

    def test_best_first_and_without_results_last(self, outcome):
        outcomes = [outcome(1, 1, state="failed"), outcome(2, 1, 0.5), outcome(3, 1, 0.7)]
        assert [summary.choices["n"] for summary in summarize(outcomes)] == [3, 2, 1]
        assert summarize(outcomes)[0].deviation is None
        assert counts(outcomes) == {"complete": 2, "running": 0, "waiting": 0, "failed": 1}
