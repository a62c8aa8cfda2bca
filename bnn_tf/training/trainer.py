"""Trains the phases of a run, from the start or from where it stopped.

A run can be stopped at any step, by a signal, a kill or a power cut, and continued: in deterministic mode it
ends bit for bit where an undisturbed run does. What a signal (SIGINT, SIGTERM, SIGHUP) finds in hand is
finished and saved first; a second signal ends the process at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import random
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from bnn_tf import data
from bnn_tf._runtime import quiet_native_stderr
from bnn_tf._tensorflow import keras_backend, tf
from bnn_tf.callbacks import measure_batch_norm
from bnn_tf.distillation import Distiller
from bnn_tf.errors import UsageError, UserError
from bnn_tf.losses import Replicated
from bnn_tf.observe import KernelDiagnostics
from bnn_tf.training import start, strategies
from bnn_tf.training.checkpoints import Saved, WeightAverage
from bnn_tf.training.evaluation import Evaluation
from bnn_tf.training.progress import EpochProgress
from bnn_tf.training.run import NotResumableError, Position, Run, RunConfig, build_network
from bnn_tf.training.signals import SignalReceived, Signals, StoppedError, signal_name

EXPLODED = 1e6
"""A mean loss above this is taken as gone astray, although it is still a number."""

_VISIBLE_WITHIN = 30  # seconds after which a file of another machine is taken as absent
_DUE = 1000  # among the numbers of signals, stands for a checkpoint that is due
_CHECKED_EVERY = 20  # steps between two looks at the loss, which go to TensorBoard; each waits for the device


@dataclasses.dataclass(frozen=True)
class Session:
    """How to run, as far as it does not change what is computed.

    Args:
        console: Where progress goes.
        gpus: See `strategies.select`.
        print_every: See `EpochProgress`.
        until_phase: Name of the last phase to train; `None` for all.
        restart_from_weights: Where no checkpoint can be used, go on from the last weights with a fresh
            optimizer.
        callbacks: Further Keras callbacks; `on_epoch_end` gets the row of metrics.csv.
        cluster: Machines that train together; see `strategies.select`.
        safe: Whether the files of teachers and starting weights are checked; see `bnn_tf.load_model`.

    Example:
        >>> Session(Console(quiet=True), print_every=50).until_phase is None
        True
    """

    console: Console
    gpus: int | None = None
    print_every: int = 0
    until_phase: str | None = None
    restart_from_weights: bool = False
    callbacks: Sequence[Any] = ()
    cluster: str | None = None
    safe: bool = True


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A configuration whose dataset was opened and whose first network was built.

    Attributes:
        config: With absolute paths and the dataset's class names.
        source: The dataset.
        strategy: Where to compute.
        network: The first phase's network with its starting weights.
        teacher: The network to learn from, if there is one.
        remark: What to say of the starting weights.

    Example:
        >>> from zoo import recipes
        >>> config = RunConfig(recipes.find("bireal", dataset="digits"), limit=32)
        >>> prepared = prepare(config, Session(Console(quiet=True)))
        >>> prepared.source.size("train"), prepared.config.class_names[:2], prepared.network.name
        (32, ('0', '1'), 'cifar_resnet20')
    """

    config: RunConfig
    source: data.Source
    strategy: tf.distribute.Strategy
    network: tf.keras.Model
    teacher: tf.keras.Model | None
    remark: str | None = None


@dataclasses.dataclass(frozen=True)
class Trained:
    """What training led to.

    Attributes:
        network: With the weights after the last epoch; it computes in float32, whatever it was trained in.
        evaluation: The last epoch's result on the held-out images; `None` where it is not known any more.

    Example:
        >>> network = tf.keras.Sequential([tf.keras.layers.Dense(2, input_shape=(3,))])
        >>> Trained(network, Evaluation(images=100, top1=0.9, top5=None, loss=0.3)).evaluation.top1
        0.9
    """

    network: tf.keras.Model
    evaluation: Evaluation | None


