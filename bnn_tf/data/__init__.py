"""Datasets, augmentation and exactly repeatable `tf.data` pipelines."""

from bnn_tf.data import datasets
from bnn_tf.data.datasets import facts, list_datasets, load
from bnn_tf.data.folder import FolderCheck, check
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
from bnn_tf.data.pipeline import Share, clear_errors, evaluation_batches, steps, take, training_batches
from bnn_tf.data.source import (
    AbsentError,
    ArraySplit,
    DamagedImageError,
    DataError,
    Facts,
    Source,
    UnknownDatasetError,
    describe,
    placeholder_names,
)

__all__ = [
    "NORMALIZATIONS",
    "OPERATIONS",
    "AbsentError",
    "ArraySplit",
    "Cover",
    "DamagedImageError",
    "DataError",
    "Facts",
    "Flip",
    "FolderCheck",
    "Geometry",
    "Images",
    "Lighting",
    "Operation",
    "PadCrop",
    "RandomResizedCrop",
    "ResizeCrop",
    "ResizeShort",
    "Share",
    "Source",
    "UnknownDatasetError",
    "check",
    "clear_errors",
    "datasets",
    "describe",
    "evaluation_batches",
    "facts",
    "list_datasets",
    "load",
    "placeholder_names",
    "steps",
    "take",
    "training_batches",
]
