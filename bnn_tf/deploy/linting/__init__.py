"""What will go wrong, or slow, on Larq Compute Engine, said before any training."""

from bnn_tf.deploy.linting.findings import Finding, LintReport, Severity
from bnn_tf.deploy.linting.linter import lint

__all__ = ["Finding", "LintReport", "Severity", "lint"]
