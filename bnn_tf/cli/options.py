"""What several commands share: options (each spelled the same everywhere), kinds of values, tables, JSON."""

import ast
import contextlib
import json
import math
import os
import re
import shlex
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnn_tf import data, files, model_files, registry
from bnn_tf._tensorflow import lazy
from bnn_tf.data.folder import holds_pictures
from bnn_tf.data.source import (
    DamagedImageError,
    NamedFolderError,
    NoFolderError,
    OtherFolderError,
    TooDeepError,
)
from bnn_tf.errors import (
    AdvisingError,
    UnknownClassError,
    UnsafeModelError,
    UntrustedModuleError,
    UsageError,
    UserError,
    first_line,
    some,
)
from bnn_tf.methods import METHODS
from bnn_tf.schedules import SCHEDULES
from bnn_tf.training.run import NotResumableError, RunConfig
from zoo import MODELS

if TYPE_CHECKING:
    from rich.console import Console

    from bnn_tf.deploy import proof
    from zoo.recipes import Recipe
else:
    proof = lazy("bnn_tf.deploy.proof")

Decorator = Callable[[Any], Any]


class Command(click.Command):
    """A command whose errors name flags where the library, which knows none, names its own arguments."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Reads the arguments; one too many is refused with the option that it may be meant for."""
        ctx.allow_extra_args = True
        rest = super().parse_args(ctx, args)
        if rest and not ctx.resilient_parsing:
            named = [
                f"; write {flag(parameter)} {rest[0]}"
                for parameter in self.params
                if isinstance(parameter.type, Name) and rest[0] in parameter.type
            ]
            ctx.fail(f"there is an unexpected extra argument {rest[0]!r}{named[0] if named else ''}")
        return rest

    def invoke(self, ctx: click.Context) -> Any:
        """Imports what `--import` names and runs the command; errors name options in place of arguments."""
        try:
            for module in ctx.meta.get(_IMPORTS, ()):
                model_files.register_classes(registry.import_module(module))
            return super().invoke(ctx)
        except UserError as error:
            error.args = (_translated(ctx, error), *error.args[1:])
            raise


def _translated(context: click.Context, error: UserError) -> str:
    """The message of an error, with options in place of the library's arguments."""
    message, flags = str(error), {str(p.name): flag(p) for p in context.command.params}
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, AdvisingError) and cause.advice:
            message = message.replace(cause.advice, _advice(cause, flags, context.params.get("data_dir")))
        cause = cause.__cause__
    message = re.sub(r"\b([a-z]\w*)=True\b", lambda name: flags.get(name[1], name[0]), message)
    written = {str(parameter.name): flag(parameter) for parameter in typed(context)}
    return re.sub(
        r"(?<![^ ])[a-z]\w*(?= (must|needs?|takes?) )", lambda name: written.get(name[0], name[0]), message
    )


def _advice(error: AdvisingError, flags: dict[str, str], folder: str | None) -> str:
    """What an error advises on the command line, where the command has the option for it."""
    if isinstance(error, UntrustedModuleError | UnknownClassError):
        if "imports" in flags:
            return f"if you trust it, add --import {error.module or 'MODULE, the module that defines it'}"
    elif isinstance(error, UnsafeModelError) and "trust_model" in flags:
        return "only if you trust its author, add --trust-model"
    elif isinstance(error, NoFolderError) and "data_dir" in flags:
        return "say where it is with --data-dir"
    elif isinstance(error, NamedFolderError) and "data_dir" in flags:
        return f"write --data-dir {shlex.quote(error.folder)} in place of --dataset"
    elif isinstance(error, TooDeepError) and "data_dir" in flags:
        return f"name the folder that contains it: --data-dir {shlex.quote(error.root)}"
    elif isinstance(error, OtherFolderError) and "data_dir" in flags:
        return error.advise(" with --data-dir DIR")
    elif isinstance(error, DamagedImageError):
        return f"bnn-tf data check {shlex.quote(folder or 'DIR')} lists all such files"
    elif isinstance(error, NotResumableError) and "restart_from_weights" in flags:
        again = "--restart-from-weights goes on from its last weights with a fresh optimizer"
        return f"{again}, or start a new run"
    elif "tflite" in flags and isinstance(error, proof.Disagreement):
        return "take what `bnn-tf convert --allow-disagreement` writes with --tflite FILE"
    return error.advice