def set_seeds(seed: int) -> None:
    """Seeds Python's, NumPy's and TensorFlow's global generators.

    In place of `tf.keras.utils.set_random_seed`, which breaks Keras 2's initializers on Python 3.12: they
    then ask a generator of their own for a whole number below the float 1e9. That generator goes, so that
    initializers take their seeds from Python's again.

    Example:
        >>> set_seeds(3)
        >>> first = np.random.random()
        >>> set_seeds(3)
        >>> first == np.random.random()
        True
    """
    vars(keras_backend._SEED_GENERATOR).pop("generator", None)
    random.seed(seed)
    np.random.seed(seed)
    tf.random.set_seed(seed)


def metrics(num_classes: int) -> list[tf.keras.metrics.Metric]:
    """Top-1 accuracy, and top-5 where that means something."""
    top1 = tf.keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    if num_classes <= 5:
        return [top1]
    return [top1, tf.keras.metrics.SparseTopKCategoricalAccuracy(5, name="top5_accuracy")]


# ------------------------------------------------------------------------------------------- preparing


def prepare(config: RunConfig, session: Session) -> Prepared:
    """Opens the dataset and builds the first network, before a run directory is made and hours are spent.

    Raises:
        UserError: a name or value is wrong, or the dataset, the teacher or the run to start from cannot
            be read.

    Example:
        >>> from zoo import recipes
        >>> config = RunConfig(recipes.find("recu", dataset="digits"))
        >>> prepare(config, Session(Console(quiet=True), until_phase="second"))
        Traceback (most recent call last):
        bnn_tf.errors.UsageError: there is no phase called 'second' (there are: train)
    """
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    strategy = strategies.select(session.gpus, session.cluster)
    if config.jit and strategy.num_replicas_in_sync > 1:
        raise UsageError(
            f"jit (--jit) works on one device only, there are {strategy.num_replicas_in_sync}: "
            "TensorFlow crashes where XLA compiles a step of several"
        )
    config = config.located()
    recipe = config.recipe
    source = data.load(recipe.dataset, config.data_dir, limit=config.limit)
    names = tuple(source.class_names)
    if config.class_names and names != config.class_names:
        raise UserError(f"{recipe.dataset} has other classes now than when the run was started")
    config = dataclasses.replace(config, class_names=names)
    if session.until_phase is not None:
        recipe.phase_index(session.until_phase)
    needs = any(phase.loss.needs_teacher for phase in recipe.phases)
    with strategy.scope():
        teacher = start.load_teacher(config, session.safe) if needs else None
    for name in config.sources()[1:]:  # of later phases
        if name is not None:
            start.require_source(name, session.safe)
    with session.console.status("Building the network…"):  # shows on terminals only
        network, remark = _new_network(config, strategy, session, 0, None)
    return Prepared(config, source, strategy, network, teacher, remark)


def create_run(prepared: Prepared, path: str | os.PathLike | None = None) -> Run:
    """The directory of a new run; of several workers the first makes it, and the others open it.

    Args:
        prepared: What `prepare` gave.
        path: Where; see `Run.create`. Several workers must name it.

    Raises:
        UserError: it cannot be made, or another worker does not see it.

    Example:
        >>> import tempfile
        >>> from zoo import recipes
        >>> config = RunConfig(recipes.find("bireal", dataset="digits"), limit=32)
        >>> run = create_run(prepare(config, Session(Console(quiet=True))), tempfile.mkdtemp())
        >>> run.config.limit
        32
    """
    with strategies.clear_losses(prepared.strategy):
        run = strategies.by_chief(prepared.strategy, lambda: Run.create(prepared.config, path))
    if run is None:
        if path is None:
            raise UsageError("several workers share one run directory, which must be named")
        deadline = time.monotonic() + _VISIBLE_WITHIN
        while not Run.exists(path) and time.monotonic() < deadline:  # other machines see new files later
            time.sleep(0.2)
        if not Run.exists(path):
            raise UserError(
                f"{path} was made by the first worker, but is not seen by this one: "
                "all workers must share the run directory"
            )
        run = Run(Path(path), prepared.config)
    return run


