"""Recipes are complete, say what the papers say, and can be changed field by field."""

import dataclasses
import json

import numpy as np
import pytest

import zoo
from bnn_tf import data, methods
from bnn_tf.errors import UsageError
from bnn_tf.training import build, transfer
from bnn_tf.training.transfer import require_complete
from zoo import recipes
from zoo.recipes import RECIPES, Phase, Recipe

IDS = [f"{r.method}-{r.model}-{r.dataset}-{r.variant}" for r in RECIPES]
BY_ID = dict(zip(IDS, RECIPES, strict=True))


def test_each_combination_once():
    assert len(set(IDS)) == len(IDS)


@pytest.mark.parametrize("recipe", RECIPES, ids=IDS)
class TestEvery:
    def test_survives_json(self, recipe):
        assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe

    def test_names_exist(self, recipe):
        assert recipe.method in methods.METHODS
        assert recipe.model in zoo.list_models()
        assert recipe.dataset in data.list_datasets()
        names = [phase.name for phase in recipe.phases]
        assert len(set(names)) == len(names)
        assert not set(names) & {"method", "model", "schedule"}  # `PHASE.field` would be ambiguous

    def test_settings_build(self, recipe):
        for phase in recipe.phases:
            assert build.preprocessing(recipe, phase).size == recipe.image_size
            assert isinstance(build.phase_method(recipe, phase), methods.Method)
            rate = float(build.optimizer(recipe, phase).learning_rate)
            assert rate == pytest.approx(phase.effective_learning_rate)
            schedule = build.learning_rate(phase)
            rates = [schedule(epoch, phase.epochs) for epoch in range(phase.epochs)]
            assert max(rates) == pytest.approx(rate, rel=1.01 / phase.epochs)
            assert min(rates) >= 0

    def test_is_found(self, recipe):
        assert recipes.find(recipe.method, recipe.model, recipe.dataset, recipe.variant) is recipe

    def test_says_where_it_comes_from(self, recipe):
        assert recipe.note
        if recipe.note.startswith("ours"):
            assert recipe.published_top1 is None


def step(recipe, phase, rng):
    """One training step of a phase on random images, at a size that is quick."""
    quick = dataclasses.replace(recipe, model="tiny", image_size=(8, 8), model_options={})
    network = build.model(quick, 10, phase)
    optimizer = build.optimizer(quick, phase)
    network.compile(optimizer, loss=build.loss(phase), metrics=build.metrics(10), run_eagerly=True)
    before = network.get_weights()
    loss = network.train_on_batch(rng.normal(size=(4, 8, 8, 3)).astype("f"), rng.integers(0, 10, 4))[0]
    return loss, before, network.get_weights()


DIGITS = [recipe for recipe in RECIPES if recipe.dataset == "digits"]


@pytest.mark.parametrize("recipe", DIGITS, ids=lambda r: r.method)
def test_a_step_of_each_method(recipe, tiny, rng):
    """The optimizer, its transforms, the loss and the network fit together in every phase."""
    for phase in recipe.phases:
        loss, before, after = step(recipe, phase, rng)
        assert np.isfinite(loss)
        changed = [not np.array_equal(a, b) for a, b in zip(before, after, strict=True)]
        assert all(np.isfinite(weights).all() for weights in after)
        assert sum(changed) >= 8


STEPS = {name: recipe for name, recipe in BY_ID.items() if len(recipe.phases) > 1}


@pytest.mark.parametrize(
    "recipe", STEPS.values(), ids=lambda r: f"{r.method}-{r.model}-{r.dataset}-{r.variant}"
)
def test_phases_fit_together(recipe, tiny):
    quick = dataclasses.replace(recipe, model="tiny", image_size=(8, 8), model_options={})
    networks = [build.model(quick, 10, phase) for phase in quick.phases]
    for phase, previous, network in zip(quick.phases[1:], networks, networks[1:], strict=False):
        require_complete(transfer(previous, network), phase.fresh_variables)


