"""Recipes are complete, say what the papers say, and can be changed field by field."""

import dataclasses
import json

import numpy as np
import pytest

import zoo
from bnn_tf import data, methods, schedules
from bnn_tf._tensorflow import tf
from bnn_tf.errors import UsageError, UserError
from bnn_tf.training import build_network, require_complete, transfer
from bnn_tf.transforms import WeightDecay
from zoo import recipes
from zoo.recipes import RECIPES, SGD, Adam, CrossEntropy, Distribution, Phase, Recipe

IDS = [f"{r.method.name}-{r.model}-{r.dataset}-{r.variant}" for r in RECIPES]
BY_ID = dict(zip(IDS, RECIPES, strict=True))


def test_each_combination_once():
    assert len(set(IDS)) == len(IDS)


@pytest.mark.parametrize("recipe", RECIPES, ids=IDS)
class TestEvery:
    def test_survives_json(self, recipe):
        assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe

    def test_names_exist(self, recipe):
        assert recipe.model in zoo.list_models()
        assert recipe.dataset in data.list_datasets()

    def test_rates(self, recipe):
        for phase in recipe.phases:
            rates = [phase.rate(epoch) for epoch in range(phase.epochs)]
            base = phase.optimizer.rate(phase.batch_size)
            assert max(rates) == pytest.approx(base, rel=1.01 / phase.epochs)
            assert min(rates) >= 0

    def test_is_found(self, recipe):
        assert recipes.find(recipe.method.name, recipe.model, recipe.dataset, recipe.variant) is recipe

    def test_says_where_it_comes_from(self, recipe):
        assert recipe.note
        if recipe.note.startswith(("not from the paper", "from no paper")):
            assert recipe.published_top1 is None


def quick(recipe):
    """The recipe for the tiny network."""
    images = dataclasses.replace(recipe.images, size=8)
    return dataclasses.replace(recipe, model="tiny", images=images, model_options={})


def step(recipe, phase, rng):
    """One training step of a phase on random images, at a size that is quick."""
    network = build_network(quick(recipe), 10, phase)
    optimizer = phase.optimizer.build(recipe.method_of(phase), phase.batch_size, phase.epochs)
    network.compile(optimizer, loss=phase.loss.build(), run_eagerly=True)
    before = network.get_weights()
    loss = network.train_on_batch(rng.normal(size=(4, 8, 8, 3)).astype("f"), rng.integers(0, 10, 4))
    return loss, before, network.get_weights()


DIGITS = [recipe for recipe in RECIPES if recipe.dataset == "digits" and recipe.variant == "default"]


@pytest.mark.parametrize("recipe", DIGITS, ids=lambda r: r.method.name)
def test_a_step_of_each_method(recipe, tiny, rng):
    """The optimizer, its transforms, the loss and the network fit together in every phase."""
    for phase in recipe.phases:
        loss, before, after = step(recipe, phase, rng)
        assert np.isfinite(loss)
        changed = [not np.array_equal(a, b) for a, b in zip(before, after, strict=True)]
        assert all(np.isfinite(weights).all() for weights in after)
        assert sum(changed) >= 8


STEPS = {name: recipe for name, recipe in BY_ID.items() if len(recipe.phases) > 1}


@pytest.mark.sample(12)
@pytest.mark.parametrize("recipe", STEPS.values(), ids=STEPS)
def test_phases_fit_together(recipe, tiny):
    networks = [build_network(quick(recipe), 10, phase) for phase in recipe.phases]
    for phase, previous, network in zip(recipe.phases[1:], networks, networks[1:], strict=False):
        require_complete(transfer(previous, network), phase.fresh_variables)


def test_each_method_has_digits():
    assert {recipe.method.name for recipe in DIGITS} == set(methods.METHODS.names())


