"""Who trains with whom: descriptions of clusters, right and wrong, and each worker's part of the machine."""

import json
import socket

import pytest

from bnn_tf._tensorflow import tf
from bnn_tf.errors import UsageError, UserError
from bnn_tf.training import strategies

TWO = ["a:1", "b:2"]


def tf_config(monkeypatch, cluster, kind="worker", index=0):
    config = {"cluster": cluster, "task": {"type": kind, "index": index}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))


def test_tf_config_says_who_this_is(monkeypatch):
    tf_config(monkeypatch, {"worker": TWO}, index=1)
    assert strategies.workers(None) == (TWO, 1)
    tf_config(monkeypatch, {"chief": ["c:3"], "worker": TWO}, index=1)
    assert strategies.workers(None) == (["c:3", *TWO], 2)
    tf_config(monkeypatch, {"worker": ["a:1"]})
    assert strategies.workers(None) is None
    assert not strategies.is_cluster(None)


@pytest.mark.parametrize(
    ("cluster", "kind", "index", "message"),
    [
        ({"worker": TWO}, "worker", 7, "there is no worker 7, there are 2"),
        ({"worker": TWO}, "worker", -1, "there is no worker -1"),
        ({"worker": TWO}, "worker", 1.5, "there is no worker 1.5"),
        ({"worker": TWO}, "chief", 0, "there is no chief 0, there are 0"),
        ({"worker": TWO}, "evaluator", 0, "only chief and worker train"),
        ({"worker": "a:1,b:2"}, "worker", 0, "a list of addresses for worker, not 'a:1,b:2'"),
        ({"worker": ["a:1", 5]}, "worker", 0, "host:port,host:port, not 5"),
        ({"worker": ["a:1", "a:1"]}, "worker", 0, "a:1 is named twice"),
        (["a:1"], "worker", 0, "no cluster description"),
    ],
)
def test_wrong_tf_config(cluster, kind, index, message, monkeypatch):
    tf_config(monkeypatch, cluster, kind, index)
    with pytest.raises(UsageError, match=r"TF_CONFIG") as wrong:
        strategies.workers(None)
    assert message in str(wrong.value)


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        ("a:99999,b:1", "a:99999: ports are from 1 to 65535"),
        ("a:0,b:1", "ports are from 1"),
        ("a:1,a:1", "a:1 is named twice"),
        ("a:1", "a:1 is one worker"),
        ("a,b", "not 'a'"),
        ("a:1,b:2,", "not ''"),
    ],
)
def test_wrong_addresses(cluster, message, monkeypatch):
    monkeypatch.setenv("BNN_TF_WORKER", "0")
    with pytest.raises(UsageError, match=message):
        strategies.workers(cluster)


@pytest.mark.parametrize("listed", ["bnn-1", "bnn-1.bnn", "bnn-1.bnn.default.svc.cluster.local"])
def test_a_host_is_known_by_every_part_of_its_name(listed, monkeypatch):
    monkeypatch.delenv("BNN_TF_WORKER", raising=False)
    monkeypatch.setattr(socket, "gethostname", lambda: "bnn-1")
    monkeypatch.setattr(socket, "getfqdn", lambda: "bnn-1.bnn.default.svc.cluster.local")
    addresses = [f"bnn-0{listed[5:]}:2222", f"{listed}:2222"]
    assert strategies.workers(",".join(addresses)) == (addresses, 1)


def test_slurm(monkeypatch):
    """What SLURM sets in the second of four tasks, two on each of two nodes without GPUs."""
    monkeypatch.setenv("PATH", "")
    for name, value in {
        "PROCID": "1",
        "STEP_NUM_TASKS": "4",
        "STEP_NODELIST": "node[6-7]",
        "STEP_TASKS_PER_NODE": "2(x2)",
    }.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert strategies.workers("slurm") == (["node6:8888", "node6:8889", "node7:8888", "node7:8889"], 1)


def test_outside_of_slurm(monkeypatch):
    monkeypatch.delenv("SLURM_PROCID", raising=False)
    with pytest.raises(UsageError, match="SLURM's variables do not describe a job"):
        strategies.workers("slurm")


GPUS = ["GPU:0", "GPU:1", "GPU:2", "GPU:3", "GPU:4"]


@pytest.mark.parametrize(
    ("gpus", "launched", "expected"),
    [
        (None, None, GPUS),
        (2, None, GPUS[:2]),
        (0, None, []),
        (None, "0/2", GPUS[:2]),
        (None, "1/2", GPUS[2:4]),
        (1, "1/2", GPUS[2:3]),
    ],
)
def test_the_gpus_of_a_worker(gpus, launched, expected):
    assert strategies.worker_gpus(GPUS, gpus, launched) == expected


@pytest.mark.parametrize(("gpus", "launched"), [(6, None), (3, "0/2")])
def test_more_gpus_than_there_are(gpus, launched):
    with pytest.raises(UsageError, match=f"{gpus} GPUs were asked for, there are"):
        strategies.worker_gpus(GPUS, gpus, launched)


def test_more_processes_than_gpus():
    with pytest.raises(UsageError, match=r"8 processes cannot share 5 GPUs; start fewer, or use none"):
        strategies.worker_gpus(GPUS, None, "0/8")
    assert strategies.worker_gpus(GPUS, 0, "0/8") == []


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (tf.errors.UnavailableError(None, None, "failed to connect to all addresses"), True),
        (tf.errors.InternalError(None, None, "Collective ops is aborted: the peer restarted"), True),
        (tf.errors.InternalError(None, None, "Failed initializing the math library"), False),
    ],
)
def test_a_failure_of_its_own_is_not_that_of_another_worker(monkeypatch, error, lost):
    monkeypatch.setattr(strategies, "is_multi_worker", lambda _: True)
    expected = strategies.LostWorkerError if lost else tf.errors.InternalError
    with pytest.raises(expected), strategies.clear_losses(None):
        raise error


def test_a_failure_of_the_chief_reaches_all(monkeypatch):
    said = []
    monkeypatch.setattr(strategies, "agree", lambda _, code: said.append(code) or max(code, 1))

    def fail():
        raise UserError("the disk is full")

    monkeypatch.setattr(strategies, "is_chief", lambda _: True)
    with pytest.raises(UserError, match="the disk is full"):
        strategies.by_chief(None, fail)
    monkeypatch.setattr(strategies, "is_chief", lambda _: False)
    with pytest.raises(UserError, match="the first worker failed"):
        strategies.by_chief(None, fail)
    assert said == [1, 0]
