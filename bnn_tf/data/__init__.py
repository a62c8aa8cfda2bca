"""Datasets, augmentation and exactly repeatable `tf.data` pipelines."""

from bnn_tf.data.errors import DataError, UnknownDatasetError, clear_errors
from bnn_tf.data.images import (
    NORMALIZATIONS,
    OPERATIONS,
    Cover,
    Flip,
    Geometry,
    Images,
    Lighting,
    Operation,
    PadCrop,
    RandomResizedCrop,
    ResizeCrop,
    ResizeShort,
)
from bnn_tf.data.pipeline import evaluation_batches, steps, take, training_batches
from bnn_tf.data.registry import list_datasets, load
from bnn_tf.data.source import Source, placeholder_names

__all__ = [
    "NORMALIZATIONS",
    "OPERATIONS",
    "Cover",
    "DataError",
    "Flip",
    "Geometry",
    "Images",
    "Lighting",
    "Operation",
    "PadCrop",
    "RandomResizedCrop",
    "ResizeCrop",
    "ResizeShort",
    "Source",
    "UnknownDatasetError",
    "clear_errors",
    "evaluation_batches",
    "list_datasets",
    "load",
    "placeholder_names",
    "steps",
    "take",
    "training_batches",
]
