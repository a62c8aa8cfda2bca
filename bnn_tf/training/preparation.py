"""Where a phase's weights come from, and which of them it trains."""

from rich.console import Console

from bnn_tf import math
from bnn_tf._tensorflow import lq, tf
from bnn_tf.training import build
from bnn_tf.training.run import Run
from bnn_tf.training.transfer import require_complete, require_some, transfer
from bnn_tf.transforms import latent_value
from zoo.recipes import Phase


def initialize(
    network: tf.keras.Model, run: Run, index: int, previous: tf.keras.Model | None, console: Console
) -> None:
    """Gives a new network of phase `index` its starting weights.

    Raises:
        UserError: weights were to carry over from the previous phase and do not completely, or nothing
            of `init_from` fits.
    """
    phase = run.config.recipe.phases[index]
    if previous is not None and phase.start == "previous":
        require_complete(transfer(previous, network), phase.fresh_variables)
    elif run.config.init_from is not None and index == 0:
        report = transfer(build.load_run_model(Run.open(run.config.init_from)), network)
        console.print(f"Starting from {run.config.init_from}: {report}", highlight=False)
        require_some(report)
    if phase.binarize_kernels:
        binarize_kernels(network)


def binarize_kernels(network: tf.keras.Model) -> None:
    """Sets every latent kernel of a binary layer to its signs."""
    for layer in network.layers:
        if isinstance(layer, lq.layers.QuantConv2D) and layer.kernel_quantizer is not None:
            latent = getattr(layer.kernel, "latent_variable", layer.kernel)
            latent.assign(math.sign(latent_value(layer.kernel)))


def select_trainable(network: tf.keras.Model, phase: Phase) -> None:
    """Freezes what the phase does not train."""
    if phase.trainable == "batch_norm":
        for layer in network.layers:
            layer.trainable = isinstance(layer, tf.keras.layers.BatchNormalization)
