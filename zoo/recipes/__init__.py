"""Recipes: which settings train which method on which network and dataset."""

from zoo.recipes.base import Phase, Recipe, override, with_epochs
from zoo.recipes.registry import RECIPES, find

__all__ = ["RECIPES", "Phase", "Recipe", "find", "override", "with_epochs"]
