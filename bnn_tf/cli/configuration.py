"""What `train` and `sweep` are asked to train: the same options are the same configuration in both."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from bnn_tf.cli import options
from bnn_tf.errors import UsageError, unknown

if TYPE_CHECKING:
    from bnn_tf.training import RunConfig
    from zoo.recipes import Recipe

_FIELDS = (*options.CONFIGURED, "seed", "checkpoint_every")
"""Fields of `RunConfig` that have an option, or that a file after `--recipe` may hold."""


def configuration(
    context: click.Context, chosen: Mapping[str, Any], choices: Mapping[str, Any] | None = None
) -> "RunConfig":
    """The run that options describe; a file after `--recipe` may hold settings of the run, too.

    Args:
        context: The command's context.
        chosen: Its options by name.
        choices: Further settings of the recipe, and what chooses it, in place of the options' (of a sweep).

    Raises:
        UsageError: a name, key or value is wrong.
    """
    from bnn_tf.training import RunConfig
    from zoo import recipes

    choices = choices or {}
    selected = {key: value for key, value in choices.items() if key in options.SELECTORS}
    recipe = options.recipe(context, {**chosen, **selected})
    for key, value in choices.items():
        if key == "epochs" and isinstance(value, list):
            recipe = recipes.with_epochs(recipe, options.numbers(",".join(map(str, value))))
        elif key not in selected:
            recipe = recipes.override(recipe, key, value)
    epochs = _asked_epochs(chosen, choices)
    recipe = _phases(recipe, chosen, epochs)

    written = options.recipe_file(chosen["recipe"]) if chosen["recipe"] else {}
    typed = {parameter.name for parameter in options.typed(context)}
    values = {name: written[name] for name in _FIELDS if name in written}
    values |= {
        name: chosen[name] for name in _FIELDS if name in chosen and (name in typed or name not in written)
    }
    if recipe.dataset == "folder" and not values["init_from"] and chosen["recipe"] is None:
        values["init_from"] = _shipped(recipe)
        if values["init_from"] and not (chosen.get("from_phase") or chosen.get("until_phase")):
            recipe = _behind_shipped(recipe, epochs)
    return RunConfig(recipe=recipe, **values)


def _asked_epochs(chosen: Mapping[str, Any], choices: Mapping[str, Any]) -> list[int] | None:
    """The epochs that were asked for: one number, or one for each phase; `None` if nothing was said."""
    asked = [] if chosen["epochs"] is None else [("epochs", options.numbers(chosen["epochs"]))]
    asked += [*map(options.parse_setting, chosen["settings"]), *choices.items()]
    said = [(key, value) for key, value in asked if key.rpartition(".")[2] == "epochs"]
    if not said:
        return None
    key, value = said[-1]
    if key != "epochs":  # of one phase, so that all of them stay as they are
        return []
    return value if isinstance(value, list) else [value]


def _shared(recipe: "Recipe", epochs: Sequence[int] | None) -> "Recipe":
    """The phases that are left share a number of epochs that was asked for where a recipe's phases do."""
    from zoo.recipes import with_epochs

    return with_epochs(recipe, epochs) if recipe.shared_epochs and epochs and len(epochs) == 1 else recipe


def _phases(recipe: "Recipe", chosen: Mapping[str, Any], epochs: Sequence[int] | None) -> "Recipe":
    """The recipe from `--from-phase` on; the name after `--until-phase` is only looked up."""
    names = [phase.name for phase in recipe.phases]
    for name in (chosen.get("from_phase"), chosen.get("until_phase")):
        if name is not None and name not in names:
            raise unknown("phase", name, names)
    first = names.index(chosen.get("from_phase") or names[0])
    if first and chosen["init_from"] is None:
        raise UsageError(f"--from-phase {chosen['from_phase']} needs a run to start from: --init-from RUN")
    rest = dataclasses.replace(recipe, phases=recipe.phases[first:])
    return _shared(rest, epochs) if first else rest


def _shipped(recipe: "Recipe") -> str | None:
    """The weights to start from with pictures of one's own: the package's for this network and method."""
    from zoo import pretrained

    name = f"{recipe.model}-{recipe.method.name}"
    if name not in pretrained.names():
        return None
    trained = pretrained.record(name)["config"]["recipe"]
    fits = trained["model_options"] == recipe.model_options and recipe.images.channels == 3
    return f"{pretrained.PREFIX}{name}" if fits else None


def _behind_shipped(recipe: "Recipe", epochs: Sequence[int] | None) -> "Recipe":
    """The phases that follow on weights of the package, with the epochs of all unless others were asked for.

    These weights have all phases behind them; one with real kernels would discard their codebooks.
    """
    from zoo.recipes import with_epochs

    first = next((i for i, phase in enumerate(recipe.phases) if phase.method is None), 0)
    rest = dataclasses.replace(recipe, phases=recipe.phases[first:])
    if epochs is not None:
        return _shared(rest, epochs)
    return with_epochs(rest, [round(phase.epochs * recipe.epochs / rest.epochs) for phase in rest.phases])
