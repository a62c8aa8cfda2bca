"""What a recipe is: frozen values that say how a result is trained, checked where they are constructed.

A recipe holds methods, schedules, optimizers, losses and images as values, never as names with options;
`dataclasses.replace` changes a field, and `override` does the same along a dotted path of text. Nothing here
needs TensorFlow until an optimizer or a loss is built.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from bnn_tf import methods, schedules
from bnn_tf._tensorflow import lazy
from bnn_tf.data.images import Images
from bnn_tf.errors import Elsewhere, UsageError, UserError, unknown
from bnn_tf.registry import Registry, is_path
from bnn_tf.values import Count, NotNegative, Positive, Range, Share, Value, resolve
from zoo.blocks import require_options

if TYPE_CHECKING:
    from bnn_tf._tensorflow import tf

_losses = lazy("bnn_tf.losses")

Epochs = Annotated[int, Range(least=1, most=1_000_000)]

FROM_RECIPE = ("method", "input_shape", "num_classes", "weights", "include_top", "pooling")
"""Arguments of architectures that are no options of a recipe: it gives them, or needs the classifier."""

OPTIMIZERS: Registry[type[Optimizer]] = Registry("optimizer")
LOSSES: Registry[type[Loss]] = Registry("loss")


# ------------------------------------------------------------------------------------- optimizers, losses


@dataclasses.dataclass(frozen=True)
class Optimizer(Value):
    """What all optimizers have; a subclass names one of `bnn_tf.optimizers` and adds its own fields.

    Args:
        learning_rate: Base rate of the schedule.
        rate_batch_size: The batch size that `learning_rate` is meant for: the rate in use is
            `learning_rate · batch_size / rate_batch_size`. `None` does not scale it.
        weight_decay: λ of coupled L2 decay per step (`bnn_tf.transforms.WeightDecay`).
        decay_only: Which variables decay: what `WeightDecay` takes as `only`; `None` for all.
        decay_epochs: The length of training that `weight_decay` is meant for. Shorter ones, in which decay
            has less time, take `weight_decay · decay_epochs / epochs`. `None` does not scale it.
        clip_norm: Largest norm of all gradients together; larger ones are scaled down. `None` for no bound.

    Example:
        >>> SGD(learning_rate=0.1, rate_batch_size=256).rate(batch_size=64)  # scaled with the batch
        0.025
    """

    learning_rate: Positive = 0.1
    rate_batch_size: Count | None = None
    weight_decay: NotNegative = 0.0
    decay_only: Literal["kernels", "binary", "convolutions", "main_path"] | None = None
    decay_epochs: Epochs | None = None
    clip_norm: Positive | None = None
    kind: ClassVar[str] = "optimizer"
    registry: ClassVar[Registry] = OPTIMIZERS

    def rate(self, batch_size: int) -> float:
        """The base rate at a batch size."""
        return self.learning_rate * batch_size / (self.rate_batch_size or batch_size)

    def decay(self, epochs: int) -> float:
        """The weight decay of a training of so many epochs.

        Example:
            >>> fast = SGD(weight_decay=5e-4, decay_epochs=40)
            >>> fast.decay(10), fast.decay(60)
            (0.002, 0.0005)
        """
        return self.weight_decay * max(1.0, (self.decay_epochs or epochs) / epochs)

    def build(
        self, method: methods.Method, batch_size: int, epochs: int
    ) -> tf.keras.optimizers.legacy.Optimizer:
        """The Keras optimizer with the method's gradient transforms, for a training of so many epochs.

        Raises:
            UsageError: `decay_only` selects nothing that exists.
        """
        shared = [field.name for field in dataclasses.fields(Optimizer)]
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in shared}
        if self.clip_norm is not None:
            own["global_clipnorm"] = self.clip_norm
        return method.optimizer(
            self.name,
            learning_rate=self.rate(batch_size),
            weight_decay=self.decay(epochs),
            decay_only=self.decay_only,
            **own,
        )


@OPTIMIZERS.register("sgd")
@dataclasses.dataclass(frozen=True)
class SGD(Optimizer):
    """`bnn_tf.optimizers.SGD`.

    Args:
        momentum: μ.
        nesterov: Look ahead by one momentum step.

    Example:
        >>> SGD(learning_rate=0.1, rate_batch_size=256).rate(128)
        0.05
    """

    momentum: Share = 0.9
    nesterov: bool = False
    name: ClassVar[str] = "sgd"


@OPTIMIZERS.register("adam")
@dataclasses.dataclass(frozen=True)
class Adam(Optimizer):
    """`bnn_tf.optimizers.Adam`.

    Args:
        beta_1: Decay of the first moment.
        beta_2: Decay of the second moment.

    Example:
        >>> Adam(learning_rate=1e-3).get_config()["name"]
        'adam'
    """

    learning_rate: Positive = 1e-3
    beta_1: Share = 0.9
    beta_2: Share = 0.999
    name: ClassVar[str] = "adam"


@dataclasses.dataclass(frozen=True)
class Loss(Value):
    """What a phase minimises.

    Example:
        >>> CrossEntropy().needs_teacher, Distribution().needs_teacher
        (False, True)
    """

    kind: ClassVar[str] = "loss"
    registry: ClassVar[Registry] = LOSSES
    needs_teacher: ClassVar[bool] = False

    def build(self) -> tf.keras.losses.Loss:
        """The Keras loss on the labels."""
        raise NotImplementedError


@LOSSES.register("cross_entropy")
@dataclasses.dataclass(frozen=True)
class CrossEntropy(Loss):
    """Cross-entropy with the labels.

    Args:
        label_smoothing: Share of the target that is spread over all classes.

    Example:
        >>> loss = CrossEntropy(label_smoothing=0.1).build()
        >>> type(loss).__mro__[-2].__name__
        'Loss'
    """

    label_smoothing: Share = 0.0
    name: ClassVar[str] = "cross_entropy"

    def build(self) -> tf.keras.losses.Loss:
        """`bnn_tf.losses.SmoothedCrossentropy`."""
        return _losses.SmoothedCrossentropy(self.label_smoothing)


@LOSSES.register("distribution")
@dataclasses.dataclass(frozen=True)
class Distribution(Loss):
    """Cross-entropy with the distribution of the recipe's teacher over classes; the labels are not used.

    Example:
        >>> Phase(loss=Distribution()).loss.needs_teacher
        True
    """

    needs_teacher: ClassVar[bool] = True
    name: ClassVar[str] = "distribution"


_VALUES: dict[str, type[Value]] = {
    "optimizer": Optimizer,
    "schedule": schedules.Schedule,
    "loss": Loss,
    "method": methods.Method,
}
"""Fields that hold a registered value, and take its name or its plain form in place of it."""


# ---------------------------------------------------------------------------------------------- recipes

STARTS = ("previous", "random")
"""What a phase can start from; anything else names a run, a saved model, `zoo:NAME` or `larq-zoo:NAME`.

