"""TensorFlow (on Keras 2) and Larq, imported without their start-up noise.

Every module of this project takes `tf` and `lq` from here, so that no way of importing it can meet
Keras 3 or print what is of no use to the user.
"""

import logging
import os

from bnn_tf._runtime import quiet_native_stderr, use_legacy_keras

use_legacy_keras()
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
with quiet_native_stderr():
    import larq as lq
    import tensorflow as tf

    tf.config.list_physical_devices()  # looks for GPUs, and complains where there is none


def _not_about_starved_weights(record: logging.LogRecord) -> bool:
    # Our quantizers choose their gradients so that no weight constraint is needed.
    return "starved weights" not in record.getMessage()


logging.getLogger("larq.layers_base").addFilter(_not_about_starved_weights)

__all__ = ["lq", "tf"]