def command(name: str | None = None) -> Callable[[Callable[..., Any]], Command]:
    """Makes a function a command of `bnn-tf`."""
    return click.command(name, cls=Command)


def flag(parameter: click.Parameter) -> str:
    """How an option is written, in its long form; the name of an argument."""
    return next((name for name in parameter.opts if name.startswith("--")), parameter.human_readable_name)


def typed(context: click.Context) -> list[click.Parameter]:
    """The parameters that stand on the command line."""
    source = click.core.ParameterSource.COMMANDLINE
    return [p for p in context.command.params if context.get_parameter_source(str(p.name)) == source]


def refuse(context: click.Context, names: Iterable[str], reason: str) -> None:
    """Refuses parameters that make no sense together with others.

    Raises:
        UsageError: one of them stands on the command line.
    """
    names = set(names)
    clash = [
        flag(parameter)
        for parameter in typed(context)
        # A run's method and network may be named again, so that their modules are imported.
        if parameter.name in names and not registry.is_path(str(context.params[str(parameter.name)]))
    ]
    if clash:
        raise UsageError(f"{reason}; leave out {', '.join(clash)}")


# Kinds of values


class Name(click.ParamType):
    """A registered name, or `package.module:Name` of an object that the user wrote.

    A name that differs from a registered one only in case, hyphens or underscores is that one. A module that
    is named on the command line may be imported, also from the current folder.

    Args:
        kind: What is named.
        names: The registered names.
    """

    def __init__(self, kind: str, names: Collection[str] | registry.Registry) -> None:
        self.name, self._names = kind, names

    def __contains__(self, name: str) -> bool:
        """Whether the name is registered."""
        return name in self._names

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The registered name."""
        if registry.is_path(value) or ".py:" in value:
            trust(value)
            return value
        name = same_name(value, self._names)
        # Names of datasets are not checked here: TFDS has more than the registered ones.
        known = self.name == "dataset" or name in self._names
        if not known and (meant := _in_file(value, self.name)):
            raise UsageError(
                f"there is no {self.name} called {value!r}; of the file {value}.py, write "
                f"{' or '.join(meant)}"
            )
        return name

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        """The registered names that begin like this."""
        names = (name for name in self._names if name.startswith(incomplete))
        return [click.shell_completion.CompletionItem(name) for name in names]


def _in_file(value: str, kind: str) -> list[str]:
    """What a module beside the user defines, as `module:Name`; nothing where there is none of that name."""
    path = Path(f"{value}.py")
    if not value.isidentifier() or not path.is_file():
        return []
    with contextlib.suppress(OSError, SyntaxError, ValueError):
        nodes = ast.parse(path.read_text()).body
        if kind == "method":
            return [f"{value}:{node.name}" for node in nodes if isinstance(node, ast.ClassDef) and node.bases]
        return [f"{value}:{node.name}" for node in nodes if isinstance(node, ast.FunctionDef)]
    return []


def same_name(value: str, names: Iterable[str]) -> str:
    """The one of `names` that is spelled like `value` but for case, hyphens and underscores; else `value`."""
    names = list(names)
    if value in names:
        return value
    plain = re.sub(r"[-_ ]", "", value).lower()
    alike = [name for name in names if re.sub(r"[-_ ]", "", name).lower() == plain]
    return alike[0] if len(alike) == 1 else value


def trust(name: str) -> None:
    """Lets a module that the command line names be imported, also from the current folder.

    Args:
        name: `package.module`, or `package.module:Name`.

    Raises:
        UsageError: it names a file in place of the module.
    """
    file = re.fullmatch(r"(?:\./)?((?:\w+/)*\w+)\.py(:\w+)?", name)
    if file:
        raise UsageError(
            f"{name!r} names a file; write {file[1].replace('/', '.')}{file[2] or ''}, as Python imports it"
        )
    registry.trust(name)
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.append(folder)  # last, so that no file there hides an installed module


def _trust_paths(context: click.Context, parameter: click.Parameter, values: Iterable[str]) -> None:
    for value in values:
        if not registry.is_path(value):
            raise UsageError(
                "--method and --model import the module of a run's own method or network here, as "
                f"package.module:Name, and choose none{_untrained(context, value)}"
            )
        trust(value)


def _untrained(context: click.Context, value: str) -> str:
    """What to write in place of `--model NAME` in a command whose TARGET may be the name of a network."""
    known = same_name(value, MODELS)
    if context.command.name in ("export", "benchmark") and known in MODELS:
        return f"; write bnn-tf {context.command.name} {known} … for the network with random weights"
    return ""


def _import(context: click.Context, parameter: click.Parameter, values: Iterable[str]) -> None:
    for value in values:
        trust(value)
        context.meta.setdefault(_IMPORTS, []).append(value.partition(":")[0])


def trust_settings(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    """Lets the modules be imported that stand anywhere in the values of KEY=VALUE."""
    waiting: list[Any] = [parse_setting(text)[1] for text in values if "=" in text]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, str):
            for name in filter(registry.is_path, value.split(",")):
                trust(name)
    return values


class Size(click.ParamType):
    """Height and width of images."""

    name = "HEIGHTxWIDTH"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        """The two numbers."""
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"([1-9]\d{0,4})(?:[x×]([1-9]\d{0,4}))?", str(value))
        if match is None:
            self.fail(f"{value!r} is no size such as 224 or 192x256", param, ctx)
        return int(match[1]), int(match[2] or match[1])


class Number(click.ParamType):
    """A finite number.

    Args:
        minimum: The least that is allowed.
        open: Whether `minimum` itself is not allowed.
    """

    name = "number"

    def __init__(self, minimum: float = -math.inf, open: bool = False) -> None:
        self._minimum, self._open = minimum, open

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """The number."""
        try:
            number = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number", param, ctx)
        low = number <= self._minimum if self._open else number < self._minimum
        if not math.isfinite(number) or low:
            least = "above" if self._open else "at least"
            bound = f" and {least} {self._minimum:g}" if self._minimum > -math.inf else ""
            self.fail(f"it must be finite{bound}, not {value}", param, ctx)
        return number


PATH = click.Path(path_type=Path)
PATH_NAME = click.Path(path_type=str)
"""Paths that stay text: they are written into a run's configuration."""


