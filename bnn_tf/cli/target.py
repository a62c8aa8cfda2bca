"""What a command was pointed at, opened once: a run, a model in any form, or an architecture's name."""

import contextlib
import dataclasses
import functools
import inspect
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnn_tf import data, files, registry
from bnn_tf.cli import options
from bnn_tf.deploy.lce_file import require_converter
from bnn_tf.errors import AdvisingError, UsageError, UserError, hint, unknown
from bnn_tf.training import sources
from zoo import MODELS, pretrained

if TYPE_CHECKING:
    import numpy as np

    from bnn_tf._tensorflow import tf
    from bnn_tf.deploy import LceFile
    from bnn_tf.report import Account
    from bnn_tf.training import Run, RunConfig


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """Which images a model is for.

    Args:
        dataset: Name of the dataset.
        data_dir: Its folder.
        preprocessing: What `bnn_tf.data.Images.to_dict` returned.
        class_names: The labels' names, in order.
        asked: Whether the command line names the dataset or its folder.
    """

    dataset: str
    data_dir: str | None
    preprocessing: dict[str, Any]
    class_names: list[str]
    asked: bool = False

    def source(self, limit: int | None = None) -> "data.Source":
        """The dataset."""
        return data.load(self.dataset, self.data_dir, limit=limit)

    def samples(self, count: int, required: bool = False) -> "tuple[np.ndarray, data.Source | None]":
        """Held-out images in the network's size, uint8, and the dataset that they come from.

        Where the dataset is not on this machine, random images (of no dataset) do to compare a file with
        Keras, and a line says so; nothing is downloaded for it.

        Args:
            count: How many images.
            required: Whether only the dataset's own images will do, as where the command line names it.

        Raises:
            DataError: the dataset is required and absent, or it is there and cannot be read.
        """
        required = required or self.asked
        try:
            source = data.load(self.dataset, self.data_dir, download=required)
        except (data.AbsentError, data.UnknownDatasetError) as error:
            if required:
                raise
            reason = error.reason if isinstance(error, AdvisingError) else error
            click.echo(f"{count} random images are used: {reason}.", err=True)
            return _random_pixels(self.pre().input_shape, count), None
        return data.take(source, self.pre(), count, normalize=False)[0], source

    def pre(self) -> "data.Images":
        """The preprocessing."""
        return data.Images.from_dict(self.preprocessing)

    def contract(self) -> dict[str, Any]:
        """What an app must know of the images, for `bnn_tf.convert(contract=…)`.

        It holds neither the author's folders nor what training did to images; the file itself says the types
        of its tensors.
        """
        values = self.pre().contract(self.class_names)
        for key in ("dtype", "quantization", "layout"):
            del values[key]
        note = "; an input of type uint8 takes the pixels themselves"
        return {"dataset": self.dataset, **values, "formula": values["formula"] + note}

    @classmethod
    def of_contract(cls, values: dict[str, Any]) -> "ImageSet":
        """What `contract` gave.

        Raises:
            ValueError, KeyError, TypeError: an entry is missing or impossible.
        """
        images = data.Images.from_contract(values)
        names = [str(name) for name in values["labels"]]
        return cls(str(values["dataset"]), None, images.to_dict(), names)


_FILES_OF_RUNS = (
    *("config.json", "environment.json", "metrics.csv", "diagnostics.jsonl"),
    *("model.weights.h5", "model.weights.json", "conversion.json"),
)


