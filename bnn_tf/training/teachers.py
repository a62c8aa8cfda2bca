"""Teachers for distillation."""

import inspect
import sys

from bnn_tf import data
from bnn_tf._tensorflow import tf
from bnn_tf.errors import UserError, unknown
from bnn_tf.saving import load_model
from bnn_tf.training import build, larq_zoo
from bnn_tf.training.run import Run, RunConfig
from zoo.recipes import Recipe

_KERAS = "keras:"


def load(config: RunConfig) -> tf.keras.Model:
    """The teacher that the recipe names, from images to logits.

    A run directory, a saved Keras model, `keras:NAME` for a network of `tf.keras.applications` with its
    ImageNet weights, or `larq-zoo:NAME` for one of Larq Zoo.

    Raises:
        UserError: the recipe names none, it does not load, or it is for other images or classes.
    """
    recipe = config.recipe
    if recipe.teacher is None:
        raise UserError(
            "the distribution loss needs a --teacher (RUN, SAVED_MODEL, keras:ResNet50 or larq-zoo:QuickNet)"
        )
    if Run.exists(recipe.teacher):
        run = Run.open(recipe.teacher)
        theirs = run.config.recipe.normalization
        if theirs != recipe.normalization:
            raise UserError(
                f"the teacher {recipe.teacher} takes images with normalization {theirs}, this recipe has "
                f"{recipe.normalization}; choose the same (--set normalization={theirs})"
            )
        teacher = build.load_run_model(run)
    elif recipe.teacher.startswith(_KERAS):
        teacher = keras_application(recipe.teacher.removeprefix(_KERAS), recipe)
    elif larq_zoo.is_name(recipe.teacher):
        teacher = larq_zoo.for_normalization(larq_zoo.load(recipe.teacher), recipe.normalization)
    else:
        teacher = load_model(recipe.teacher)
    _check(teacher, config)
    return teacher


def keras_application(name: str, recipe: Recipe, weights: str | None = "imagenet") -> tf.keras.Model:
    """A network of `tf.keras.applications` that takes images normalised as the recipe does, to logits.

    Raises:
        UserError: there is no such network, or its weights cannot be had.
    """
    builders = {key: value for key, value in vars(tf.keras.applications).items() if inspect.isfunction(value)}
    if name not in builders:
        raise unknown("network in keras.applications", name, builders)
    shape = (*recipe.image_size, 3)
    try:
        network = builders[name](weights=weights, input_shape=shape, classifier_activation=None)
    except (ValueError, OSError) as error:  # an unsuitable input size; no network
        raise UserError(f"the teacher {_KERAS}{name} is not to be had: {error}") from error
    mean, std = data.NORMALIZATIONS[recipe.normalization]
    image = tf.keras.Input(shape)
    pixels = 255 * (image * tf.constant(std) + tf.constant(mean))
    preprocess = sys.modules[builders[name].__module__].preprocess_input
    return tf.keras.Model(image, network(preprocess(pixels)), name=name)


def _check(teacher: tf.keras.Model, config: RunConfig) -> None:
    recipe, classes = config.recipe, len(config.class_names)
    if teacher.output_shape[-1] != classes:
        raise UserError(
            f"the teacher {recipe.teacher} knows {teacher.output_shape[-1]} classes, "
            f"{recipe.dataset} has {classes}"
        )
    size = teacher.input_shape[1:3]
    if any(theirs not in (None, ours) for theirs, ours in zip(size, recipe.image_size, strict=True)):
        raise UserError(
            f"the teacher {recipe.teacher} takes images of {size[0]}×{size[1]}, this recipe has "
            f"{recipe.image_size[0]}×{recipe.image_size[1]} (--set image_size)"
        )
