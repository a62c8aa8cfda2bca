"""A folder that takes a converted model to a phone or board: `bnn-tf device-kit`.

`files/` holds what every kit contains as it stands; nothing of it imports this package.
"""

from bnn_tf.device_kit.kit import KitReport, write
from bnn_tf.device_kit.reference import Reference, choose

__all__ = ["KitReport", "Reference", "choose", "write"]
