"""`bnn-tf recipes`."""

from typing import Any

from bnn_tf.cli import options


@options.command()
@options.method
@options.json_option
def recipes(method: str | None, as_json: bool) -> None:
    """List the recipes: method × network × dataset, with the papers' accuracies."""
    from bnn_tf import methods
    from zoo.recipes import RECIPES

    kind = None if method is None else type(methods.get(method))
    chosen = [recipe for recipe in RECIPES if kind in (None, type(recipe.method))]
    if as_json:
        options.emit([recipe.to_dict() for recipe in chosen], True, "")
        return
    columns = ["method", "model", "dataset", "variant", "epochs", "paper top-1", "note"]
    options.print_table(columns, [_row(recipe) for recipe in chosen])


def _row(recipe: Any) -> list[str]:
    published = "" if recipe.published_top1 is None else f"{recipe.published_top1:g} %"
    return [
        recipe.method.name,
        recipe.model,
        recipe.dataset,
        recipe.variant,
        "+".join(str(phase.epochs) for phase in recipe.phases),
        published,
        recipe.note,
    ]
