"""What is matched, left out, derived or refused."""

import numpy as np
import pytest

from bnn_tf._tensorflow import tf
from bnn_tf.errors import UserError
from bnn_tf.torch_import.names import our_key
from bnn_tf.torch_import.weights import from_torch
from bnn_tf.training import Run
from bnn_tf.training.start import variables

SMALL = "recu_cifar18"


def network(result):
    return Run.open(result.run.path).load_network()


def without(arrays, *names):
    return {name: array for name, array in arrays.items() if name not in names}


def test_every_name_is_accounted_for(imported, built):
    arrays = built("ovsw")[0]
    matching = imported("ovsw").matching
    assert set(matching.matched) | set(matching.ignored) == set(arrays)
    assert not set(matching.matched) & set(matching.ignored)
    assert set(matching.ignored.values()) == {"a counter of PyTorch's BatchNorm", "OvSW's training state"}
    assert matching.matched["layer2.0.shortcut.0.weight"] == "stage2_block1_shortcut_conv/kernel"
    assert matching.matched["fc.weight"] == "logits/kernel"
    assert matching.kept == ()


def test_kernels_are_turned_and_the_clamp_is_kept(imported, built):
    arrays = built(SMALL)[0]
    by_name = variables(network(imported(SMALL)))
    kernel = by_name["stage1_block1a_conv", "kernel"]
    kernel = np.asarray(tf.convert_to_tensor(getattr(kernel, "latent_variable", kernel)))
    expected = arrays["layer1.0.conv1.weight"].transpose(2, 3, 1, 0)[::-1, ::-1]
    np.testing.assert_array_equal(kernel, expected)
    assert float(by_name["stage1_block1a_conv", "tau"]) == pytest.approx(0.97)


def test_the_clamp_may_be_missing(imported, built):
    arrays = {name: array for name, array in built(SMALL)[0].items() if not name.endswith(".tau")}
    assert len(imported(SMALL, arrays).matching.kept) == 8


class TestCodebooks:
    def test_patterns_in_force_are_derived(self, imported, built):
        arrays = dict(built("snn_4")[0])
        name = "layer1.0.binary_conv.binarize.patterns"
        arrays[name] = arrays[name].copy()
        arrays[name][2, 0] = -5e-4
        result = imported("snn_4", arrays)
        by_name = variables(network(result))
        latent, memory = (by_name["stage1_block1_conv", key].numpy() for key in ("codebook", "memory"))
        np.testing.assert_array_equal(latent, arrays[name][:, ::-1])
        np.testing.assert_array_equal(memory, np.where(latent >= 0, 1, -1))
        (note,) = (note for note in result.matching.notes if "patterns in force" in note)
        assert "1 elements below 0.001 may have had the other sign" in note

    def test_patterns_in_force_are_taken_where_they_are(self, imported, built):
        arrays = dict(built("snn_4")[0])
        memory = np.sign(arrays["layer1.0.binary_conv.binarize.patterns"])
        memory[0] *= -1
        arrays["layer1.0.binary_conv.binarize.memory"] = memory
        by_name = variables(network(imported("snn_4", arrays)))
        np.testing.assert_array_equal(by_name["stage1_block1_conv", "memory"], memory[:, ::-1])

    def test_all_patterns_are_the_plain_sign(self, imported, built):
        matching = imported("snn_9").matching
        assert list(matching.ignored.values()).count("holds all 512 patterns, which is the plain sign") == 4

    def test_a_full_codebook_with_a_pattern_missing_is_none(self, imported, built):
        arrays = dict(built("snn_9")[0])
        name = "layer1.0.binary_conv.binarize.patterns"
        arrays[name] = arrays[name].copy()
        arrays[name][0] = arrays[name][1]
        with pytest.raises(UserError, match=f"1 names without a place: {name}"):
            imported("snn_9", arrays)


def test_weights_of_zero_are_counted(imported, built):
    arrays = dict(built("ovsw")[0])
    arrays["layer1.0.conv1.weight"] = arrays["layer1.0.conv1.weight"].copy()
    arrays["layer1.0.conv1.weight"][:2, 0, 0, 0] = 0
    assert any(
        note.startswith("2 binary weights are exactly 0") for note in imported("ovsw", arrays).matching.notes
    )