def _new_network(
    config: RunConfig,
    strategy: tf.distribute.Strategy,
    session: Session,
    index: int,
    previous: tf.keras.Model | None,
    initialize: bool = True,
) -> tuple[tf.keras.Model, str | None]:
    """The network of a phase with its starting weights, and what to say of them."""
    recipe = config.recipe
    phase = recipe.phases[index]
    # Every phase starts from its own seed, so that it does not matter how often a run was stopped.
    set_seeds(config.seed + index)
    with strategy.scope(), strategies.precision(config.precision):
        network = build_network(recipe, len(config.class_names), phase)
        report = start.initialize(network, config, index, previous, session.safe) if initialize else None
        if phase.trainable == "batch_norm":
            start.train_only_batch_norm(network)
        if config.sync_batch_norm:
            strategies.synchronize_batch_norm(network)
    if report is None:
        return network, None
    return network, start.described(report, str(config.sources()[index]), network)


# -------------------------------------------------------------------------------------------- training


def train(run: Run, session: Session, prepared: Prepared | None = None) -> Trained:
    """Trains what is left of a run.

    A finished run stays as it is.

    Args:
        run: The run.
        session: How to run.
        prepared: What `prepare` gave for the run's configuration, so that nothing is built twice.

    Returns:
        The trained network and its result.

    Raises:
        UserError: the data cannot be read, the loss grew beyond all bounds, the disk is full, no checkpoint
            of a run that was trained before can be used (`NotResumableError`), or the like.
        StoppedError: a signal stopped it.

    Example:
        >>> import tempfile
        >>> from zoo import recipes
        >>> recipe = recipes.with_epochs(recipes.find("bireal", dataset="digits"), [1])
        >>> session = Session(Console(quiet=True))
        >>> prepared = prepare(RunConfig(recipe, limit=32), session)
        >>> run = Run.create(prepared.config, tempfile.mkdtemp())
        >>> train(run, session, prepared).evaluation.images
        32
        >>> run.position()
        Position(phase=0, epoch=1, step=0)
    """
    recipe = run.config.recipe
    until = len(recipe.phases) - 1 if session.until_phase is None else recipe.phase_index(session.until_phase)
    finished = _finished(run, until)
    if finished is not None:
        return finished
    with _clear_errors(), Signals() as signals:
        if prepared is None:
            prepared = prepare(run.config, session)
        with strategies.clear_losses(prepared.strategy), contextlib.ExitStack() as claim:
            strategies.by_chief(prepared.strategy, lambda: claim.enter_context(run.claimed()))
            return _train_phases(run, session, prepared, signals, until)


def _finished(run: Run, until: int) -> Trained | None:
    """The result of a run that needs no training; `None` where something is left."""
    recipe = run.config.recipe
    position = run.position() or run.weights_position()
    if position is None:
        return None
    if position.phase > until:
        raise UsageError(
            f"the run is in phase {recipe.phases[position.phase].name} already, "
            f"so that it cannot end after phase {recipe.phases[until].name}"
        )
    if position.phase < until or position.epoch < recipe.phases[until].epochs:
        return None
    if run.weights_position() != position or run.epochs_in_metrics() != position:
        return None  # a crash left files that must be written again
    config = run.config
    images = data.load(recipe.dataset, config.data_dir, limit=config.limit).size("test")
    return Trained(run.load_network(), last_evaluation(run, images))


def last_evaluation(run: Run, images: int = 0) -> Evaluation | None:
    """The result that the last row of metrics.csv has.

    Example:
        >>> import tempfile
        >>> from zoo import recipes
        >>> run = Run.create(RunConfig(recipes.find("recu", dataset="digits")), tempfile.mkdtemp())
        >>> last_evaluation(run) is None
        True
    """
    rows = run.metrics()
    try:
        row = {key: float(value) for key, value in rows[-1].items() if key.startswith("val_") and value}
        return Evaluation(
            images, round(row["val_accuracy"], 6), row.get("val_top5_accuracy"), row["val_loss"]
        )
    except (IndexError, KeyError, ValueError):
        return None