class TargetPath(click.Path):
    """The path of a run or a model, or `zoo:NAME`."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        """Files and, where something is typed, weights that come with the package.

        Files come first because bash's script forgets what it got before them, and completes files only where
        no name fits.
        """
        from zoo import pretrained

        names = [f"{pretrained.PREFIX}{name}" for name in pretrained.names()] if incomplete else []
        return [*super().shell_complete(ctx, param, incomplete), *choices(names)(ctx, param, incomplete)]


TARGET = TargetPath(path_type=Path)


def choices(names: Iterable[str]) -> Callable[[click.Context, click.Parameter, str], list[Any]]:
    """What completes an option whose values are these names, but which takes others, too."""

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
        return [click.shell_completion.CompletionItem(name) for name in names if name.startswith(incomplete)]

    return complete


def _variants(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
    from zoo.recipes import RECIPES

    method = context.params.get("method")
    own = [recipe.variant for recipe in RECIPES if method in (None, recipe.method.name)]
    return choices(dict.fromkeys(own))(context, parameter, incomplete)


def _datasets(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
    """Names, or folders where no name begins like this."""
    names = choices(data.datasets.DATASETS)(context, parameter, incomplete)
    return names or PATH.shell_complete(context, parameter, incomplete)


# Options

EMBEDDED = "digits"
"""The dataset that needs no folder, which recipes take where none is named."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
data_dir = click.option(
    "--data-dir",
    metavar="DIR",
    type=PATH_NAME,
    help="Folder of the dataset: prepared by TFDS, or train/ and test/ with class folders.",
)
limit = click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help="Use only N images of each split, for a quick try.",
)
init_from = click.option(
    "--init-from",
    metavar="RUN",
    type=TargetPath(path_type=str),
    help="Start from the weights of another run, a saved model, zoo:NAME or larq-zoo:NAME.",
)
images = click.option(
    "--images",
    type=click.IntRange(min=1),
    default=512,
    help="How many held-out images to compare with Keras on.",
)
DATASET, NORMALIZATION = Name("dataset", data.datasets.DATASETS), Name("normalization", data.NORMALIZATIONS)
dataset = click.option(
    "--dataset",
    metavar="NAME",
    type=DATASET,
    shell_complete=_datasets,
    help="digits (embedded), cifar10, …, any TFDS name, folder (pictures in --data-dir), or "
    "package.module:function.",
)
MODEL, METHOD = Name("model", MODELS), Name("method", METHODS)
model = click.option(
    "--model",
    metavar="NAME",
    type=MODEL,
    help="Architecture (`bnn-tf models` lists them), or package.module:function.",
)
method = click.option(
    "--method",
    metavar="NAME",
    type=METHOD,
    help="Method (`bnn-tf recipes` lists them), or package.module:Class.",
)
normalization = click.option(
    "--normalization",
    metavar="NAME",
    type=NORMALIZATION,
    help="imagenet, cifar, unit or none; default: as trained.",
)
settings = click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    callback=trust_settings,
    help="Override any field of the recipe, also method.OPTION, model.OPTION, schedule.OPTION, PHASE.FIELD.",
)
class_names = click.option(
    "--class-names",
    metavar="FILE",
    type=PATH,
    help="File with the labels' names, one a line; default: as trained, or the dataset's.",
)
_IMPORTS = "bnn_tf.imports"
imports = click.option(
    "--import",
    "imports",
    metavar="MODULE",
    multiple=True,
    expose_value=False,
    callback=_import,
    help="Import a module first, also from the current folder: what a run or a saved model names from it is "
    "then known, and its lint rules apply.",
)
_TRUST_MODEL = "bnn_tf.trust_model"