def test_each_method_has_digits():
    assert {recipe.method for recipe in DIGITS} == set(methods.METHODS)


class TestPapers:
    """Figures of the papers that no formula checks."""

    @pytest.mark.parametrize(
        ("name", "top1", "top5"),
        [
            ("bireal-bireal_net18-imagenet2012-default", 56.4, 79.5),
            ("bireal-bireal_net34-imagenet2012-default", 62.2, 83.9),
            ("bireal-bireal_net50-imagenet2012-default", 62.6, 83.9),
            ("bireal-bireal_net18-imagenet2012-multistep", 56.4, 79.5),
            ("bireal-bireal_net34-imagenet2012-multistep", 62.2, 83.9),
            ("recu-cifar_resnet18-cifar10-default", 92.8, None),
            ("recu-cifar_resnet20-cifar10-default", 87.5, None),
            ("recu-vgg_small-cifar10-default", 92.2, None),
            ("recu-resnet18-imagenet2012-default", 60.98, 82.57),
            ("recu-resnet34-imagenet2012-default", 65.10, 85.78),
            ("subbit-react_resnet18-imagenet2012-default", 62.1, 83.8),
        ],
    )
    def test_published(self, name, top1, top5):
        assert (BY_ID[name].published_top1, BY_ID[name].published_top5) == (top1, top5)

    def test_bireal_from_scratch(self):
        phase = BY_ID["bireal-bireal_net18-imagenet2012-default"].phases[0]
        assert (phase.optimizer, phase.epochs, phase.batch_size, phase.learning_rate) == (
            "adam",
            256,
            512,
            1e-3,
        )
        assert (phase.label_smoothing, phase.weight_decay, phase.lighting) == (0.1, 0.0, 0.1)
        fifty = BY_ID["bireal-bireal_net50-imagenet2012-default"].phases[0]
        assert (fifty.learning_rate, fifty.batch_size) == (5e-4, 256)

    def test_bireal_rates(self, golden):
        phase = BY_ID["bireal-bireal_net18-imagenet2012-default"].phases[0]
        arrays = golden("bireal_lr")
        expected = next(arrays[key] for key in arrays.files if arrays[key].shape == (256,))
        schedule = build.learning_rate(phase)
        np.testing.assert_allclose([schedule(e, 256) for e in range(256)], expected, rtol=1e-5, atol=1e-9)

    @pytest.mark.parametrize(
        ("model", "binarize"),
        [("bireal_net18", (20, 128, 0.01, (10, 15))), ("bireal_net34", (40, 1024, 0.08, (20, 30)))],
    )
    def test_bireal_multistep(self, model, binarize):
        recipe = BY_ID[f"bireal-{model}-imagenet2012-multistep"]
        assert [phase.name for phase in recipe.phases] == [
            "relu",
            "leaky_clip",
            "clip",
            "binarize",
            "batch_norm",
        ]
        assert [phase.augmentation for phase in recipe.phases] == ["resize_crop_flip"] * 5
        fourth, last = recipe.phases[3:]
        rates = [build.learning_rate(fourth)(e, fourth.epochs) for e in range(fourth.epochs)]
        drops = tuple(e for e in range(1, fourth.epochs) if rates[e] < rates[e - 1])
        assert (fourth.epochs, fourth.batch_size, rates[0], drops) == binarize
        assert rates[-1] == pytest.approx(rates[0] / 100)
        assert (fourth.optimizer, fourth.momentum, fourth.weight_decay) == ("sgd", 0.9, 0.0)
        assert build.phase_method(recipe, fourth) == methods.BiReal(clip_value=None)
        assert (last.epochs, last.binarize_kernels, last.trainable) == (1, True, "batch_norm")
        assert build.phase_method(recipe, last) == methods.BiReal(clip_value=None, scaled=False)

    def test_multistep_on_digits_is_the_same_five_steps_in_small(self):
        small, full = (recipes.find("bireal", dataset=d, variant="multistep") for d in ("digits", "cifar10"))
        assert [phase.name for phase in small.phases] == [phase.name for phase in full.phases]
        assert {(phase.batch_size, phase.augmentation) for phase in small.phases} == {(64, "none")}
        assert [build.phase_method(small, phase) for phase in small.phases] == [
            build.phase_method(full, phase) for phase in full.phases
        ]

    @pytest.mark.parametrize("model", ["cifar_resnet18", "cifar_resnet20", "vgg_small"])
    @pytest.mark.parametrize("method", ["recu", "ovsw"])
    def test_recu_and_ovsw_on_cifar(self, method, model):
        recipe = BY_ID[f"{method}-{model}-cifar10-default"]
        (phase,) = recipe.phases
        assert (phase.epochs, phase.batch_size, phase.learning_rate) == (600, 256, 0.1)
        assert (phase.optimizer, phase.momentum, phase.weight_decay, phase.decay_only) == (
            "sgd",
            0.9,
            5e-4,
            None,
        )
        assert recipe.normalization == {"recu": "imagenet", "ovsw": "cifar"}[method]

    def test_ovsw_hyper_parameters(self):
        cifar = BY_ID["ovsw-cifar_resnet20-cifar10-default"]
        assert build.phase_method(cifar, cifar.phases[0]) == methods.OvSW(delta=0.04, silence_decay=9e-4)
        imagenet = BY_ID["ovsw-resnet18-imagenet2012-default"]
        assert build.phase_method(imagenet, imagenet.phases[0]) == methods.OvSW(
            delta=0.01, silence_decay=2e-5
        )
        assert imagenet.phases[0].decay_only == "kernels"
        assert BY_ID["ovsw-cifar_resnet18-cifar10-default"].model_options == {"shortcut": "conv"}
        assert BY_ID["ovsw-vgg_small-cifar10-default"].model_options == {"last_activation": "prelu"}

    def test_rates_of_recu_and_ovsw(self, golden):
        for name, key in (("recu", "lr_cos_600"), ("ovsw", "lr_600")):
            schedule = build.learning_rate(BY_ID[f"{name}-cifar_resnet20-cifar10-default"].phases[0])
            rates = [schedule(epoch, 600) for epoch in range(600)]
            np.testing.assert_allclose(rates, golden(f"{name}_lr")[key], rtol=1e-5, atol=1e-9, err_msg=name)

    def test_sub_bit_in_two_steps(self):
        recipe = BY_ID["subbit-react_resnet18-imagenet2012-default"]
        first, second = recipe.phases
        assert build.phase_method(recipe, first) == methods.Real("sign")
        assert build.phase_method(recipe, second) == methods.SubBit(bits=5)
        for phase in recipe.phases:
            assert (phase.optimizer, phase.learning_rate, phase.schedule) == ("adam", 1e-3, "linear")
            assert (phase.loss, phase.weight_decay, phase.decay_only) == ("distribution", 1e-5, "kernels")


