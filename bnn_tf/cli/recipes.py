"""`bnn-tf recipes`."""

import json
from typing import Any

import click

from bnn_tf.cli import options
from bnn_tf.errors import unknown

Key = tuple[str, str, str, str]


@options.command()
@options.method
@options.model
@click.option("--dataset", metavar="NAME", help="Only recipes for this dataset.")
@click.option("--variant", metavar="NAME", help="Only this variant, such as default or fast.")
@options.json_option
def recipes(
    method: str | None, model: str | None, dataset: str | None, variant: str | None, as_json: bool
) -> None:
    """List the recipes: method × network × dataset, with the papers' accuracies and ours.

    --method, --model, --dataset and --variant each show only a part.

    `paper top-1` is what the paper's own settings reach with this method and network, in hundreds of epochs;
    `our top-1` what was trained here, of several budgets the longest: docs/results.md has them all. --json
    has all settings, and a note on each that says where they come from.
    """
    from bnn_tf import methods
    from zoo.recipes import RECIPES, find

    kind = None if method is None else type(methods.get(method))
    chosen = [recipe for recipe in RECIPES if kind in (None, type(recipe.method))]
    for field, name in (("model", model), ("dataset", dataset), ("variant", variant)):
        if name is not None:
            names = list(dict.fromkeys(getattr(recipe, field) for recipe in RECIPES))
            name = options.same_name(name, names)
            if name not in names:
                raise unknown(f"{field} with recipes", name, names)
            chosen = [recipe for recipe in chosen if getattr(recipe, field) == name]
    if not chosen and not as_json:
        click.echo("No recipe has all of these; `bnn-tf train` then takes the nearest one and says which")
        return
    if as_json:
        options.emit([recipe.to_dict() for recipe in chosen], True, "")
        return
    reached = _reached()
    rows = []
    for recipe in chosen:
        paper = recipe.published_top1
        if paper is None:  # variants of ours
            paper = find(recipe.method.name, recipe.model, recipe.dataset).published_top1
        epochs, ours = reached.get(_key(recipe.to_dict()), (0, ""))
        rows.append(
            [
                *_key(recipe.to_dict()),
                "+".join(str(phase.epochs) for phase in recipe.phases),
                "" if paper is None else f"{100 * paper:g} %",
                f"{ours} ({epochs} epochs)" if ours else "",
            ]
        )
    columns = ["method", "model", "dataset", "variant", "epochs", "paper top-1", "our top-1"]
    options.print_table(columns, rows, spare=("epochs", "our top-1", "paper top-1"))


def _reached() -> dict[Key, tuple[int, str]]:
    """The most epochs that a recipe was trained here, and the accuracy after them.

    From `zoo/recipes/results.json`, which `scripts/make_results.py` writes from the records of trainings, and
    from the weights that come with the package.
    """
    from zoo import pretrained, recipes

    longest: dict[Key, tuple[int, str]] = {}

    def add(recipe: dict[str, Any], epochs: int, accuracy: str) -> None:
        longest[_key(recipe)] = max(longest.get(_key(recipe), (0, "")), (epochs, accuracy))

    for row in json.loads(recipes.RESULTS.read_text()):
        add(row["recipe"], row["epochs"], row["accuracy"])
    for record in map(pretrained.record, pretrained.names()):
        recipe = record["config"]["recipe"]
        epochs = sum(phase["epochs"] for phase in recipe["phases"])
        add(recipe, epochs, f"{100 * record['accuracy']['keras']:.1f} %")
    return longest


def _key(recipe: dict[str, Any]) -> Key:
    return recipe["method"]["name"], recipe["model"], recipe["dataset"], recipe["variant"]
