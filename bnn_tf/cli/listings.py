"""`bnn-tf models` and `bnn-tf recipes`."""

import inspect
from typing import Any

import click

from bnn_tf.cli import options
from bnn_tf.cli.tables import print_table


@click.command()
@options.json_option
def models(as_json: bool) -> None:
    """List the architectures."""
    import zoo

    found = []
    for name in zoo.list_models():
        builder = zoo.get_model(name)
        parameters = inspect.signature(builder).parameters
        size = parameters["input_shape"].default
        found.append(
            {
                "model": name,
                "function": f"zoo.{builder.__name__}",
                "input_shape": size,
                "num_classes": parameters["num_classes"].default,
                "summary": inspect.getdoc(builder).split("\n")[0],  # type: ignore[union-attr]
            }
        )
    if as_json:
        options.emit(found, True, "")
    else:
        print_table(
            ["model", "function", "about"], [[m["model"], m["function"], m["summary"]] for m in found]
        )


@click.command()
@options.method
@options.json_option
def recipes(method: str | None, as_json: bool) -> None:
    """List the recipes: method × network × dataset, with the papers' accuracies."""
    from bnn_tf import methods
    from zoo.recipes import RECIPES

    if method is not None:
        methods.get(method)
    chosen = [recipe for recipe in RECIPES if method in (None, recipe.method)]
    if as_json:
        options.emit([recipe.to_dict() for recipe in chosen], True, "")
        return
    columns = ["method", "model", "dataset", "variant", "epochs", "paper top-1", "note"]
    print_table(columns, [_row(recipe) for recipe in chosen])


def _row(recipe: Any) -> list[str]:
    published = "" if recipe.published_top1 is None else f"{recipe.published_top1:g} %"
    return [
        recipe.method,
        recipe.model,
        recipe.dataset,
        recipe.variant,
        "+".join(str(phase.epochs) for phase in recipe.phases),
        published,
        recipe.note,
    ]