class TestFind:
    def test_defaults(self):
        for method in methods.METHODS:
            assert recipes.find(method).dataset == "digits"
        assert recipes.find("recu", dataset="cifar10").model == "cifar_resnet20"
        assert recipes.find("recu", dataset="imagenet2012").model == "resnet18"
        assert recipes.find("recu", "resnet34").dataset == "imagenet2012"
        assert recipes.find("recu", "vgg_small").dataset == "cifar10"

    def test_a_stand_in_says_so_and_claims_nothing(self):
        recipe = recipes.find("recu", "cifar_resnet34", "cifar10")
        assert (recipe.model, recipe.dataset) == ("cifar_resnet34", "cifar10")
        assert recipe.note == "no recipe of its own: the settings of recu × cifar_resnet20 × cifar10"
        assert recipe.published_top1 is recipe.published_top5 is None
        assert recipe.phases == recipes.find("recu", "cifar_resnet20", "cifar10").phases

    def test_large_networks_take_the_settings_of_large_ones(self):
        assert recipes.find("ovsw", "bireal_net18", "cifar10").image_size == (224, 224)
        assert recipes.find("ovsw", "cifar_resnet34", "imagenet2012").image_size == (32, 32)

    def test_options_of_another_architecture_do_not_come_along(self):
        recipe = recipes.find("ovsw", "cifar_resnet18", "folder")
        assert recipe.model_options == {"shortcut": "conv"}
        assert recipes.find("ovsw", "cifar_resnet18a", "cifar10").model_options == {}

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("recuu",), "no method called 'recuu'; did you mean 'recu'"),
            (("recu", "resnet81"), "no model called 'resnet81'; did you mean 'resnet18'"),
            (
                ("recu", None, None, "twostage"),
                "no variant of recu's recipes called 'twostage'; did you mean 'two-stage'",
            ),
        ],
    )
    def test_unknown_names(self, arguments, message):
        with pytest.raises(UsageError, match=message):
            recipes.find(*arguments)


