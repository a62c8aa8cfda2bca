"""Imports the PyTorch checkpoints of the four papers, exact to the logits."""

from bnn_tf.torch_import.checkpoint import Checkpoint, read, unwrap
from bnn_tf.torch_import.importing import Imported, Request, Settings, import_arrays, import_checkpoint, infer
from bnn_tf.torch_import.weights import Matching, assign

__all__ = [
    "Checkpoint",
    "Imported",
    "Matching",
    "Request",
    "Settings",
    "assign",
    "import_arrays",
    "import_checkpoint",
    "infer",
    "read",
    "unwrap",
]