trust_model = click.option(
    "--trust-model",
    is_flag=True,
    expose_value=False,
    callback=lambda context, parameter, value: context.meta.update({_TRUST_MODEL: value}),
    help="Load saved models unchecked: code in the file runs with your rights.",
)


def pictures(function: Any) -> Any:
    """Adds the options that say which images a target is used with, and how they are normalised."""
    return dataset(data_dir(normalization(function)))


def door(function: Any) -> Any:
    """Adds the options that let a run name modules which are not installed."""
    named = click.option(
        "--method",
        "--model",
        metavar="package.module:NAME",
        multiple=True,
        expose_value=False,
        callback=_trust_paths,
        help="Import the module of the run's own method or network first, as --import does; it chooses no "
        "method or network.",
    )
    return named(imports(function))


def opening(function: Any) -> Any:
    """Adds the options of a command that opens a target and prints a result."""
    return door(trust_model(json_option(function)))


def model_is_trusted() -> bool:
    """Whether the user gave `--trust-model`."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(_TRUST_MODEL))


def parse_setting(text: str) -> tuple[str, Any]:
    """Key and value of `KEY=VALUE`.

    The value is read as JSON where it is JSON, a list may lack its brackets, numbers may be written as in
    Python (`.9`, `1.`), anything else is text.

    Raises:
        UsageError: there is no equals sign.
    """
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise UsageError(f"--set takes KEY=VALUE, not {text!r}")
    for form in (value, f"[{value}]") if "," in value else (value,):
        with contextlib.suppress(ValueError):
            return key, json.loads(form)
    if re.fullmatch(r"[+-]?(\d+\.\d*|\.\d+)([eE][+-]?\d+)?", value.strip()):
        return key, float(value)
    return key, {"none": None, "None": None, "True": True, "False": False}.get(value, value)


# The options that choose and change a recipe, for `train` and `sweep`: flags, field, type, help.
_FIELDS: tuple[tuple[tuple[str, ...], str, Any, str], ...] = (
    (("--batch-size", "--bs"), "batch_size", click.IntRange(min=1), "Images per training step."),
    (("--test-batch-size",), "test_batch_size", click.IntRange(min=1), "Images per evaluation step."),
    (("--learning-rate", "--lr"), "learning_rate", Number(0, open=True), "Base learning rate, unscaled."),
    (("--weight-decay", "--wd"), "weight_decay", Number(0), "Coupled L2 decay per step."),
    (("--momentum",), "momentum", Number(0), "Momentum of SGD."),
    (
        ("--clip-norm",),
        "clip_norm",
        Number(0, open=True),
        "Largest norm of all gradients together, before weight decay; larger ones are scaled down.",
    ),
    (("--schedule",), "schedule", Name("schedule", SCHEDULES), "cosine, linear, multistep or constant."),
    (
        ("--teacher",),
        "teacher",
        TargetPath(path_type=str),
        "Run, saved Keras model, zoo:NAME, keras:NAME or larq-zoo:NAME to distil from.",
    ),
    (("--image-size", "--input-size"), "image_size", Size(), "Size of the images: 64, 192x256."),
    (("--channels",), "channels", click.Choice(["1", "3"]), "1: grey images, 3: colour images."),
    (("--bits",), "method.bits", click.IntRange(1, 9), "Bits per 3×3 slice of --method subbit."),
    (
        ("--ema",),
        "ema",
        Number(0, open=True),
        "Momentum of an average of the weights, which is then saved; for real-valued networks.",
    ),
)


def recipe_options(function: Any) -> Any:
    """Adds the options that `recipe` takes."""
    function = settings(imports(function))
    for flags, _, kind, text in reversed(_FIELDS):
        function = click.option(*flags, type=kind, help=text)(function)
    for option in (
        click.option(
            "--recipe",
            metavar="FILE.json",
            type=PATH,
            help="Take the recipe from a file, as `train --dry-run --json` prints it.",
        ),
        click.option(
            "--epochs",
            metavar="N[,N…]",
            help="Epochs: of each phase, of all together (fast), or one number for each phase.",
        ),
        click.option(
            "--variant",
            default="default",
            shell_complete=_variants,
            help="Variant of the recipe; see `bnn-tf recipes`.",
        ),
        data_dir,
        dataset,
        model,
        method,
    ):
        function = option(function)
    return function


SELECTORS = ("method", "model", "dataset", "variant")
"""What chooses a recipe, to which other settings then apply."""


def recipe(context: click.Context, values: dict[str, Any]) -> "Recipe":
    """The recipe with all overrides of the command line.

    Args:
        context: The command's context.
        values: The options of `recipe_options` by name.

    Raises:
        UsageError: a name, key or value is wrong.
    """
    from zoo import recipes

    if values["recipe"] is None:
        dataset = values["dataset"]
        if dataset is None and values["data_dir"] is not None and holds_pictures(values["data_dir"]):
            dataset = "folder"
        chosen = recipes.find(values["method"], values["model"], dataset, values["variant"])
        if dataset is None and values["data_dir"] is not None and chosen.dataset == EMBEDDED:
            # The folder was named for the sake of its images; what is wrong with it is said when it is read.
            prepared = {
                path.parents[1].name for path in Path(values["data_dir"]).glob("*/*/dataset_info.json")
            }
            _require_around(values["data_dir"])
            if prepared:
                names = some(sorted(prepared))
                raise UsageError(
                    f"{values['data_dir']} holds {names} of TensorFlow Datasets; name it: --dataset NAME"
                )
            dataset = "folder"
            chosen = recipes.find(values["method"], values["model"], dataset, values["variant"])
        if dataset == "folder" and "variant" not in {parameter.name for parameter in typed(context)}:
            chosen = recipes.for_own_images(chosen)
        if dataset == "folder" and values["data_dir"] is not None:
            facts = data.facts(dataset, values["data_dir"])
            count = min(
                number for number in (facts.train, values["limit"], sys.maxsize) if number is not None
            )
            chosen = recipes.for_few_images(chosen, count, facts.side)
    else:
        refuse(context, SELECTORS, "--recipe already contains method, model, dataset and variant")
        chosen = recipes.Recipe.from_dict(recipe_file(values["recipe"])["recipe"])
    if values["epochs"] is not None:
        chosen = recipes.with_epochs(chosen, numbers(values["epochs"]))
    for flags, field, _, _ in _FIELDS:
        value = values[flags[0].removeprefix("--").replace("-", "_")]
        if value is not None and field == "channels":
            chosen = recipes.with_channels(chosen, int(value))
        elif value is not None:
            chosen = recipes.override(chosen, field, value)
    for key, value in map(parse_setting, values["settings"]):
        if key in SELECTORS:
            raise UsageError(f"--set does not choose the {key}; write --{key} {value}")
        chosen = recipes.override(chosen, key, value)
    return chosen


def _require_around(folder: str) -> None:
    """Refuses the folder of one dataset of TensorFlow Datasets.

    Raises:
        UsageError: it is one.
    """
    from bnn_tf.data.tfds import folder_around

    place = files.expanded(folder).absolute()
    around = folder_around(place)
    if around is not None:
        name = place.relative_to(around).parts[0]
        raise UsageError(
            f"{folder} is the dataset {name} of TensorFlow Datasets; write --dataset {name} --data-dir "
            f"{shlex.quote(str(around))}"
        )


def recipe_file(path: Path) -> dict[str, Any]:
    """What a file after `--recipe` holds: a run's configuration, in which `recipe` may stand alone.

    Raises:
        UserError: it cannot be read or is something else.
    """
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        why = getattr(error, "strerror", None) or first_line(error)
        raise UserError(f"the recipe in {path} cannot be read: {why}") from error
    if isinstance(values, dict) and "phases" in values:
        return {"recipe": values}
    if not isinstance(values, dict) or not isinstance(values.get("recipe"), dict):
        raise UserError(f"{path} holds no recipe; `bnn-tf train … --dry-run --json` prints one")
    return values


CONFIGURED = (
    "data_dir",
    "limit",
    "deterministic",
    "workers",
    "init_from",
    "precision",
    "jit",
    "steps_per_execution",
    "sync_batch_norm",
)
"""Fields of `bnn_tf.training.RunConfig` for which `train` and `sweep` have an option of the same name."""


class _Workers(click.IntRange):
    """A number of parallel calls; addresses, which others call workers, have an option of their own."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number."""
        if ":" in str(value):
            self.fail("machines that train together are named by --cluster HOST:PORT,HOST:PORT", param, ctx)
        return super().convert(value, param, ctx)


