"""Trains the phases of a run, from the start or from where it stopped."""

import contextlib
import dataclasses
from collections.abc import Iterator

from rich.console import Console

from bnn_tf import data
from bnn_tf._tensorflow import tf
from bnn_tf.errors import UsageError, UserError
from bnn_tf.losses import Distiller
from bnn_tf.observe import KernelDiagnostics
from bnn_tf.training import build, preparation, strategies, teachers
from bnn_tf.training.callbacks import Checkpointing, EpochProgress, StopAtNaN
from bnn_tf.training.run import Run
from bnn_tf.training.seeding import set_seeds
from zoo.recipes import Phase, Recipe


@dataclasses.dataclass(frozen=True)
class Session:
    """How to run, as far as it does not change what is computed.

    Args:
        console: Where progress goes.
        gpus: See `strategies.select`.
        print_every: See `EpochProgress`.
        until_phase: Name of the last phase to train; `None` for all.
    """

    console: Console
    gpus: int | None = None
    print_every: int = 0
    until_phase: str | None = None


def train(run: Run, session: Session) -> tf.keras.Model:
    """Trains what is left of a run and returns the trained network.

    After each epoch the run can be resumed, with the same result as if it had not been stopped (bit for
    bit with `deterministic`).

    Raises:
        UserError: the data cannot be read, the loss became NaN, the disk is full, or the like.
    """
    config = run.config
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    strategy = strategies.select(session.gpus)
    source = build.source(config)
    if tuple(source.class_names) != config.class_names:
        raise UserError(f"{config.recipe.dataset} has other classes now than when {run.path} was started")
    current, done = run.position() or (0, 0)
    network: tf.keras.Model | None = None
    with run.claimed(), _clear_memory_errors(), _without_advice():
        for index in _phases_left(config.recipe, current, session.until_phase):
            # Every phase starts from its own seed, so that it does not matter how often a run was stopped.
            set_seeds(config.seed + index)
            with strategy.scope():
                resumed = index == current and done > 0
                network = _start(run, index, network, resumed, session.console)
                _train_phase(run, index, network, source, session)
    return network


def _phases_left(recipe: Recipe, current: int, until: str | None) -> range:
    """From the phase in which the run is to the last that was asked for."""
    last = len(recipe.phases) - 1 if until is None else build.phase_index(recipe, until)
    if last < current:
        raise UsageError(f"--until-phase {until}: the run is in phase {recipe.phases[current].name} already")
    return range(current, last + 1)


@contextlib.contextmanager
def _clear_memory_errors() -> Iterator[None]:
    try:
        yield
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        raise UserError("out of memory; try a smaller --batch-size") from error


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """Keras warns of slow callbacks and repeated tracing where steps are short or phases many."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        yield
    finally:
        logger.setLevel(level)


def _start(
    run: Run, index: int, previous: tf.keras.Model | None, resumed: bool, console: Console
) -> tf.keras.Model:
    """The network of a phase with its starting weights (those of a checkpoint are restored later)."""
    config, phase = run.config, run.config.recipe.phases[index]
    network = build.model(config.recipe, len(config.class_names), phase)
    if not resumed:
        preparation.initialize(network, run, index, previous, console)
    preparation.select_trainable(network, phase)
    return network


def _train_phase(
    run: Run, index: int, network: tf.keras.Model, source: data.Source, session: Session
) -> None:
    """Runs the epochs of a phase that are not done yet."""
    config, phase = run.config, run.config.recipe.phases[index]
    done = run.completed_epochs(index)
    optimizer = build.optimizer(config.recipe, phase)
    checkpoint = tf.train.Checkpoint(model=network, optimizer=optimizer)
    trained = _compiled(network, optimizer, phase, run)
    if done:
        run.restore(checkpoint, index)
    if done >= phase.epochs:
        return
    pre = build.preprocessing(config.recipe, phase)
    steps = data.steps(source, "train", phase.batch_size)
    workers = config.workers or tf.data.AUTOTUNE
    left = _phases_left(config.recipe, index, session.until_phase)
    later = sum(config.recipe.phases[i].epochs for i in left[1:])
    progress = EpochProgress(session.console, phase.name, phase.epochs, steps, later, session.print_every)
    batches = data.training_batches(
        source, pre, phase.batch_size, config.seed + index, phase.epochs, initial_epoch=done, workers=workers
    )
    try:
        with data.clear_errors():
            trained.fit(
                batches,
                epochs=phase.epochs,
                initial_epoch=done,
                steps_per_epoch=steps,
                validation_data=data.evaluation_batches(
                    source, pre, config.recipe.test_batch_size, workers=workers
                ),
                callbacks=_callbacks(run, index, network, checkpoint, progress),
                verbose=0,
            )
    finally:
        progress.close()


def _compiled(
    network: tf.keras.Model, optimizer: tf.keras.optimizers.legacy.Optimizer, phase: Phase, run: Run
) -> tf.keras.Model:
    """The network, or a distiller around it, ready to fit."""
    metrics = build.metrics(len(run.config.class_names))
    if phase.loss == "distribution":
        distiller = Distiller(network, teachers.load(run.config))
        distiller.compile(optimizer=optimizer, metrics=metrics)
        return distiller
    network.compile(optimizer=optimizer, loss=build.loss(phase), metrics=metrics)
    return network


def _callbacks(
    run: Run, index: int, network: tf.keras.Model, checkpoint: tf.train.Checkpoint, progress: EpochProgress
) -> list[tf.keras.callbacks.Callback]:
    recipe = run.config.recipe
    phase = recipe.phases[index]
    schedule = build.learning_rate(phase)
    logs = run.path / "tensorboard" / phase.name
    return [
        StopAtNaN(run, index),
        tf.keras.callbacks.LearningRateScheduler(lambda epoch, _: schedule(epoch, phase.epochs)),
        *build.phase_method(recipe, phase).callbacks(epochs=phase.epochs, log_dir=logs),
        KernelDiagnostics(run.path / "diagnostics.jsonl", phase.name, network, logs),
        tf.keras.callbacks.TensorBoard(str(logs), write_graph=False),
        Checkpointing(run, index, network, checkpoint),
        progress,
    ]
