"""Recipes: which settings train which method on which network and dataset."""

from zoo.recipes.papers import RECIPES, find
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
    override,
    settings,
    with_epochs,
)

__all__ = [
    "LOSSES",
    "OPTIMIZERS",
    "RECIPES",
    "SGD",
    "Adam",
    "CrossEntropy",
    "Distribution",
    "Loss",
    "Optimizer",
    "Phase",
    "Recipe",
    "find",
    "override",
    "settings",
    "with_epochs",
]