def decayed(recipe, phase):
    """Names of the variables that decay in a phase, in the recipe's own network."""
    network = build_network(recipe, 10, phase)
    optimizer = phase.optimizer.build(recipe.method_of(phase), phase.batch_size, phase.epochs)
    decay = optimizer.transforms[-1]
    pairs = [(tf.zeros(v.shape), v) for v in network.trainable_variables]
    ones = [tf.Variable(tf.ones(v.shape)) for v in network.trainable_variables]
    for variable, one in zip(network.trainable_variables, ones, strict=True):
        getattr(variable, "latent_variable", variable).assign(one)
    return {v.name.split(":")[0] for g, v in decay(pairs) if np.any(np.asarray(g) != 0)}


class TestPapers:
    """Figures of the papers that no formula checks."""

    @pytest.mark.parametrize(
        ("name", "top1", "top5"),
        [
            ("bireal-bireal_net18-imagenet2012-default", 0.564, 0.795),
            ("bireal-bireal_net34-imagenet2012-default", 0.622, 0.839),
            ("bireal-bireal_net50-imagenet2012-default", 0.626, 0.839),
            ("bireal-bireal_net18-imagenet2012-multistep", 0.564, 0.795),
            ("bireal-bireal_net34-imagenet2012-multistep", 0.622, 0.839),
            ("recu-cifar_resnet18-cifar10-default", 0.928, None),
            ("recu-cifar_resnet20-cifar10-default", 0.875, None),
            ("recu-vgg_small-cifar10-default", 0.922, None),
            ("recu-resnet18-imagenet2012-default", 0.6098, 0.8257),
            ("recu-resnet34-imagenet2012-default", 0.651, 0.8578),
            ("subbit-react_resnet18-imagenet2012-default", 0.621, 0.838),
        ],
    )
    def test_published(self, name, top1, top5):
        assert (BY_ID[name].published_top1, BY_ID[name].published_top5) == (top1, top5)

    def test_bireal_from_scratch(self):
        recipe = BY_ID["bireal-bireal_net18-imagenet2012-default"]
        (phase,) = recipe.phases
        assert (phase.epochs, phase.batch_size) == (256, 512)
        assert phase.optimizer == Adam(learning_rate=1e-3, rate_batch_size=512)
        assert phase.loss == CrossEntropy(label_smoothing=0.1)
        assert recipe.images.training[-1] == data.Lighting(0.1)
        fifty = BY_ID["bireal-bireal_net50-imagenet2012-default"].phases[0]
        assert (fifty.optimizer.learning_rate, fifty.batch_size) == (5e-4, 256)

    def test_bireal_rates(self, golden):
        phase = BY_ID["bireal-bireal_net18-imagenet2012-default"].phases[0]
        arrays = golden("bireal_lr")
        expected = next(arrays[key] for key in arrays.files if arrays[key].shape == (256,))
        np.testing.assert_allclose([phase.rate(e) for e in range(256)], expected, rtol=1e-5, atol=1e-9)

    @pytest.mark.parametrize(
        ("model", "binarize"),
        [("bireal_net18", (20, 128, 0.01, (10, 15))), ("bireal_net34", (40, 1024, 0.08, (20, 30)))],
    )
    def test_bireal_multistep(self, model, binarize):
        recipe = BY_ID[f"bireal-{model}-imagenet2012-multistep"]
        names = ["relu", "leaky_clip", "clip", "binarize", "batch_norm"]
        assert [phase.name for phase in recipe.phases] == names
        assert recipe.images.training == (data.ResizeCrop(), data.Flip())
        fourth, last = recipe.phases[3:]
        rates = [fourth.rate(e) for e in range(fourth.epochs)]
        drops = tuple(e for e in range(1, fourth.epochs) if rates[e] < rates[e - 1])
        assert (fourth.epochs, fourth.batch_size, rates[0], drops) == binarize
        assert rates[-1] == pytest.approx(rates[0] / 100)
        assert fourth.optimizer == SGD(learning_rate=rates[0], momentum=0.9)
        assert recipe.method_of(fourth) == methods.BiReal(clip_value=None)
        assert (last.epochs, last.binarize_kernels, last.trainable) == (1, True, "batch_norm")
        assert recipe.method_of(last) == methods.BiReal(clip_value=None, scaled=False)

    def test_multistep_on_digits_is_the_same_five_steps_in_small(self):
        small, full = (recipes.find("bireal", dataset=d, variant="multistep") for d in ("digits", "cifar10"))
        assert [(p.name, p.method) for p in small.phases] == [(p.name, p.method) for p in full.phases]
        assert {phase.batch_size for phase in small.phases} == {64}
        assert small.images.training == ()

    @pytest.mark.parametrize("model", ["cifar_resnet18", "cifar_resnet20", "vgg_small"])
    @pytest.mark.parametrize("method", ["recu", "ovsw"])
    def test_recu_and_ovsw_on_cifar(self, method, model):
        recipe = BY_ID[f"{method}-{model}-cifar10-default"]
        (phase,) = recipe.phases
        assert (phase.epochs, phase.batch_size) == (600, 256)
        assert phase.optimizer == SGD(learning_rate=0.1, momentum=0.9, weight_decay=5e-4)
        mean = data.NORMALIZATIONS[{"recu": "imagenet", "ovsw": "cifar"}[method]][0]
        assert recipe.images.mean == mean

    def test_ovsw_hyper_parameters(self):
        cifar = BY_ID["ovsw-cifar_resnet20-cifar10-default"]
        assert cifar.method == methods.OvSW(delta=0.04, silence_decay=9e-4)
        imagenet = BY_ID["ovsw-resnet18-imagenet2012-default"]
        assert imagenet.method == methods.OvSW(delta=0.01, silence_decay=2e-5)
        assert imagenet.phases[0].optimizer.decay_only == "kernels"
        assert imagenet.images.training[0] == data.RandomResizedCrop((0.08, 1.25))
        assert BY_ID["ovsw-cifar_resnet18-cifar10-default"].model_options == {"shortcut": "conv"}
        assert BY_ID["ovsw-vgg_small-cifar10-default"].model_options == {"last_activation": "prelu"}

    def test_rates_of_recu_and_ovsw(self, golden):
        for name, key in (("recu", "lr_cos_600"), ("ovsw", "lr_600")):
            phase = BY_ID[f"{name}-cifar_resnet20-cifar10-default"].phases[0]
            rates = [phase.rate(epoch) for epoch in range(600)]
            np.testing.assert_allclose(rates, golden(f"{name}_lr")[key], rtol=1e-5, atol=1e-9, err_msg=name)

    def test_ovsw_s_rates_follow_the_warm_up(self):
        recipe = recipes.override(recipes.find("ovsw", dataset="cifar10"), "schedule.warmup", 1)
        rates = [recipes.with_epochs(recipe, [6]).phases[0].rate(epoch) for epoch in range(6)]
        assert all(later <= earlier + 1e-5 for earlier, later in zip(rates, rates[1:], strict=False))

    def test_sub_bit_in_two_steps(self):
        recipe = BY_ID["subbit-react_resnet18-imagenet2012-default"]
        first, second = recipe.phases
        assert recipe.method_of(first) == methods.Real("sign", start="pytorch")
        assert recipe.method_of(second) == methods.SubBit(bits=5)
        assert first.optimizer == second.optimizer
        assert (first.optimizer.learning_rate, first.optimizer.weight_decay) == (1e-3, 1e-5)
        assert first.loss == second.loss == Distribution()
        assert "corrected the weight decay of the second step to 0" in recipe.note

    def test_sub_bit_decays_kernels_biases_and_patterns_but_not_the_classifier(self):
        recipe = recipes.override(BY_ID["subbit-react_resnet18-imagenet2012-default"], "size", 32)
        names = decayed(recipe, recipe.phases[1])
        kinds = {name.split("/")[-1] for name in names}
        assert kinds == {"kernel", "bias", "codebook"}
        assert not any(name.startswith("logits") or "_bn/" in name or "prelu" in name for name in names)
        assert "stage2_block1_shortcut_conv/kernel" in names

    def test_recu_on_imagenet_decays_what_the_authors_call_conv_or_fc(self):
        recipe = recipes.override(BY_ID["recu-resnet18-imagenet2012-default"], "size", 32)
        names = decayed(recipe, recipe.phases[0])
        assert {"stem_conv/kernel", "logits/kernel", "logits/bias"} < names
        assert {name.split("/")[-1] for name in names} == {"kernel", "scale", "bias"}
        assert not any("shortcut" in name or "_bn/" in name for name in names)


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
        assert recipe.note == (
            "there is no recipe for this combination; "
            "these are the settings of recu × cifar_resnet20 × cifar10"
        )
        assert recipe.published_top1 is recipe.published_top5 is None
        assert recipe.phases == recipes.find("recu", "cifar_resnet20", "cifar10").phases

    def test_large_networks_take_the_settings_of_large_ones(self):
        assert recipes.find("ovsw", "bireal_net18", "cifar10").images.size == (224, 224)
        assert recipes.find("ovsw", "cifar_resnet34", "imagenet2012").images.size == (32, 32)

    def test_options_of_another_architecture_do_not_come_along(self):
        recipe = recipes.find("ovsw", "cifar_resnet18", "folder")
        assert recipe.model_options == {"shortcut": "conv"}
        assert recipes.find("ovsw", "cifar_resnet18a", "cifar10").model_options == {}

    def test_a_value_keeps_its_options(self):
        recipe = recipes.find(methods.OvSW(delta=0.5), dataset="cifar10")
        assert recipe.method.delta == 0.5
        recu = recipes.find(methods.ReCU(tau_min=0.7), dataset="cifar10")
        assert recu.published_top1 is None

    def test_a_method_without_recipes_gets_a_general_one(self):
        class Foreign(methods.Method):
            name = "foreign"
            input_quantizer = methods.BiReal.input_quantizer
            kernel_quantizer = methods.BiReal.kernel_quantizer

        small = recipes.find(Foreign())
        assert (small.method, small.model, small.dataset) == (Foreign(), "cifar_resnet20", "digits")
        large = recipes.find(Foreign(), "bireal_net18")
        assert (large.model, large.dataset, large.images.size) == ("bireal_net18", "imagenet2012", (224, 224))
        middle = recipes.find(Foreign(), "vgg_small")
        assert (middle.dataset, middle.images.size) == ("cifar10", (32, 32))
        assert "without a recipe of its own" in large.note

    def test_a_method_that_derives_from_another_has_its_recipes(self):
        @dataclasses.dataclass(frozen=True)
        class Silent(methods.OvSW):
            silence_decay: float = 1e-3
            name = "silent"

        class Quieter(Silent):
            name = "quieter"

        paper = recipes.find("ovsw", "resnet18")
        with methods.METHODS.temporary({"silent": Silent, "quieter": Quieter}):
            recipe = recipes.find("silent", "resnet18")
            assert (recipe.phases, recipe.images) == (paper.phases, paper.images)
            assert recipe.method == Silent(delta=0.01, silence_decay=1e-3)  # its own default stays
            assert recipe.note == f"silent has no recipes; of ovsw, from which it derives: {paper.note}"
            value = recipes.find(Silent(delta=0.5), "resnet18")
            assert (value.phases, value.method) == (paper.phases, Silent(delta=0.5))
            assert recipes.variants("quieter") == recipes.variants("ovsw")
            own = recipes.for_own_images(recipes.find("quieter", "cifar_resnet20", "folder"))
            assert (own.variant, type(own.method)) == ("fast", Quieter)

        class Mine(methods.ReCU):
            name = "mine"

        mine = recipes.find(Mine(), "cifar_resnet20", "cifar10")
        assert mine.published_top1 is None
        assert mine.phases == recipes.find("recu", "cifar_resnet20", "cifar10").phases

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