_HARDWARE = (
    click.option(
        "--precision",
        type=click.Choice(["float32", "bfloat16", "float16"]),
        default=RunConfig.precision,
        help="Of activations and gradients; latent weights and statistics stay float32.",
    ),
    click.option("--jit", is_flag=True, help="Compile the training step with XLA; on CPUs this is slower."),
    click.option(
        "--steps-per-execution",
        type=click.IntRange(min=1),
        default=RunConfig.steps_per_execution,
        help="Training steps between two returns to Python.",
    ),
    click.option(
        "--sync-batch-norm", is_flag=True, help="Normalise over the images of all GPUs and machines together."
    ),
    click.option("--gpus", type=click.IntRange(min=0), help="GPUs to use; default: all."),
    click.option("--workers", type=_Workers(min=1), help="Parallel image preparation; default: automatic."),
    click.option("--deterministic", is_flag=True, help="Reproducible to the last bit, somewhat slower."),
)


def hardware(function: Any) -> Any:
    """Adds the options that say on what and how fast to train."""
    for option in reversed(_HARDWARE):
        function = option(function)
    return function


def numbers(
    text: str, wanted: str = "--epochs takes a whole number, or one for each phase (2,2,1)"
) -> list[int]:
    """The whole numbers of `--epochs N[,N…]`, or of another option that says what is `wanted`.

    Raises:
        UsageError: something else stands there.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"{wanted}, not {text!r}") from None


def moved(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """What may be different where a run is resumed: fields of its configuration."""
    return {name: chosen[name] for name in ("data_dir", "workers") if chosen[name] is not None}


@contextlib.contextmanager
def continued_by(command: str, on_all: bool = False) -> Iterator[None]:
    """Adds the command that goes on to an error that ends a training before its time.

    Args:
        command: The command.
        on_all: Whether it must be given on all workers where one of several was lost.
    """
    from bnn_tf.training import StoppedError
    from bnn_tf.training.strategies import LostWorkerError

    try:
        yield
    except (StoppedError, LostWorkerError) as error:
        where = " on all workers" if on_all and isinstance(error, LostWorkerError) else ""
        error.args = (f"{error}. Continue: {command}{where}",)
        raise


def started(path: Path) -> str | None:
    """When a run was started, as its environment.json says."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return json.loads((path / "environment.json").read_text()).get("started")
    return None


