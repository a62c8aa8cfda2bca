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
    from bnn_tf.training.signals import StoppedError
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
        Trained,
        create_run,
        last_evaluation,
        prepare,
        set_seeds,
        train,
    )

__all__ = [
    "Cadence",
    "ClaimedError",
    "Evaluation",
    "NotResumableError",
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

_MODULES = ("run", "evaluation", "signals", "start", "trainer")  # each needs those before it at most


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in _MODULES:
            if hasattr(home := importlib.import_module(f"bnn_tf.training.{module}"), name):
                return getattr(home, name)
    raise AttributeError(f"module 'bnn_tf.training' has no attribute {name!r}")