PHASES = (Phase("first"), Phase("second", optimizer=SGD(rate_batch_size=256)))
TWO = Recipe(methods.OvSW(), "tiny", "digits", PHASES)


class TestOverride:
    def test_fields_of_the_recipe(self):
        assert recipes.override(TWO, "image_size", (64, 48)).images.size == (64, 48)
        assert recipes.override(TWO, "images.size", 64).images.size == (64, 64)
        mean = recipes.override(TWO, "normalization", "cifar").images.mean
        assert mean == data.NORMALIZATIONS["cifar"][0]
        assert recipes.override(TWO, "test_batch_size", 5).test_batch_size == 5

    def test_model_options(self):
        recipe = recipes.find("ovsw")
        assert recipes.override(recipe, "model.pad_values", 1).model_options == {"pad_values": 1}
        for name in ("pad_value", "include_top", "weights", "method"):
            with pytest.raises(UsageError, match=f"no option of model cifar_resnet20 called '{name}'"):
                recipes.override(recipe, f"model.{name}", False)

    def test_image_operations(self):
        recipe = recipes.override(TWO, "training", [{"name": "pad_crop", "padding": 2}, {"name": "flip"}])
        assert recipe.images.training == (data.PadCrop(2), data.Flip())
        recipe = recipes.override(recipe, "images.training.pad_crop.padding", 3)
        assert recipe.images.training == (data.PadCrop(3), data.Flip())

    def test_a_field_of_all_phases_or_of_one(self):
        assert [p.epochs for p in recipes.override(TWO, "epochs", 3).phases] == [3, 3]
        assert [p.epochs for p in recipes.override(TWO, "second.epochs", 3).phases] == [10, 3]

    def test_nothing_else_changes(self):
        changed = recipes.override(TWO, "second.epochs", 3)
        assert changed.phases[0] is TWO.phases[0]
        assert dataclasses.replace(changed, phases=TWO.phases) == TWO
        assert TWO.phases[1].epochs == 10

    def test_options(self):
        assert recipes.override(TWO, "method.delta", 0.1).method == methods.OvSW(delta=0.1)
        recipe = recipes.find("ovsw")
        assert recipes.override(recipe, "model.pad_values", 1).model_options == {"pad_values": 1}
        recipe = recipes.override(TWO, "schedule.warmup", 2)
        assert [p.schedule.warmup for p in recipe.phases] == [2, 2]
        recipe = recipes.override(recipe, "first.schedule.warmup", 3)
        assert [p.schedule.warmup for p in recipe.phases] == [3, 2]
        recipe = recipes.override(TWO, "second.momentum", 0.5)
        assert [p.optimizer.momentum for p in recipe.phases] == [0.9, 0.5]
        recipe = recipes.override(TWO, "label_smoothing", 0.1)
        assert [p.loss.label_smoothing for p in recipe.phases] == [0.1, 0.1]

    def test_options_of_the_method_reach_phases_with_their_own(self):
        """Otherwise an option would be taken and have no effect."""
        recipe = recipes.override(recipes.find("bireal", variant="multistep"), "method.clip_value", 1.5)
        real = [methods.Real(name, start="pytorch") for name in ("relu", "leaky_clip", "clip")]
        assert [recipe.method_of(phase) for phase in recipe.phases] == [
            *real, methods.BiReal(1.5), methods.BiReal(1.5, scaled=False),
        ]  # fmt: skip

    def test_a_learning_rate_is_taken_as_it_is(self):
        recipe = recipes.override(TWO, "learning_rate", 0.3)
        assert [p.optimizer.rate(p.batch_size) for p in recipe.phases] == [0.3, 0.3]
        scaled = recipes.override(TWO, "batch_size", 64)
        assert [p.optimizer.rate(p.batch_size) for p in scaled.phases] == [0.1, 0.025]

    def test_decay_suits_the_length_until_it_is_set(self):
        fast = recipes.find("recu", dataset="cifar10", variant="fast")
        decays = {}
        for epochs in (10, 30, 60, 100):
            (phase,) = recipes.with_epochs(fast, [epochs]).phases
            optimizer = phase.optimizer.build(fast.method, phase.batch_size, phase.epochs)
            (decays[epochs],) = (t.rate for t in optimizer.transforms if isinstance(t, WeightDecay))
        assert decays == pytest.approx({10: 2e-3, 30: 6.667e-4, 60: 5e-4, 100: 5e-4}, rel=1e-3)
        (phase,) = recipes.override(fast, "weight_decay", 1e-4).phases
        assert phase.optimizer.decay(10) == 1e-4

    def test_a_teacher_is_learned_from(self):
        recipe = recipes.override(TWO, "teacher", "runs/teacher")
        assert recipe.teacher == "runs/teacher"
        assert [p.loss for p in recipe.phases] == [Distribution()] * 2

    def test_names_of_values_keep_the_fields_that_both_have(self):
        linear = recipes.override(recipes.override(TWO, "schedule.warmup", 2), "schedule", "linear")
        assert [p.schedule for p in linear.phases] == [schedules.Linear(warmup=2)] * 2
        adam = recipes.override(TWO, "optimizer", "adam")
        assert adam.phases[1].optimizer == Adam(learning_rate=0.1, rate_batch_size=256)
        plain = recipes.override(TWO, "schedule", {"name": "constant", "warmup": 1})
        assert plain.phases[0].schedule == schedules.Constant(warmup=1)

    @pytest.mark.parametrize(
        ("key", "value", "message"),
        [
            ("batch_size", "many", "batch_size must be a whole number at least 1, not 'many'"),
            ("batch_size", 1.5, "batch_size must be a whole number at least 1, not 1.5"),
            ("batch_size", True, "batch_size must be a whole number at least 1, not True"),
            ("batch_size", 0, "batch_size must be"),
            ("test_batch_size", 0, "test_batch_size must be"),
            ("rate_batch_size", "many", "rate_batch_size must be"),
            ("epochs", -1, "epochs must be"),
            ("epochs", 10**12, "epochs must be a whole number at least 1 and at most 1000000"),
            ("batch_size", 10**30, "batch_size must be"),
            ("batch_size", 10**400, "batch_size must be"),
            ("learning_rate", 1e39, "learning_rate must be"),  # infinite as a float32
            ("learning_rate", "high", "learning_rate must be a number"),
            ("learning_rate", -0.1, "learning_rate must be a number above 0"),
            ("learning_rate", float("nan"), "learning_rate must be a number above 0, not nan"),
            ("learning_rate", float("inf"), "learning_rate must be a number above 0, not inf"),
            ("momentum", 1.0, "momentum must be"),
            ("weight_decay", -1.0, "weight_decay must be"),
            ("label_smoothing", 1.0, "label_smoothing must be"),
            ("clip_norm", 0, "clip_norm must be"),
            ("ema", 1.5, "ema must be"),
            ("binarize_kernels", 1, "binarize_kernels must be true or false, not 1"),
            ("trainable", "batchnorm", "trainable must be all or batch_norm, not 'batchnorm'"),
            ("fresh_variables", "tau", "fresh_variables must be a list"),
            ("optimizer", "adm", "no optimizer called 'adm'; did you mean 'adam'"),
            ("optimizer", 3, "optimizer must be"),
            ("schedule", "cosin", "no schedule called 'cosin'; did you mean 'cosine'"),
            ("schedule.warmup", "five", "warmup must be"),
            ("schedule.warmup", -1, "warmup must be"),
            ("loss", "foo", "no loss called 'foo'"),
            ("normalization", "imagnet", "no normalization called 'imagnet'; did you mean 'imagenet'"),
            ("image_size", ["a", "b"], "size must be"),
            ("method.clipvalue", 2, "no option of ovsw called 'clipvalue'"),
            ("method.delta", float("nan"), "delta must be"),
            ("second.epochs", "few", "epochs must be a whole number"),
        ],
    )
    def test_wrong_values(self, key, value, message):
        with pytest.raises(UsageError, match=message):
            recipes.override(TWO, key, value)

    @pytest.mark.parametrize(
        ("key", "nearest"),
        [
            ("bathc_size", "batch_size"),
            ("learningrate", "learning_rate"),
            ("lr", "learning_rate"),
            ("second.epoch", "second.epochs"),
            ("secnd.epochs", "second.epochs"),
            ("methd.delta", "method.delta"),
            ("image_siz", "image_size"),
            ("schedule.warmpu", "schedule.warmup"),
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


class TestConstruction:
    """Nonsense is refused where it is said."""

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"phases": ()}, "phases must not be empty"),
            ({"phases": (Phase("a"), Phase("a"))}, "two phases have the same name"),
            ({"phases": (Phase("epochs"),)}, "cannot be called 'epochs'"),
            ({"method": 3}, "method must be"),
            ({"method": "recuu"}, "no method called"),
            ({"published_top1": float("nan")}, "published_top1 must be"),
            ({"published_top5": -1}, "published_top5 must be a number at least 0 and at most 1, or none"),
        ],
    )
    def test_recipes(self, changes, message):
        with pytest.raises(UsageError, match=message):
            dataclasses.replace(TWO, **changes)

    def test_older_files_have_percents(self):
        recipe = recipes.find("recu", "resnet18", "imagenet2012")
        percents = {**recipe.to_dict(), "published_top1": 60.98, "published_top5": 82.57}
        assert recipes.Recipe.from_dict(percents) == recipe
        assert recipes.Recipe.from_dict({**percents, "published_top1": 62}).published_top1 == 0.62

    def test_names_become_values(self):
        recipe = Recipe("recu", "tiny", "digits", ({"name": "one", "optimizer": {"name": "adam"}},))
        assert recipe.method == methods.ReCU()
        assert recipe.phases == (Phase("one", optimizer=Adam()),)

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({}, "recipe"),
            ([], "must be an object"),
            ({**TWO.to_dict(), "colour": 1}, "no entry of a recipe called 'colour'"),
            ({**TWO.to_dict(), "phases": 3}, "recipe"),
            ({**TWO.to_dict(), "phases": [3]}, "phases"),
            ({**TWO.to_dict(), "phases": [{"epochs": "x"}]}, "phase train: epochs must be"),
            ({**TWO.to_dict(), "images": {"size": 0}}, "size must be"),
            ({**TWO.to_dict(), "method": {"delta": 1}}, "needs a 'name'"),
        ],
    )
    def test_damaged_dictionaries(self, values, message):
        with pytest.raises(UserError, match=message):
            Recipe.from_dict(values)


