"""A trained network as one C99 file that needs nothing but a C compiler."""

from bnn_tf.export.exporting import ExportReport, export_c

__all__ = ["ExportReport", "export_c"]
