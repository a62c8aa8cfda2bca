"""Files of PyTorch: what is read from them, and what is never run."""

import importlib
import os
import pickle
import types

import numpy as np
import pytest

from bnn_tf.errors import UserError
from bnn_tf.torch_import import read, unwrap

ARRAYS = {"conv1.weight": np.ones((2, 3, 1, 1), "f"), "fc.bias": np.zeros(2, "f")}


class TestUnwrap:
    @pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "net", "network"])
    def test_dictionaries(self, key):
        content = {
            "epoch": 7,
            key: ARRAYS,
            "best_prec1": np.array(62.5),
            "arch": "resnet18",
            "optimizer": {"state": {}},
        }
        checkpoint = unwrap(content, "net.pth")
        assert dict(checkpoint.arrays) == ARRAYS
        assert checkpoint.facts == {"epoch": 7, "best_prec1": 62.5, "arch": "resnet18"}

    def test_a_name_under_model_is_a_fact(self):
        checkpoint = unwrap({"model": "resnet20_1w1a", "state_dict": ARRAYS}, "net.pth")
        assert dict(checkpoint.arrays) == ARRAYS
        assert checkpoint.facts == {"model": "resnet20_1w1a"}

    def test_bare(self):
        checkpoint = unwrap(ARRAYS, "net.pth")
        assert (dict(checkpoint.arrays), checkpoint.facts) == (ARRAYS, {})

    @pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
    def test_prefixes(self, prefix):
        prefixed = {prefix + name: array for name, array in ARRAYS.items()}
        assert dict(unwrap({"state_dict": prefixed}, "net.pth").arrays) == ARRAYS

    def test_a_module_of_that_name_stays(self):
        arrays = {"module.weight": np.ones(2), "fc.weight": np.ones(2)}
        assert set(unwrap(arrays, "net.pth").arrays) == set(arrays)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ({"epoch": 3, "lr": 0.1}, "net.pth holds no state dict: it has only epoch, lr"),
            ({}, "is no dictionary"),
            (np.ones(3), "is no dictionary"),
            ([ARRAYS], "is no dictionary"),
        ],
    )
    def test_without_tensors(self, content, message):
        with pytest.raises(UserError, match=message):
            unwrap(content, "net.pth")


class TestWithoutTorch:
    def test_missing(self, monkeypatch, tmp_path):
        def fail(name):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        monkeypatch.setattr(importlib, "import_module", fail)
        with pytest.raises(UserError, match=r"needs PyTorch: pip install '.\[torch\]'"):
            read(tmp_path / "net.pth")

    def test_too_old(self, monkeypatch, tmp_path):
        old = types.SimpleNamespace(__version__="2.5.1+cpu")
        monkeypatch.setattr(importlib, "import_module", lambda name: old)
        with pytest.raises(UserError, match="PyTorch 2.5.1.* cannot read files safely; 2.6 or later can"):
            read(tmp_path / "net.pth")


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="PyTorch, which reads its own files, is not installed")


class Malicious:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (os.fspath(self.path),)


