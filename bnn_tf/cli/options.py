"""Options that several commands share, so that each is spelled the same everywhere."""

import contextlib
import json
from collections.abc import Callable
from typing import Any

import click

Decorator = Callable[[Any], Any]

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
data_dir = click.option(
    "--data-dir",
    metavar="DIR",
    help="Folder of the dataset: prepared by TFDS, or train/ and test/ with class folders.",
)
limit = click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help="Use only N images of each split, for a quick try.",
)
images = click.option(
    "--images",
    type=click.IntRange(min=1),
    default=512,
    show_default=True,
    help="Images to compare with Keras on.",
)
dataset = click.option(
    "--dataset", metavar="NAME", help="digits (embedded), cifar10, …, any TFDS name, or folder."
)
model = click.option("--model", metavar="NAME", help="Architecture; `bnn-tf models` lists them.")
method = click.option("--method", metavar="NAME", help="bireal, recu, subbit, ovsw, or real.")
normalization = click.option(
    "--normalization", metavar="NAME", help="imagenet, cifar, unit or none; default: as trained."
)
settings = click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    help="Override any field of the recipe, also method.OPTION, model.OPTION, schedule.OPTION, PHASE.FIELD.",
)


def parse_setting(text: str) -> tuple[str, Any]:
    """Key and value of `KEY=VALUE`.

    The value is read as JSON where it is JSON, a list may lack its brackets, anything else is text.

    Raises:
        click.UsageError: there is no equals sign.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise click.UsageError(f"--set takes KEY=VALUE, not {text!r}")
    for form in (value, f"[{value}]") if "," in value else (value,):
        with contextlib.suppress(ValueError):
            return key.strip(), json.loads(form)
    return key.strip(), {"none": None, "None": None, "True": True, "False": False}.get(value, value)


def emit(value: Any, as_json: bool, text: str) -> None:
    """Prints a command's result, as one JSON document or as text."""
    click.echo(json.dumps(value, indent=2) if as_json else text)
