"""Several processes of one machine that train together."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bnn_tf.cli import launch
from bnn_tf.training import Run


def bnn_tf(*arguments):
    command = [sys.executable, "-m", "bnn_tf", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("evaluate", "run"), "only train runs in several processes, not 'evaluate'"),
        (("train", "--method", "recu"), "name the run directory"),
        (("-n", "1", "train", "-o", "run"), "1 is not in the range x>=2"),
    ],
)
def test_wrong_usage(arguments, message):
    done = bnn_tf("launch", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_wrong_command_is_wrong_usage_of_launch_too(tmp_path):
    done = bnn_tf("launch", "train", "--methd", "recu", "-o", tmp_path / "run")
    assert done.returncode == 2
    assert "did you mean --method?" in done.stdout
    assert done.stderr == "bnn-tf: the command was refused, see above\n"


def test_an_error_of_a_process_ends_all(tmp_path):
    done = bnn_tf("launch", "train", "--resume", tmp_path / "absent")
    assert done.returncode == 1
    assert "absent" in done.stdout
    assert "a process ended with exit code 1" in done.stderr


@pytest.mark.parametrize(
    "words",
    ["--run-dir=my/run", "--run-dir my/run", "-o my/run", "-omy/run", "--resume=my/run", "--resume my/run"],
)
def test_the_run_directory_is_known_however_it_is_written(words):
    assert launch._run_directory(["train", "--method", "recu", *words.split(), "--quiet"]) == "my/run"


@pytest.mark.parametrize("words", ["--method recu", "--method recu -o", "--output x"])
def test_no_run_directory(words):
    assert launch._run_directory(["train", *words.split()]) is None


def test_help_of_the_command():
    done = bnn_tf("launch", "-n", "2", "--", "train", "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: bnn-tf train")


def test_advice_after_a_stop(tmp_path):
    assert launch._advice(tmp_path, 3) == "nothing was saved yet"
    saved = tmp_path / "checkpoints" / "1-train" / "epoch-1"
    saved.mkdir(parents=True)
    (saved / "state.json").touch()
    assert launch._advice(tmp_path, 3).startswith("`bnn-tf launch -n 3 -- train --resume ")


def running(tmp_path, epoch):
    """A job of two processes that has begun that epoch, and its processes' numbers."""
    options = ["--method", "recu", "--dataset", "digits", "--limit", "128", "--epochs", "40"]
    command = [sys.executable, "-m", "bnn_tf", "launch", "train", *options, "-o", tmp_path / "run"]
    job = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in job.stdout:
        if line.startswith(f"[1] train {epoch}/40"):
            break
    children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
    assert len(children) == 2
    return job, [int(child) for child in children]


def gone(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_saves_and_ends_all(number, tmp_path):
    job, children = running(tmp_path, 1)
    job.send_signal(number)
    _, errors = job.communicate(timeout=120)
    assert job.returncode == 128 + number
    assert errors == (
        f"bnn-tf: stopped by {number.name}; "
        f"`bnn-tf launch -n 2 -- train --resume {tmp_path / 'run'}` goes on\n"
    )
    assert all(map(gone, children))
    assert Run.open(tmp_path / "run").position() is not None


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")
def test_nobody_is_left_where_the_launcher_is_killed(tmp_path):
    job, children = running(tmp_path, 1)
    job.kill()
    job.wait()
    deadline = time.monotonic() + 90
    while not all(map(gone, children)) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert all(map(gone, children))


@pytest.mark.slow
def test_a_killed_process_ends_the_job_and_resume_goes_on(tmp_path):
    """As an undisturbed run does; both processes print the same figures."""
    options = [
        "--method", "recu", "--dataset", "digits", "--limit", "128", "--epochs", "4", "--batch-size", "64",
        "--deterministic",
    ]  # fmt: skip
    launch = ["launch", "-n", "2", "train"]
    command = [sys.executable, "-m", "bnn_tf", *launch, *options, "-o", tmp_path / "killed"]
    job = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in job.stdout:
        if line.startswith("[1] train 2/4"):
            break
    children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    _, errors = job.communicate(timeout=120)
    assert job.returncode == 1
    assert "a process ended with exit code 137" in errors
    resumed = bnn_tf(*launch, "--resume", tmp_path / "killed")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    whole = bnn_tf(*launch, *options, "-o", tmp_path / "whole")
    assert whole.returncode == 0, whole.stdout + whole.stderr
    last = [line for line in whole.stdout.splitlines() if "train 4/4" in line]
    assert len(last) == 2
    assert last[0].split("test accuracy")[0][4:] == last[1].split("test accuracy")[0][4:]
    runs = [Run.open(tmp_path / name) for name in ("killed", "whole")]
    killed, undisturbed = (run.load_network() for run in runs)
    for variable, value in zip(killed.weights, undisturbed.get_weights(), strict=True):
        # A checkpoint holds the mean of what the processes averaged: the running means round differently.
        rounding = 1e-6 if "moving" in variable.name else 0
        np.testing.assert_allclose(variable, value, rtol=rounding, atol=rounding, err_msg=variable.name)
    for row, expected in zip(*(run.metrics() for run in runs), strict=True):
        for name in ("loss", "accuracy", "learning_rate"):
            assert row[name] == expected[name]
        assert 0 <= float(row["accuracy"]) <= 1
