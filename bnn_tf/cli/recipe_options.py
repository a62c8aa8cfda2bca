"""The options that choose and change a recipe, for `train` and `sweep`."""

from typing import TYPE_CHECKING, Any

import click

from bnn_tf.cli import options
from bnn_tf.errors import UsageError

if TYPE_CHECKING:
    from zoo.recipes import Recipe

# Options that name fields of the recipe: flag, field, type, help.
_FIELDS = (
    ("--batch-size", "batch_size", click.IntRange(min=1), "Images per training step."),
    ("--test-batch-size", "test_batch_size", click.IntRange(min=1), "Images per evaluation step."),
    ("--learning-rate", "learning_rate", float, "Base learning rate, taken as it is."),
    ("--weight-decay", "weight_decay", float, "Coupled L2 decay per step."),
    ("--momentum", "momentum", float, "Momentum of SGD."),
    ("--schedule", "schedule", str, "cosine, linear, multistep or constant."),
    ("--teacher", "teacher", str, "Run, saved Keras model, keras:NAME or larq-zoo:NAME to distil from."),
    ("--bits", "method.bits", click.IntRange(1, 9), "Bits per 3×3 slice of --method subbit."),
)


def recipe_options(command: Any) -> Any:
    """Adds the options that name single fields of the recipe."""
    for flag, _, kind, text in reversed(_FIELDS):
        command = click.option(flag, type=kind, help=text)(command)
    return command


def resolve(given: dict[str, Any]) -> "Recipe":
    """The recipe with all overrides of the command line.

    Raises:
        UsageError: a name, key or value is wrong.
    """
    from zoo import recipes

    recipe = _phases(recipes.find(given["method"], given["model"], given["dataset"], given["variant"]), given)
    if given["epochs"] is not None:
        recipe = recipes.with_epochs(recipe, numbers(given["epochs"]))
    for flag, field, _, _ in _FIELDS:
        value = given[flag.removeprefix("--").replace("-", "_")]
        if value is not None:
            recipe = recipes.override(recipe, field, value)
    for text in given["settings"]:
        recipe = recipes.override(recipe, *options.parse_setting(text))
    return recipe


def _phases(recipe: "Recipe", given: dict[str, Any]) -> "Recipe":
    """The recipe from `--from-phase` on; `--until-phase` is only looked up."""
    import dataclasses

    from bnn_tf.training import build

    if given["from_phase"] is not None:
        first = build.phase_index(recipe, given["from_phase"])
        if first and given["init_from"] is None:
            raise UsageError(f"--from-phase {given['from_phase']} needs a run to start from: --init-from RUN")
        recipe = dataclasses.replace(recipe, phases=recipe.phases[first:])
    if given["until_phase"] is not None:
        build.phase_index(recipe, given["until_phase"])
    return recipe


def numbers(text: str) -> list[int]:
    """The whole numbers of `--epochs N[,N…]`.

    Raises:
        UsageError: something else stands there.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(
            f"--epochs takes a whole number, or one for each phase (2,2,1), not {text!r}"
        ) from None
