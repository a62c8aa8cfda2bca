"""Runs: their directories, phases, checkpoints, and the evaluation of what they trained."""

from bnn_tf.training.evaluation import Evaluation, evaluate
from bnn_tf.training.run import Run, RunConfig
from bnn_tf.training.trainer import Session, train
from bnn_tf.training.transfer import TransferReport, transfer

__all__ = ["Evaluation", "Run", "RunConfig", "Session", "TransferReport", "evaluate", "train", "transfer"]
