"""Datasets, augmentation and exactly repeatable `tf.data` pipelines."""

from bnn_tf.data.errors import DataError, UnknownDatasetError, clear_errors
from bnn_tf.data.pipeline import evaluation_batches, steps, take, training_batches
from bnn_tf.data.preprocessing import AUGMENTATIONS, NORMALIZATIONS, Preprocessing
from bnn_tf.data.registry import list_datasets, load
from bnn_tf.data.source import Source, placeholder_names

__all__ = [
    "AUGMENTATIONS",
    "NORMALIZATIONS",
    "DataError",
    "Preprocessing",
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
