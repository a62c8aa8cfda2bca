"""From a checkpoint file to a run directory, with what its names and shapes say about method and network."""

import dataclasses
import inspect
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bnn_tf import data, files, methods
from bnn_tf.errors import UsageError, UserError
from bnn_tf.torch_import.checkpoint import Checkpoint, read
from bnn_tf.torch_import.weights import Matching, assign
from bnn_tf.training import Position, Run, RunConfig, build_network
from bnn_tf.values import InNotebooks
from zoo import recipes
from zoo.blocks import get_model
from zoo.recipes import Recipe

_SMALL = {10: "cifar10", 100: "cifar100", 200: "tiny_imagenet"}  # datasets by their number of classes
_NO_NAMES = "the classes are numbered, as no {dataset} is at hand; name its folder, or the classes"


@dataclasses.dataclass(frozen=True)
class Settings:
    """A method and options of a network.

    Args:
        method: Name of the method.
        method_options: Options of it that the checkpoint shows.
        model_options: Options of the architecture that it shows.
        classes: Number of logits.

    Example:
        >>> Settings("recu", {}, {"shortcut": "pool"}, classes=10).method
        'recu'
    """

    method: str
    method_options: Mapping[str, Any]
    model_options: Mapping[str, Any]
    classes: int


@dataclasses.dataclass(frozen=True)
class Request:
    """What to import, and what is known of it.

    Args:
        file: The checkpoint.
        output: The run directory to make.
        model: Name of the architecture.
        method: Name of the method; `None` reads it off the checkpoint.
        dataset: Name of the dataset; `None` is the one that the authors trained the network on.
        data_dir: Folder of the dataset, where its class names come from.
        normalization: Name of mean and deviation; `None` is the authors'.
        class_names: The labels' names; `None` takes the dataset's.
        settings: Changes of the recipe: `("model.pad_values", 0.0)`.
        ignore: Patterns of names in the checkpoint to leave out.

    Example:
        >>> Request(Path("model.pt"), Path("runs/imported"), model="cifar_resnet20").method is None
        True
    """

    file: Path
    output: Path
    model: str
    method: str | None = None
    dataset: str | None = None
    data_dir: str | None = None
    normalization: str | None = None
    class_names: Sequence[str] | None = None
    settings: Sequence[tuple[str, Any]] = ()
    ignore: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Imported(InNotebooks):
    """A finished import.

    Args:
        run: The run directory, which holds the same in `import.json`.
        matching: What became of every name.
        source: The file's name, and what it says of itself: `epoch`, `best_prec1`, ….

    Example:
        >>> [field.name for field in dataclasses.fields(Imported)]
        ['run', 'matching', 'source']
    """

    run: Run
    matching: Matching
    source: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        recipe = self.run.config.recipe
        return {
            "run_dir": str(self.run.path),
            "source": dict(self.source),
            "model": recipe.model,
            "model_options": dict(recipe.model_options),
            "method": recipe.method_of(recipe.phases[-1]).get_config(),
            "dataset": recipe.dataset,
            "image_size": list(recipe.images.size),
            "normalization": _normalization(recipe.images),
            "classes": len(self.run.config.class_names),
            **self.matching.to_dict(),
        }

    def __str__(self) -> str:
        facts = self.to_dict()
        method = dict(facts["method"])
        height, width = facts["image_size"]
        lines = [
            f"{facts['run_dir']}: {facts['model']} × {method.pop('name')} × {facts['dataset']}, "
            f"{facts['classes']} classes",
            f"network: {_pairs(facts['model_options'])}",
            f"file: {_pairs(facts['source'])}",
            f"method: {_pairs(method)}" if method else "",
            f"images: {height}×{width}, normalization {facts['normalization']}",
            str(self.matching),
        ]
        return "\n".join(line for line in lines if line)


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def import_checkpoint(request: Request) -> Imported:
    """Makes a run directory whose network has the logits of a PyTorch network of the four papers.

    Raises:
        UserError: the file cannot be read, is the checkpoint of another network, or the directory is
            not empty; nothing is written then.

    Example:
        >>> import_checkpoint(Request(Path("nowhere.pt"), Path("runs/imported"), model="cifar_resnet20"))
        Traceback (most recent call last):
        bnn_tf.errors.UserError: there is no checkpoint file nowhere.pt
    """
    check(request)
    return import_arrays(request, read(request.file))


def check(request: Request) -> None:
    """Says what can be said before a large file is read.

    Raises:
        UserError: there is no such model or method, or the directory is not empty.
    """
    get_model(request.model)
    if request.method is not None:
        methods.get(request.method)
    files.require_empty(request.output)


