"""Conversion for Larq Compute Engine, with proof that it worked."""

import collections
import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np

from bnn_tf._tensorflow import tf
from bnn_tf.deploy import binary, folding, freezing, layerwise
from bnn_tf.deploy import parity as parities
from bnn_tf.deploy.binary import BinaryConvolution
from bnn_tf.deploy.errors import ConversionError
from bnn_tf.deploy.flatbuffer import Operator, operators
from bnn_tf.deploy.graph import Graph, is_functional, not_functional, read
from bnn_tf.deploy.interpreter import Interpreter
from bnn_tf.deploy.lce import to_flatbuffer
from bnn_tf.errors import UserError

_BINARY = "LceBconv2d"
_DEFAULT_IMAGES = 64
_NAMED = 5  # layers named in a message
_USUAL_CAUSE = (
    "LCE is known to miscompute symmetric padding by hand (ZeroPadding2D, tf.pad) before a 'valid' "
    "convolution with stride 2; use padding='same' there."
)


@dataclasses.dataclass(frozen=True)
class ConversionReport:
    """What was written.

    Attributes:
        path: The file.
        size: Its size in bytes.
        expected_binary_convs: Convolutions of the model with binary inputs and kernels.
        actual_binary_convs: `LceBconv2d` operators in the file.
        operators: How often each operator stands in the file, by name.
        parity: Comparison with Keras; None where it was not asked for.
    """

    path: Path
    size: int
    expected_binary_convs: int
    actual_binary_convs: int
    operators: dict[str, int]
    parity: parities.ParityReport | None

    def to_dict(self) -> dict[str, Any]:
        """The report with plain values, for JSON."""
        return {
            "path": str(self.path),
            "size": self.size,
            "expected_binary_convs": self.expected_binary_convs,
            "actual_binary_convs": self.actual_binary_convs,
            "operators": self.operators,
            "parity": self.parity.to_dict() if self.parity else None,
        }

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in self.operators.items())
        return (
            f"{self.path}: {self.size:,} bytes\n"
            f"binary convolutions: {self.actual_binary_convs} of {self.expected_binary_convs} as LceBconv2d\n"
            f"operators: {counts}\n"
            f"agreement with Keras: {self.parity or 'not checked'}"
        )


def convert(
    model: tf.keras.Model,
    path: str | os.PathLike[str],
    images: np.ndarray | None = None,
    parity: bool = True,
    fold: bool = True,
) -> ConversionReport:
    """Converts a model for Larq Compute Engine and proves that it computes the same.

    The file takes one image at a time. It is written only if every convolution with binary inputs and
    kernels became an `LceBconv2d` operator, LCE's interpreter can run it, and its outputs agree with Keras'.

    Args:
        model: A functional or built Sequential model with one input of fixed size and one output.
            Mixed-precision models are rebuilt in float32 first.
        path: The `.tflite` file to write; an existing one is replaced.
        images: Preprocessed images, `(n, height, width, channels)`, for the comparison with Keras;
            64 images of standard normal noise (seed 0) by default. See `bnn_tf.deploy.parity` for the limits.
        parity: Whether to compare with Keras at all.
        fold: Whether to fold scales and biases first, see `bnn_tf.deploy.fold`.

    Raises:
        ConversionError: The model cannot be converted, a binary convolution stayed float, or the outputs
            disagree. Nothing is written.
    """
    _check_interface(model)
    model = freezing.in_float32(model)
    graph = freezing.read_frozen(model)
    expected = binary.binary_convolutions(graph)
    if fold:
        folding.fold_graph(graph)
    content = to_flatbuffer(graph.build())
    found = operators(content)
    _check_binary(expected, found, fold)
    interpreter = _interpreter(content, expected, found)
    comparison = _compare(model, graph, content, interpreter, images) if parity else None
    _write(Path(path), content)
    counts = collections.Counter(operator.name for operator in found)
    return ConversionReport(
        path=Path(path),
        size=len(content),
        expected_binary_convs=len(expected),
        actual_binary_convs=counts[_BINARY],
        operators=dict(counts.most_common()),
        parity=comparison,
    )