class TestPublishedAccuracy:
    """The paper's number stays with the paper's method and network."""

    RECIPE = BY_ID["subbit-react_resnet18-imagenet2012-default"]

    @pytest.mark.parametrize(("key", "value"), [("method.bits", 4), ("model.pad_values", 1.0)])
    def test_goes_with_another(self, key, value):
        changed = recipes.override(self.RECIPE, key, value)
        assert changed.published_top1 is changed.published_top5 is None

    @pytest.mark.parametrize(("key", "value"), [("method.bits", 5), ("batch_size", 256)])
    def test_stays_otherwise(self, key, value):
        assert recipes.override(self.RECIPE, key, value).published_top1 == 0.621


class TestEpochs:
    def test_one_for_all_or_one_each(self):
        assert [p.epochs for p in recipes.with_epochs(TWO, [4]).phases] == [4, 4]
        assert [p.epochs for p in recipes.with_epochs(TWO, [4, 5]).phases] == [4, 5]
        assert recipes.with_epochs(TWO, [4, 5]).epochs == 9

    @pytest.mark.parametrize(
        ("epochs", "shares"), [(10, [2, 8]), (30, [6, 24]), (2, [1, 1]), (1, [1, 1]), (3, [1, 2])]
    )
    def test_phases_of_fast_recipes_share_one_number(self, epochs, shares):
        fast = recipes.find("subbit", dataset="cifar10", variant="fast")
        for recipe in (recipes.with_epochs(fast, [epochs]), recipes.override(fast, "epochs", epochs)):
            assert [phase.epochs for phase in recipe.phases] == shares
        assert [phase.epochs for phase in recipes.with_epochs(fast, [3, 4]).phases] == [3, 4]
        with pytest.raises(UsageError, match="one positive number"):
            recipes.with_epochs(fast, [0])

    @pytest.mark.parametrize("epochs", [[1, 2, 3], [0], [-1, 2], []])
    def test_wrong_numbers(self, epochs):
        with pytest.raises(UsageError, match=r"one for each phase \(first, second\)"):
            recipes.with_epochs(TWO, epochs)


