"""What an app must know of a converted file, as JSON and as TFLite metadata inside the file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bnn_tf.deploy.lce_file import LceFile

FORMAT = 1
JSON_ENTRY = "BNN_TF_CONTRACT"
"""The entry of the file's metadata that holds the contract as JSON."""
TFLITE_ENTRY = "TFLITE_METADATA"
"""The entry that TFLite's own tools read."""
_COLORS = {1: 2, 3: 1}  # TFLite's numbers of GRAYSCALE and RGB, by channels


def contract(
    file: LceFile,
    meanings: Sequence[str],
    images: Mapping[str, Any],
) -> dict[str, Any]:
    """What an app must know to use a file.

    Args:
        file: The converted file.
        meanings: What the numbers of each output are, `"logits"` or `"probabilities"`.
        images: What is known of the images, as `bnn_tf.data.Images.contract` says it; kept as it is.

    Returns:
        `{"format": 1, "inputs": […], "outputs": […], **images}`; each tensor with its `name`, `shape`,
        `layout`, `type` and, for int8, `scale` and `zero_point`, each output with its `meaning`.
    """
    inputs = [_tensor(name, one) for name, one in zip(file.input_names, file.inputs, strict=True)]
    outputs = [
        {**_tensor(name, one), "meaning": meaning}
        for name, one, meaning in zip(file.output_names, file.outputs, meanings, strict=True)
    ]
    return {"format": FORMAT, "inputs": inputs, "outputs": outputs, **images}


def _tensor(name: str, tensor: Any) -> dict[str, Any]:
    described = {"name": name, "shape": list(tensor.shape), "type": tensor.type.lower()}
    if len(tensor.shape) == 4:
        described["layout"] = "NHWC"
    if tensor.quantization is not None:
        described["scale"], described["zero_point"] = tensor.quantization
    return described


def stored(file: LceFile, description: Mapping[str, Any], name: str) -> bytes:
    """The content of a file with a contract inside, as JSON and as TFLite metadata."""
    text = json.dumps(description).encode()
    return file.with_metadata({JSON_ENTRY: text, TFLITE_ENTRY: tflite_metadata(description, name)})


def read(file: LceFile) -> dict[str, Any] | None:
    """The contract inside a file; None where there is none, or none that can be read."""
    try:
        value = json.loads(file.metadata[JSON_ENTRY])
    except (KeyError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def tflite_metadata(description: Mapping[str, Any], name: str) -> bytes:
    """TFLite's own metadata (`ModelMetadata`): tensors, color space, and the normalization of raw pixels.

    Its normalization is `(pixel - mean) / std` of pixels from 0 to 255; that of a file which takes raw pixels
    is mean 0 and std 1.
    """
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    inputs = [_input_metadata(builder, tensor, description) for tensor in description["inputs"]]
    outputs = [_output_metadata(builder, tensor, description) for tensor in description["outputs"]]
    graph = _table(builder, 7, {2: _vector(builder, inputs), 3: _vector(builder, outputs)})
    fields = {
        0: builder.CreateString(name),
        1: builder.CreateString("Converted for Larq Compute Engine by bnn-tf."),
        3: _vector(builder, [graph]),
        7: builder.CreateString("1.0.0"),
    }
    builder.Finish(_table(builder, 8, fields), b"M001")
    return bytes(builder.Output())


def _input_metadata(builder: Any, tensor: Mapping[str, Any], description: Mapping[str, Any]) -> int:
    name = builder.CreateString(tensor["name"])
    fields = {0: name}
    channels = tensor["shape"][-1]
    if tensor.get("layout") == "NHWC" and channels in _COLORS:
        properties = _table(builder, 2, {}, _COLORS[channels])
        fields[3] = _table(builder, 3, {1: properties}, kind=2)
    if {"mean", "std"} <= set(description):
        raw = tensor["type"] == "uint8"
        mean = [0.0 if raw else 255.0 * value for value in description["mean"]]
        std = [1.0 if raw else 255.0 * value for value in description["std"]]
        vectors = [builder.CreateNumpyVector(np.array(values, np.float32)) for values in (mean, std)]
        options = _table(builder, 2, dict(enumerate(vectors)))
        unit = _table(builder, 2, {1: options}, kind=1)
        fields[4] = _vector(builder, [unit])
    return _table(builder, 7, fields)


def _output_metadata(builder: Any, tensor: Mapping[str, Any], description: Mapping[str, Any]) -> int:
    labels = ", ".join(map(str, description.get("labels") or ()))
    fields = {0: builder.CreateString(tensor["name"]), 1: builder.CreateString(labels)}
    return _table(builder, 7, fields)


def _table(builder: Any, size: int, offsets: Mapping[int, int], kind: int = 0) -> int:
    """A table of `size` fields; the first one may be the number of a kind."""
    builder.StartObject(size)
    if kind:
        builder.PrependUint8Slot(0, kind, 0)
    for field, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(field, offset, 0)
    return builder.EndObject()


def _vector(builder: Any, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()