# Output


def console(as_json: bool, quiet: bool = False) -> "Console":
    """Where a training says how it goes: with --json standard output carries the result alone."""
    from rich.console import Console

    return Console(stderr=as_json, quiet=quiet, soft_wrap=True, markup=False, highlight=False)


def emit(value: Any, as_json: bool, text: str) -> None:
    """Prints a command's result, as one JSON document or as text."""
    click.echo(json.dumps(value, indent=2) if as_json else text)


def percent(share: float) -> str:
    """A share as people read it.

    Example:
        >>> percent(0.875)
        '87.50 %'
    """
    return f"{100 * share:.2f} %"


OFF_TERMINAL = 10_000  # columns; a pipe has no width, and its lines should not be broken
_SHORT = 24  # characters; what is no longer stands on one line, whatever the width


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    numbers_from: int | None = None,
    spare: Sequence[str] = (),
) -> None:
    """Prints rows under column names.

    On a terminal that is too narrow for them, long texts are folded, then columns of `spare` are left out,
    then lines run over. The first column and short texts, such as numbers, are never cut or folded.

    Args:
        columns: Names of the columns.
        rows: Cells; an empty row becomes a line across the table.
        numbers_from: Align this column and those after it to the right.
        spare: Columns that may be left out, the least important first; `--json` must have them.
    """
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, highlight=False)
    room = console.width if console.is_terminal else OFF_TERMINAL
    cells = [[row[i] for row in rows if row] for i in range(len(columns))]
    # The width of each column that is shown, by its number; first the least in which it can be read.
    widths = {i: _least_width(name, cells[i], whole=i == 0) for i, name in enumerate(columns)}
    left_out = []
    for name in spare:
        if _table_width(widths) > room:
            left_out.append(name)
            del widths[columns.index(name)]
    table = Table(box=None, pad_edge=False)
    for i in widths:
        wanted = max(map(cell_len, [columns[i], *cells[i]]))
        widths[i] += max(0, min(wanted - widths[i], room - _table_width(widths)))
        right = numbers_from is not None and i >= numbers_from
        table.add_column(columns[i], justify="right" if right else "left", width=widths[i], overflow="fold")
    for row in rows:
        table.add_row(*(cell for i, cell in enumerate(row) if i in widths))
        if not row:
            table.add_section()
    console.width = _table_width(widths)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())
    if left_out:
        which = "this column does" if len(left_out) == 1 else f"these {len(left_out)} columns do"
        click.echo(f"On this terminal {which} not fit: {', '.join(left_out)}. --json has everything.")


def _least_width(title: str, cells: Sequence[str], whole: bool) -> int:
    """The least width in which a column can be read; `whole` if none of its cells may be folded."""
    from rich.cells import cell_len

    longest = max(map(cell_len, cells), default=0)
    folds = longest > _SHORT and not whole
    words = [word for text in (title, *(cells if folds else ())) for word in text.split()]
    return max(_SHORT if folds else longest, *map(cell_len, words), 0)


def _table_width(widths: dict[int, int]) -> int:
    """The width of a table with columns of these widths, and two spaces for each."""
    return sum(widths.values()) + 2 * len(widths)
