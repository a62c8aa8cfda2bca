"""All checks on one model."""

import dataclasses
from collections.abc import Callable, Iterator

from bnn_tf._tensorflow import tf
from bnn_tf.deploy.fold import folded as fold_model
from bnn_tf.deploy.graph import read_frozen
from bnn_tf.deploy.linting import breaks, interface, slow, strided
from bnn_tf.deploy.linting.findings import Finding, LintReport, Severity
from bnn_tf.deploy.linting.quantized import Network

ModelCheck = Callable[[tf.keras.Model], Iterator[Finding]]
Check = Callable[[Network], Iterator[Finding]]

MODEL_CHECKS: tuple[ModelCheck, ...] = (
    interface.one_input_and_output,
    interface.float_input,
    interface.known_size,
    interface.mixed_precision,
)
CHECKS: tuple[Check, ...] = (
    interface.hidden_layers,
    breaks.unsupported_layer,
    breaks.grouped,
    breaks.channels_first,
    breaks.activation_values,
    breaks.unrecognized_sign,
    breaks.padded_signs,
    breaks.int8_zero_padding,
    breaks.small_map,
    strided.strided_padding,
    slow.zero_padding,
    slow.channels,
    slow.kernel_volume,
    slow.half_quantized,
    slow.quantized_dense,
    slow.prelu_axes,
    slow.explicit_padding,
)
FOLDED_CHECKS: tuple[Check, ...] = (
    breaks.kernel_values,
    slow.activation_order,
    slow.clip_before_sign,
    slow.global_pooling,
)
"""Checks of what `bnn_tf.deploy.fold` may mend: they judge the folded network."""

_FOLDED_AWAY = "Nothing to do: folding removes it (bnn-tf convert --no-fold would keep it)"


def lint(model: tf.keras.Model) -> LintReport:
    """What will break, convert wrongly or be slow on Larq Compute Engine.

    The model need not be trained: only the kinds of its layers, their order and their quantizers are judged.
    Nothing is changed. What `convert` folds away is mentioned as information.

    Args:
        model: A functional or built Sequential model; others get an error that says so.
    """
    blocking = interface.not_functional(model) or interface.without_configuration(model)
    if blocking is not None:
        return LintReport(getattr(model, "name", type(model).__name__), (blocking,))
    findings = [found for check in MODEL_CHECKS for found in check(model)]
    network, folded = _networks(model)
    findings += [found for check in CHECKS for found in check(network)]
    for check in FOLDED_CHECKS:
        findings += _beyond_folding(list(check(network)), list(check(folded)))
    return LintReport(model.name, tuple(_sorted(findings, network)))


def _networks(model: tf.keras.Model) -> tuple[Network, Network]:
    return Network(read_frozen(model)), Network(fold_model(model))


def _beyond_folding(before: list[Finding], after: list[Finding]) -> list[Finding]:
    """What is left after folding, and as information what is not."""
    left = {(found.code, found.layer) for found in after}
    removed = [found for found in before if (found.code, found.layer) not in left]
    return after + [
        dataclasses.replace(found, severity=Severity.INFO, remedy=_FOLDED_AWAY) for found in removed
    ]


def _sorted(findings: list[Finding], network: Network) -> list[Finding]:
    """By severity, then in order of the layers; findings on the whole model come first."""
    names = [call.layer.name for call in network.graph.calls]
    places = {name: place for place, name in reversed(list(enumerate(names)))}
    severities = list(Severity)

    def key(finding: Finding) -> tuple[int, int]:
        place = places.get(finding.layer, places.get(finding.layer.rsplit("/", 1)[0], -1))
        return severities.index(finding.severity), place

    return sorted(dict.fromkeys(findings), key=key)
