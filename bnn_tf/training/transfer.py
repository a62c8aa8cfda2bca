"""Weights from one network to another, by layer and variable, checked by shape."""

import dataclasses
from collections.abc import Collection

from bnn_tf._tensorflow import tf
from bnn_tf.errors import UserError
from bnn_tf.layers import Flip
from bnn_tf.transforms import latent_value

Key = tuple[str, str]


@dataclasses.dataclass(frozen=True)
class TransferReport:
    """What a transfer did; every entry is `layer/variable`.

    Args:
        matched: Variables that received weights.
        missing: Variables of the target without a source; they keep their start.
        unused: Variables of the source that nobody took.
        mismatched: Variables of both, of different shapes (text with both shapes).
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    mismatched: tuple[str, ...]

    def __str__(self) -> str:
        """One line, or one per kind of trouble."""
        lines = [f"{len(self.matched)} variables took their weights"]
        for what, names in (
            ("without a source", self.missing),
            ("unused in the source", self.unused),
            ("of another shape", self.mismatched),
        ):
            if names:
                lines.append(f"{len(names)} {what}: {', '.join(names)}")
        return "\n".join(lines)


def own_name(variable: tf.Variable) -> str:
    """The variable's name without its layer's: `kernel`, `gamma`, …."""
    return variable.name.split("/")[-1].split(":")[0]


def variables(model: tf.keras.Model) -> dict[Key, tf.Variable]:
    """The model's variables by layer and own name, those of nested models included.

    Raises:
        UserError: two have the same names.
    """
    found: dict[Key, tf.Variable] = {}
    for layer in model.layers:
        if isinstance(layer, tf.keras.Model):
            inner = variables(layer)
        else:
            inner = {(layer.name, own_name(v)): v for v in layer.weights}
        for key, variable in inner.items():
            if found.setdefault(key, variable) is not variable:
                raise UserError(f"model {model.name}: two variables are called {'/'.join(key)}")
    return found


def transfer(source: tf.keras.Model, target: tf.keras.Model) -> TransferReport:
    """Copies every variable of `source` to the one of the same layer, name and shape in `target`."""
    given, wanted = variables(source), variables(target)
    matched, mismatched = [], []
    for key in wanted.keys() & given.keys():
        if wanted[key].shape == given[key].shape:
            wanted[key].assign(latent_value(given[key]))
            matched.append(key)
        else:
            mismatched.append(f"{'/'.join(key)} {tuple(given[key].shape)} -> {tuple(wanted[key].shape)}")
    return TransferReport(
        matched=_names(matched),
        missing=_names(wanted.keys() - given.keys()),
        unused=_names(given.keys() - wanted.keys()),
        mismatched=tuple(sorted(mismatched)),
    )


def require_same_orientation(source: tf.keras.Model, target: tf.keras.Model) -> None:
    """Checks that both networks have their kernels the same way up (see `bnn_tf.layers.Flip`).

    Raises:
        UserError: one has `torch_padding`, the other has not.
    """
    turned, wanted = (any(isinstance(layer, Flip) for layer in model.layers) for model in (source, target))
    if turned and not wanted:
        raise UserError(
            "the source's kernels are turned by 180°, as PyTorch's padding asks for; "
            "add --set model.torch_padding=true"
        )
    if wanted and not turned:
        raise UserError("the source's kernels are not turned by 180°; leave out model.torch_padding")


def _names(keys: Collection[Key]) -> tuple[str, ...]:
    return tuple(sorted("/".join(key) for key in keys))


def require_complete(report: TransferReport, fresh: Collection[str] = ()) -> None:
    """Checks that nothing was left over.

    Args:
        report: What `transfer` returned.
        fresh: Own names of variables that may lack a source, or be left unused.

    Raises:
        UserError: something else was left over; the message says what.
    """

    def left(names: Collection[str]) -> tuple[str, ...]:
        return tuple(name for name in names if name.rpartition("/")[2] not in fresh)

    rest = dataclasses.replace(report, missing=left(report.missing), unused=left(report.unused))
    if rest.missing or rest.unused or rest.mismatched:
        raise UserError(f"the weights do not carry over completely:\n{rest}")


def require_some(report: TransferReport) -> None:
    """Checks that the two networks have anything in common.

    Raises:
        UserError: not one kernel matched.
    """
    if not any(name.endswith("/kernel") for name in report.matched):
        raise UserError(f"no kernel of the source fits this network:\n{report}")
