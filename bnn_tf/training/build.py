"""From a configuration to what it names: images, networks, optimizers, losses."""

import inspect
from collections.abc import Callable
from typing import Any

from bnn_tf import data, losses, methods, schedules
from bnn_tf._tensorflow import tf
from bnn_tf.errors import UsageError, UserError, unknown
from bnn_tf.training.run import Run, RunConfig
from zoo.blocks import get_model
from zoo.recipes import Phase, Recipe


def source(config: RunConfig) -> data.Source:
    """The dataset of a run."""
    return data.load(config.recipe.dataset, config.data_dir, limit=config.limit)


def phase_index(recipe: Recipe, name: str) -> int:
    """Which phase is called `name`.

    Raises:
        UsageError: none is.
    """
    names = [phase.name for phase in recipe.phases]
    if name not in names:
        raise unknown("phase", name, names)
    return names.index(name)


_AUGMENTATIONS = {
    "none": (),
    "pad_crop_flip": (data.PadCrop(4), data.Flip()),
    "random_resized_crop": (data.RandomResizedCrop(), data.Flip()),
    "resize_crop_flip": (data.ResizeCrop(), data.Flip()),
}


def preprocessing(recipe: Recipe, phase: Phase | None = None) -> data.Images:
    """How images become inputs; by default as in the last phase.

    Raises:
        UsageError: a name or value in the recipe is wrong.
    """
    phase = phase or recipe.phases[-1]
    if phase.augmentation not in _AUGMENTATIONS:
        raise unknown("augmentation", phase.augmentation, _AUGMENTATIONS)
    training: tuple[data.Operation, ...] = _AUGMENTATIONS[phase.augmentation]
    evaluation: data.Geometry = data.Cover()
    if phase.augmentation == "random_resized_crop":
        training = (data.RandomResizedCrop(phase.crop_scale), *training[1:])
    if phase.augmentation in ("random_resized_crop", "resize_crop_flip"):
        evaluation = data.ResizeShort()
    if phase.lighting:
        training = (*training, data.Lighting(phase.lighting))
    return data.Images(training, evaluation, recipe.image_size, normalization=recipe.normalization)


def phase_method(recipe: Recipe, phase: Phase) -> methods.Method:
    """The method in force in a phase."""
    return methods.get(dict(phase.method or {"name": recipe.method, **recipe.method_options}))


def model(recipe: Recipe, num_classes: int, phase: Phase | None = None) -> tf.keras.Model:
    """The network as a phase (by default the last) trains it, with random weights.

    Raises:
        UsageError: the architecture has no such option, or does not take its value.
    """
    builder = get_model(recipe.model)
    options = [name for name in inspect.signature(builder).parameters if name not in _GIVEN]
    for name in recipe.model_options:
        if name not in options:
            raise unknown(f"option of model {recipe.model}", name, options)
    try:
        return builder(
            method=phase_method(recipe, phase or recipe.phases[-1]),
            input_shape=(*recipe.image_size, 3),
            num_classes=num_classes,
            **recipe.model_options,
        )
    except (ValueError, TypeError) as error:
        raise UsageError(f"model {recipe.model}: {error}") from error


_GIVEN = ("method", "input_shape", "num_classes", "weights")


def optimizer(recipe: Recipe, phase: Phase) -> tf.keras.optimizers.legacy.Optimizer:
    """The phase's optimizer with the method's transforms."""
    options: dict[str, Any] = {"learning_rate": phase.effective_learning_rate}
    if phase.optimizer == "sgd":
        options["momentum"] = phase.momentum
    return phase_method(recipe, phase).optimizer(
        phase.optimizer, weight_decay=phase.weight_decay, decay_only=phase.decay_only, **options
    )


def learning_rate(phase: Phase) -> Callable[[int, int], float]:
    """The phase's rate as a function of `(epoch, epochs)`.

    Raises:
        UsageError: there is no such schedule, or it has no such option.
    """
    schedule = schedules.get(phase.schedule, **phase.schedule_options)
    return lambda epoch, epochs: schedule(epoch, epochs, phase.effective_learning_rate)


def warmup_epochs(phase: Phase) -> int:
    """How many epochs the phase's schedule takes to its full rate."""
    return schedules.get(phase.schedule, **phase.schedule_options).warmup


def loss(phase: Phase) -> tf.keras.losses.Loss:
    """The loss on labels."""
    return losses.SmoothedCrossentropy(phase.label_smoothing)


def metrics(num_classes: int) -> list[tf.keras.metrics.Metric]:
    """Top-1 accuracy, and top-5 where that means something."""
    found = [tf.keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
    if num_classes > 5:
        found.append(tf.keras.metrics.SparseTopKCategoricalAccuracy(5, name="top5_accuracy"))
    return found


def load_run_model(run: Run) -> tf.keras.Model:
    """The run's network with the weights of its last complete epoch.

    Of a run without checkpoints (they may be deleted to save space) the weights file serves.

    Raises:
        UserError: no epoch of the run is complete, or its files cannot be read.
    """
    position = run.position()
    phases = run.config.recipe.phases
    phase = phases[-1] if position is None else phases[position[0]]
    if position is None and not run.weights_path.is_file():
        raise UserError(f"{run.path} has no weights yet: not one epoch is complete")
    network = model(run.config.recipe, len(run.config.class_names), phase)
    if position is not None:
        run.restore(tf.train.Checkpoint(model=network), position[0])
        return network
    try:
        network.load_weights(run.weights_path)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{run.weights_path} does not fit the run's network: {error}") from error
    return network
