"""Networks for the commands that need no training: of a run, a saved model, or an architecture's name."""

import dataclasses
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnn_tf.cli import options, targets
from bnn_tf.errors import UsageError, unknown

if TYPE_CHECKING:
    from bnn_tf._tensorflow import tf


class _Size(click.ParamType):
    name = "HEIGHTxWIDTH"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        match = re.fullmatch(r"([1-9]\d{0,4})(?:[x×]([1-9]\d{0,4}))?", str(value))
        if match is None:
            self.fail(f"{value!r} is no size such as 224 or 192x256", param, ctx)
        return int(match[1]), int(match[2] or match[1])


_OPTIONS = (
    click.argument("target", required=False, type=click.Path(path_type=Path)),
    options.model,
    options.method,
    click.option("--bits", type=int, help="Bits per 3×3 slice of --method subbit."),
    click.option(
        "--set",
        "settings",
        metavar="KEY=VALUE",
        multiple=True,
        help="Option of the method or the model: method.OPTION, model.OPTION, such as model.num_classes=10.",
    ),
    click.option("--input-size", type=_Size(), help="Size of the images, such as 224 or 192x256."),
)


def target_or_model(command: Any) -> Any:
    """Adds the argument and the options that `find` takes."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def find(
    target: Path | None,
    model: str | None,
    method: str | None,
    bits: int | None,
    settings: tuple[str, ...],
    input_size: tuple[int, int] | None,
) -> "tf.keras.Model":
    """The network that the command line names.

    Raises:
        UsageError: it names none or two, or a name or option is wrong.
        UserError: there is no such run or model.
    """
    if (target is None) == (model is None):
        raise UsageError("name a run or saved model, or a --model (`bnn-tf models` lists them)")
    if target is None:
        return _new(str(model), method, bits, settings, input_size)
    if method is not None or bits is not None or settings:
        raise UsageError(f"--method, --bits and --set go with --model; {target} has its own")
    return _existing(target, input_size)


def _existing(target: Path, input_size: tuple[int, int] | None) -> "tf.keras.Model":
    """The network of a run (trained or not), or a saved model."""
    if target.suffix == ".tflite":
        raise UsageError(f"{target}: this command reads runs and saved Keras models, not .tflite files")
    if not targets.is_run(target):
        from bnn_tf.report import accounting

        network = targets.load_network(target)
        return network if input_size is None else accounting.at_size(network, input_size)
    from bnn_tf.training import Run, build

    config = Run.open(target).config
    recipe = dataclasses.replace(config.recipe, image_size=input_size or config.recipe.image_size)
    return build.model(recipe, len(config.class_names))


def _new(
    model: str,
    method: str | None,
    bits: int | None,
    settings: tuple[str, ...],
    input_size: tuple[int, int] | None,
) -> "tf.keras.Model":
    """The architecture with the method and its options."""
    from bnn_tf import methods
    from zoo import get_model

    builder = get_model(model)
    parameters = inspect.signature(builder).parameters
    given = _options(settings)
    if bits is not None:
        method = method or methods.SubBit.name
        given["method"]["bits"] = bits
    if input_size is not None:
        given["model"]["input_shape"] = (*input_size, 3)
    valid = [name for name in parameters if name != "method"]
    for option in given["model"]:
        if option not in valid:
            raise unknown(f"option of model {model}", option, valid)
    chosen = methods.get(method or parameters["method"].default, **given["method"])
    try:
        return builder(method=chosen, **given["model"])
    except (ValueError, TypeError) as error:
        raise UsageError(f"model {model}: {error}") from error


def _options(settings: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """What `--set` gave, for the method and for the model."""
    given: dict[str, dict[str, Any]] = {"method": {}, "model": {}}
    for text in settings:
        key, value = options.parse_setting(text)
        owner, _, option = key.partition(".")
        if owner not in given or not option:
            raise UsageError(f"--set takes method.OPTION=VALUE or model.OPTION=VALUE here, not {text!r}")
        given[owner][option] = value
    return given