class TestFiles:
    @pytest.fixture
    def tensors(self, torch):
        return {name: torch.tensor(array) for name, array in ARRAYS.items()}

    def same(self, checkpoint):
        assert set(checkpoint.arrays) == set(ARRAYS)
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(checkpoint.arrays[name], array)
            assert checkpoint.arrays[name].dtype == np.float32

    @pytest.mark.parametrize("legacy", [False, True])
    def test_a_state_dict(self, torch, tensors, tmp_path, legacy):
        torch.save(tensors, tmp_path / "net.pth", _use_new_zipfile_serialization=not legacy)
        self.same(read(tmp_path / "net.pth"))

    def test_a_module_with_all_that_training_keeps(self, torch, tmp_path):
        net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
        optimizer = torch.optim.Adam(net.parameters())
        net(torch.ones(1, 3, 5, 5)).sum().backward()
        optimizer.step()
        content = {
            "epoch": 3,
            "state_dict": torch.nn.DataParallel(net).state_dict(),
            "optimizer": optimizer.state_dict(),
            "best_prec1": torch.tensor(0.5),
        }
        torch.save(content, tmp_path / "net.pth")
        checkpoint = read(tmp_path / "net.pth")
        assert list(checkpoint.arrays) == list(net.state_dict())
        assert checkpoint.arrays["1.num_batches_tracked"].shape == ()
        assert checkpoint.facts == {"epoch": 3, "best_prec1": 0.5}

    def test_half_precision_and_parameters(self, torch, tensors, tmp_path):
        tensors["conv1.weight"] = torch.nn.Parameter(tensors["conv1.weight"].bfloat16())
        tensors["fc.bias"] = tensors["fc.bias"].half()
        torch.save({"model": tensors}, tmp_path / "net.pth")
        self.same(read(tmp_path / "net.pth"))

    @pytest.mark.parametrize("legacy", [False, True])
    @pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
    def test_truncated(self, torch, tensors, tmp_path, legacy, share):
        path = tmp_path / "net.pth"
        torch.save({"state_dict": tensors}, path, _use_new_zipfile_serialization=not legacy)
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        with pytest.raises(UserError, match="net.pth is damaged or no PyTorch checkpoint") as caught:
            read(path)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("content", [b"", b"not a checkpoint\n", b"PK\x03\x04", b"\x80\x02."])
    def test_something_else(self, torch, tmp_path, content):
        (tmp_path / "net.pth").write_bytes(content)
        with pytest.raises(UserError, match="net.pth is damaged or no PyTorch checkpoint"):
            read(tmp_path / "net.pth")

    def test_no_file(self, torch, tmp_path):
        with pytest.raises(UserError, match="there is no checkpoint file"):
            read(tmp_path / "net.pth")
        with pytest.raises(UserError, match="there is no checkpoint file"):
            read(tmp_path)

    @pytest.mark.parametrize("protocol", [2, 4])
    def test_plain_malicious_pickles_run_nothing(self, torch, tmp_path, protocol):
        path, trap = tmp_path / "net.pth", tmp_path / "executed"
        path.write_bytes(pickle.dumps(Malicious(trap), protocol))
        with pytest.raises(UserError, match="net.pth is (refused|damaged)"):
            read(path)
        assert not trap.exists()
        pickle.loads(path.read_bytes())  # or the refusal would prove nothing
        assert trap.exists()

    @pytest.mark.parametrize("form", ["zip", "legacy", "in the state dict"])
    def test_malicious_pickles_run_nothing(self, torch, tensors, tmp_path, form):
        path, trap = tmp_path / "net.pth", tmp_path / "executed"
        content = {"state_dict": tensors, "epoch": Malicious(trap)}
        if form == "in the state dict":
            torch.save({**tensors, "bn.bias": Malicious(trap)}, path)
        else:
            torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
        with pytest.raises(UserError, match=r"net.pth is refused: it wants to call \w+\.mkdir"):
            read(path)
        assert not trap.exists()
        torch.load(path, weights_only=False)
        assert trap.exists()  # it is a real one

    def test_numpy_values_are_refused_with_advice(self, torch, tensors, tmp_path):
        torch.save({"state_dict": tensors, "best": np.float64(3)}, tmp_path / "net.pth")
        with pytest.raises(UserError, match="refused: it wants to call numpy.* save its state_dict"):
            read(tmp_path / "net.pth")

    def test_whole_modules_are_refused(self, torch, tmp_path):
        torch.save(torch.nn.Linear(2, 2), tmp_path / "net.pth")
        with pytest.raises(UserError, match="wants to call torch.nn.modules.linear.Linear"):
            read(tmp_path / "net.pth")


def test_the_authors_networks_in_numpy_pad_as_pytorch(torch, authors, rng):
    """The expected logits elsewhere rest on these four functions."""
    functional = torch.nn.functional
    x = rng.normal(size=(2, 4, 10, 12))
    for size, stride, padding in ((7, 2, 3), (3, 2, 1), (3, 1, 1), (1, 2, 0)):
        kernel = rng.normal(size=(5, 4, size, size))
        expected = functional.conv2d(torch.tensor(x), torch.tensor(kernel), None, stride, padding)
        np.testing.assert_allclose(authors.conv(x, kernel, stride, padding), expected, atol=1e-10)
    expected = functional.max_pool2d(torch.tensor(x), 3, 2, 1)
    np.testing.assert_array_equal(authors.max_pool(x, 3, 2, 1), expected)
    np.testing.assert_allclose(authors.average_pool(x), functional.avg_pool2d(torch.tensor(x), 2))
    net = authors.Network()
    normalized = net.batch_norm(x, "bn")
    names = ("running_mean", "running_var", "weight", "bias")
    values = [torch.tensor(net.state[f"bn.{name}"], dtype=torch.float64) for name in names]
    np.testing.assert_allclose(normalized, functional.batch_norm(torch.tensor(x), *values), atol=1e-10)
