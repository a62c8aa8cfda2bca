"""Recipes: which settings train which method on which network and dataset."""

from zoo.recipes.papers import RECIPES, RESULTS, find, for_own_images, original, variants
from zoo.recipes.recipe import (
    LOSSES,
    OPTIMIZERS,
    SGD,
    Adam,
    CrossEntropy,
    Distribution,
    Loss,
    Optimizer,
    Phase,
    Recipe,
    for_few_images,
    override,
    settings,
    with_channels,
    with_epochs,
)

__all__ = [
    "LOSSES",
    "OPTIMIZERS",
    "RECIPES",
    "RESULTS",
    "SGD",
    "Adam",
    "CrossEntropy",
    "Distribution",
    "Loss",
    "Optimizer",
    "Phase",
    "Recipe",
    "find",
    "for_few_images",
    "for_own_images",
    "original",
    "override",
    "settings",
    "variants",
    "with_channels",
    "with_epochs",
]
