"""Loading of saved models."""

import os

import bnn_tf.quantizers  # noqa: F401  (makes quantizers, layers and optimizers known to Keras)
from bnn_tf import losses  # noqa: F401  (likewise the losses)
from bnn_tf._tensorflow import tf
from bnn_tf.errors import UserError


def load_model(path: str | os.PathLike) -> tf.keras.Model:
    """The model that `model.save(path)` wrote: `.keras`, `.h5` or a SavedModel folder.

    Raises:
        UserError: there is nothing at `path`, or it is no saved Keras model.
    """
    path = os.fspath(path)
    if not os.path.exists(path):
        raise UserError(f"there is no saved model at {path}")
    try:
        return tf.keras.models.load_model(path)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} does not load as a Keras model: {error}") from error