def test_a_clipped_network_comes_first():
    """A fifth of the epochs with real weights, then `fast`; both phases decay as their length wants."""
    fast, recipe = (recipes.find("ovsw", "cifar_resnet20", "cifar10", v) for v in ("fast", "clip-first"))
    clip, train = recipes.with_epochs(recipe, [10]).phases
    assert (clip.epochs, train.epochs) == (2, 8)
    assert (recipe.method_of(clip), recipe.method_of(train)) == (methods.Real("clip"), fast.method)
    assert dataclasses.replace(train, epochs=30) == fast.phases[0]
    assert (clip.optimizer.decay(clip.epochs), train.optimizer.decay(train.epochs)) == (0.01, 0.0025)


@pytest.mark.parametrize("method", ["bireal", "recu", "subbit", "ovsw", "real"])
def test_fast_recipes_measure_statistics_at_the_end(method):
    fast, paper = (recipes.find(method, "cifar_resnet20", "cifar10", v) for v in ("fast", "default"))
    assert [phase.statistics_batches for phase in fast.phases] == [50] * len(fast.phases)
    assert {phase.statistics_batches for phase in paper.phases} == {0}


class TestAugmentationsByBudget:
    @pytest.mark.parametrize(
        ("epochs", "kinds"),
        [(10, [data.Flip]), (29, [data.Flip]), (30, [data.PadCrop, data.Flip])],
    )
    def test_short_trainings_leave_out_crops(self, epochs, kinds):
        recipe = recipes.with_epochs(recipes.find("ovsw", dataset="cifar10", variant="fast"), [epochs])
        (phase,) = recipe.phases
        assert [type(operation) for operation in recipe.images_of(phase).training] == kinds

    def test_the_epochs_of_all_phases_count(self):
        recipe = recipes.find("subbit", dataset="cifar10", variant="fast")
        assert [phase.epochs for phase in recipe.phases] == [6, 24]
        assert all(len(recipe.images_of(phase).training) == 2 for phase in recipe.phases)

    def test_crops_that_are_asked_for_are_made(self):
        recipe = recipes.with_epochs(recipes.find("ovsw", dataset="cifar10", variant="fast"), [1])
        recipe = recipes.override(recipe, "images.training", ["pad_crop"])
        assert recipe.images_of(recipe.phases[0]).training == (data.PadCrop(),)

    def test_the_paper_s_recipe_always_crops(self):
        recipe = recipes.with_epochs(recipes.find("ovsw", dataset="cifar10"), [1])
        assert recipe.images_of(recipe.phases[0]) == recipe.images