`bnn_tf.training.sources` says what such names stand for."""


@dataclasses.dataclass(frozen=True)
class _Settings(Value):
    """A value that holds others, which may be written as names or plain data."""

    def __post_init__(self) -> None:
        for field, base in _VALUES.items():
            value = getattr(self, field, None)
            if isinstance(value, str | Mapping):
                object.__setattr__(self, field, resolve(base, value))
        if isinstance(self.images, Mapping):  # type: ignore[attr-defined]
            object.__setattr__(self, "images", Images.from_dict(self.images))  # type: ignore[attr-defined]
        super().__post_init__()

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values, for JSON."""
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    for form in ("to_dict", "get_config"):
        if hasattr(value, form):
            return getattr(value, form)()
    return dict(value) if isinstance(value, Mapping) else value


@dataclasses.dataclass(frozen=True)
class Phase(_Settings):
    """One uninterrupted training with one network variant.

    Args:
        name: Names the phase on the command line, in the run directory and in metrics.
        epochs: Passes over the training images.
        batch_size: Images per step, over all replicas.
        optimizer: `SGD(…)`, `Adam(…)`; its learning rate is the schedule's base.
        schedule: `bnn_tf.schedules.Cosine(…)` and others.
        loss: `CrossEntropy(…)`, or `Distribution()` against the recipe's teacher.
        images: What becomes of images in this phase where it is not what the recipe says.
        method: The network variant where it is not the recipe's method.
        start: Where the weights come from: `"previous"` phase, `"random"`, or a network: the path of a run or
            of a saved model, `zoo:NAME` or `larq-zoo:NAME`.
        fresh_variables: Variables (by their own name) that may start at random although the others come
            from elsewhere, because the source has no such variable.
        binarize_kernels: Set the latent kernels to their signs before the phase.
        trainable: `"all"`, or `"batch_norm"` to train nothing else.
        ema: Momentum of an average of the weights, which is what is validated and saved; `None` for none.
            It is for real-valued networks: averages of latent weights have other signs.
        statistics_batches: Training batches over which BatchNorm's means and variances are measured after
            the last epoch (`bnn_tf.callbacks.measure_batch_norm`), an epoch's at most; 0 keeps the moving
            averages.

    Raises:
        UsageError: a value is impossible; the message names the field.

    Example:
        >>> Phase(epochs=30, optimizer=SGD(learning_rate=0.1), schedule=schedules.Cosine(warmup=1)).rate(0)
        0.1
    """

    name: str = "train"  # type: ignore[misc]  # of a phase, not of its class
    epochs: Epochs = 10
    batch_size: Count = 128
    optimizer: Optimizer = SGD()
    schedule: schedules.Schedule = schedules.Cosine()
    loss: Loss = CrossEntropy()
    images: Images | None = None
    method: methods.Method | None = None
    start: str = "previous"
    fresh_variables: tuple[str, ...] = ()
    binarize_kernels: bool = False
    trainable: Literal["all", "batch_norm"] = "all"
    ema: Annotated[float, Range(above=0, below=1)] | None = None
    statistics_batches: Annotated[int, Range(least=0)] = 0
    kind: ClassVar[str] = "phase"

    def __post_init__(self) -> None:
        """Checks also that the schedule gives a rate in every epoch (of a long phase, in 64 of them)."""
        super().__post_init__()
        self.require(self.name.isidentifier() or self.name.replace("-", "_").isidentifier(), "name a word")
        last = self.epochs - 1
        for epoch in sorted({0, last, *(last * share // 64 for share in range(64))}):
            try:
                rate = self.rate(epoch)
            except (ArithmeticError, ValueError, TypeError) as error:
                raise UsageError(
                    f"phase {self.name}: {self.schedule} cannot run for {self.epochs} epochs: {error}"
                ) from error
            self.require(
                0 <= rate < math.inf, f"{self.schedule} gives the learning rate {rate} in epoch {epoch + 1}"
            )

    def rate(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0."""
        return self.schedule(epoch, self.epochs, self.optimizer.rate(self.batch_size))


@dataclasses.dataclass(frozen=True)
class Recipe(_Settings):
    """How a method, a network and a dataset become a trained model, and what that gave.

    Args:
        method: The method, a value.
        model: Name of the architecture, also `package.module:function`.
        dataset: Name of the dataset.
        phases: What to train, in order.
        model_options: Options of the architecture: `pad_values`, `shortcut`, ….
        images: What becomes of an image in training and in evaluation.
        test_batch_size: Images per step in evaluation.
        shared_epochs: Whether a single number of epochs is for all phases together, in the proportion of
            their own; where not, each phase gets that number.
        teacher: Where a `Distribution` loss takes the teacher from: as `Phase.start`, or `keras:NAME`.
        published_top1: The paper's accuracy, a share such as 0.875.
        published_top5: Likewise.
        note: Where the settings come from, and how far they are not the paper's.
        duration: How long it takes with its own epochs, and on what; empty where nobody measured it.
        variant: Tells apart recipes of the same method, network and dataset.

    Raises:
        UsageError: a value is impossible; the message names the field.

    Example:
        >>> recipe = Recipe(methods.OvSW(delta=0.04), "cifar_resnet20", "cifar10", (Phase(epochs=5),))
        >>> Recipe.from_dict(recipe.to_dict()) == recipe
        True
    """

    method: methods.Method
    model: str
    dataset: str
    phases: tuple[Phase, ...]
    model_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    images: Images = Images()
    test_batch_size: Count = 128
    shared_epochs: bool = False
    teacher: str | None = None
    published_top1: Annotated[float, Range(least=0, most=1)] | None = None
    published_top5: Annotated[float, Range(least=0, most=1)] | None = None
    note: str = ""
    duration: str = ""
    variant: str = "default"
    kind: ClassVar[str] = "recipe"

    def __post_init__(self) -> None:
        """Checks also that there are phases, each with a name of its own."""
        phases = tuple(construct(Phase, p) if isinstance(p, Mapping) else p for p in self.phases)
        object.__setattr__(self, "phases", phases)
        super().__post_init__()
        names = [phase.name for phase in self.phases]
        self.require(bool(names), "phases must not be empty")
        self.require(len(set(names)) == len(names), f"two phases have the same name ({', '.join(names)})")
        taken = {"model", *_names(Phase), *_names(Recipe)}
        for name in names:
            self.require(name not in taken, f"a phase cannot be called {name!r}, as a setting is")

    def _title(self) -> str:
        return "recipe"

    @property
    def epochs(self) -> int:
        """Epochs of all phases together."""
        return sum(phase.epochs for phase in self.phases)

    def phase_index(self, name: str) -> int:
        """Which phase is called `name`.

        Raises:
            UsageError: none is.
        """
        names = [phase.name for phase in self.phases]
        if name not in names:
            raise unknown("phase", name, names)
        return names.index(name)

    def method_of(self, phase: Phase) -> methods.Method:
        """The method that a phase trains with."""
        return phase.method or self.method

    def images_of(self, phase: Phase) -> Images:
        """What a phase does to images, without the operations that are for longer trainings."""
        images = phase.images or self.images
        training = tuple(operation for operation in images.training if operation.suits(self.epochs))
        return dataclasses.replace(images, training=training)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """The recipe that `to_dict` gave, also after a detour through JSON.

        Older files give published accuracies in percent.

        Raises:
            UserError: an entry is missing, unknown or impossible; the message names it.
        """
        if isinstance(values, Mapping):
            percent = {
                key: round(values[key] / 100, 6)
                for key in ("published_top1", "published_top5")
                if type(values.get(key)) in (int, float) and 1 < values[key] <= 100
            }
            values = {**values, **percent}
        return construct(cls, values)


def _names(kind: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]


def construct(cls: Any, values: Any) -> Any:
    """An object of a dataclass from plain data."""
    if not isinstance(values, Mapping):
        raise UsageError(f"a {cls.kind} must be an object with fields, not {values!r}")
    for key in values:
        if key not in _names(cls):
            raise unknown(f"entry of a {cls.kind}", key, _names(cls))
    try:
        return cls(**values)
    except UserError:
        raise
    except (TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{cls.kind}: {error}") from error


# ---------------------------------------------------------------------------------------------- overriding

_IMAGE_FIELDS = (*_names(Images), "normalization", "image_size")
_NICKNAMES = {
    "lr": "learning_rate",
    "wd": "weight_decay",
    "decay": "weight_decay",
    "bs": "batch_size",
    "batch": "batch_size",
    "smoothing": "label_smoothing",
}


def override(recipe: Recipe, key: str, value: Any) -> Recipe:
    """The recipe with one field changed.

    Another method or network than the paper's has no published accuracy.

    Args:
        recipe: What to change.
        key: The dotted path of a field: `test_batch_size`, `teacher`, `method.OPTION`, `model.OPTION`,
            `images.FIELD`; a field of all phases (`epochs`, `schedule.warmup`, `optimizer.momentum`) or of
            one (`PHASE.epochs`). Fields of optimizers, losses and images need no prefix.
        value: Its new value. A name serves for an optimizer, a schedule or a loss; fields that the old one
            shares with it stay.

    Raises:
        UsageError: there is no such field, with the nearest; or it cannot have that value.

    Example:
        >>> from zoo import recipes
        >>> recipe = recipes.override(recipes.find("ovsw"), "learning_rate", 0.05)
        >>> recipe.phases[0].optimizer.learning_rate
        0.05
    """
    path = key.split(".")
    if path[0] == "model" and len(path) == 2 and path[1]:
        if not is_path(recipe.model):  # a module of the user's may need TensorFlow, and is imported later
            require_options(recipe.model, [path[1]], besides=FROM_RECIPE)
        options = {**recipe.model_options, path[1]: value}
        return _unpublished(dataclasses.replace(recipe, model_options=options), recipe)
    if key == "teacher" and value is not None:  # a teacher is there to be learned from
        phases = tuple(dataclasses.replace(phase, loss=Distribution()) for phase in recipe.phases)
        return dataclasses.replace(recipe, phases=phases, teacher=value)
    if key == "epochs" and recipe.shared_epochs and type(value) is int and value > 0:
        return with_epochs(recipe, [value])
    if key in ("teacher", "test_batch_size"):
        return _at(recipe, path, value)
    if key in ("channels", "images.channels"):
        return with_channels(recipe, value)
    if len(path) == 1 and key in _IMAGE_FIELDS:
        path = ["images", "size" if key == "image_size" else key]
    if path[0] in ("method", "images") and len(path) > 1:
        return _override_shared(recipe, path, value)
    names = [phase.name for phase in recipe.phases]
    one = path[0] in names and len(path) > 1
    chosen, inside = ([path[0]], path[1:]) if one else (names, path)
    places = [_place(phase, inside) if phase.name in chosen else None for phase in recipe.phases]
    if not any(places):
        near = _NICKNAMES.get(inside[-1])
        if near:
            raise UsageError(f"there is no setting called {key!r}; did you mean {near!r}?")
        listed = Elsewhere(listed_by="bnn-tf train … --dry-run --json")
        raise unknown("setting", key, dict.fromkeys(settings(recipe)), listed)
    phases = tuple(
        _at(phase, place, value) if place else phase
        for phase, place in zip(recipe.phases, places, strict=True)
    )
    return dataclasses.replace(recipe, phases=phases)


def _override_shared(recipe: Recipe, path: Sequence[str], value: Any) -> Recipe:
    """Changes an option of the recipe's method or images, also in phases with their own method or images."""
    kind = type(getattr(recipe, path[0]))
    phases = tuple(
        _at(phase, path, value) if isinstance(getattr(phase, path[0]), kind) else phase
        for phase in recipe.phases
    )
    changed = dataclasses.replace(_at(recipe, path, value), phases=phases)
    return _unpublished(changed, recipe) if path[0] == "method" else changed


def _place(phase: Phase, path: list[str]) -> list[str] | None:
    """The path of a phase's field, whose owner in the phase may be left out; `None` if it has none."""
    if path[0] in ("name", "method"):
        return None
    for owner in ([], ["optimizer"], ["loss"]):
        value: Any = phase
        for name in (full := [*owner, *path]):
            if not dataclasses.is_dataclass(value) or name not in _names(value):
                break
            value = getattr(value, name)
        else:
            return full
    return None


def _at(value: Any, path: Sequence[str], new: Any) -> Any:
    """`value` with the field at `path` replaced."""
    name, *rest = path
    if isinstance(value, tuple) and rest:  # image operations, by name
        names = [part.get_config()["name"] for part in value]
        if name not in names:
            raise unknown("image operation", name, names)
        pairs = zip(value, names, strict=True)
        return tuple(_at(part, rest, new) if own == name else part for part, own in pairs)
    if isinstance(value, Images) and name == "normalization":
        return dataclasses.replace(value, normalization=new)
    if isinstance(value, Images) and name in ("training", "evaluation") and not rest:
        return Images.from_dict({**value.to_dict(), name: new})
    valid = _names(value) if dataclasses.is_dataclass(value) else []
    if name not in valid:
        raise unknown(f"option of {getattr(value, 'name', type(value).__name__.lower())}", name, valid)
    old = getattr(value, name)
    if rest:
        return dataclasses.replace(value, **{name: _at(old, rest, new)})
    if name in _VALUES and isinstance(new, str):
        kind = _VALUES[name].registry.get(new)
        new = kind(**{field: getattr(old, field) for field in _names(kind) if hasattr(old, field)})
    changes = {name: new}
    if isinstance(value, Optimizer) and name == "learning_rate":
        changes["rate_batch_size"] = None  # the rate is not scaled
    if isinstance(value, Optimizer) and name == "weight_decay":
        changes["decay_epochs"] = None
    return dataclasses.replace(value, **changes)


def settings(recipe: Recipe) -> Iterator[str]:
    """The paths that `override` takes for a recipe.

    Example:
        >>> from zoo import recipes
        >>> "momentum" in settings(recipes.find("ovsw", dataset="cifar10"))
        True
    """
    yield from ("teacher", "test_batch_size")
    yield from (f"method.{name}" for name in _names(recipe.method))
    yield from (f"model.{name}" for name in recipe.model_options or ("OPTION",))
    yield from _IMAGE_FIELDS
    for phase in recipe.phases:
        for name in _names(phase):
            if name in ("name", "method", "images"):
                continue
            yield name
            if len(recipe.phases) > 1:
                yield f"{phase.name}.{name}"
            if name in _VALUES:
                inner = _names(getattr(phase, name))
                yield from (f"{name}.{field}" if name == "schedule" else field for field in inner)


def _unpublished(changed: Recipe, recipe: Recipe) -> Recipe:
    """`changed` without the published accuracies, unless nothing changed."""
    if changed == recipe:
        return changed
    return dataclasses.replace(changed, published_top1=None, published_top5=None)


def with_epochs(recipe: Recipe, epochs: Sequence[int]) -> Recipe:
    """The recipe with other epochs: one number for all phases, or one for each.

    One number is for each phase, or, in recipes with `shared_epochs`, for all together: phases then get the
    same shares of it as of the recipe's own epochs, and at least one each.

    Where a linear schedule runs its last epoch at rate 0 (Bi-Real Net's and SNN's do) and only one epoch is
    asked for, the schedule loses that offset: the epoch is meant to train.

    Raises:
        UsageError: there are more or fewer numbers than phases, or one is not positive.

    Example:
        >>> from zoo import recipes
        >>> with_epochs(recipes.find("ovsw", dataset="cifar10"), [5]).epochs
        5
        >>> fast = recipes.find("subbit", dataset="cifar10", variant="fast")
        >>> [phase.epochs for phase in with_epochs(fast, [10]).phases]
        [2, 8]
    """
    names = [phase.name for phase in recipe.phases]
    if len(epochs) == 1 and epochs[0] > 0:
        epochs = _shares(recipe, epochs[0]) if recipe.shared_epochs else list(epochs) * len(names)
    if len(epochs) != len(names) or min(epochs) < 1:
        raise UsageError(f"epochs takes one positive number, or one for each phase ({', '.join(names)})")
    phases = tuple(_with_epochs(phase, count) for phase, count in zip(recipe.phases, epochs, strict=True))
    return dataclasses.replace(recipe, phases=phases)


def _shares(recipe: Recipe, epochs: int) -> list[int]:
    """Epochs for each phase, in the proportion of the recipe's own; at least one each."""
    shares, left, rest = [], epochs, recipe.epochs
    for number, phase in enumerate(recipe.phases, 1):
        later = len(recipe.phases) - number
        share = max(1, min(left - later, round(left * phase.epochs / rest)))
        shares.append(share)
        left, rest = left - share, rest - phase.epochs
    return shares


def _with_epochs(phase: Phase, epochs: int) -> Phase:
    schedule = phase.schedule
    if epochs == 1 and isinstance(schedule, schedules.Linear) and schedule.offset and not schedule.warmup:
        schedule = dataclasses.replace(schedule, offset=0)
    return dataclasses.replace(phase, epochs=epochs, schedule=schedule)


def with_channels(recipe: Recipe, channels: int) -> Recipe:
    """The recipe for images of one channel (brightness) or three.

    Raises:
        UsageError: `channels` is another number.

    Example:
        >>> from zoo import recipes
        >>> with_channels(recipes.find("recu"), 1).images.input_shape
        (32, 32, 1)
    """
    if channels not in (1, 3):
        raise UsageError(f"channels must be 1 or 3, not {channels}")
    phases = tuple(
        dataclasses.replace(phase, images=phase.images.with_channels(channels)) if phase.images else phase
        for phase in recipe.phases
    )
    return dataclasses.replace(recipe, images=recipe.images.with_channels(channels), phases=phases)


FEW_IMAGES = 20_000
"""Up to so many training images `for_few_images` changes a recipe."""

_FEW_STEPS = 1_000  # training steps that few images get, in at least 15 and at most 60 epochs


def for_few_images(recipe: Recipe, count: int, side: int | None = None) -> Recipe:
    """The recipe with what suits a small data set of one's own.

    Batches of an eighth of the images at most, with the learning rate scaled by the root of the ratio;
    about a thousand steps; networks for small images see 64×64 pixels where most pictures have as many.

    Args:
        recipe: A recipe, usually for CIFAR-10.
        count: How many images there are to train on; above `FEW_IMAGES` the recipe stays as it is.
        side: What both sides of most of them have at least (`bnn_tf.data.Facts.side`).

    Example:
        >>> from zoo import recipes
        >>> recipe = for_few_images(recipes.find("bireal", dataset="folder"), 144, side=60)
        >>> recipe.phases[0].batch_size, recipe.phases[0].epochs
        (16, 60)
    """
    if count > FEW_IMAGES:
        return recipe
    largest = 2 ** max(3, (count // 8).bit_length() - 1)
    batch = min(largest, *(phase.batch_size for phase in recipe.phases))
    epochs = max(15, min(60, math.ceil(_FEW_STEPS * batch / count)))
    phases = []
    for phase, share in zip(recipe.phases, _shares(recipe, epochs), strict=True):
        rate = phase.optimizer.rate(phase.batch_size) * math.sqrt(batch / phase.batch_size)
        rate = float(f"{rate:.2g}")
        optimizer = dataclasses.replace(phase.optimizer, learning_rate=rate, rate_batch_size=None)
        phases.append(_with_epochs(dataclasses.replace(phase, batch_size=batch, optimizer=optimizer), share))
    images = recipe.images
    if side is not None and max(images.size) < 64 <= side:
        images = dataclasses.replace(images, size=(64, 64))
    note = f"{recipe.note}, fitted to {count:,} images"
    return dataclasses.replace(recipe, phases=tuple(phases), images=images, note=note)
