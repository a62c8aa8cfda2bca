"""The run directory that an import leaves."""

import json

import pytest

from bnn_tf import data
from bnn_tf.errors import UsageError, UserError
from bnn_tf.torch_import import Request
from bnn_tf.torch_import.importing import check
from bnn_tf.training import Run

NAMES = [f"bird {i}" for i in range(20)]


def test_what_is_known_of_the_network(imported):
    result = imported("ovsw", facts={"epoch": 600, "best_acc1": 92.5})
    recipe = Run.open(result.run.path).config.recipe
    assert (recipe.method.name, recipe.model, recipe.dataset) == ("ovsw", "cifar_resnet18", "cifar10")
    assert recipe.model_options == {"shortcut": "conv", "torch_padding": True}
    assert recipe.images.size == (32, 32)
    assert recipe.images.mean == data.NORMALIZATIONS["cifar"][0]
    assert len(recipe.phases) == 1
    assert recipe.note == "imported from net.pth; the paper's settings"
    stored = json.loads((result.run.path / "import.json").read_text())
    assert stored == json.loads(json.dumps(result.to_dict()))
    assert stored["source"] == {
        "epoch": 600,
        "best_acc1": 92.5,
        "file": str(result.run.path.parent / "net.pth"),
    }
    assert stored["classes"] == 20
    assert stored["matched"]["fc.bias"] == "logits/bias"


def test_options_override(imported):
    settings = (("image_size", (32, 32)), ("test_batch_size", 5), ("model.pad_values", 1.0))
    result = imported("ovsw", settings=settings, dataset="cifar100", normalization="unit")
    recipe = result.run.config.recipe
    assert (recipe.dataset, recipe.test_batch_size) == ("cifar100", 5)
    assert recipe.images.mean == data.NORMALIZATIONS["unit"][0]
    assert recipe.model_options["pad_values"] == 1.0


def test_the_paper_keeps_its_figures_where_nothing_differs(imported, built):
    arrays = built("recu")[0]
    ten = {**arrays, "linear.weight": arrays["linear.weight"][:10], "linear.bias": arrays["linear.bias"][:10]}
    assert imported("recu", ten).run.config.recipe.published_top1 == 0.875


class TestClassNames:
    def test_given(self, imported):
        assert imported("ovsw", class_names=NAMES).run.config.class_names == tuple(NAMES)

    def test_of_the_dataset(self, imported, tmp_path, monkeypatch):
        class Found:
            class_names = NAMES

        monkeypatch.setattr(data, "load", lambda name, data_dir, download: Found)
        result = imported("ovsw", data_dir=str(tmp_path))
        assert result.run.config.class_names == tuple(NAMES)
        assert result.run.config.data_dir == str(tmp_path)
        assert not any("numbered" in note for note in result.matching.notes)

    def test_numbered_where_no_data_are(self, imported):
        result = imported("ovsw")
        assert result.run.config.class_names == data.placeholder_names(20)
        assert any("the classes are numbered" in note for note in result.matching.notes)

    def test_of_another_number(self, imported, tmp_path):
        with pytest.raises(UserError, match="net.pth has 20 logits, but 3 class names are given"):
            imported("ovsw", class_names=NAMES[:3])
        with pytest.raises(UserError, match="has 20 logits, but 10 class names"):
            imported("ovsw", dataset="digits")
        assert not (tmp_path / "run").exists()

    def test_a_folder_that_does_not_exist(self, imported):
        with pytest.raises(UserError, match="does not exist"):
            imported("ovsw", data_dir="/nowhere")

    def test_no_such_dataset(self, imported):
        with pytest.raises(UserError, match="no dataset 'cifar11'"):
            imported("ovsw", dataset="cifar11")


def test_a_folder_in_use_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty; name another folder$"):
        check(Request(tmp_path / "net.pth", tmp_path, "vgg_small"))
    with pytest.raises(UserError, match="is a file, not a folder"):
        check(Request(tmp_path / "net.pth", tmp_path / "notes.txt", "vgg_small"))


def test_unknown_names(tmp_path):
    with pytest.raises(UsageError, match="no model called 'vgg'"):
        check(Request(tmp_path / "net.pth", tmp_path / "run", "vgg"))
    with pytest.raises(UsageError, match="no method called 'xnor'"):
        check(Request(tmp_path / "net.pth", tmp_path / "run", "vgg_small", method="xnor"))


def test_without_torch_padding_nothing_is_exact(imported):
    with pytest.raises(UsageError, match="needs model.torch_padding=true"):
        imported("ovsw", settings=(("model.torch_padding", False),))


def test_react_networks_hide_their_method(imported):
    with pytest.raises(UsageError, match="name it: .* bireal, the first real with method.activation_name"):
        imported("reactnet", method=None)


def test_odd_maps_before_a_pool_are_refused(imported):
    with pytest.raises(UserError, match="torch_padding needs an input size that stays even"):
        imported("bireal", settings=(("image_size", (33, 33)),))