class Target:
    """What a command was pointed at.

    Args:
        name: As it was written.
        kind: `run`, `saved model` (a SavedModel, `.keras` or `.h5`), `zoo` (weights that come with the
            package), `larq-zoo`, `tflite`, `snn` or `architecture`.
        build: Makes the network of an architecture for images of a size and number of channels (`None`: its
            own).
    """

    def __init__(
        self,
        name: str,
        kind: str,
        build: "Callable[[tuple[int, int] | None, int | None], tf.keras.Model] | None" = None,
    ) -> None:
        self.name, self.kind, self._build = name, kind, build
        self.path = files.expanded(name)

    def __str__(self) -> str:
        return self.name

    @property
    def is_converted(self) -> bool:
        """Whether it is a converted file, in which there is no Keras model any more."""
        return self.kind in ("tflite", "snn")

    @classmethod
    def open(cls, name: str | Path) -> "Target":
        """Finds out what a name on the command line stands for; loads nothing yet.

        Raises:
            UserError: there is nothing of that name, or it is no run and no model.
        """
        name = str(name)
        kind = sources.kind_of(name)
        if kind == "keras":
            raise UsageError(f"{name} is for --teacher alone; name a run or a model")
        path = Path(name)
        if kind == "saved model" and path.suffix.lower() in (".c", ".h"):
            raise UsageError(
                f"{name} is an exported C program, which nothing is read from again; compile it, or name the "
                "run or the model that it was made from"
            )
        if kind is not None:
            return cls(name, kind)
        if registry.is_path(name) or ".py:" in name:
            options.trust(name)
            return cls.of_architecture(name)
        beside = sources.near(path)
        if path.name == name and not path.suffix:
            shipped = options.same_name(name, pretrained.names())
            if shipped in pretrained.names():
                raise UserError(f"there is no run and no model at {name}; write {pretrained.PREFIX}{shipped}")
            known = options.same_name(name, MODELS)
            if known in MODELS:
                return cls.of_architecture(known)
            beside = beside or hint(name, MODELS, MODELS.elsewhere)
        raise UserError(f"there is no run and no model at {name}{beside}")

    @classmethod
    def of_architecture(
        cls,
        model: str,
        method: str | None = None,
        method_options: dict[str, Any] | None = None,
        model_options: dict[str, Any] | None = None,
    ) -> "Target":
        """An architecture with a method and random weights.

        Raises:
            UsageError: a name or an option is wrong.
        """
        from bnn_tf import methods
        from zoo.blocks import get_model, require_options

        builder = get_model(model)
        parameters = inspect.signature(builder).parameters
        require_options(model, model_options or {}, besides=("method",))
        chosen = methods.get(method or parameters["method"].default, **(method_options or {}))

        def build(size: tuple[int, int] | None, channels: int | None) -> "tf.keras.Model":
            if size is None and channels is not None:
                usual = parameters["input_shape"].default if "input_shape" in parameters else None
                if not isinstance(usual, Sequence):
                    raise UsageError(f"model {model} has no size of its own; name one with --input-size")
                size = usual[0], usual[1]
            shape = {} if size is None else {"input_shape": (*size, channels or 3)}
            try:
                return builder(method=chosen, **{**(model_options or {}), **shape})
            except (ValueError, TypeError) as error:
                raise UsageError(f"model {model}: {error}") from error

        return cls(model, "architecture", build)

    @functools.cached_property
    def run(self) -> "Run":
        """The run.

        Raises:
            UserError: the target is none, or its configuration cannot be read.
        """
        from bnn_tf.training import Run

        return Run.open(self.path)

    @functools.cached_property
    def _config(self) -> "RunConfig":
        """How a run, or a network of the zoo, was trained."""
        from bnn_tf.training import RunConfig

        if self.kind == "run":
            return self.run.config
        return RunConfig.from_dict(pretrained.record(self.name.removeprefix(pretrained.PREFIX))["config"])

    @functools.cached_property
    def _network(self) -> "tf.keras.Model":
        if self.is_converted:
            raise UsageError(
                f"{self}: this command reads runs and saved Keras models, not {self.path.suffix} files"
            )
        if self._build is not None:
            return self._build(None, None)
        if self.kind == "run":
            return self.run.load_network()
        from bnn_tf.training import start

        return start.load_source(self.name, safe=not options.model_is_trusted())

    def network(self) -> "tf.keras.Model":
        """The Keras model with its weights.

        Raises:
            UserError: a file cannot be read, or the target is a converted file.
        """
        return self._network

    def untrained(self, size: tuple[int, int] | None = None, channels: int | None = None) -> "tf.keras.Model":
        """The network whatever its weights, also of a run without one complete epoch.

        Args:
            size: Height and width of other images than the network was made for.
            channels: Their channels.

        Raises:
            UserError: as `network`; or the network does not take such images.
        """
        if self._build is not None:
            return self._build(size, channels)
        if self.kind == "run":
            from bnn_tf.training import build_network
            from zoo.recipes import with_channels

            recipe = self.run.config.recipe
            images = dataclasses.replace(recipe.images, size=size or recipe.images.size)
            recipe = dataclasses.replace(recipe, images=images)
            if channels is not None:
                recipe = with_channels(recipe, channels)
            return build_network(recipe, len(self.run.config.class_names))
        network = self.network()
        if channels not in (None, network.input_shape[-1]):
            raise UsageError(
                f"{self} takes images of {network.input_shape[-1]} channel(s), not {channels}; "
                "leave out --channels"
            )
        if size is None:
            return network
        from bnn_tf.report.accounting import at_size

        return at_size(network, size)

    def layers(self, size: tuple[int, int] | None = None, channels: int | None = None) -> "Account":
        """The layers of a network, or the operators of a converted file, and what they cost.

        Args:
            size: Height and width of other images than the network was made for.
            channels: Their channels.

        Raises:
            UserError: as `untrained`, or a file cannot be read.
            UsageError: the network takes images of any size and none is named, or a file takes one kind only.
        """
        from bnn_tf.report import accounting

        if not self.is_converted:
            network = self.untrained(size, channels)
            if any(len(tensor.shape) == 4 and None in tensor.shape[1:3] for tensor in network.inputs):
                raise UsageError(
                    "the network takes images of any size; name one with --input-size HEIGHTxWIDTH"
                )
            return accounting.account(network)
        if size is not None or channels is not None:
            typed = "--input-size" if channels is None else "--channels"
            raise UsageError(
                f"{self} is a converted file, which takes images of one size; leave out {typed}, or name the "
                "network that it was made from"
            )
        if self.kind == "tflite":
            counted = accounting.account_file(self._file)
        else:
            from bnn_tf import subbit
            from bnn_tf.deploy import LceFile

            try:
                content, report = subbit.describe(self._read())
            except subbit.SubBitFileError as error:
                raise UserError(f"{self}: {error}") from error
            counted = accounting.account_file(LceFile(content), report.layers)
        return dataclasses.replace(counted, model=str(self), file_size=self.path.stat().st_size)

    @functools.cached_property
    def _predictor(self) -> "tuple[Callable[[np.ndarray], np.ndarray], tuple[int, int]]":
        if not self.is_converted:
            network = self.network()
            self._require_single(network.input_names, network.output_names)
            return _compiled(network), tuple(network.input_shape[1:3])
        from bnn_tf.deploy import Interpreter, Normalization

        interpreter = Interpreter(self._file)
        self._require_single(interpreter.file.input_names, interpreter.file.output_names)
        size: tuple[int, int] = tuple(interpreter.input_shape[1:3])  # type: ignore[assignment]
        if interpreter.input_type.name != "uint8":
            return interpreter.predict, size
        own = self._own_images(None)
        if own is None:
            raise UserError(f"{self} takes raw pixels, but says nothing of its images")
        images = own.pre()
        normalization = Normalization(tuple(images.mean), tuple(images.std))
        return lambda inputs: interpreter.predict(normalization.from_images(inputs)), size

    def require_weights(self) -> None:
        """Refuses a network by its name alone, where random weights make no sense.

        Raises:
            UsageError: it is an architecture.
        """
        if self.kind != "architecture" or registry.is_path(self.name):  # somebody's function may load some
            return
        shipped = [f"{pretrained.PREFIX}{name}" for name in pretrained.names() if name.startswith(f"{self}-")]
        others = f", or {' or '.join(shipped)}" if shipped else ""
        raise UsageError(
            f"{self} is the name of a network, which has no trained weights; name a run or a saved model"
            f"{others}"
        )

    def require_lce(self) -> None:
        """Says before TensorFlow is loaded that a converted file needs Larq Compute Engine.

        Raises:
            UserError: it is a converted file, and Larq Compute Engine is not installed.
        """
        if self.is_converted:
            require_converter()

    def _require_single(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        several = [
            f"{len(names)} {what} ({', '.join(names)})"
            for what, names in (("inputs", inputs), ("outputs", outputs))
            if len(names) > 1
        ]
        if several:
            raise UserError(
                f"{self} has {' and '.join(several)}; this command takes networks with one of each"
            )

    @functools.cached_property
    def _file(self) -> "LceFile":
        """A converted file; a `.snn` file is expanded."""
        from bnn_tf.deploy import LceFile

        return LceFile(self.path if self.kind == "tflite" else self.content())

    def content(self) -> bytes:
        """The content of a converted file; a `.snn` file is expanded.

        Raises:
            UserError: it cannot be read.
        """
        if self.kind == "snn":
            from bnn_tf.subbit import expand_file

            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.tflite"
                expand_file(self.path, path)
                return path.read_bytes()
        return self._read()

    def _read(self) -> bytes:
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise UserError(f"{self} cannot be read: {error.strerror}") from error

    def predict(self) -> "Callable[[np.ndarray], np.ndarray]":
        """A function from preprocessed images `(n, height, width, channels)` to logits."""
        return self._predictor[0]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images that it takes."""
        return self._predictor[1]

    def output(self, path: Path | None, name: str) -> Path:
        """Where a command writes: `path`, or the file `name` in a run.

        Raises:
            UsageError: there is no such folder, or nothing is named and the target is no run.
        """
        if path is None:
            if self.kind != "run":
                raise UsageError("name the file to write with -o")
            return self.path / name
        if not path.parent.is_dir():
            raise UsageError(f"there is no folder {path.parent} to write {path.name} to")
        if path.is_dir():
            raise UsageError(f"{path} is a folder; name the file to write with -o")
        if path.exists() and self.path.exists() and path.samefile(self.path):
            raise UsageError(f"{path} is what is read; name another file with -o")
        if path.name in _FILES_OF_RUNS and (path.parent / "config.json").is_file():
            raise UsageError(f"{path} belongs to the run in that folder; name another file with -o")
        return path

    def knows_images(self) -> bool:
        """Whether a run, a converted file or the file beside a model says which images it takes."""
        return self.kind != "larq-zoo" and self._own_images(None) is not None

    def images(
        self, dataset: str | None = None, data_dir: str | None = None, normalization: str | None = None
    ) -> ImageSet:
        """The images that it takes; the arguments override what it says itself.

        Args:
            dataset: Name of another dataset.
            data_dir: Where it is.
            normalization: Name of another mean and deviation.

        Raises:
            UsageError: nothing says which images, and dataset or normalization is not given.
        """
        require_images(dataset, data_dir, normalization)
        own = self._own_images(data_dir)
        if own is None:
            if dataset is None or normalization is None:
                raise UsageError(f"{self} does not say which images it takes; {_images_needed()}")
            fixed = {"size": self.size} if all(self.size) else {}
            own = ImageSet(dataset, data_dir, fixed, [])
        statistics = {}
        if normalization is not None:
            mean, std = data.NORMALIZATIONS[normalization]
            statistics = {"mean": mean, "std": std}
        return dataclasses.replace(
            own,
            dataset=dataset or own.dataset,
            data_dir=data_dir or (None if dataset else own.data_dir),
            preprocessing={**own.preprocessing, **statistics},
            asked=dataset is not None or data_dir is not None,
        )

    def _own_images(self, data_dir: str | None) -> ImageSet | None:
        """What a run, the file beside a model, or Larq Zoo (ImageNet) says."""
        if self.kind in ("run", "zoo"):
            config = self._config
            preprocessing = config.recipe.images.to_dict()
            names = config.class_names
            known = [] if names == data.placeholder_names(len(names)) else list(names)
            return ImageSet(config.recipe.dataset, config.data_dir, preprocessing, known)
        if self.kind == "larq-zoo":
            from bnn_tf.training import start

            preprocessing = start.larq_zoo_images(sources.parse_larq_zoo(self.name)[2]).to_dict()
            return ImageSet("imagenet2012", data_dir, preprocessing, [])
        if sidecar(self.path).is_file():
            return _read_sidecar(sidecar(self.path))
        if self.is_converted:
            from bnn_tf.deploy import contract

            written = contract.read(self._file)
            with contextlib.suppress(ValueError, KeyError, TypeError):  # not by this program
                return ImageSet.of_contract(written or {})
        return None


def _compiled(network: "tf.keras.Model") -> "Callable[[np.ndarray], np.ndarray]":
    """A function from float32 images to the network's output, traced once for batches of all sizes.

    Keras' own `predict_on_batch` traces it with AutoGraph, and again for a last batch that is smaller, which
    for small networks takes longer than the images do.
    """
    from bnn_tf._tensorflow import tf

    def traced(autograph: bool) -> "Callable[[tf.Tensor], tf.Tensor]":
        signature = tf.TensorSpec([None, *network.input_shape[1:]], tf.float32)
        function = tf.function(
            lambda images: network(images, training=False), input_signature=[signature], autograph=autograph
        )
        return function.get_concrete_function()

    try:
        function = traced(autograph=False)
    except (TypeError, tf.errors.OperatorNotAllowedInGraphError):  # somebody's own layer may need it
        function = traced(autograph=True)
    return lambda images: function(tf.constant(images, tf.float32)).numpy()


def _images_needed() -> str:
    """What the command at hand has to be told of the images that a model takes."""
    context = click.get_current_context(silent=True)
    takes = set() if context is None else {parameter.name for parameter in context.command.params}
    normalization = "a --normalization (imagenet, cifar, unit, or none)"
    if takes and "dataset" not in takes:
        return f"name {normalization}"
    return f"name a --dataset and {normalization}"


def require_images(dataset: str | None, data_dir: str | None, normalization: str | None) -> None:
    """Says before TensorFlow is loaded what is wrong with the options of `options.pictures`.

    Raises:
        UserError: there is no such dataset, folder or normalization.
    """
    if normalization is not None and normalization not in data.NORMALIZATIONS:
        raise unknown("normalization", normalization, data.NORMALIZATIONS)
    if dataset is not None:
        data.datasets.require_possible(dataset, data_dir)


def require_inputs(
    dataset: str | None, data_dir: str | None, weights: Sequence[str | None], teacher: str | None = None
) -> None:
    """Says before TensorFlow is loaded what is wrong with the names of what a training reads.

    Args:
        dataset: Name of the dataset, if there is one.
        data_dir: Its folder.
        weights: Networks whose weights are a start; `None` where there is none.
        teacher: Likewise, of a network to learn from.

    Raises:
        UserError: there is no such dataset, folder, run or model.
    """
    if dataset is not None:
        data.datasets.require_possible(dataset, data_dir)
    for name in weights:
        if name is not None:
            _require_source(name, sources.WEIGHTS)
    if teacher is not None:
        _require_source(teacher, sources.TEACHERS)


def _require_source(name: str, kinds: Sequence[str]) -> None:
    # `module:name` may come from a recipe's file, and must not be opened as an architecture.
    if sources.kind_of(name) is None and not registry.is_path(name) and ".py:" not in name:
        Target.open(name)  # says what the name may have been meant for, or finds an architecture
        raise UsageError(f"{name} is neither a run nor a saved Keras model")
    sources.require(name, kinds)


def _random_pixels(shape: tuple[int, int, int], count: int) -> "np.ndarray":
    """Random images `(count, *shape)`, uint8: patches of one colour each, and noise."""
    import numpy as np

    rng = np.random.default_rng(0)
    height, width, channels = shape
    colours = rng.uniform(0, 255, (count, -(-height // 8), -(-width // 8), channels))
    patches = colours.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width]
    return np.clip(np.round(patches + rng.normal(0, 25, patches.shape)), 0, 255).astype(np.uint8)


def sidecar(path: Path) -> Path:
    """The file beside a converted model that says which images it takes."""
    return path.with_name(path.name + ".json")


def _read_sidecar(path: Path) -> ImageSet | None:
    """The images of which the file beside a model tells; None where it describes the model alone."""
    try:
        values = json.loads(path.read_text())
        if "outputs" in values and "dataset" not in values:
            return None
        return ImageSet.of_contract(values)
    except KeyError as error:
        raise UserError(f"{path} cannot be read: it has no entry {error}") from error
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def read_class_names(path: Path) -> list[str]:
    """The names in a file, one a line.

    Raises:
        UserError: it cannot be read, or holds none.
    """
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"the class names in {path} cannot be read: {why}") from error
    if not names:
        raise UsageError(f"{path} holds no class names")
    return names


_NETWORK_OPTIONS = (
    click.argument("target", required=False, type=options.TARGET),
    options.model,
    options.method,
    click.option("--bits", type=click.IntRange(1, 9), help="Bits per 3×3 slice of --method subbit."),
    click.option(
        "--set",
        "settings",
        metavar="KEY=VALUE",
        multiple=True,
        callback=options.trust_settings,
        help="Option of the method or the model: method.OPTION, model.OPTION, such as model.num_classes=10.",
    ),
    click.option(
        "--input-size",
        "--image-size",
        type=options.Size(),
        help="Size of the images, such as 224 or 192x256.",
    ),
    click.option(
        "--channels",
        type=click.Choice(["1", "3"]),
        callback=lambda context, parameter, value: value and int(value),
        help="1: grey images, 3: colour images.",
    ),
)


def target_or_model(function: Any) -> Any:
    """Adds the argument and the options that `named_target` takes, --input-size and --channels."""
    for option in reversed(_NETWORK_OPTIONS):
        function = option(function)
    return function


def named_target(
    target: Path | None, model: str | None, method: str | None, bits: int | None, settings: tuple[str, ...]
) -> Target:
    """What a command line names, for commands that need no training.

    Raises:
        UsageError: it names none or two, or a name or option is wrong.
        UserError: there is no such run or model.
    """
    own = [name for name in (model, method) if name is not None and not registry.is_path(name)]
    if (target is None and model is None) or (target is not None and model in own):
        raise UsageError("name a run or saved model, or a --model (`bnn-tf models` lists them)")
    if target is not None:
        # A run's own method and network may be named again, so that their modules are imported.
        if own or bits is not None or settings:
            raise UsageError(f"--method, --bits and --set go with --model; {target} has its own")
        return Target.open(target)
    asked: dict[str, dict[str, Any]] = {"method": {} if bits is None else {"bits": bits}, "model": {}}
    for text in settings:
        key, value = options.parse_setting(text)
        owner, _, option = key.partition(".")
        if owner not in asked or not option:
            raise UsageError(f"--set takes method.OPTION=VALUE or model.OPTION=VALUE here, not {text!r}")
        asked[owner][option] = value
    if bits is not None and method is None:
        from bnn_tf.methods import METHODS

        method = next(name for name in METHODS if hasattr(METHODS.get(name), "bits"))
    return Target.of_architecture(str(model), method, asked["method"], asked["model"])