TWO = Recipe("ovsw", "tiny", "digits", (Phase("first"), Phase("second", rate_batch_size=256)))


class TestOverride:
    @pytest.mark.parametrize(
        ("key", "value"),
        [("image_size", (64, 48)), ("normalization", "cifar"), ("test_batch_size", 5)],
    )
    def test_fields_of_the_recipe(self, key, value):
        assert getattr(recipes.override(TWO, key, value), key) == value

    def test_a_field_of_all_phases_or_of_one(self):
        assert [p.epochs for p in recipes.override(TWO, "epochs", 3).phases] == [3, 3]
        assert [p.epochs for p in recipes.override(TWO, "second.epochs", 3).phases] == [10, 3]

    def test_nothing_else_changes(self):
        changed = recipes.override(TWO, "second.epochs", 3)
        assert changed.phases[0] is TWO.phases[0]
        assert dataclasses.replace(changed, phases=TWO.phases) == TWO
        assert TWO.phases[1].epochs == 10

    def test_options(self):
        assert recipes.override(TWO, "method.delta", 0.1).method_options == {"delta": 0.1}
        assert recipes.override(TWO, "model.pad_values", 1).model_options == {"pad_values": 1}
        found = recipes.override(TWO, "schedule.warmup", 2)
        assert [p.schedule_options for p in found.phases] == [{"warmup": 2}] * 2
        found = recipes.override(found, "first.schedule.warmup", 3)
        assert [p.schedule_options["warmup"] for p in found.phases] == [3, 2]

    def test_options_of_the_method_reach_phases_with_their_own(self):
        """Otherwise an option would be taken and have no effect."""
        recipe = recipes.override(recipes.find("bireal", variant="multistep"), "method.clip_value", 1.5)
        variants = [build.phase_method(recipe, phase) for phase in recipe.phases]
        assert variants == [
            methods.Real("relu"), methods.Real("leaky_clip"), methods.Real("clip"), methods.BiReal(1.5),
            methods.BiReal(1.5, scaled=False),
        ]  # fmt: skip

    def test_a_learning_rate_is_taken_as_it_is(self):
        found = recipes.override(TWO, "learning_rate", 0.3)
        assert [p.effective_learning_rate for p in found.phases] == [0.3, 0.3]
        scaled = recipes.override(TWO, "batch_size", 64)
        assert [p.effective_learning_rate for p in scaled.phases] == [0.1, 0.025]

    def test_a_teacher_is_learned_from(self):
        found = recipes.override(TWO, "teacher", "runs/teacher")
        assert found.teacher == "runs/teacher"
        assert [p.loss for p in found.phases] == ["distribution"] * 2

    def test_another_schedule_drops_options_that_it_lacks(self):
        linear = recipes.override(TWO, "schedule", "linear")
        linear = recipes.override(recipes.override(linear, "schedule.offset", 0), "schedule.warmup", 2)
        cosine = recipes.override(linear, "schedule", "cosine")
        assert [dict(p.schedule_options) for p in cosine.phases] == [{"warmup": 2}] * 2

    @pytest.mark.parametrize(
        ("key", "value", "expected"),
        [
            ("weight_decay", 0, 0.0),
            ("crop_scale", [1, 1], (1.0, 1.0)),
            ("image_size", [64, 64], (64, 64)),
            ("decay_only", "kernels", "kernels"),
            ("rate_batch_size", None, None),
            ("fresh_variables", ["scale", "tau"], ("scale", "tau")),
            ("binarize_kernels", True, True),
        ],
    )
    def test_values_take_the_field_s_type(self, key, value, expected):
        recipe = recipes.override(TWO, key, value)
        found = getattr(recipe, key) if hasattr(recipe, key) else getattr(recipe.phases[1], key)
        assert found == expected
        assert type(found) is type(expected)

    @pytest.mark.parametrize(
        ("key", "value", "message"),
        [
            ("batch_size", "many", "batch_size must be a whole number, not 'many'"),
            ("batch_size", 1.5, "batch_size must be a whole number, not 1.5"),
            ("batch_size", True, "batch_size must be a whole number, not True"),
            ("batch_size", None, "batch_size must be a whole number, not None"),
            ("learning_rate", "high", "learning_rate must be a number"),
            ("binarize_kernels", 1, "binarize_kernels must be true or false, not 1"),
            ("optimizer", 3, "optimizer must be a name, not 3"),
            ("fresh_variables", "tau", "fresh_variables must be a list, not 'tau'"),
            ("image_size", 64, r"image_size must be like \[32, 32\], not 64"),
            ("image_size", [64], r"image_size must be like \[32, 32\], not \(64,\)"),
            ("image_size", ["a", "b"], "image_size must be a whole number, not 'a'"),
            ("second.epochs", "few", "epochs must be a whole number"),
        ],
    )
    def test_wrong_types(self, key, value, message):
        with pytest.raises(UsageError, match=message):
            recipes.override(TWO, key, value)

    @pytest.mark.parametrize(
        ("key", "nearest"),
        [
            ("bathc_size", "batch_size"),
            ("learningrate", "learning_rate"),
            ("second.epoch", "epochs"),
            ("secnd.epochs", "second.epochs"),
            ("methd.delta", "method.delta"),
            ("image_siz", "image_size"),
        ],
    )
    def test_unknown_keys_have_the_nearest(self, key, nearest):
        with pytest.raises(UsageError, match=f"did you mean '{nearest}'"):
            recipes.override(TWO, key, 1)

    @pytest.mark.parametrize(
        "key", ["name", "phases", "model", "dataset", "method", "published_top1", "", "."]
    )
    def test_what_a_recipe_is_about_stays(self, key):
        with pytest.raises(UsageError, match="there is no setting called"):
            recipes.override(TWO, key, "x")


