"""What networks cost, what their kernels look like, and reports of runs."""

from bnn_tf.analysis.accounting import Account, Cost, LayerCost, account, at_size, bit_operations
from bnn_tf.analysis.larq_summary import print_larq_summary
from bnn_tf.analysis.published import published

__all__ = [
    "Account",
    "Cost",
    "LayerCost",
    "account",
    "at_size",
    "bit_operations",
    "print_larq_summary",
    "published",
]
