"""Algebra on the graph before conversion: what need not be computed on the device is folded away."""

from bnn_tf.deploy.folding.affine import Affine, affine_of, batch_norm
from bnn_tf.deploy.folding.rules import fold, fold_graph

__all__ = ["Affine", "affine_of", "batch_norm", "fold", "fold_graph"]