class TestRefusals:
    def refused(self, imported, tmp_path, *arguments, **changes):
        with pytest.raises(UserError) as caught:
            imported(*arguments, **changes)
        assert not (tmp_path / "run").exists()
        return str(caught.value)

    def test_another_network(self, imported, built, tmp_path):
        message = self.refused(imported, tmp_path, SMALL, built("recu")[0])
        assert "net.pth is no checkpoint of cifar_resnet18 with that method" in message
        assert "conv1.weight is (16, 3, 3, 3), stem_conv/kernel wants (8, 3, 3, 3)" in message
        assert "names without a place: layer1.1.conv1.weight" in message
        assert "variables without a source: stage4_block1a_conv/kernel" in message

    def test_another_method(self, imported, built, tmp_path):
        message = self.refused(imported, tmp_path, SMALL, method="bireal")
        assert "names without a place: layer1.0.conv1.tau, layer1.0.conv1.alpha" in message

    def test_other_bits(self, imported, tmp_path):
        message = self.refused(
            imported, tmp_path, "snn_4", settings=(("image_size", (32, 32)), ("method.bits", 5))
        )
        assert "binarize.patterns is (16, 9), stage1_block1_conv/codebook wants (32, 9)" in message

    def test_a_missing_tensor(self, imported, built, tmp_path):
        arrays = without(built(SMALL)[0], "bn2.running_var")
        message = self.refused(imported, tmp_path, SMALL, arrays)
        assert message.endswith("1 variables without a source: head_bn/moving_variance")

    def test_a_tensor_too_many(self, imported, built, tmp_path):
        arrays = {**built(SMALL)[0], "aux.weight": np.ones(3, "f")}
        assert self.refused(imported, tmp_path, SMALL, arrays).endswith("1 names without a place: aux.weight")
        matching = imported(SMALL, arrays, ignore=("aux.*",)).matching
        assert matching.ignored["aux.weight"] == "as asked for"

    def test_two_names_for_one_variable(self, imported, built, tmp_path):
        arrays = {**built(SMALL)[0], "fc.weight": built(SMALL)[0]["linear.weight"]}
        assert self.refused(imported, tmp_path, SMALL, arrays).endswith("1 names without a place: fc.weight")

    def test_something_else(self, imported, tmp_path):
        message = self.refused(imported, tmp_path, SMALL, {"encoder.weight": np.ones((3, 3), "f")})
        assert "no fc or linear among encoder.weight" in message


@pytest.mark.parametrize(
    ("array", "variable", "shape"),
    [
        (np.ones((8, 3, 3, 3)), "kernel", (3, 3, 3, 9)),
        (np.ones((81 * 3, 2)), "kernel", (3, 3, 3, 9)),
        (np.ones((10, 64)), "kernel", (64, 9)),
        (np.ones((9, 16)), "codebook", (16, 9)),
        (np.ones(8), "gamma", (9,)),
        (np.ones(1), "alpha", (1, 1, 8)),
    ],
)
def test_other_shapes(array, variable, shape):
    assert from_torch(array, variable, shape) is None


def test_a_flattened_map(rng):
    maps = rng.normal(size=(5, 3, 2, 4))  # classes, channels, rows, columns
    dense = from_torch(maps.reshape(5, -1), "kernel", (24, 5), (2, 4))
    image = rng.normal(size=(3, 2, 4))
    turned = image[:, ::-1, ::-1].transpose(1, 2, 0)
    np.testing.assert_allclose(turned.ravel() @ dense, maps.reshape(5, -1) @ image.ravel())


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("vgg_small", "conv6.weight"),
        ("vgg_small", "nonlinear4.weight"),
        ("bireal_net18", "layers.0.conv1.weight"),
        ("bireal_net50", "layer1.0.conv1.weight"),
        ("resnet18", "layer1.0.conv3.weight"),
        ("resnet18", "layer1.0.downsample.2.weight"),
        ("cifar_resnet18", "layer1.0.conv1.bias"),
        ("cifar_resnet18", "layer1.conv1.weight"),
        ("cifar_resnet18", ""),
    ],
)
def test_names_of_nothing(model, name):
    assert our_key(model, name) is None
