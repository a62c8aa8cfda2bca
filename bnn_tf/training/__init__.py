"""Runs: their directories, phases, checkpoints, and the evaluation of what they trained.

Names are imported when they are first used, so that reading a run needs no TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnn_tf.training.evaluation import Evaluation, evaluate
    from bnn_tf.training.run import (
        Cadence,
        ClaimedError,
        NotResumableError,
        Position,
        Run,
        RunConfig,
        build_network,
    )
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
        create_run,
        last_evaluation,
        prepare,
        set_seeds,
        train,
    )

_HOMES = {
    "Cadence": "run",
    "ClaimedError": "run",
    "Evaluation": "evaluation",
    "Position": "run",
    "Prepared": "trainer",
    "Run": "run",
    "RunConfig": "run",
    "Session": "trainer",
    "NotResumableError": "run",
    "StoppedError": "trainer",
    "Trained": "trainer",
    "TransferReport": "start",
    "binarize_kernels": "start",
    "build_network": "run",
    "create_run": "trainer",
    "evaluate": "evaluation",
    "last_evaluation": "trainer",
    "prepare": "trainer",
    "require_complete": "start",
    "set_seeds": "trainer",
    "train": "trainer",
    "train_only_batch_norm": "start",
    "transfer": "start",
    "transfer_in_order": "start",
}

__all__ = [
    "Cadence",
    "ClaimedError",
    "Evaluation",
    "Position",
    "Prepared",
    "Run",
    "RunConfig",
    "Session",
    "NotResumableError",
    "StoppedError",
    "Trained",
    "TransferReport",
    "binarize_kernels",
    "build_network",
    "create_run",
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


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"bnn_tf.training.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'bnn_tf.training' has no attribute {name!r}")
