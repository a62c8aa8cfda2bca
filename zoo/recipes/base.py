"""What a recipe is: frozen plain values that say how a result is trained."""

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from bnn_tf.errors import UsageError, unknown
from bnn_tf.schedules import SCHEDULES


@dataclasses.dataclass(frozen=True)
class Phase:
    """One uninterrupted training with one network variant.

    Args:
        name: Names the phase on the command line, in the run directory and in metrics.
        epochs: Passes over the training images.
        batch_size: Images per step, over all replicas.
        optimizer: `sgd` or `adam`.
        learning_rate: Base rate of the schedule.
        rate_batch_size: The batch size that `learning_rate` is meant for: the rate in use is
            `learning_rate · batch_size / rate_batch_size`. `None` takes it as it is.
        momentum: Of SGD.
        weight_decay: Coupled L2 decay per step.
        decay_only: `None` decays every variable, `kernels` only kernels.
        schedule: `cosine`, `linear`, `multistep` or `constant`; see `bnn_tf.schedules`.
        schedule_options: Further arguments of the schedule: `warmup`, `milestones`, `offset`, ….
        loss: `cross_entropy` with the labels, or `distribution`, against a teacher's logits.
        label_smoothing: Share of the target spread over all classes.
        augmentation: `pad_crop_flip`, `random_resized_crop`, `resize_crop_flip` or `none`.
        lighting: Strength of PCA lighting, on values in [0, 1].
        crop_scale: Least and greatest share of the image's area in a random resized crop.
        method: The network variant where it is not the recipe's method: `{"name": …, option: …}`.
        start: Where the weights come from: `previous` phase, `random`, or the path of a run.
        fresh_variables: Variables (by their own name) that may start at random although the others come
            from elsewhere, because the source has no such variable.
        binarize_kernels: Set the latent kernels to their signs before the phase.
        trainable: `all`, or `batch_norm` to train nothing else.
    """

    name: str = "train"
    epochs: int = 10
    batch_size: int = 128
    optimizer: str = "sgd"
    learning_rate: float = 0.1
    rate_batch_size: int | None = None
    momentum: float = 0.9
    weight_decay: float = 0.0
    decay_only: str | None = None
    schedule: str = "cosine"
    schedule_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    loss: str = "cross_entropy"
    label_smoothing: float = 0.0
    augmentation: str = "pad_crop_flip"
    lighting: float = 0.0
    crop_scale: tuple[float, float] = (0.08, 1.0)
    method: Mapping[str, Any] | None = None
    start: str = "previous"
    fresh_variables: tuple[str, ...] = ()
    binarize_kernels: bool = False
    trainable: str = "all"

    @property
    def effective_learning_rate(self) -> float:
        """The base rate at this batch size."""
        return self.learning_rate * self.batch_size / (self.rate_batch_size or self.batch_size)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a method, a network and a dataset become a trained model, and what that gave.

    Args:
        method: Name of the method.
        model: Name of the architecture.
        dataset: Name of the dataset.
        phases: What to train, in order.
        method_options: Hyper-parameters of the method.
        model_options: Options of the architecture: `pad_values`, `shortcut`, ….
        image_size: Height and width of the network's input.
        normalization: Name of mean and deviation; see `bnn_tf.data.NORMALIZATIONS`.
        test_batch_size: Images per step in evaluation.
        teacher: Where a `distribution` loss takes the teacher from.
        published_top1: The paper's accuracy in percent.
        published_top5: Likewise.
        note: Where the settings come from, and how far they are ours.
        variant: Tells apart recipes of the same method, network and dataset.
    """

    method: str
    model: str
    dataset: str
    phases: tuple[Phase, ...]
    method_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    model_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    image_size: tuple[int, int] = (32, 32)
    normalization: str = "imagenet"
    test_batch_size: int = 128
    teacher: str | None = None
    published_top1: float | None = None
    published_top5: float | None = None
    note: str = ""
    variant: str = "default"

    @property
    def epochs(self) -> int:
        """Epochs of all phases together."""
        return sum(phase.epochs for phase in self.phases)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain values, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Recipe":
        """The recipe that `to_dict` gave, also after a detour through JSON."""
        phases = tuple(Phase(**{key: _tuples(value) for key, value in p.items()}) for p in values["phases"])
        rest = {key: _tuples(value) for key, value in values.items() if key != "phases"}
        return cls(phases=phases, **rest)


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples that they were, also inside options."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


# Options are set one by one (`method.delta`); what a recipe is about has flags of its own.
_RECIPE_FIELDS = ("image_size", "normalization", "test_batch_size", "teacher")
_OPTIONAL = ("teacher", "rate_batch_size", "decay_only")
_PHASE_FIELDS = tuple(
    field.name
    for field in dataclasses.fields(Phase)
    if field.name not in ("name", "method", "schedule_options")
)


def override(recipe: Recipe, key: str, value: Any) -> Recipe:
    """The recipe with one field changed.

    Another method or network than the paper's has no published accuracy.

    Args:
        recipe: What to change.
        key: A field of the recipe, a field of all its phases, `PHASE.field` for one phase,
            `method.option`, `model.option`, or `schedule.option` (also `PHASE.schedule.option`).
        value: Its new value.

    Raises:
        UsageError: there is no such key; the message lists the valid ones with the nearest.
    """
    owner, _, field = key.partition(".")
    if owner == "model" and field:
        options = {**recipe.model_options, field: value}
        return _unpublished(dataclasses.replace(recipe, model_options=options), recipe)
    if owner == "method" and field:
        phases = tuple(_override_method(phase, recipe.method, field, value) for phase in recipe.phases)
        options = {**recipe.method_options, field: value}
        return _unpublished(dataclasses.replace(recipe, phases=phases, method_options=options), recipe)
    if key == "teacher" and value is not None:  # a teacher is there to be learned from
        phases = tuple(dataclasses.replace(phase, loss="distribution") for phase in recipe.phases)
        return dataclasses.replace(recipe, phases=phases, teacher=value)
    if owner in _RECIPE_FIELDS and not field:
        return dataclasses.replace(recipe, **{owner: _coerce(getattr(recipe, owner), value, key)})
    names = [phase.name for phase in recipe.phases]
    chosen = [owner] if field and owner in names else names
    if owner in names and field:
        key = field
    if not any(key == name or key.startswith("schedule.") for name in _PHASE_FIELDS):
        option = key.rpartition(".")[2] if "." in key else "OPTION"
        owners = ("method", "model", "schedule", *names)
        dotted = (f"{name}.{option}" for name in owners)
        raise unknown("setting", key, (*_RECIPE_FIELDS, *_PHASE_FIELDS, *dotted))
    phases = tuple(_override_phase(p, key, value) if p.name in chosen else p for p in recipe.phases)
    return dataclasses.replace(recipe, phases=phases)


def _unpublished(changed: Recipe, recipe: Recipe) -> Recipe:
    """`changed` without the published accuracies, unless nothing changed."""
    if changed == recipe:
        return changed
    return dataclasses.replace(changed, published_top1=None, published_top5=None)


def _override_method(phase: Phase, method: str, option: str, value: Any) -> Phase:
    """Also where the phase has its own settings of the recipe's method."""
    if phase.method is None or phase.method["name"] != method:
        return phase
    return dataclasses.replace(phase, method={**phase.method, option: value})


