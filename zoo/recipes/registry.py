"""Recipes by method, network and dataset."""

import dataclasses
import inspect

from bnn_tf import methods
from bnn_tf.errors import unknown
from zoo.blocks import get_model
from zoo.recipes import bireal, ovsw, real, recu, subbit
from zoo.recipes.base import Recipe

RECIPES: tuple[Recipe, ...] = (
    *bireal.RECIPES,
    *recu.RECIPES,
    *subbit.RECIPES,
    *ovsw.RECIPES,
    *real.RECIPES,
)

DEFAULT_DATASET = "digits"


def find(
    method: str, model: str | None = None, dataset: str | None = None, variant: str = "default"
) -> Recipe:
    """The recipe for a method, network and dataset, the paper's where there is one.

    Without a dataset it is the one that the model is usually trained on, without a model as well the
    embedded default. Where no recipe names the combination, the method's recipe for the same network, or
    else for the same kind of network, stands in with the names changed, and its note says so.

    Raises:
        UsageError: an unknown method, model or variant.
    """
    methods.get(method)
    if model is not None:
        get_model(model)
    candidates = [r for r in RECIPES if r.method == method and r.variant == variant]
    if not candidates:
        raise unknown(
            f"variant of {method}'s recipes", variant, {r.variant for r in RECIPES if r.method == method}
        )
    dataset = dataset or (DEFAULT_DATASET if model is None else _usual_dataset(candidates, model))
    best = max(candidates, key=lambda recipe: _fit(recipe, model, dataset))
    exact = best.dataset == dataset and model in (None, best.model)
    return best if exact else _stand_in(best, model or best.model, dataset)


def _usual_dataset(candidates: list[Recipe], model: str) -> str:
    return next((r.dataset for r in candidates if r.model == model), DEFAULT_DATASET)


def _is_large(model: str) -> bool:
    size = inspect.signature(get_model(model)).parameters["input_shape"].default
    return min(side or 0 for side in size[:2]) > 100


def _fit(recipe: Recipe, model: str | None, dataset: str) -> tuple[bool, ...]:
    """How well a recipe fits; compared from left to right."""
    same_kind = model is None or _is_large(recipe.model) == _is_large(model)
    return (
        same_kind and recipe.dataset == dataset,
        model is not None and recipe.model == model,
        same_kind,
        recipe.dataset == "cifar10",
    )


def _stand_in(recipe: Recipe, model: str, dataset: str) -> Recipe:
    origin = f"{recipe.method} × {recipe.model} × {recipe.dataset}"
    return dataclasses.replace(
        recipe,
        model=model,
        dataset=dataset,
        model_options=recipe.model_options if model == recipe.model else {},
        published_top1=None,
        published_top5=None,
        note=f"no recipe of its own: the settings of {origin}",
    )
