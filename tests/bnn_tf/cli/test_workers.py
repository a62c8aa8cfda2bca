"""Several workers that nobody launched together: each is told by TF_CONFIG who the others are."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from bnn_tf.training import Position, Run
from zoo import MODELS

SMALL = """
from zoo import architecture

@architecture("small", input_shape=(32, 32, 3), num_classes=10)
def Small(net, image):
    x = net.batch_norm(net.conv(image, 4, 3, "stem_conv", strides=8), "stem_bn")
    return net.batch_norm(net.binary_conv(x, 8, "body"), "bn")
"""
OPTIONS = [
    "--import", "small", "--method", "recu", "--model", "small", "--dataset", "digits", "--batch-size", "16",
    "--sync-batch-norm", "--deterministic", "--checkpoint-every", "1steps", "--set", "schedule.warmup=0",
]  # fmt: skip


@pytest.fixture
def start(tmp_path):
    """`start(["train", …], before)` starts a worker for each line of Python that runs first in it."""
    (tmp_path / "small.py").write_text(SMALL)
    with MODELS.temporary():
        exec(SMALL, {})  # here, too, so that the runs can be opened
        yield from _start(tmp_path)


def _start(tmp_path):
    started = []

    def begin(arguments, before=("", ""), **environment):
        sockets = [socket.socket() for _ in before]
        for each in sockets:
            each.bind(("localhost", 0))
        addresses = [f"localhost:{each.getsockname()[1]}" for each in sockets]
        for each in sockets:
            each.close()
        words = ["bnn-tf", *map(str, arguments)]
        for number, line in enumerate(before):
            code = f"import sys, time\n{line}\nsys.argv = {words!r}\nfrom bnn_tf.cli import main\nmain()"
            cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": number}}
            more = {"TF_CONFIG": json.dumps(cluster)} if len(before) > 1 else {}
            path = os.pathsep.join([str(tmp_path), *sys.path])
            started.append(
                subprocess.Popen(
                    [sys.executable, "-c", code],
                    env={**os.environ, **more, "PYTHONPATH": path, **environment},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        return started[-len(before) :]

    yield begin
    for process in started:
        process.kill()
        process.wait()


def end(processes):
    """Codes and outputs."""
    outputs = [process.communicate(timeout=280) for process in processes]
    return [(process.returncode, *output) for process, output in zip(processes, outputs, strict=True)]


def test_a_slow_worker_finds_the_run_of_the_first(start, tmp_path):
    """The last batch has one image, for two replicas."""
    run = tmp_path / "run"
    arguments = ["train", *OPTIONS, "--limit", 33, "--epochs", 1, "-o", run]
    outcomes = end(start(arguments, ("", "time.sleep(4)")))
    for code, out, err in outcomes:
        assert (code, err) == (0, "")
        assert out.startswith(f"Run directory: {run}\n")
        assert "(33 images)" in out.splitlines()[-1]
    assert [path.name for path in (run / "tensorboard" / "train").glob("events*")] != []
    (alone,) = end(start([*arguments[:-1], tmp_path / "alone"], ("",)))
    assert alone[0] == 0, alone
    networks = [Run.open(tmp_path / name).load_network() for name in ("run", "alone")]
    assert len(networks[0].weights) == len(networks[1].weights)
    for variable, value in zip(networks[0].weights, networks[1].get_weights(), strict=True):
        np.testing.assert_allclose(variable, value, rtol=1e-5, atol=1e-5, err_msg=variable.name)
    rows = [Run.open(tmp_path / name).metrics()[0] for name in ("run", "alone")]
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert float(rows[0][name]) == pytest.approx(float(rows[1][name]), rel=1e-5)


@pytest.mark.slow
def test_what_stops_the_first_worker_stops_all(start, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("keep")
    first, second = end(start(["train", *OPTIONS, "--limit", 32, "-o", tmp_path / "run"]))
    assert first[0] == second[0] == 1
    assert "is not empty" in first[2]
    assert second[2] == "bnn-tf: the first worker failed; its own output says why\n"


@pytest.mark.slow
def test_killed_in_the_middle_of_an_epoch_and_resumed_by_another_number(start, tmp_path):
    """One of two workers gets SIGKILL; the other says so within a minute, and one process goes on."""
    run, whole = tmp_path / "run", tmp_path / "whole"
    arguments = ["train", *OPTIONS, "--limit", 48, "--epochs", 2]
    hold = (
        "from bnn_tf.training import trainer\n"
        "saved = trainer.PhaseTraining.save_if_due\n"
        "def save_if_due(self, epoch, step, *rest):\n"
        "    saved(self, epoch, step, *rest)\n"
        "    if (epoch, step) == (1, 1):\n"
        "        print('here', flush=True)\n"
        "        time.sleep(600)\n"
        "trainer.PhaseTraining.save_if_due = save_if_due"
    )
    first, second = start([*arguments, "-o", run], ("", hold))
    for line in second.stdout:
        if line == "here\n":
            break
    os.kill(second.pid, signal.SIGKILL)
    killed = time.monotonic()
    _, errors = first.communicate(timeout=100)
    assert time.monotonic() - killed < 75  # a minute, and the end of the process on a busy machine
    assert first.returncode == 1
    assert errors == (
        "bnn-tf: another worker ended or cannot be reached. "
        f"Continue: bnn-tf train --resume {run} on all workers\n"
    )
    position = Run.open(run).position()
    assert Position(0, 1, 1) <= position < Position(0, 2)
    (resumed,) = end(start(["train", "--import", "small", "--resume", run], ("",)))
    assert resumed[0] == 0, resumed
    (alone,) = end(start([*arguments, "-o", whole], ("",)))
    assert alone[0] == 0, alone
    networks = [Run.open(path).load_network() for path in (run, whole)]
    for variable, value in zip(networks[0].weights, networks[1].get_weights(), strict=True):
        np.testing.assert_allclose(variable, value, rtol=1e-5, atol=1e-5, err_msg=variable.name)
    assert [row["epoch"] for row in Run.open(run).metrics()] == ["1", "2"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "--method", "recu"), "name the run directory (-o RUN, or --resume RUN)"),
        (("train", "--method", "recu", "-o", "run", "--workers", "a:1,b:2"), "named by --cluster HOST:PORT"),
        (("sweep", "--method", "recu", "--sweep-dir", "sweep"), "a sweep does not train on several machines"),
    ],
)
def test_wrong_usage(arguments, message, command, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    cluster = {"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    code, _, err = command(*arguments)
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
