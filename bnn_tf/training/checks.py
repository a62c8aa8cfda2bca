"""What is wrong with a configuration is said before a run directory is made and hours are spent."""

import dataclasses
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bnn_tf import methods
from bnn_tf._tensorflow import tf
from bnn_tf.errors import UsageError, unknown
from bnn_tf.training import build, preparation, teachers
from bnn_tf.training.run import RunConfig
from zoo.recipes import Phase, Recipe

_CHOICES = {
    "loss": ("cross_entropy", "distribution"),
    "decay_only": (None, "kernels", "binary"),
    "trainable": ("all", "batch_norm"),
}
# Field, what it must be, and the test of it; NaN fails every one.
_RANGES: tuple[tuple[str, str, Callable[[Any], bool]], ...] = (
    ("epochs", "at least 1", lambda value: value >= 1),
    ("batch_size", "at least 1", lambda value: value >= 1),
    ("rate_batch_size", "none or at least 1", lambda value: value is None or value >= 1),
    ("learning_rate", "positive and finite", lambda value: 0 < value < math.inf),
    ("momentum", "in [0, 1)", lambda value: 0 <= value < 1),
    ("weight_decay", "zero or positive, and finite", lambda value: 0 <= value < math.inf),
    ("label_smoothing", "in [0, 1)", lambda value: 0 <= value < 1),
)


def checked(config: RunConfig) -> RunConfig:
    """The configuration with absolute paths and the dataset's class names, after all that it names was tried.

    Raises:
        UserError: a name or value is wrong, or the dataset, the teacher or the run to start from cannot
            be read.
    """
    config = _located(config)
    recipe = config.recipe
    _check_recipe(recipe)
    names = tuple(build.source(config).class_names)
    config = dataclasses.replace(config, class_names=names)
    networks = _networks(recipe, len(names))
    if any(phase.loss == "distribution" for phase in recipe.phases):
        teachers.load(config)
    for index, network in enumerate(networks):
        preparation.take_weights(network, config, index, networks[index - 1] if index else None)
    return config


def _located(config: RunConfig) -> RunConfig:
    """Paths as they are seen from anywhere, so that a run can be resumed from another folder."""
    recipe = config.recipe
    phases = tuple(dataclasses.replace(phase, start=_start(phase)) for phase in recipe.phases)
    return dataclasses.replace(
        config,
        recipe=dataclasses.replace(recipe, phases=phases, teacher=_absolute(recipe.teacher)),
        data_dir=_absolute(config.data_dir),
        init_from=_absolute(config.init_from),
    )


def _start(phase: Phase) -> str:
    return phase.start if phase.start in preparation.STARTS else _absolute(phase.start)


def _absolute(path: Any) -> Any:
    """The absolute path of what exists; anything else (also what is no path) as it is."""
    if path is None or not Path(path).expanduser().exists():
        return path
    return os.path.abspath(Path(path).expanduser())


def _check_recipe(recipe: Recipe) -> None:
    if recipe.test_batch_size < 1:
        raise UsageError(f"test_batch_size must be at least 1, not {recipe.test_batch_size}")
    methods.get(recipe.method, **recipe.method_options)
    for phase in recipe.phases:
        _check_phase(phase)
        build.preprocessing(recipe, phase)
        build.optimizer(recipe, phase)


def _check_phase(phase: Phase) -> None:
    for field, choices in _CHOICES.items():
        if getattr(phase, field) not in choices:
            raise unknown(field, getattr(phase, field), [str(choice) for choice in choices])
    for field, wanted, holds in _RANGES:
        value = getattr(phase, field)
        if isinstance(value, str) or not holds(value):
            raise UsageError(f"{field} must be {wanted}, not {value}")
    schedule = build.learning_rate(phase)
    try:
        rates = [schedule(epoch, phase.epochs) for epoch in range(phase.epochs)]
    except (TypeError, ValueError, ArithmeticError) as error:
        raise UsageError(
            f"schedule {phase.schedule} cannot run with {dict(phase.schedule_options)}: {error}"
        ) from error
    if not all(0 <= rate < math.inf for rate in rates):
        raise UsageError(f"schedule {phase.schedule} gives a negative or infinite learning rate")


def _networks(recipe: Recipe, num_classes: int) -> list[tf.keras.Model]:
    """A network per phase; phases with the same variant share one, because building takes seconds."""
    built: dict[Any, tf.keras.Model] = {}
    variants = [build.phase_method(recipe, phase) for phase in recipe.phases]
    for phase, variant in zip(recipe.phases, variants, strict=True):
        if variant not in built:
            built[variant] = build.model(recipe, num_classes, phase)
    return [built[variant] for variant in variants]
