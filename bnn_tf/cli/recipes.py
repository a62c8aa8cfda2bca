"""`bnn-tf recipes`."""

from typing import Any

from bnn_tf.cli import options


@options.command()
@options.method
@options.json_option
def recipes(method: str | None, as_json: bool) -> None:
    """List the recipes: method × network × dataset, with the papers' accuracies.

    `zoo top-1` is that of the weights that come with the package, and how many epochs they were trained.
    --json has all settings, and a note on each that says where they come from.
    """
    from bnn_tf import methods
    from zoo import pretrained
    from zoo.recipes import RECIPES

    kind = None if method is None else type(methods.get(method))
    chosen = [recipe for recipe in RECIPES if kind in (None, type(recipe.method))]
    if as_json:
        options.emit([recipe.to_dict() for recipe in chosen], True, "")
        return
    columns = ["method", "model", "dataset", "variant", "epochs", "paper top-1", "zoo top-1"]
    trained = {}
    for record in map(pretrained.record, pretrained.names()):
        recipe = record["config"]["recipe"]
        epochs = sum(phase["epochs"] for phase in recipe["phases"])
        trained[_key(recipe)] = f"{100 * record['accuracy']['keras']:.1f} % ({epochs} epochs)"
    rows = [_row(recipe, trained.get(_key(recipe.to_dict()), "")) for recipe in chosen]
    options.print_table(columns, rows, spare=("epochs", "zoo top-1", "paper top-1"))


def _key(recipe: dict[str, Any]) -> tuple[str, ...]:
    return recipe["method"]["name"], recipe["model"], recipe["dataset"], recipe["variant"]


def _row(recipe: Any, trained: str) -> list[str]:
    published = "" if recipe.published_top1 is None else f"{recipe.published_top1:g} %"
    return [
        recipe.method.name,
        recipe.model,
        recipe.dataset,
        recipe.variant,
        "+".join(str(phase.epochs) for phase in recipe.phases),
        published,
        trained,
    ]
