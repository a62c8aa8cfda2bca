"""Where a run computes."""

from bnn_tf._tensorflow import tf
from bnn_tf.errors import UsageError


def devices(gpus: int | None = None) -> list:
    """The logical GPUs to use: all, or the first so many.

    Raises:
        UsageError: the machine has fewer.
    """
    found = tf.config.list_logical_devices("GPU")
    if gpus is not None and gpus > len(found):
        raise UsageError(
            f"--gpus {gpus}: TensorFlow sees {len(found)} GPUs here (bnn-tf[gpu] installs what NVIDIA's need)"
        )
    return found[:gpus]


def select(gpus: int | None = None) -> tf.distribute.Strategy:
    """The distribution strategy for a number of GPUs.

    Args:
        gpus: How many to use; `None` uses all, 0 the CPU.

    Returns:
        Replication over several GPUs, one device, or TensorFlow's default.

    Raises:
        UsageError: the machine has fewer.
    """
    chosen = [device.name for device in devices(gpus)]
    if len(chosen) > 1:
        return tf.distribute.MirroredStrategy(chosen)
    if chosen:
        return tf.distribute.OneDeviceStrategy(chosen[0])
    return tf.distribute.get_strategy() if gpus is None else tf.distribute.OneDeviceStrategy("/CPU:0")