def _train_phases(run: Run, session: Session, prepared: Prepared, signals: Signals, until: int) -> Trained:
    """Trains all phases that are left, up to phase number `until`."""
    config, phases = run.config, run.config.recipe.phases
    position, saved, rows = _entry(run, session, strategies.is_chief(prepared.strategy))
    network: tf.keras.Model | None = None
    for index in range(position.phase, until + 1):
        resumed = position != Position(index)
        if index == 0:
            network, remark = prepared.network, prepared.remark
        else:
            network, remark = _new_network(
                config, prepared.strategy, session, index, network, initialize=not resumed
            )
        if remark is not None and not resumed:
            session.console.print(remark)
        if resumed and saved is None:
            run.load_weights(network)
        epochs_after = sum(phase.epochs for phase in phases[index + 1 : until + 1])
        training = PhaseTraining(run, session, prepared, signals, index, network, rows, epochs_after)
        network = training.train(position, saved)
        position, saved = Position(index + 1), None
    if config.precision != "float32":
        network = _in_float32(network, config, prepared.strategy, until)
    return Trained(network, last_evaluation(run, prepared.source.size("test")))


def _entry(run: Run, session: Session, writes: bool) -> tuple[Position, Saved | None, list[dict[str, Any]]]:
    """Where to go on, the checkpoint to go on from, and the rows of metrics.csv, which is mended from it.

    Raises:
        UserError: the run was trained before, and no checkpoint of it can be used.
    """
    say = session.console.print
    try:
        saved, problem = run.checkpoints.newest_sound(say=say), "there is none"
    except UserError as error:
        saved, problem = None, str(error)
    if saved is not None:
        rows = saved.state()["rows"]
        if writes and run.write_metrics(rows):
            say(f"metrics.csv was written again from {saved.path.name}")
        return Position(saved.phase, saved.epoch, saved.step), saved, rows
    files = (run.path / "metrics.csv", run.weights_path)
    if not run.checkpoints.all() and not any(path.exists() for path in files):
        return Position(), None, []
    before = max(run.epochs_in_metrics(), run.weights_position() or Position())
    if not session.restart_from_weights:
        phase = run.config.recipe.phases[before.phase].name
        raise NotResumableError(
            f"{run.path} was trained before (phase {phase}, {before.epoch} epochs), "
            f"but no checkpoint of it can be used: {problem}",
            "restart from its weights with a fresh optimizer (restart_from_weights), or start a new run",
        )
    say(f"Restarting from {run.weights_path} with a fresh optimizer")
    return Position(before.phase, before.epoch), None, [dict(row) for row in run.metrics()]


def _in_float32(
    network: tf.keras.Model, config: RunConfig, strategy: tf.distribute.Strategy, index: int
) -> tf.keras.Model:
    """A network as it is saved and converted, whatever it was trained in."""
    with strategy.scope(), strategies.precision("float32"):
        copy = build_network(config.recipe, len(config.class_names), config.recipe.phases[index])
    start.require_complete(start.transfer(network, copy))
    return copy


# --------------------------------------------------------------------------------------------- one phase


