"""The numbers of a binary network for other hardware and software: signs, packed bits, scales, thresholds."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np

from bnn_tf import files
from bnn_tf._tensorflow import tf
from bnn_tf.deploy import facts
from bnn_tf.deploy.fold import affine_of, folded
from bnn_tf.deploy.graph import Graph, read_frozen

FORMAT = 1


def weights(model: tf.keras.Model, path: str | os.PathLike[str] | None = None) -> dict[str, np.ndarray]:
    """The kernels of all binary layers, and what follows each of them, as arrays.

    For each binary convolution `NAME` (a dense layer is a 1×1 convolution, a 1D one of size k a (1, k) one):

    - `NAME/kernel`: int8, -1 and +1, `(kh, kw, cin, cout)`; the layer computes
      `y[o] = Σ kernel[i, j, c, o] · sign(x)[…, c]` with `sign(0) = +1`.
    - `NAME/bits`: uint32, `(cout, kh, kw, ceil(cin / 32))`, as LCE stores it: bit c of word w is 1 where the
      kernel of input channel `32 w + c` is -1; bits beyond the last channel are 0.
    - `NAME/scale`: float32, `(cout,)`, of the latent kernel: the trained layer computes `scale · y + bias`.
    - `NAME/bias`: float32, `(cout,)`, where the layer has one.
    - `NAME/multiplier`, `NAME/offset`: float32, `(cout,)`: after folding, the batch normalization, scales and
      biases directly behind the layer compute `multiplier · y + offset` (1 and 0 where nothing follows).
    - `NAME/threshold`: float32, `(cout,)`: `multiplier · y + offset >= 0` exactly where `y >= threshold`
      (`y <= threshold` where the multiplier is negative); infinite where it is 0.

    Real layers are there as `NAME/weight_…` in float32, in Keras' layout, as trained. `layout` is a text in
    JSON with a `format` number, the order of the layers and, for each binary one, stride, padding, the value
    that it pads with and its dilation.

    Args:
        model: A functional or built Sequential model.
        path: An `.npz` file to write.

    Returns:
        The arrays by name.

    Raises:
        ConversionError: The model is subclassed or not built.
        UserError: The file cannot be written.

    Example:
        >>> import zoo
        >>> arrays = weights(zoo.CifarResNet20(method="bireal", input_shape=(32, 32, 3), num_classes=10))
        >>> sum(name.endswith("/bits") for name in arrays)
        18
    """
    trained, deployed = read_frozen(model), folded(model)
    as_trained = {call.layer.name: call.layer.weights for call in trained.calls}
    arrays: dict[str, np.ndarray] = {}
    layers: dict[str, Any] = {}
    for call in deployed.calls:
        layer = call.layer
        if not facts.convolves_signs(deployed, call):
            continue
        name, kernel = layer.name, layer.weights["kernel"]
        own = as_trained[name]
        arrays[f"{name}/kernel"] = np.where(kernel < 0, -1, 1).astype(np.int8)
        arrays[f"{name}/bits"] = packed(kernel)
        arrays[f"{name}/scale"] = np.abs(own["kernel"]).reshape(-1, own["kernel"].shape[-1]).max(axis=0)
        if "bias" in own:
            arrays[f"{name}/bias"] = own["bias"]
        arrays |= {f"{name}/{key}": value for key, value in _behind(deployed, call).items()}
        keys = ("strides", "padding", "pad_values", "dilation_rate")
        layers[name] = {"kind": "binary", **{key: layer.config[key] for key in keys}}
    for call in trained.calls:
        if call.layer.name not in layers and call.layer.weights:
            layers[call.layer.name] = {"kind": call.layer.kind.__name__}
            for key, value in call.layer.weights.items():
                arrays[f"{call.layer.name}/weight_{key}"] = value
    layout = {"format": FORMAT, "model": model.name, "layers": layers}
    arrays["layout"] = np.array(json.dumps(layout, default=str))
    if path is not None:
        with files.replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)
    return arrays


def packed(kernel: np.ndarray) -> np.ndarray:
    """The bits of a kernel `(kh, kw, cin, cout)` in words, `(cout, kh, kw, ceil(cin / 32))`, 1 for -1.

    Example:
        >>> packed(np.ones((1, 1, 40, 2))).shape
        (2, 1, 1, 2)
    """
    bits = np.moveaxis(kernel < 0, -1, 0)
    fill = -bits.shape[-1] % 32
    bits = np.pad(bits, [(0, 0)] * 3 + [(0, fill)])
    return np.ascontiguousarray(np.packbits(bits, axis=-1, bitorder="little")).view("<u4")


def _behind(graph: Graph, call: Any) -> dict[str, np.ndarray]:
    """The map per channel directly behind a convolution of the folded graph, and the threshold it makes."""
    filters = call.layer.weights["kernel"].shape[-1]
    reader = graph.sole_consumer(call.outputs[0])
    affine = affine_of(reader) if reader is not None else None
    multiplier = np.ones(filters) if affine is None else affine.scale
    offset = np.zeros(filters) if affine is None else affine.bias
    if "bias" in call.layer.weights:
        offset = offset + multiplier * call.layer.weights["bias"]
    with np.errstate(divide="ignore", invalid="ignore"):
        threshold = np.where(multiplier == 0, np.where(offset >= 0, -np.inf, np.inf), -offset / multiplier)
    return {
        "multiplier": multiplier.astype(np.float32),
        "offset": offset.astype(np.float32),
        "threshold": threshold.astype(np.float32),
    }
