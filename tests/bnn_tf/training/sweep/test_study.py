"""The bookkeeping of sweeps: nothing is lost, nothing is done twice, whoever dies when."""

import contextlib
import sqlite3

import optuna
import pytest

from bnn_tf.errors import UsageError, UserError
from bnn_tf.training import Run
from bnn_tf.training.sweep import Sweep

RESULT = {"top1": 0.5, "top5": 1.0}


def states(sweep):
    return [outcome.state for outcome in sweep.outcomes()]


def test_tasks_come_in_order_and_once(start, tasks):
    sweep, other = start(), start()
    claims = [one.claim() for _ in range(4) for one in (sweep, other)]
    assert [claim.task for claim in claims] == tasks
    assert sweep.claim() is None
    assert other.claim() is None
    assert states(other) == ["running"] * 8


def test_results_are_kept(start):
    sweep = start()
    outcome = sweep.finish(sweep.claim(), RESULT)
    assert outcome == start().outcomes()[0]
    assert (outcome.state, outcome.result) == ("complete", RESULT)
    study = start().study
    assert study.best_value == 0.5
    assert study.best_params == {"method.delta": 0.02, "epochs": 2}


def test_a_dead_process_leaves_its_task_to_others_and_a_live_one_keeps_it(start, tasks):
    sweep = start()
    dead, live = sweep.claim(), sweep.claim()
    dead.lock.close()
    assert states(start())[:3] == ["waiting", "running", "waiting"]
    other = start()
    taken = [other.claim() for _ in range(7)]
    assert other.claim() is None
    assert [claim.task for claim in taken] == [*tasks[2:], dead.task]
    assert live.task == tasks[1]
    assert len(sweep.study.trials) == 8


def test_kill_9_is_survived(start, worker, tasks):
    start()
    with worker("one") as killed:
        name = killed.stdout.readline().strip()
        assert name == tasks[0].name
        assert states(start())[0] == "running"
        killed.kill()
    assert states(start())[0] == "waiting"
    sweep = start()
    claims = [sweep.claim() for _ in range(8)]
    assert claims[-1].task.name == name
    assert sweep.finish(claims[-1], RESULT) == sweep.outcomes()[0]


def test_several_processes_share_the_work(start, worker, tasks):
    with worker("all") as one, worker("all") as two, worker("all") as three:
        done = [line.strip() for process in (one, two, three) for line in process.stdout]
    assert [process.returncode for process in (one, two, three)] == [0, 0, 0]
    assert sorted(done) == sorted(task.name for task in tasks)
    assert states(start()) == ["complete"] * 8
    assert len(start().study.trials) == 8  # also where all three made the sweep at once


def test_notes_of_a_process_that_died_before_it_ended_the_trial_do_not_count(start):
    sweep = start()
    claim = sweep.claim()
    with claim.lock:
        claim.trial.set_user_attr("error", "the disk is full")
        claim.trial.set_user_attr("result", RESULT)
    outcome = sweep.outcomes()[0]
    assert (outcome.state, outcome.result, outcome.error) == ("waiting", None, None)


def test_failures_wait_until_they_are_retried(start):
    sweep = start()
    claim = sweep.claim()
    with claim.lock:
        outcome = sweep.fail(claim, "the loss is not finite")
    assert outcome == start().outcomes()[0]
    assert (outcome.state, outcome.error) == ("failed", "the loss is not finite")
    while (other := sweep.claim()) is not None:
        sweep.finish(other, RESULT)
    sweep.retry_failed()
    sweep.retry_failed()
    assert states(sweep) == ["waiting", *["complete"] * 7]
    again = sweep.claim()
    assert again.task == claim.task
    assert sweep.finish(again, RESULT) == sweep.outcomes()[0]
    assert sweep.claim() is None


def test_the_same_sweep_continues_and_another_is_refused(start, tmp_path):
    start(seeds=[1, 2]).claim()
    assert states(start(seeds=[1, 2]))[0] == "waiting"  # its claim was given up with the object
    where = rf"{tmp_path}/sweep holds another sweep: "
    with pytest.raises(UsageError, match=where + r"seeds is \[1, 2\] there and \[1\] here; .*--resume"):
        start(seeds=[1])
    with pytest.raises(UsageError, match=where + "seeds is .* there and not given here"):
        start()
    with pytest.raises(UsageError, match=where + r"grid epochs is \[2, 3\] there and not given here"):
        start(seeds=[1, 2], grid={"method.delta": [0.02, 0.04]})


def test_a_half_made_study_is_made_anew(start, tmp_path):
    folder = tmp_path / "sweep"
    (folder / "runs").mkdir(parents=True)
    (folder / "sweep.lock").touch()
    (folder / "sweep.db.part").write_text("half")
    (folder / "sweep.db.part-journal").write_text("half")
    assert states(start()) == ["waiting"] * 8
    assert sorted(path.name for path in folder.iterdir()) == ["runs", "sweep.db", "sweep.lock"]


def test_any_path_will_do(start, tmp_path):
    assert start(tmp_path / "a?b#c {d} %41").claim() is not None
    assert (tmp_path / "a?b#c {d} %41" / "sweep.db").is_file()


def test_other_folders_and_files_are_refused(start, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(UserError, match="full is not empty and holds no sweep"):
        start(tmp_path / "full")
    with pytest.raises(UserError, match="there is no sweep in .*nowhere"):
        Sweep.open(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot make the sweep directory .*file"):
        start(tmp_path / "file")


def test_a_foreign_or_damaged_database_is_named(tmp_path):
    (tmp_path / "sweep.db").write_text("no database at all, " * 100)
    with pytest.raises(UserError, match=r"sweep\.db cannot be read or written: .*not a database"):
        Sweep.open(tmp_path)
    (tmp_path / "sweep.db").unlink()
    optuna.create_study(storage=f"sqlite:///{tmp_path}/sweep.db", study_name="other")
    with pytest.raises(UserError, match="holds no sweep of bnn-tf"):
        Sweep.open(tmp_path)


def test_a_database_that_cannot_be_written_is_named(start):
    sweep = start()
    with contextlib.closing(sqlite3.connect(sweep.path / "sweep.db")) as database:
        database.execute("DROP TABLE trial_user_attributes")
    with pytest.raises(UserError, match=r"sweep\.db cannot be read or written: "):
        sweep.claim()


def test_a_run_is_made_once_and_found_again(start, tiny):
    sweep = start()
    task = sweep.claim().task
    half = sweep.path / "runs" / "001-seed1.part"  # of a process killed while it made the run
    half.mkdir()
    (half / "environment.json").touch()
    run = sweep.open_run(task)
    assert (run.path, run.config) == (sweep.path / "runs" / "001-seed1", task.config)
    assert not half.exists()
    (run.path / "metrics.csv").write_text("phase,epoch\n")
    moved = sweep.open_run(task, workers=3)
    assert moved.config.workers == 3
    assert moved.path == run.path
    assert Run.open(run.path).config.workers is None
    assert (run.path / "metrics.csv").is_file()