class TestOwnPictures:
    def test_few_images_get_smaller_batches_and_fewer_epochs(self):
        recipe = recipes.for_few_images(recipes.find("recu", dataset="folder"), 144, side=60)
        (phase,) = recipe.phases
        assert (phase.batch_size, phase.epochs, recipe.images.size) == (16, 60, (32, 32))
        assert phase.optimizer.rate(16) == pytest.approx(0.1 * (16 / 256) ** 0.5)

    def test_large_pictures_are_seen_larger(self):
        recipe = recipes.for_few_images(recipes.find("recu", dataset="folder"), 5000, side=100)
        assert recipe.images.size == (64, 64)

    def test_phases_share_the_epochs(self):
        recipe = recipes.for_few_images(recipes.find("subbit", dataset="folder"), 144)
        assert [phase.epochs for phase in recipe.phases] == [30, 30]

    def test_many_images_keep_the_recipe(self):
        recipe = recipes.find("recu", dataset="folder")
        assert recipes.for_few_images(recipe, 50_000) == recipe

    def test_grey(self):
        recipe = recipes.override(recipes.find("bireal", "bireal_net18"), "channels", 1)
        assert recipe.images.input_shape == (224, 224, 1)

    def test_one_epoch_trains(self):
        (phase,) = recipes.with_epochs(recipes.find("bireal", "bireal_net18"), [1]).phases
        assert phase.rate(0) == pytest.approx(1e-3)