def import_arrays(request: Request, checkpoint: Checkpoint) -> Imported:
    """Like `import_checkpoint`, with what is in the file; needs no PyTorch.

    Example:
        >>> request = Request(Path("model.pt"), Path("runs/imported"), model="cifar_resnet20", method="recu")
        >>> import_arrays(request, Checkpoint({"conv1.weight": np.zeros((16, 3, 3, 3), np.float32)}))
        Traceback (most recent call last):
        bnn_tf.errors.UserError: this is no checkpoint of the four papers' networks: no fc or linear among …
    """
    shown = infer(checkpoint.arrays, request.model, request.method)
    recipe = _recipe(request, shown)
    class_names, notes = _class_names(request, recipe, shown.classes)
    network = build_network(recipe, len(class_names))
    matching = assign(network, checkpoint.arrays, request.model, request.ignore, str(request.file))
    matching = dataclasses.replace(matching, notes=(*matching.notes, *notes))
    # Started from itself: what `--resume` continues are then these weights.
    config = RunConfig(
        recipe,
        data_dir=None if request.data_dir is None else os.path.abspath(request.data_dir),
        init_from=os.path.abspath(request.output),
        class_names=class_names,
    )
    run = Run.create(config, request.output)
    run.save_weights(network, Position())
    imported = Imported(run, matching, {**checkpoint.facts, "file": str(request.file)})
    files.write_text(run.path / "import.json", json.dumps(imported.to_dict(), indent=2) + "\n")
    return imported


def _normalization(images: data.Images) -> str:
    """The name of mean and deviation."""
    pair = images.mean, images.std
    return next((name for name, known in data.NORMALIZATIONS.items() if known == pair), "its own")


def _recipe(request: Request, shown: Settings) -> Recipe:
    """The authors' recipe of the network, reduced to its last phase, with all that is known put in."""
    large = not request.model.startswith(("cifar_", "vgg_")) or shown.classes == 1000
    usual = _SMALL.get(shown.classes, "imagenet2012" if large else "cifar10")
    dataset = request.dataset or usual
    recipe = recipes.find(shown.method, request.model, dataset)
    chosen = [] if request.normalization is None else [("normalization", request.normalization)]
    for key, value in (*_inferred(recipe, shown), *chosen, *request.settings):
        recipe = recipes.override(recipe, key, value)
    if recipe.model_options.get("torch_padding", True) is not True:
        raise UsageError("a PyTorch checkpoint needs model.torch_padding=true")
    return dataclasses.replace(
        recipe,
        phases=recipe.phases[-1:],
        model_options={**recipe.model_options, "torch_padding": True},
        note=f"imported from {request.file.name}; {recipe.note}",
    )


def _inferred(recipe: Recipe, shown: Settings) -> Iterator[tuple[str, Any]]:
    """Settings that the checkpoint shows and the recipe does not have anyway."""
    method = recipe.method_of(recipe.phases[-1]).get_config()
    for key, value in shown.method_options.items():
        if method[key] != value:
            yield f"method.{key}", value
    parameters = inspect.signature(get_model(recipe.model)).parameters
    for key, value in shown.model_options.items():
        if recipe.model_options.get(key, parameters[key].default) != value:
            yield f"model.{key}", value


def _class_names(request: Request, recipe: Recipe, classes: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The labels' names, and a note where there are none."""
    named = request.class_names
    if named is None:
        named = _names_of_dataset(request, recipe, classes)
    if named is None:
        return data.placeholder_names(classes), (_NO_NAMES.format(dataset=recipe.dataset),)
    if len(named) != classes:
        raise UserError(f"{request.file} has {classes} logits, but {len(named)} class names are given")
    return tuple(named), ()


def _names_of_dataset(request: Request, recipe: Recipe, classes: int) -> Sequence[str] | None:
    """The dataset's class names, where it is at hand and fits or was asked for."""
    try:
        names = data.load(recipe.dataset, request.data_dir, download=False).class_names
    except data.UnknownDatasetError:
        raise
    except data.DataError:
        if request.data_dir is not None:
            raise
        return None
    asked = request.dataset is not None or request.data_dir is not None
    return names if asked or classes == len(names) else None


def infer(arrays: Mapping[str, np.ndarray], model: str, method: str | None = None) -> Settings:
    """Method and options of the network in a state dict.

    Args:
        arrays: The state dict.
        model: Name of the architecture that it is said to be of.
        method: Name of the method where it is known.

    Raises:
        UsageError: it could be one of several methods.
        UserError: there is no classifier.

    Example:
        >>> alpha, classifier = np.ones((1, 16, 1, 1), np.float32), np.zeros((10, 64), np.float32)
        >>> infer({"layer1.0.conv1.alpha": alpha, "linear.weight": classifier}, "cifar_resnet20").method
        'recu'
    """
    for name in methods.METHODS if method is None else [method]:
        shown = methods.METHODS.get(name).recognizes(arrays, model)
        if shown is not None or method is not None:
            return Settings(name, shown or {}, _model_options(arrays, model), _classes(arrays))
    raise UsageError(
        "the checkpoint does not show its method; name it: of ReActNet's two steps the second is bireal, "
        "the first real with method.activation_name=sign (real weights)"
    )


def _model_options(arrays: Mapping[str, np.ndarray], model: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if model.startswith("cifar_") and model != "cifar_resnet20":
        conv = any(".shortcut.0." in name for name in arrays)
        options["shortcut"] = "conv" if conv else "pool"
    if model == "vgg_small":
        options["last_activation"] = "prelu" if "nonlinear5.weight" in arrays else "hard_tanh"
    return options


def _classes(arrays: Mapping[str, np.ndarray]) -> int:
    for name in ("fc.weight", "linear.weight"):
        if name in arrays:
            return len(arrays[name])
    first = ", ".join(list(arrays)[:3])
    raise UserError(f"this is no checkpoint of the four papers' networks: no fc or linear among {first}, …")
