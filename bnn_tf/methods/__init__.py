"""The four published methods (and the real-valued stand-in) as values."""

from bnn_tf.methods.base import Method
from bnn_tf.methods.bireal import BiReal
from bnn_tf.methods.ovsw import OvSW
from bnn_tf.methods.real import Real
from bnn_tf.methods.recu import ReCU
from bnn_tf.methods.registry import METHODS, get
from bnn_tf.methods.subbit import SubBit

__all__ = ["METHODS", "BiReal", "Method", "OvSW", "ReCU", "Real", "SubBit", "get"]
