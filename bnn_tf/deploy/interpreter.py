"""Running converted models on the development machine, on LCE's own interpreter."""

import os
import warnings
from typing import Any

import numpy as np

from bnn_tf._runtime import quiet_native_stderr
from bnn_tf._tensorflow import tf
from bnn_tf.deploy import flatbuffer
from bnn_tf.errors import UserError


class Interpreter:
    """Larq Compute Engine's interpreter on a `.tflite` file; it also runs plain TFLite models.

    On x86 it falls back on portable kernels: results are right, timings say nothing about ARM.

    Args:
        model: The file's path or its content.
        num_threads: Threads to use. On x86 more than one was slower, for small and for large networks.

    Raises:
        UserError: The file is missing, damaged or no model that this interpreter can run.
    """

    def __init__(self, model: bytes | str | os.PathLike[str], num_threads: int = 1) -> None:
        self._name = flatbuffer.label(model)
        self._interpreter = _load(model, num_threads)
        if len(self._interpreter.input_shapes) != 1 or len(self._interpreter.output_shapes) != 1:
            raise UserError(
                f"{self._name} has several inputs or outputs; only models with one of each are supported."
            )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input with its batch, usually `(1, height, width, channels)`."""
        return tuple(self._interpreter.input_shapes[0])

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output with its batch, usually `(1, classes)`."""
        return tuple(self._interpreter.output_shapes[0])

    @property
    def input_type(self) -> np.dtype:
        """Element type of the input, float32 or int8."""
        return np.dtype(self._interpreter.input_types[0])

    @property
    def output_type(self) -> np.dtype:
        """Element type of the output, float32 or int8."""
        return np.dtype(self._interpreter.output_types[0])

    @property
    def input_quantization(self) -> tuple[float, int] | None:
        """Scale and zero point of an int8 input; None for a float32 one."""
        return self._quantization("input") if self.input_type == np.int8 else None

    @property
    def output_quantization(self) -> tuple[float, int] | None:
        """Scale and zero point of an int8 output; None for a float32 one."""
        return self._quantization("output") if self.output_type == np.int8 else None

    def _quantization(self, end: str) -> tuple[float, int]:
        scales, zeros = (getattr(self._interpreter, f"{end}_{name}") for name in ("scales", "zero_points"))
        return float(scales[0]), int(zeros[0])

    def predict(self, images: np.ndarray) -> np.ndarray:
        """The model's output for each image.

        Where the model takes int8, floats are quantized as the device must do it, `round(x / s) + z` with
        the scale s and zero point z of the input; an int8 output becomes `s · (y - z)`.

        Args:
            images: `(n, height, width, channels)`, preprocessed as in training.

        Returns:
            `(n, ...)`, the outputs in the order of the images, float32.

        Raises:
            UserError: The images have another shape than the model's input.
        """
        images = np.asarray(images)
        if images.ndim == 0 or images.shape[1:] != self.input_shape[1:] or self.input_shape[0] != 1:
            raise UserError(
                f"{self._name} takes images of shape {self.input_shape[1:]} one by one, "
                f"but was given an array of shape {images.shape}."
            )
        if not len(images):
            return np.zeros((0, *self.output_shape[1:]), np.float32)
        outputs = self._interpreter.predict(self._given(images))
        if self.output_type != np.int8:
            return outputs
        scale, zero = self._interpreter.output_scales[0], self._interpreter.output_zero_points[0]
        return (outputs.astype(np.float32) - zero) * np.float32(scale)

    def _given(self, images: np.ndarray) -> np.ndarray:
        """The images as the model takes them."""
        if self.input_type == np.int8 and images.dtype.kind == "f":
            scale, zero = self._interpreter.input_scales[0], self._interpreter.input_zero_points[0]
            levels = np.asarray(images, np.float32) / np.float32(scale)
            away = np.trunc(levels + np.copysign(np.float32(0.5), levels))  # ties as TFLite rounds them
            images = np.clip(away + zero, -128, 127)
        elif self.input_type.kind != "f" and images.dtype != self.input_type:
            raise UserError(
                f"{self._name} takes {self.input_type} images, but was given {images.dtype}; "
                "floats are quantized for int8 models only."
            )
        return np.ascontiguousarray(images, self.input_type)


def run(content: bytes, images: np.ndarray) -> list[np.ndarray]:
    """All outputs of a model that `lce.to_flatbuffer` converted, in the Keras model's order."""
    outputs = _load(content, 1).predict(np.ascontiguousarray(images, np.float32))
    outputs = outputs if isinstance(outputs, list) else [outputs]
    return [outputs[position] for position in flatbuffer.output_order(content)]


def _load(model: bytes | str | os.PathLike[str], num_threads: int) -> Any:
    content = flatbuffer.read_model(model)
    _verify(model, content)
    with quiet_native_stderr():
        from larq_compute_engine.tflite.python import interpreter

        try:
            return interpreter.Interpreter(content, num_threads)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise UserError(f"{flatbuffer.label(model)} cannot run on LCE's interpreter: {reason}") from error


def _verify(model: bytes | str | os.PathLike[str], content: bytes) -> None:
    # LCE's interpreter does not verify the file, and a truncated one crashes the process. TFLite's
    # does, before it looks at operators, so that it needs no knowledge of LCE's.
    with warnings.catch_warnings(), quiet_native_stderr():
        warnings.simplefilter("ignore")
        try:
            tf.lite.Interpreter(model_content=content)
            return
        except ValueError as error:
            cause = error
    raise flatbuffer.damaged(model) from cause
