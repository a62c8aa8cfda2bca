"""Teachers for distillation."""

from bnn_tf._tensorflow import tf
from bnn_tf.errors import UserError
from bnn_tf.saving import load_model
from bnn_tf.training import build
from bnn_tf.training.run import Run, RunConfig


def load(config: RunConfig) -> tf.keras.Model:
    """The teacher that the recipe names: a run directory or a saved Keras model, from images to logits.

    Raises:
        UserError: the recipe names none, it does not load, or it is for other images or classes.
    """
    recipe = config.recipe
    if recipe.teacher is None:
        raise UserError("the distribution loss needs a teacher; name one with --teacher RUN or SAVED_MODEL")
    if Run.exists(recipe.teacher):
        run = Run.open(recipe.teacher)
        theirs = run.config.recipe.normalization
        if theirs != recipe.normalization:
            raise UserError(
                f"the teacher {recipe.teacher} takes images with normalization {theirs}, this recipe has "
                f"{recipe.normalization}; choose the same (--set normalization={theirs})"
            )
        teacher = build.load_run_model(run)
    else:
        teacher = load_model(recipe.teacher)
    _check(teacher, config)
    return teacher


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
