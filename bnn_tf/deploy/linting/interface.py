"""Checks of the model as a whole: what keeps it from being converted at all."""

import warnings
from collections.abc import Iterator

from bnn_tf._tensorflow import tf
from bnn_tf.deploy.graph import is_functional
from bnn_tf.deploy.linting.findings import Finding, Severity
from bnn_tf.deploy.linting.quantized import Network


def not_functional(model: tf.keras.Model) -> Finding | None:
    """The error for a model whose layers cannot be followed, itself or one that it calls."""
    for part in (model, *_nested(model)):
        if not is_functional(part):
            name = getattr(part, "name", type(part).__name__)
            reason = "it is subclassed or not built yet, so that its layers cannot be followed or converted"
            remedy = "Build it with tf.keras.Input and tf.keras.Model(inputs, outputs)"
            return Finding("not-functional", Severity.ERROR, name, reason, remedy)
    return None


def _nested(model: tf.keras.Model) -> Iterator[tf.keras.Model]:
    for layer in getattr(model, "layers", ()) if is_functional(model) else ():
        if isinstance(layer, tf.keras.Model):
            yield layer
            yield from _nested(layer)


def without_configuration(model: tf.keras.Model) -> Finding | None:
    """The error for a layer or quantizer of one's own that cannot be copied."""
    for layer in model._flatten_layers(recursive=True, include_self=False):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about lambdas, which are not stored
                layer.get_config()
        except NotImplementedError:
            reason = f"its class {type(layer).__name__} has no get_config, so that it cannot be copied"
            remedy = "Define get_config to return the arguments of its constructor"
            return Finding("no-configuration", Severity.ERROR, layer.name, reason, remedy)
    return None


def one_input_and_output(model: tf.keras.Model) -> Iterator[Finding]:
    """Several inputs or outputs."""
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        reason = f"it has {len(model.inputs)} inputs and {len(model.outputs)} outputs; one of each converts"
        remedy = "Make a tf.keras.Model from one input to one output of it"
        yield Finding("several-inputs-or-outputs", Severity.ERROR, model.name, reason, remedy)


def float_input(model: tf.keras.Model) -> Iterator[Finding]:
    """Inputs of integers."""
    for tensor in model.inputs:
        if not tensor.dtype.is_floating:
            reason = f"it takes {tensor.dtype.name} images, but a converted model takes float32"
            remedy = "Build it with a float32 input, and convert the images before it"
            yield Finding("integer-input", Severity.ERROR, model.name, reason, remedy)


def known_size(model: tf.keras.Model) -> Iterator[Finding]:
    """Inputs of any size."""
    for tensor in model.inputs:
        if None in tensor.shape[1:]:
            reason = f"it takes images of any size {tuple(tensor.shape[1:])}, but a file has a fixed one"
            remedy = "Build it with input_shape=(height, width, channels)"
            yield Finding("unknown-size", Severity.ERROR, model.name, reason, remedy)


def mixed_precision(model: tf.keras.Model) -> Iterator[Finding]:
    """Layers in half precision, which LCE's converter refuses and `convert` rebuilds."""
    policies = {str(getattr(module, "compute_dtype", "")) for module in model.submodules}
    low = sorted(name for name in policies if "float16" in name)
    if low:
        reason = f"it computes in {' and '.join(low)}, which LCE's converter refuses"
        remedy = "Nothing to do: bnn-tf convert rebuilds it in float32"
        yield Finding("mixed-precision", Severity.INFO, model.name, reason, remedy)


def hidden_layers(network: Network) -> Iterator[Finding]:
    """Quantized layers inside layers of one's own, whose neighbours lint cannot see."""
    for layer in network.quantized:
        if layer.is_nested:
            reason = "it stands inside another layer, so that its padding and neighbours are not checked"
            remedy = "Compose layers in a function or a tf.keras.Model to have all of it checked"
            yield Finding("hidden-layer", Severity.INFO, layer.name, reason, remedy)
