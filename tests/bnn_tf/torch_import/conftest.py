"""The authors' networks, small where the real ones are large, as checkpoints with known logits."""

import contextlib
import dataclasses
import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import zoo
from bnn_tf.torch_import import Checkpoint, Request, import_arrays
from zoo import bireal_net, cifar_resnet, react_resnet, resnet

_path = Path(__file__).with_name("authors.py")
_spec = importlib.util.spec_from_file_location("authors", _path)
numpy_networks = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(numpy_networks)

ONES = (1, 1, 1, 1)
CLASSES = 20
WIDTHS = (8, 16, 16, 32)


@dataclasses.dataclass(frozen=True)
class Example:
    """How the authors compute it, and as what it is imported; `small` stands in for the full network."""

    forward: Callable
    model: str
    method: str
    small: Callable | None = None
    size: int = 32
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    seed: int = 0


def _small(module, builder, counts):
    """A network of few blocks and channels; the builder reads its module's widths when it is called."""

    def build(
        *,
        method,
        input_shape=(224, 224, 3),
        num_classes=1000,
        pad_values=0.0,
        weights=None,
        torch_padding=False,
    ):
        with mock.patch.object(module, "WIDTHS", WIDTHS):
            return builder(
                method=method,
                input_shape=input_shape,
                num_classes=num_classes,
                pad_values=pad_values,
                weights=weights,
                torch_padding=torch_padding,
                stages=counts,
            )

    return build


with zoo.MODELS.temporary():  # it is registered in the place of a full one, see `register`

    @zoo.architecture("small_cifar_resnet18", method="recu", head="normalized_classifier")
    def _small_cifar(net, image, shortcut="pool"):
        return cifar_resnet._resnet(net, image, ONES, WIDTHS, False, shortcut)


SMALL = {
    "bireal": _small(bireal_net, zoo.BiRealNet18, ONES),
    "react": _small(react_resnet, zoo.ReActResNet18, ONES),
    "resnet": _small(resnet, zoo.ResNet18, (2, 2, 2, 2)),
}


def _react(binary, **names):
    return numpy_networks.single(ONES, WIDTHS, binary, react=True, **names)


TWO_STAGE = {"conv_name": "conv", "bn": "bn", "act": "nonlinear", "stem": ("conv", "bn")}
EXAMPLES = {
    # one of each paper
    "bireal": Example(
        numpy_networks.single(ONES, WIDTHS, numpy_networks.bireal_conv),
        "bireal_net18",
        "bireal",
        SMALL["bireal"],
        size=64,
    ),
    "recu": Example(numpy_networks.cifar20(numpy_networks.recu_conv), "cifar_resnet20", "recu"),
    "snn": Example(_react(numpy_networks.snn_conv(5)), "react_resnet18", "subbit", SMALL["react"], size=64),
    "ovsw": Example(
        numpy_networks.cifar18(WIDTHS, numpy_networks.ovsw_conv, True, True, ONES),
        "cifar_resnet18",
        "ovsw",
        _small_cifar,
    ),
    # further blocks and layers
    "recu_imagenet": Example(
        numpy_networks.pairs(ONES, WIDTHS, numpy_networks.recu_conv),
        "resnet18",
        "recu",
        SMALL["resnet"],
        size=64,
    ),
    "recu_cifar18": Example(
        numpy_networks.cifar18(WIDTHS, numpy_networks.recu_conv, blocks=ONES),
        "cifar_resnet18",
        "recu",
        _small_cifar,
    ),
    "recu_two_stage": Example(
        _react(numpy_networks.recu_conv, **TWO_STAGE), "react_resnet18", "recu", SMALL["react"]
    ),
    "ovsw_imagenet": Example(
        numpy_networks.pairs(ONES, WIDTHS, numpy_networks.ovsw_conv),
        "resnet18",
        "ovsw",
        SMALL["resnet"],
        size=33,
    ),
    "ovsw_learned": Example(
        numpy_networks.cifar20(numpy_networks.learned_scale_conv), "cifar_resnet20", "ovsw"
    ),
    "ovsw_vgg": Example(numpy_networks.vgg(numpy_networks.ovsw_conv, prelu=True), "vgg_small", "ovsw"),
    "snn_4": Example(_react(numpy_networks.snn_conv(4)), "react_resnet18", "subbit", SMALL["react"]),
    "snn_6": Example(_react(numpy_networks.snn_conv(6)), "react_resnet18", "subbit", SMALL["react"]),
    "snn_9": Example(_react(numpy_networks.snn_conv(9)), "react_resnet18", "subbit", SMALL["react"]),
    "snn_step1": Example(
        _react(numpy_networks.real_conv),
        "react_resnet18",
        "real",
        SMALL["react"],
        options={"method": "real", "settings": (("method.activation_name", "sign"),)},
    ),
    "reactnet": Example(
        _react(functools.partial(numpy_networks.bireal_conv, flat=False)),
        "react_resnet18",
        "bireal",
        SMALL["react"],
        options={"method": "bireal"},
    ),
}


PAPERS = ("bireal", "recu", "snn", "ovsw")


@pytest.fixture
def authors():
    """The module with the authors' networks."""
    return numpy_networks


@pytest.fixture(params=PAPERS)
def paper(request):
    """The example of each paper."""
    return request.param


@pytest.fixture(params=[name for name in EXAMPLES if name not in PAPERS])
def other(request):
    """The other examples."""
    return request.param


@pytest.fixture
def method_of():
    """The method that an example is of."""
    return lambda name: EXAMPLES[name].method


@pytest.fixture(scope="module")
def built():
    """State dict, images and logits of an example, computed once in a file."""
    return functools.cache(
        lambda name: numpy_networks.example(
            EXAMPLES[name].forward, EXAMPLES[name].size, CLASSES, EXAMPLES[name].seed,
            candidates=4 if name == "ovsw_vgg" else 8,
        )
    )  # fmt: skip


@pytest.fixture
def register():
    """Puts an example's small network in the place of the full one."""
    with contextlib.ExitStack() as stack:

        def put(name):
            if EXAMPLES[name].small:
                small = {EXAMPLES[name].model: EXAMPLES[name].small}
                stack.enter_context(zoo.MODELS.temporary(small))
            return EXAMPLES[name]

        yield put


@pytest.fixture
def imported(built, register, tmp_path):
    """Imports an example into `tmp_path/run`, with changes of its state dict or request."""

    def run(name, arrays=None, facts=None, **changes):
        example = register(name)
        size = (("image_size", (example.size, example.size)),)
        request = Request(tmp_path / "net.pth", tmp_path / "run", example.model)
        settings = (*size, *example.options.get("settings", ()))
        request = dataclasses.replace(request, **{**example.options, "settings": settings, **changes})
        return import_arrays(request, Checkpoint(arrays or built(name)[0], facts or {}))

    return run
