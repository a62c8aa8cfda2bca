"""Seeds of everything that draws weights."""

import random

import numpy as np

from bnn_tf._tensorflow import tf


def set_seeds(seed: int) -> None:
    """Seeds Python's, NumPy's and TensorFlow's global generators.

    What `tf.keras.utils.set_random_seed` does, which breaks Keras 2's initializers on Python 3.12: they
    then ask Python's generator for a whole number below the float 1e9.
    """
    random.seed(seed)
    np.random.seed(seed)
    tf.random.set_seed(seed)
