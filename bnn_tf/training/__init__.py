"""Runs: their directories, phases, checkpoints, and the evaluation of what they trained."""

from bnn_tf.training.evaluation import Evaluation, evaluate
from bnn_tf.training.run import Cadence, ClaimedError, Position, Run, RunConfig, build_network
from bnn_tf.training.start import (
    TransferReport,
    binarize_kernels,
    require_complete,
    train_only_batch_norm,
    transfer,
    transfer_in_order,
)
from bnn_tf.training.trainer import (
    Prepared,
    Session,
    StoppedError,
    Trained,
    last_evaluation,
    prepare,
    set_seeds,
    train,
)

__all__ = [
    "Cadence",
    "ClaimedError",
    "Evaluation",
    "Position",
    "Prepared",
    "Run",
    "RunConfig",
    "Session",
    "StoppedError",
    "Trained",
    "TransferReport",
    "binarize_kernels",
    "build_network",
    "evaluate",
    "last_evaluation",
    "prepare",
    "require_complete",
    "set_seeds",
    "train",
    "train_only_batch_norm",
    "transfer",
    "transfer_in_order",
]
