"""Where a run computes."""

from bnn_tf._tensorflow import tf
from bnn_tf.errors import UsageError


def select(gpus: int | None = None) -> tf.distribute.Strategy:
    """The distribution strategy for a number of GPUs.

    Args:
        gpus: How many to use; `None` uses all, 0 the CPU.

    Returns:
        Replication over several GPUs, one device, or TensorFlow's default.

    Raises:
        UsageError: the machine has fewer.
    """
    found = tf.config.list_logical_devices("GPU")
    count = len(found) if gpus is None else gpus
    if count > len(found):
        raise UsageError(f"--gpus {gpus}: this machine has {len(found)} GPUs")
    if count > 1:
        return tf.distribute.MirroredStrategy([device.name for device in found[:count]])
    if count == 1:
        return tf.distribute.OneDeviceStrategy(found[0].name)
    return tf.distribute.OneDeviceStrategy("/CPU:0") if found else tf.distribute.get_strategy()