class TestPublishedAccuracy:
    """The paper's number stays with the paper's method and network."""

    RECIPE = BY_ID["subbit-react_resnet18-imagenet2012-default"]

    @pytest.mark.parametrize(("key", "value"), [("method.bits", 4), ("model.pad_values", 1.0)])
    def test_goes_with_another(self, key, value):
        changed = recipes.override(self.RECIPE, key, value)
        assert changed.published_top1 is changed.published_top5 is None

    @pytest.mark.parametrize(("key", "value"), [("method.bits", 5), ("batch_size", 256)])
    def test_stays_otherwise(self, key, value):
        assert recipes.override(self.RECIPE, key, value).published_top1 == 62.1


class TestEpochs:
    def test_one_for_all_or_one_each(self):
        assert [p.epochs for p in recipes.with_epochs(TWO, [4]).phases] == [4, 4]
        assert [p.epochs for p in recipes.with_epochs(TWO, [4, 5]).phases] == [4, 5]
        assert recipes.with_epochs(TWO, [4, 5]).epochs == 9

    @pytest.mark.parametrize("epochs", [[1, 2, 3], [0], [-1, 2], []])
    def test_wrong_numbers(self, epochs):
        with pytest.raises(UsageError, match=r"one for each phase \(first, second\)"):
            recipes.with_epochs(TWO, epochs)
