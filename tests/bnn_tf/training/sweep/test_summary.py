"""Mean and spread over the seeds."""

import math
from pathlib import Path

import pytest

from bnn_tf.training.sweep import Outcome, counts, summarize


@pytest.fixture
def outcomes(tasks):
    """Configurations 1 to 4; seeds 1 and 2, of which 2 was not good for configuration 2."""
    top1 = {(1, 1): 0.5, (1, 2): 0.6, (2, 1): 0.7, (3, 1): 0.9, (3, 2): 0.8}

    def outcome(task):
        accuracy = top1.get((task.number, task.config.seed))
        if accuracy is not None:
            result = {"top1": accuracy, "top5": 0.95}
            return Outcome(task, Path("runs") / task.name, "complete", result=result)
        if task.number == 2:
            return Outcome(task, Path("runs") / task.name, "failed", error="the loss is not finite")
        return Outcome(task, Path("runs") / task.name, "waiting")

    return [outcome(task) for task in tasks]


def test_the_best_mean_comes_first_and_nothing_last(outcomes):
    found = summarize(outcomes)
    assert [summary.outcomes[0].task.number for summary in found] == [3, 2, 1, 4]
    assert [summary.mean for summary in found] == [pytest.approx(0.85), 0.7, pytest.approx(0.55), None]


def test_the_spread_is_the_sample_deviation(outcomes):
    spread = pytest.approx(0.1 / math.sqrt(2))
    assert [summary.deviation for summary in summarize(outcomes)] == [spread, None, spread, None]


def test_counts(outcomes):
    assert counts(outcomes) == {"complete": 5, "running": 0, "waiting": 2, "failed": 1}


def test_json_has_each_run(outcomes):
    assert summarize(outcomes)[1].to_dict() == {
        "choices": {"method.delta": 0.02, "epochs": 3},
        "mean": 0.7,
        "standard_deviation": None,
        "n": 1,
        "runs": [
            {
                "seed": 1,
                "state": "complete",
                "run_dir": "runs/002-seed1",
                "top1": 0.7,
                "top5": 0.95,
            },
            {
                "seed": 2,
                "state": "failed",
                "run_dir": "runs/002-seed2",
                "error": "the loss is not finite",
            },
        ],
    }
