"""Sweeps: many runs that differ in some settings and in their seeds."""

from bnn_tf.training.sweep.space import Axis, Range, draw, grid
from bnn_tf.training.sweep.study import Outcome, Sweep, Task, describe
from bnn_tf.training.sweep.summary import Summary, counts, summarize
from bnn_tf.training.sweep.worker import Finished, plan, work

__all__ = [
    "Axis",
    "Finished",
    "Outcome",
    "Range",
    "Summary",
    "Sweep",
    "Task",
    "counts",
    "describe",
    "draw",
    "grid",
    "plan",
    "summarize",
    "work",
]
