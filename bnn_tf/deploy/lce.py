"""The call of Larq Compute Engine's converter."""

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Iterator

from bnn_tf._runtime import quiet_native_stderr
from bnn_tf._tensorflow import tf
from bnn_tf.deploy.graph import ConversionError


def to_flatbuffer(model: tf.keras.Model) -> bytes:
    """Content of a `.tflite` file that computes a float32 model for one image at a time; nothing is checked.

    The model is traced in inference mode. Several outputs keep their order.

    Raises:
        ConversionError: LCE's converter refuses the model.
    """

    def infer(images: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = tf.nest.flatten(model(images, training=False))
        return {f"output_{number:04d}": output for number, output in enumerate(outputs)}  # sorted by name

    shape = (1, *model.input_shape[1:])
    function = tf.function(infer, input_signature=[tf.TensorSpec(shape, tf.float32)])
    module = tf.Module()
    module.tracked = model.variables  # saving the model itself would trace every layer once more
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        import larq_compute_engine as lce

        tf.saved_model.save(module, folder, signatures=function.get_concrete_function())
        try:
            return lce.convert_saved_model(folder)
        except Exception as error:  # it raises plain Exceptions, whose message is a page of MLIR
            reason = next((line for line in str(error).splitlines() if "error:" in line), str(error))
            raise ConversionError(f"LCE's converter refuses '{model.name}': {reason[:300]}") from error


def with_int8_ends(content: bytes, images: bool, logits: bool) -> bytes:
    """The file without the operator that quantizes its input, or dequantizes its output.

    Where there is no such operator the type stays float32; nothing is checked.

    Args:
        content: A file with one input and one output.
        images: Whether the input is to be int8.
        logits: Whether the output is to be int8.
    """
    types = {True: tf.int8, False: tf.float32}
    with _quiet():
        from larq_compute_engine.mlir.python.util import modify_integer_quantized_model_io_type

        try:
            return modify_integer_quantized_model_io_type(content, types[images], types[logits])
        except ValueError:  # it quantizes nothing
            return content


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    logger = tf.get_logger()
    level = logger.level
    with warnings.catch_warnings(), quiet_native_stderr():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)