def _check_interface(model: tf.keras.Model) -> None:
    if not is_functional(model):
        raise not_functional(model)
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ConversionError(
            f"The model '{model.name}' has {len(model.inputs)} inputs and {len(model.outputs)} outputs; "
            "only models with one of each can be converted."
        )
    if not model.inputs[0].dtype.is_floating:
        raise ConversionError(
            f"The model '{model.name}' takes {model.inputs[0].dtype.name} images, but a converted "
            "model takes float32; build it with an input of that type."
        )
    if None in model.input_shape[1:]:
        raise ConversionError(
            f"The model '{model.name}' takes images of any size {model.input_shape[1:]}, but a converted "
            "model has a fixed one; build it with input_shape=(height, width, channels)."
        )


def _check_binary(expected: list[BinaryConvolution], found: list[Operator], folded: bool) -> None:
    actual = [operator for operator in found if operator.name == _BINARY]
    missing = len(expected) - len(actual)
    if missing <= 0:
        return
    stayed = [(c.name, binary.obstacle(c, folded)) for c in _stayed_float(expected, actual)]
    if len(stayed) > missing and any(reason for _, reason in stayed):
        stayed = [(name, reason) for name, reason in stayed if reason]
    named = [f"'{name}'" + (f" ({reason})" if reason else "") for name, reason in stayed]
    details = "; ".join(named[:_NAMED] + [f"and {len(named) - _NAMED} more"] * (len(named) > _NAMED))
    raise ConversionError(
        f"{missing} of {len(expected)} binary convolutions stayed float in LCE: {details}. LCE needs a "
        "QuantConv2D, inputs of -1 and +1 from Larq's sign (or tf.where(x >= 0, 1., -1.)), and kernels of "
        "+s or -s with s > 0 in every filter."
    )


def _stayed_float(expected: list[BinaryConvolution], actual: list[Operator]) -> list[BinaryConvolution]:
    """The layers with no operator of their own; where names do not tell, all of a shape that is short."""
    named = [c for c in expected if not any(_belongs_to(operator, c.name) for operator in actual)]
    if len(named) == len(expected) - len(actual):
        return named
    short = collections.Counter(c.geometry for c in expected)
    short.subtract(operator.inputs[1].shape[:3] for operator in actual)
    return [c for c in expected if short[c.geometry] > 0]


def _belongs_to(operator: Operator, layer: str) -> bool:
    # Outputs bear the name of what was fused last; the input is the sign that the layer itself took.
    return any(f"/{layer}/" in f"/{source}/" for source in operator.inputs[0].name.split(";"))


def _interpreter(content: bytes, expected: list[BinaryConvolution], found: list[Operator]) -> Interpreter:
    try:
        return Interpreter(content)
    except UserError as error:
        grouped = [f"'{c.name}'" for c in expected if getattr(c.layer, "groups", 1) > 1]
        unknown = {op.name for op in found if not op.name.isupper() and not op.name.startswith("Lce")}
        causes = [f"it cannot run grouped binary convolutions: {', '.join(grouped)}"] * bool(grouped)
        causes += [f"it does not know {', '.join(sorted(unknown))}"] * bool(unknown)
        reason = "; ".join(causes) or str(error.__cause__ or error).strip().splitlines()[-1]
        raise ConversionError(f"LCE's interpreter cannot run the converted model: {reason}.") from error


def _compare(
    model: tf.keras.Model,
    deployed: Graph,
    content: bytes,
    interpreter: Interpreter,
    images: np.ndarray | None,
) -> parities.ParityReport:
    """Compares the logits; where they look wrong, the layers decide."""
    if images is None:
        shape = (_DEFAULT_IMAGES, *model.input_shape[1:])
        images = np.random.default_rng(0).standard_normal(shape, np.float32)
    images = np.asarray(images)
    if not len(images):
        raise ConversionError("There are no images to compare the converted model with Keras on.")
    lite_logits = interpreter.predict(images)  # first, because it checks the shape
    comparison = parities.compare(model.predict(images, verbose=0), lite_logits)
    if comparison.agrees:
        return comparison
    divergence = layerwise.first_divergence(read(model), deployed, content, images)
    if divergence is None:
        return dataclasses.replace(comparison, layers_agree=True)
    raise ConversionError(
        f"The converted model disagrees with Keras: {comparison.problem}; {divergence}. {_USUAL_CAUSE}"
    )


def _write(path: Path, content: bytes) -> None:
    """Writes the whole file or nothing."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        raise ConversionError(f"Cannot write '{path}': {error.strerror}.") from error
    finally:
        temporary.unlink(missing_ok=True)
