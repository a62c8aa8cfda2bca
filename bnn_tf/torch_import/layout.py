"""Arrays from PyTorch's layout into ours, turned by 180° as `bnn_tf.layers.Flip` asks for.

| what | PyTorch | here |
| --- | --- | --- |
| convolution | `(out, in, kh, kw)`, or flat (Bi-Real Net) | `(kh, kw, in, out)`, both spatial axes reversed |
| dense, also as a 1×1 convolution | `(out, c·h·w)` | `(h·w·c, out)`, rows and columns of the map reversed |
| codebook | `(2^b, 9)` | `(2^b, 9)`, the nine reversed |
| vectors | `(c)`, `(1, c, 1, 1)`, `(c, 1, 1)` | the variable's shape |
"""

from collections.abc import Sequence

import numpy as np

Shape = tuple[int, ...]


def torch_shape(variable: str, shape: Sequence[int]) -> Shape:
    """The shape that PyTorch's tensor has for a variable of ours, for messages and checks."""
    if variable == "kernel":
        return (*reversed(shape[-2:]), *shape[:-2])
    return tuple(size for size in shape if size != 1) if len(shape) > 1 else tuple(shape)


def convert(
    array: np.ndarray, variable: str, shape: Sequence[int], map_size: Shape = (1, 1)
) -> np.ndarray | None:
    """The array as a variable of ours holds it, or `None` where the shapes do not go together.

    Args:
        array: In PyTorch's layout.
        variable: Own name of the variable: `kernel`, `gamma`, `codebook`, ….
        shape: Its shape.
        map_size: Height and width of the map that a dense layer flattens.
    """
    if variable == "kernel":
        return _kernel(array, tuple(shape)) if len(shape) == 4 else _dense(array, tuple(shape), map_size)
    if variable in ("codebook", "memory"):
        return np.ascontiguousarray(array[:, ::-1]) if array.shape == tuple(shape) else None
    if _long_axes(array.shape) != _long_axes(shape):
        return None
    return array.reshape(shape)


def _long_axes(shape: Sequence[int]) -> Shape:
    return tuple(size for size in shape if size != 1)


def _kernel(array: np.ndarray, shape: Shape) -> np.ndarray | None:
    height, width, channels, filters = shape
    size = int(np.prod(shape))
    if array.shape not in ((filters, channels, height, width), (size, 1), (size,)):
        return None
    kernel = array.reshape(filters, channels, height, width).transpose(2, 3, 1, 0)
    return np.ascontiguousarray(kernel[::-1, ::-1])


def _dense(array: np.ndarray, shape: Shape, map_size: Shape) -> np.ndarray | None:
    inputs, outputs = shape
    if array.shape not in ((outputs, inputs), (outputs, inputs, 1, 1)):
        return None
    maps = array.reshape(outputs, -1, *map_size)[:, :, ::-1, ::-1]
    return np.ascontiguousarray(maps.transpose(2, 3, 1, 0).reshape(shape))
