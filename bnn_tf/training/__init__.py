"""Runs: their directories, phases, checkpoints, and the evaluation of what they trained."""

from bnn_tf.training.evaluation import Evaluation, evaluate
from bnn_tf.training.preparation import binarize_kernels, train_only_batch_norm
from bnn_tf.training.run import Run, RunConfig
from bnn_tf.training.trainer import Session, train
from bnn_tf.training.transfer import TransferReport, require_complete, transfer

__all__ = [
    "Evaluation",
    "Run",
    "RunConfig",
    "Session",
    "TransferReport",
    "binarize_kernels",
    "evaluate",
    "require_complete",
    "train",
    "train_only_batch_norm",
    "transfer",
]
