"""Files that are really sub-bit: an LCE `.tflite` with its binary 3x3 filters as codebooks and indices.

FORMAT.md describes the format, `decode.py` expands it with NumPy alone and `expand.c` in C99.
"""

from bnn_tf.subbit.decode import SubBitFileError, expand, expand_file, expand_stream
from bnn_tf.subbit.encode import LayerReport, SubBitReport, compress, compress_file, describe

__all__ = [
    "LayerReport",
    "SubBitFileError",
    "SubBitReport",
    "compress",
    "compress_file",
    "describe",
    "expand",
    "expand_file",
    "expand_stream",
]
