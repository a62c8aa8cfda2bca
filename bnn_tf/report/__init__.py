"""What networks cost, what their kernels look like, and reports of runs."""

from bnn_tf.report.accounting import (
    Account,
    Cost,
    LayerCost,
    account,
    account_file,
    at_size,
    bit_operations,
    print_larq_summary,
    published,
)

__all__ = [
    "Account",
    "Cost",
    "LayerCost",
    "account",
    "account_file",
    "at_size",
    "bit_operations",
    "print_larq_summary",
    "published",
]