def _override_phase(phase: Phase, key: str, value: Any) -> Phase:
    if key.startswith("schedule."):
        options = {**phase.schedule_options, key.removeprefix("schedule."): value}
        return dataclasses.replace(phase, schedule_options=options)
    changes = {key: _coerce(getattr(phase, key), value, key)}
    if key == "learning_rate":
        changes["rate_batch_size"] = None
    if key == "schedule" and value in SCHEDULES:  # the old one's options that the new one lacks go with it
        valid = inspect.signature(SCHEDULES.get(value)).parameters
        changes["schedule_options"] = {k: v for k, v in phase.schedule_options.items() if k in valid}
    return dataclasses.replace(phase, **changes)


def _coerce(old: Any, value: Any, key: str) -> Any:
    """`value` in the type of `old`, where that is a number, a flag or a tuple.

    Raises:
        UsageError: it cannot be.
    """
    if isinstance(value, list):
        value = tuple(value)
    if old is None or (value is None and key.rpartition(".")[2] in _OPTIONAL):
        return value
    if isinstance(old, tuple) and isinstance(value, tuple) and len(old) == len(value):
        return tuple(_coerce(*pair, key) for pair in zip(old, value, strict=True))
    if type(old) is float and type(value) is int:
        return float(value)
    if type(value) is not type(old) or (old and isinstance(old, tuple)):
        raise UsageError(f"{key} must be {_wanted(old)}, not {value!r}")
    return value


def _wanted(old: Any) -> str:
    if old and isinstance(old, tuple):
        return f"like {list(old)}"
    kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "a name", tuple: "a list"}
    return kinds[type(old)]


def with_epochs(recipe: Recipe, epochs: Sequence[int]) -> Recipe:
    """The recipe with other epochs: one number for all phases, or one for each.

    Raises:
        UsageError: there are more or fewer numbers than phases, or one is not positive.
    """
    names = [phase.name for phase in recipe.phases]
    if len(epochs) == 1:
        epochs = list(epochs) * len(names)
    if len(epochs) != len(names) or min(epochs) < 1:
        raise UsageError(f"epochs need one positive number, or one for each phase ({', '.join(names)})")
    phases = (dataclasses.replace(p, epochs=n) for p, n in zip(recipe.phases, epochs, strict=True))
    return dataclasses.replace(recipe, phases=tuple(phases))