class PhaseTraining:
    """What trains one phase of a run.

    Args:
        run: The run.
        session: How to run.
        prepared: The dataset, where to compute, and the teacher.
        signals: What may stop it.
        index: Number of the phase.
        network: Its network with the weights to begin with.
        rows: The rows of metrics.csv so far, to which those of the phase are added.
        epochs_after: Epochs of later phases, for the time left.
    """

    def __init__(
        self,
        run: Run,
        session: Session,
        prepared: Prepared,
        signals: Signals,
        index: int,
        network: tf.keras.Model,
        rows: list[dict[str, Any]],
        epochs_after: int,
    ) -> None:
        self.run, self.session, self.prepared, self.signals = run, session, prepared, signals
        self.index, self.network, self.rows = index, network, rows
        self.config, self.strategy = run.config, prepared.strategy
        self.phase = self.config.recipe.phases[index]
        self.writes = strategies.is_chief(self.strategy)
        with self.strategy.scope(), strategies.precision(self.config.precision):
            self.metrics = metrics(len(self.config.class_names))
            self.fitted = self.compiled()
            self.evaluator = Evaluator(network, metrics(len(self.config.class_names)))
            self.evaluator.compile(**self.execution())
            self.average = WeightAverage.of(network, self.phase)
        # A step's metrics are those of all replicas already; over several machines Keras adds them up again.
        self.fitted.distribute_reduction_method = self.evaluator.distribute_reduction_method = "first"
        self.running = [loss_metric(self.fitted), *self.metrics]
        self.objects = tf.train.Checkpoint(
            model=network,
            optimizer=self.fitted.optimizer,
            metrics=self.running,
            **({"average": self.average.averages} if self.average else {}),
        )
        batch_size, test_batch_size = self.phase.batch_size, self.config.recipe.test_batch_size
        self.steps = data.steps(prepared.source, "train", batch_size)
        self.test_steps = data.steps(prepared.source, "test", test_batch_size)
        self.progress = EpochProgress(
            session.console,
            self.phase.name,
            self.phase.epochs,
            self.steps,
            batch_size,
            epochs_after,
            session.print_every,
            self.test_steps,
            test_batch_size,
        )
        folder = run.path / "tensorboard" / self.phase.name if self.writes else None
        self.callbacks = self.all_callbacks(folder)
        self.writer = tf.summary.create_file_writer(str(folder)) if folder else None
        self.compiled_step = self.compiled_evaluation = False
        self.saved_at = self.epoch_started = time.monotonic()

    def compiled(self) -> tf.keras.Model:
        """The network, or what trains it for a teacher or on several replicas, ready to fit."""
        phase, method = self.phase, self.config.recipe.method_of(self.phase)
        optimizer = phase.optimizer.build(method, phase.batch_size, phase.epochs)
        if self.config.precision == "float16":
            optimizer = tf.keras.mixed_precision.LossScaleOptimizer(optimizer)
        options = self.execution()
        several = self.strategy.num_replicas_in_sync > 1
        if phase.loss.needs_teacher:
            fitted = Distiller(self.network, self.prepared.teacher)
        elif several:
            fitted = Replicated(self.network, phase.loss.build())
        else:
            fitted, options["loss"] = self.network, phase.loss.build()
        # The images of several replicas have weights, see `data.Share`.
        options["weighted_metrics" if several else "metrics"] = self.metrics
        fitted.compile(optimizer=optimizer, **options)
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        optimizer._create_all_weights(fitted.trainable_variables)  # what a checkpoint restores must exist
        return fitted

    def execution(self) -> dict[str, Any]:
        """Keras' options of how to run steps."""
        return {
            "steps_per_execution": self.config.steps_per_execution,
            "jit_compile": self.config.jit or None,
        }

    def all_callbacks(self, folder: Path | None) -> list[tf.keras.callbacks.Callback]:
        """The method's callbacks, the diagnostics and the session's; `folder` is for TensorBoard."""
        method = self.config.recipe.method_of(self.phase)
        # Other workers measure as well, because all must read shared variables in the same order.
        records = self.run.path / "diagnostics.jsonl" if self.writes else Path(os.devnull)
        return [
            *method.callbacks(epochs=self.phase.epochs, log_dir=folder),
            KernelDiagnostics(records, self.phase.name, self.network, folder, method.diagnostics),
            *self.session.callbacks,
        ]

    def train(self, position: Position, saved: Saved | None) -> tf.keras.Model:
        """Trains the epochs that are left, from a position and its checkpoint on.

        Returns:
            The network as it is saved: with its averaged weights, if there are such.
        """
        logs, seconds = self.restore(saved) if saved is not None else ({}, 0.0)
        if position.epoch < self.phase.epochs:
            self.train_epochs(position, logs, seconds)
        if self.average is not None:
            self.average.swap()
        return self.network

    def restore(self, saved: Saved) -> tuple[dict[str, float], float]:
        """Continues from a checkpoint; gives the figures and the seconds of the epoch that is under way.

        A weights file that a crash left behind the checkpoint, or took away, is written again.
        """
        self.run.checkpoints.restore(saved, self.objects)
        position = Position(saved.phase, saved.epoch)
        lags = saved.step == 0 and self.run.weights_position() != position
        if strategies.agree(self.strategy, int(lags)):
            self.save_weights(saved.epoch)
        state = saved.state()
        return state["logs"], state.get("seconds", 0.0)  # older ones lack these

    def train_epochs(self, position: Position, logs: Mapping[str, float], seconds: float) -> None:
        """Trains, evaluates and saves one epoch after the other."""
        batches, held_out = self.batches(position)
        step = position.step
        for callback in self.callbacks:
            callback.set_model(self.fitted)
        with self.strategy.scope(), data.clear_errors():
            iterator = iter(batches)
            self.saved_at = time.monotonic()
            for callback in self.callbacks:
                callback.on_train_begin()
            try:
                for epoch in range(position.epoch, self.phase.epochs):
                    self.begin_epoch(epoch, step, seconds)
                    logs = self.train_steps(iterator, epoch, step, logs)
                    row = self.evaluate(epoch, held_out, iterator, logs, saved=step == self.steps)
                    self.finish_epoch(epoch, row)
                    step, logs, seconds = 0, {}, 0.0
            finally:
                self.progress.close()
                self.signals.hold = False
            for callback in self.callbacks:
                callback.on_train_end()

    def batches(self, position: Position) -> tuple[Any, Any]:
        """The training's batches from a position on, and those of the held-out images."""
        config, phase, source = self.config, self.phase, self.prepared.source
        images, workers = config.recipe.images_of(phase), config.workers or tf.data.AUTOTUNE
        training = strategies.distribute(
            self.strategy,
            lambda share: data.training_batches(
                source,
                images,
                phase.batch_size,
                config.seed + self.index,
                # BatchNorm's statistics are measured on images of one more epoch.
                phase.epochs + bool(phase.statistics_batches),
                initial_epoch=position.epoch,
                initial_step=position.step,
                workers=workers,
                share=share,
            ),
        )
        held_out = strategies.distribute(
            self.strategy,
            lambda share: data.evaluation_batches(
                source, images, config.recipe.test_batch_size, workers=workers, share=share
            ),
        )
        return training, held_out

    def begin_epoch(self, epoch: int, step: int, seconds: float) -> None:
        """Sets the learning rate, and begins new means unless the epoch was under way.

        Keras resets only those means that it has used in this process already.
        """
        self.epoch_started = time.monotonic() - seconds
        tf.keras.backend.set_value(self.fitted.optimizer.lr, self.phase.rate(epoch))
        for callback in self.callbacks:
            callback.on_epoch_begin(epoch)
        if step == 0:
            for metric in self.running:
                metric.reset_state()
        self.progress.start(epoch, step)

    def train_steps(
        self, iterator: Iterator[Any], epoch: int, step: int, logs: Mapping[str, float]
    ) -> Mapping[str, float]:
        """The steps of an epoch from a step on; gives the epoch's means, `logs` where no step is left."""
        while step < self.steps:
            count = min(self.config.steps_per_execution, self.steps - step)
            tensors = self.train_at_once(iterator, count)
            self.signals.hold = True  # from here on there is something to save first
            step += count
            if self.average is not None:
                self.average.update(tf.constant(count))
            shows = self.progress.wants(step, count)
            checks = step == self.steps or step % _CHECKED_EVERY < count
            if shows or checks:
                logs = {name: float(value) for name, value in tensors.items()}
                self.check_loss(logs["loss"], epoch)
            if checks:  # whatever is shown, so that the logs are the same on a terminal and off it
                seen = {**logs, "images_per_second": self.progress.rate(step)}
                self.log(epoch * self.steps + step, {f"steps/{name}": value for name, value in seen.items()})
            if shows:
                self.progress.advance(step, logs)
            if step < self.steps:
                self.save_if_due(epoch, step, count, tensors)
        return logs

    def train_at_once(self, iterator: Iterator[Any], count: int) -> Mapping[str, tf.Tensor]:
        """Some steps in one call of TensorFlow."""
        if self.config.steps_per_execution > 1:
            self.fitted._steps_per_execution.assign(count)
        train_step = self.fitted.make_train_function()
        if self.compiled_step:
            return train_step(iterator)
        if not self.session.console.is_terminal:  # there the bar says so
            self.session.console.print("Compiling the training step…")
        with quiet_native_stderr():  # of the compilation it would say a page
            tensors = train_step(iterator)
        self.progress.compiled()
        self.compiled_step = True
        return tensors

    def evaluate(
        self, epoch: int, held_out: Any, iterator: Iterator[Any], logs: Mapping[str, float], saved: bool
    ) -> dict[str, Any]:
        """Evaluates a trained epoch and gives its row of metrics.csv.

        Where a signal ends that, the epoch's steps are saved, unless they are `saved` already. After the last
        epoch BatchNorm's statistics may be measured before, on more batches of the training's `iterator`.
        """
        self.progress.evaluating()
        measures = bool(self.phase.statistics_batches) and epoch + 1 == self.phase.epochs
        # Tracing takes seconds, and a signal is to end it at once. TensorFlow may then be in any state, so
        # what was trained is saved before. Of several workers none goes alone.
        alone = not strategies.is_multi_worker(self.strategy)
        at_once = alone and (measures or not self.compiled_evaluation)
        if at_once and not saved:
            self.save(epoch, self.steps, logs=logs)
        try:
            with self.averaged():
                self.signals.hold = not at_once
                self.heed_signals()
                if measures:
                    measure_batch_norm(self.network, self.statistics_images(iterator))
                    self.progress.evaluating()
                # Keras counts the batches of a plain dataset itself.
                steps = None if isinstance(held_out, tf.data.Dataset) else self.test_steps
                results = self.evaluator.evaluate(
                    held_out, steps=steps, verbose=0, return_dict=True, callbacks=[_DuringEvaluation(self)]
                )
                self.signals.hold = self.compiled_evaluation = True
                return self.row(epoch, logs, results)
        except SignalReceived:
            self.signals.hold = True
            if not at_once:
                self.save(epoch, self.steps, logs=logs)
            raise self.stopped(epoch, self.steps) from None

    def averaged(self) -> contextlib.AbstractContextManager[None]:
        """The network has its averaged weights, if there are such, while the body runs."""
        return self.average.swapped() if self.average else contextlib.nullcontext()

    def heed_signals(self) -> None:
        """Ends an evaluation where a signal came."""
        if strategies.agree(self.strategy, self.signals.received or 0):
            raise SignalReceived

    def statistics_images(self, iterator: Iterator[Any]) -> Iterator[Any]:
        """The images behind the last epoch on which BatchNorm's statistics are measured."""
        for _ in range(min(self.phase.statistics_batches, self.steps)):
            self.heed_signals()
            yield next(iterator)[0]

    def row(self, epoch: int, logs: Mapping[str, float], results: Mapping[str, float]) -> dict[str, Any]:
        """The epoch's row of metrics.csv."""
        self.progress.saving()
        figures = {**logs, **{f"val_{name}": float(value) for name, value in results.items()}}
        figures["learning_rate"] = float(tf.keras.backend.get_value(self.fitted.optimizer.lr))
        for callback in self.callbacks:  # some add figures, which those after them see
            callback.on_epoch_end(epoch, figures)
        plain = {name: float(value) for name, value in figures.items()}
        seconds = round(time.monotonic() - self.epoch_started, 2)
        return {"phase": self.phase.name, "epoch": epoch + 1, **plain, "seconds": seconds}

    def finish_epoch(self, epoch: int, row: dict[str, Any]) -> None:
        """Saves an epoch. The checkpoint is what counts: it comes first, the rest can be made from it."""
        self.rows.append(row)
        self.save(epoch + 1, 0, score=row.get("val_accuracy"))
        self.save_weights(epoch + 1)
        if self.writes:
            self.run.write_metrics(self.rows)
        if self.writer is not None:
            self.log(epoch, {name: value for name, value in row.items() if isinstance(value, float)})
            self.writer.flush()
        self.progress.finish(epoch, row)
        if strategies.agree(self.strategy, self.signals.received or 0):
            raise self.stopped(epoch + 1, 0)

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes scalars for TensorBoard: of epochs by their names in metrics.csv, of steps as `steps/…`.

        Those of steps are means over the epoch so far, every 20 steps and at the epoch's end.
        """
        if self.writer is not None:
            with self.writer.as_default(step=step):
                for name, value in scalars.items():
                    tf.summary.scalar(name, value)

    def save_if_due(self, epoch: int, step: int, count: int, tensors: Mapping[str, tf.Tensor]) -> None:
        """Saves in the middle of an epoch where a signal or the cadence says so."""
        cadence = self.config.cadence
        due = cadence.steps is not None and step % cadence.steps < count
        if cadence.seconds is not None:
            due = due or time.monotonic() - self.saved_at >= cadence.seconds
        agreed = strategies.agree(self.strategy, self.signals.received or (_DUE if due else 0))
        if not agreed:
            return
        self.check_loss(float(tensors["loss"]), epoch)
        self.save(epoch, step)
        if agreed != _DUE:
            self.signals.received = self.signals.received or agreed
            raise self.stopped(epoch, step)

    def save(
        self, epoch: int, step: int, logs: Mapping[str, float] | None = None, score: float | None = None
    ) -> None:
        """Writes a checkpoint."""
        seconds = time.monotonic() - self.epoch_started if step else 0.0
        self.run.checkpoints.save(
            self.objects, self.index, epoch, step, self.rows, logs, score, seconds, writes=self.writes
        )
        self.saved_at = time.monotonic()

    def save_weights(self, epochs: int) -> None:
        """Writes the weights file, of the averages if there are such, after a number of complete epochs."""
        with self.averaged():
            self.run.save_weights(self.network, Position(self.index, epochs), self.writes)

    def stopped(self, epoch: int, step: int) -> StoppedError:
        """What to say of a signal, after everything was saved."""
        epochs = self.phase.epochs
        phase = f" of phase {self.phase.name}" if len(self.config.recipe.phases) > 1 else ""
        where = (
            f"in epoch {epoch + 1} of {epochs}{phase}, after step {step} of {self.steps}"
            if step
            else f"after epoch {epoch} of {epochs}{phase}"
        )
        number = self.signals.received or signal.SIGTERM
        return StoppedError(f"stopped ({signal_name(number)}) {where}", number)

    def check_loss(self, loss: float, epoch: int) -> None:
        """Stops where the mean loss of the epoch so far is no finite number or beyond all bounds.

        Raises:
            UserError: it is.
        """
        if abs(loss) <= EXPLODED:
            return
        what = f"has grown to {loss:.3g}" if math.isfinite(loss) else "is not finite any more"
        done = self.run.epochs_done()
        kept = f"; {self.run.path} keeps the {done} epochs before" if done else ""
        raise UserError(
            f"the loss {what} in epoch {epoch + 1} of phase {self.phase.name}: "
            f"try a lower learning rate{kept}"
        )


def loss_metric(fitted: tf.keras.Model) -> tf.keras.metrics.Metric:
    """The running mean of the loss, which Keras does not list before the first step."""
    return fitted.loss_tracker if isinstance(fitted, Replicated) else fitted.compiled_loss._total_loss_mean


class Evaluator(tf.keras.Model):
    """Evaluates a network as `evaluation.evaluate` does: its loss is the plain cross-entropy with the labels.

    What a phase minimises has smoothed labels, a teacher or penalties of weights in it, which cannot be
    compared between phases and methods.
    """

    def __init__(self, network: tf.keras.Model, figures: Sequence[tf.keras.metrics.Metric]) -> None:
        super().__init__()
        self.network = network
        self.figures = [tf.keras.metrics.Mean(name="loss"), *figures]

    @tf.autograph.experimental.do_not_convert
    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Figures over all batches so far."""
        images, labels, weights = tf.keras.utils.unpack_x_y_sample_weight(data)
        logits = tf.cast(self.network(images, training=False), tf.float32)
        mean, *others = self.figures
        losses = tf.keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        mean.update_state(losses, sample_weight=weights)
        for metric in others:
            metric.update_state(labels, logits, sample_weight=weights)
        return {metric.name: metric.result() for metric in self.figures}


class _DuringEvaluation(tf.keras.callbacks.Callback):
    """Shows how far an evaluation is, and ends it where a signal came."""

    def __init__(self, training: PhaseTraining) -> None:
        super().__init__()
        self.training = training

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        self.training.progress.evaluating(batch + 1)
        self.training.heed_signals()


@contextlib.contextmanager
def _clear_errors() -> Iterator[None]:
    """Says in one sentence what TensorFlow reports in pages; keeps its advice on short steps to itself."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        yield
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        raise UserError("out of memory; try a smaller batch size") from error
    finally:
        logger.setLevel(level)
