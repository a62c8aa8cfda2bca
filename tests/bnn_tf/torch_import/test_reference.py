"""The expected logits rest on networks written for these tests; here they meet the authors' own.

The reference data hold logits of the authors' code, run with TensorFlow's padding of strided layers. With
that padding the networks in `authors.py` must give them; all else about them is then right.
"""

import numpy as np
import pytest

ONES = (1, 1, 1, 1)


def pad_like_tensorflow(x, size, stride):
    """A map padded as `same` pads it, and no padding left to do."""
    totals = [max((-(-n // stride) - 1) * stride + size - n, 0) for n in x.shape[2:]]
    return [(0, 0), (0, 0), *((total // 2, total - total // 2) for total in totals)]


@pytest.fixture
def tensorflows(authors, monkeypatch):
    """The networks with TensorFlow's padding."""
    conv, max_pool = authors.conv, authors.max_pool

    def same_conv(x, weight, stride, padding):
        if padding and stride > 1:
            x, padding = np.pad(x, pad_like_tensorflow(x, weight.shape[2], stride)), 0
        return conv(x, weight, stride, padding)

    def same_pool(x, size, stride, padding):
        if padding:
            x = np.pad(x, pad_like_tensorflow(x, size, stride), constant_values=-np.inf)
        return max_pool(x, size, stride, 0)

    monkeypatch.setattr(authors, "conv", same_conv)
    monkeypatch.setattr(authors, "max_pool", same_pool)
    return authors


def torch_layout(name, kind, array):
    array = array.astype(np.float32)
    if kind in ("conv_kernel", "binary_conv_kernel"):
        array = array.transpose(3, 2, 0, 1)
        return array.reshape(-1, 1) if name.endswith(".weights") else array
    if kind == "dense_kernel":
        return array.T
    shapes = {"alpha": (-1, 1, 1), "learnable_bias": (1, -1, 1, 1)}
    return array.reshape(shapes[kind]) if kind in shapes else array


def network(authors, name):
    wide = authors.WIDTHS
    return {
        "recu_cifar_resnet20": lambda: authors.cifar20(authors.recu_conv),
        "recu_cifar_resnet18A": lambda: authors.cifar18((32, 32, 64, 128), authors.recu_conv),
        "ovsw_cResNet20": lambda: authors.cifar20(authors.ovsw_conv),
        "recu_imagenet_resnet18": lambda: authors.pairs(ONES, wide, authors.recu_conv),
        "bireal_birealnet18": lambda: authors.single(ONES, wide, authors.bireal_conv),
        "snn_step2_birealnet18_bit5": lambda: authors.single(ONES, wide, authors.snn_conv(5), react=True),
    }[name]()


@pytest.mark.parametrize(
    "name",
    [
        "recu_cifar_resnet20",
        "recu_cifar_resnet18A",
        "ovsw_cResNet20",
        "recu_imagenet_resnet18",
        "bireal_birealnet18",
        "snn_step2_birealnet18_bit5",
    ],
)
def test_the_networks_are_the_authors(name, golden, tensorflows):
    arrays = golden(f"forward_{name}")
    names, kinds = (list(map(str, arrays[key])) for key in ("names", "kinds"))
    net = tensorflows.Network()
    net.state = {names[i]: torch_layout(names[i], kinds[i], arrays[f"p{i:03d}"]) for i in range(len(names))}
    expected = {key for key in net.state if not key.endswith(".memory")}
    logits = network(tensorflows, name)(net, arrays["input"].transpose(0, 3, 1, 2), arrays["logits"].shape[1])
    np.testing.assert_allclose(logits, arrays["logits"], rtol=1e-4, atol=1e-4)
    made = {
        key for key in net.state if not key.endswith((".memory", ".tau", "_tracked", ".tracker", "_prev"))
    }
    assert made == expected  # nothing had to be drawn
