"""What a sweep found: mean and spread over the seeds of each configuration."""

import dataclasses
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from bnn_tf.training.sweep.study import Outcome


@dataclasses.dataclass(frozen=True)
class Summary:
    """A configuration over its seeds.

    Args:
        choices: What tells it from the others.
        outcomes: One for each seed.
    """

    choices: dict[str, Any]
    outcomes: tuple[Outcome, ...]

    @property
    def accuracies(self) -> list[float]:
        """Top-1 share of each complete run, on the held-out images after its last epoch."""
        return [outcome.result["top1"] for outcome in self.outcomes if outcome.result is not None]

    @property
    def mean(self) -> float | None:
        """Of the accuracies; `None` without any."""
        return statistics.fmean(self.accuracies) if self.accuracies else None

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation (n − 1) of the accuracies; `None` of fewer than two."""
        return statistics.stdev(self.accuracies) if len(self.accuracies) > 1 else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        runs = [
            {
                "seed": outcome.task.config.seed,
                "state": outcome.state,
                "run_dir": str(outcome.run_dir),
                **(outcome.result or {}),
                **({"error": outcome.error} if outcome.error else {}),
            }
            for outcome in self.outcomes
        ]
        return {
            "choices": self.choices,
            "mean": self.mean,
            "standard_deviation": self.deviation,
            "n": len(self.accuracies),
            "runs": runs,
        }


def summarize(outcomes: Iterable[Outcome]) -> list[Summary]:
    """The configurations, best mean first, those without results last."""
    groups: dict[int, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.task.number, []).append(outcome)
    found = [Summary(group[0].task.choices, tuple(group)) for group in groups.values()]
    return sorted(found, key=_badness)


def _badness(summary: Summary) -> tuple[bool, float]:
    return summary.mean is None, -(summary.mean or 0.0)


def counts(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """How many tasks are in each state."""
    states = ("complete", "running", "waiting", "failed")
    return {state: sum(outcome.state == state for outcome in outcomes) for state in states}
