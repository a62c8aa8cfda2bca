"""Every network with every method, as a program, computes what Keras computes."""

import pytest

import zoo
from bnn_tf import methods

_LARGE = ("bireal", "quicknet", "react", "resnet")
_SMALL = {name: 32 for name in zoo.list_models() if name.startswith(_LARGE)}
_DEEP = ("cifar_resnet101", "cifar_resnet152", "bireal_net50", "cifar_resnet50")
_SHALLOW = [name for name in zoo.list_models() if name not in _DEEP]
_METHODS = ("bireal", "recu", "subbit", "ovsw")
# A few small networks run always, every pair in the slow tests.
_QUICK = {("cifar_resnet20", "bireal"), ("cifar_resnet18a", "subbit"), ("react_resnet18_quick", "recu")}
_PAIRS = [
    pytest.param(name, method, marks=[] if (name, method) in _QUICK else [pytest.mark.slow])
    for name in _SHALLOW
    for method in _METHODS
]


def _build(name, method, **options):
    size = _SMALL.get(name, 16)
    return zoo.get_model(name)(method=method, input_shape=(size, size, 3), num_classes=10, **options)


@pytest.mark.parametrize(("name", "method"), _PAIRS)
def test_network_and_method(name, method, settled, agrees):
    program, _, proof = agrees(settled(_build(name, method)), command=["cc", "-std=c99", "-O1"], images=2)
    assert proof.signs > 0
    assert proof.tensors > len(program.steps) // 2


@pytest.mark.parametrize("name", [pytest.param("bireal_net18", marks=pytest.mark.slow), "vgg_small"])
def test_one_padding(name, settled, agrees):
    agrees(settled(_build(name, "recu", pad_values=1.0)), command=["cc", "-std=c99", "-O1"])


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", ["cifar_resnet20", pytest.param("react_resnet18", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "flags", [["-O3", "-march=native"], ["-O1", "-DNET_WORD_BITS=32"]], ids=["native", "32"]
)
def test_branches_of_this_machine(name, flags, settled, agrees):
    agrees(settled(_build(name, "recu")), command=["cc", "-std=c99", *flags])


def test_real_stand_in(settled, agrees):
    program, _, proof = agrees(
        settled(_build("cifar_resnet20", "real" if "real" in methods.METHODS.names() else "fp"))
    )
    assert proof.signs == 0
