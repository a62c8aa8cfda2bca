"""Teachers for distillation."""

from bnn_tf._tensorflow import tf
from bnn_tf.errors import UserError
from bnn_tf.saving import load_model
from bnn_tf.training import build
from bnn_tf.training.run import Run, RunConfig


def load(config: RunConfig) -> tf.keras.Model:
    """The teacher that the recipe names: a run directory or a saved Keras model, from images to logits.

    Raises:
        UserError: the recipe names none, or it does not load.
    """
    teacher = config.recipe.teacher
    if teacher is None:
        raise UserError("the distribution loss needs a teacher; name one with --teacher RUN or SAVED_MODEL")
    try:
        return build.load_run_model(Run.open(teacher))
    except UserError:
        return load_model(teacher)
