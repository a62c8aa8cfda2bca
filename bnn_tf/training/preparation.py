"""Where a phase's weights come from, and which of them it trains."""

from rich.console import Console

from bnn_tf import math
from bnn_tf._tensorflow import lq, tf
from bnn_tf.training import build, larq_zoo
from bnn_tf.training.positional import transfer_in_order
from bnn_tf.training.run import Run, RunConfig
from bnn_tf.training.transfer import (
    TransferReport,
    require_complete,
    require_same_orientation,
    require_some,
    transfer,
)
from bnn_tf.transforms import latent_value
from zoo.recipes import Phase

STARTS = ("previous", "random")
"""What a phase can start from; anything else is the path of a run."""


def initialize(
    network: tf.keras.Model, run: Run, index: int, previous: tf.keras.Model | None, console: Console
) -> None:
    """Gives a new network of phase `index` its starting weights; errors as `take_weights`."""
    report = take_weights(network, run.config, index, previous)
    if report is not None:
        console.print(f"Starting from {origin(run.config, index)}: {report}")
    if run.config.recipe.phases[index].binarize_kernels:
        binarize_kernels(network)


def take_weights(
    network: tf.keras.Model, config: RunConfig, index: int, previous: tf.keras.Model | None
) -> TransferReport | None:
    """Gives a network of phase `index` the weights of a run or of the previous phase's network.

    Returns:
        What came from a run.

    Raises:
        UserError: weights were to carry over from the previous phase and do not completely, or there is
            no such run, or nothing of it fits.
    """
    phase = config.recipe.phases[index]
    start = origin(config, index)
    if start is not None:
        return start_from(start, network)
    if previous is not None and phase.start == "previous":
        require_complete(transfer(previous, network), phase.fresh_variables)
    return None


def origin(config: RunConfig, index: int) -> str | None:
    """The run whose weights a phase starts from, if that is where they come from."""
    start = config.recipe.phases[index].start
    if index == 0 and config.init_from is not None:
        return config.init_from
    return None if start in STARTS else start


def start_from(path: str, network: tf.keras.Model) -> TransferReport:
    """Gives a network the weights of a run, as far as they fit, or of a network of Larq Zoo.

    Raises:
        UserError: there is no such run or network, nothing of it fits, or its kernels are turned (see
            `bnn_tf.layers.Flip`) and the network's are not.
    """
    other_names = larq_zoo.is_name(path)
    source = larq_zoo.load(path) if other_names else build.load_run_model(Run.open(path))
    require_same_orientation(source, network)
    if other_names:
        return transfer_in_order(source, network)
    report = transfer(source, network)
    require_some(report)
    return report


def binarize_kernels(network: tf.keras.Model) -> None:
    """Sets every latent kernel of a binary layer to its signs, exactly ±1."""
    for layer in network.layers:
        if isinstance(layer, lq.layers.QuantConv2D) and layer.kernel_quantizer is not None:
            latent = getattr(layer.kernel, "latent_variable", layer.kernel)
            latent.assign(math.sign(latent_value(layer.kernel)))


def select_trainable(network: tf.keras.Model, phase: Phase) -> None:
    """Freezes what the phase does not train."""
    if phase.trainable == "batch_norm":
        train_only_batch_norm(network)


def train_only_batch_norm(network: tf.keras.Model) -> None:
    """Freezes every layer but BatchNormalization; compile the network afterwards."""
    for layer in network.layers:
        layer.trainable = isinstance(layer, tf.keras.layers.BatchNormalization)
