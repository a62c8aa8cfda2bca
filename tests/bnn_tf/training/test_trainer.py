"""Training in phases: stopping anywhere and resuming changes nothing."""

import csv
import dataclasses
import json
import re
import shutil
import signal

import numpy as np
import pytest

import bnn_tf
import zoo
from bnn_tf import data, methods, observe
from bnn_tf._tensorflow import tf
from bnn_tf.errors import UsageError, UserError
from bnn_tf.schedules import Constant, Cosine, Linear, MultiStep
from bnn_tf.training import Position, Run, StoppedError, evaluate, set_seeds, strategies, train, trainer
from zoo.recipes import SGD, Adam, CrossEntropy, Distribution, Phase


def rows(run):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in run.metrics()]


def records(run):
    """What was written about the kernels, without what is unknown after a resume: the flips of its epoch."""
    return [
        {key: value for key, value in record.items() if key != "epoch_flips"}
        for record in observe.read(run.path / "diagnostics.jsonl")
    ]


def checkpoint(run, phase):
    """All tensors of the last checkpoint of a phase: weights, optimizer, its step, method state."""
    saved = [one for one in run.checkpoints.all() if one.phase == phase][-1]
    reader = tf.train.load_checkpoint(saved.prefix)
    names = [n for n in reader.get_variable_to_shape_map() if n.endswith("VARIABLE_VALUE")]
    # Keras numbers the quantizers of a process; the number is in their variables' names.
    return {re.sub(r"_\d+\.S", ".S", n): reader.get_tensor(n) for n in names if "save_counter" not in n}


def assert_same_run(actual, expected):
    assert rows(actual) == rows(expected)
    assert records(actual) == records(expected)
    for phase in range(len(expected.config.recipe.phases)):
        result, wanted = checkpoint(actual, phase), checkpoint(expected, phase)
        assert result.keys() == wanted.keys()
        for name, value in wanted.items():
            np.testing.assert_array_equal(result[name], value, err_msg=name)
    for result, wanted in zip(
        actual.load_network().get_weights(), expected.load_network().get_weights(), strict=True
    ):
        np.testing.assert_array_equal(result, wanted)


MID_EPOCH = {
    "subbit": {"optimizer": Adam(learning_rate=1e-2), "schedule": Linear(), "statistics_batches": 2},
    "recu": {"optimizer": SGD(learning_rate=0.05, weight_decay=1e-3), "schedule": Cosine(warmup=2)},
    "ovsw": {},
    "bireal": {"ema": 0.9, "statistics_batches": 1},
}


def test_seeds_decide_whatever_seeds_keras_had_before():
    drawn = []
    for earlier in (1, 2):
        tf.keras.utils.set_random_seed(earlier)
        set_seeds(5)
        drawn.append(tf.keras.initializers.GlorotUniform()((3, 3)).numpy())
    np.testing.assert_array_equal(*drawn)


@pytest.mark.sample(1)
@pytest.mark.parametrize("step", [0, 1, -1], ids=["first step", "second step", "evaluation"])
@pytest.mark.parametrize("method", MID_EPOCH)
def test_stopped_by_a_signal_and_resumed(method, step, recipe, new_run, session, send, reference):
    """Running means, telemetry, codebooks, trackers and averages go on where they were."""
    argument = recipe(method, **MID_EPOCH[method])
    run = new_run(argument, deterministic=True)
    send("train", 1, step, signal.SIGTERM)
    with pytest.raises(
        StoppedError, match=r"stopped \(SIGTERM\) in epoch 2 of ., after step . of 3"
    ) as stopped:
        train(run, session)
    assert stopped.value.exit_code == 143
    assert run.position() == Position(0, 1, 3 if step == -1 else step + 1)
    assert [row["epoch"] for row in run.metrics()] == ["1"]
    train(Run.open(run.path), session)
    assert_same_run(run, reference(argument))
    assert [row["epoch"] for row in run.metrics()] == ["1", "2"]


@pytest.mark.slow
def test_a_killed_epoch_is_trained_again(recipe, new_run, session, interrupt, reference):
    argument = recipe("subbit", **MID_EPOCH["subbit"])
    run = new_run(argument, deterministic=True)
    interrupt("train", 1, 1)
    with pytest.raises(KeyboardInterrupt):
        train(run, session)
    assert run.position() == Position(0, 1)
    train(Run.open(run.path), session)
    assert_same_run(run, reference(argument))


REAL = methods.Real("relu")
PHASES = (
    Phase("relu", 2, 16, optimizer=SGD(learning_rate=0.05), schedule=Constant(), method=REAL),
    Phase("binarize", 2, 16, optimizer=SGD(learning_rate=0.02), schedule=MultiStep(milestones=(1,))),
    Phase(
        "norm",
        2,
        20,
        optimizer=SGD(learning_rate=0.02),
        method=methods.BiReal(scaled=False),
        binarize_kernels=True,
        trainable="batch_norm",
    ),
)


@pytest.fixture
def uninterrupted(recipe, reference):
    return reference(recipe(phases=PHASES))


@pytest.mark.slow
def test_a_run_of_several_phases_resumes_in_the_second(recipe, new_run, session, send, uninterrupted):
    run = new_run(recipe(phases=PHASES), deterministic=True)
    send("binarize", 1, 1, signal.SIGINT)
    with pytest.raises(StoppedError, match="phase binarize") as stopped:
        train(run, session)
    assert stopped.value.exit_code == 130
    assert run.position() == Position(1, 1, 2)
    train(Run.open(run.path), session)
    assert_same_run(run, uninterrupted)


def test_phases_do_what_they_say(uninterrupted, session):
    run = uninterrupted
    assert [(row["phase"], row["epoch"]) for row in run.metrics()] == [
        (phase, epoch) for phase in ("relu", "binarize", "norm") for epoch in ("1", "2")
    ]
    assert [float(row["learning_rate"]) for row in run.metrics()][:4] == pytest.approx(
        [0.05, 0.05, 0.02, 0.002]
    )
    relu, binarize, norm = (checkpoint(run, phase) for phase in range(3))
    kernels = {phase: tensors["model/layer_with_weights-2/kernel/.ATTRIBUTES/VARIABLE_VALUE"]
               for phase, tensors in (("binarize", binarize), ("norm", norm))}  # fmt: skip
    assert set(np.unique(kernels["norm"])) == {-1.0, 1.0}
    np.testing.assert_array_equal(kernels["norm"], np.where(kernels["binarize"] >= 0, 1.0, -1.0))
    moved = {
        name.split("/")[-3] for name in norm
        if name.startswith("model/layer") and "OPTIMIZER_SLOT" not in name
        and not np.array_equal(norm[name], binarize[name])
    }  # fmt: skip
    assert moved == {"gamma", "beta", "moving_mean", "moving_variance", "kernel"}
    stem = "model/layer_with_weights-0/kernel/.ATTRIBUTES/VARIABLE_VALUE"
    np.testing.assert_array_equal(norm[stem], binarize[stem])
    assert not np.array_equal(relu[stem], binarize[stem])


def test_a_phase_starts_from_the_one_before(uninterrupted, monkeypatch, recipe, new_run, session):
    """The kernels at the start of the second phase are those at the end of the first."""
    seen = {}

    def record(self, position, saved):
        seen[position.phase] = [w.copy() for w in self.network.get_weights()]
        return self.network

    monkeypatch.setattr(trainer.PhaseTraining, "train", record)
    train(new_run(recipe(phases=PHASES[:2])), session)
    for first, second in zip(seen[0], seen[1], strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.fixture
def quick_reference(quick_fit, recipe, new_run, session):
    """What an uninterrupted run looks like where nothing is really computed."""

    def get(recipe):
        run = new_run(recipe, "uninterrupted")
        train(run, session)
        return run

    return get


def test_the_comparison_sees_another_seed(recipe, new_run, session, quick_reference):
    other = new_run(recipe("ovsw"), seed=2)
    reference = quick_reference(recipe("ovsw"))
    train(other, session)
    assert rows(other) == rows(reference)  # the figures of `quick_fit`
    with pytest.raises(AssertionError):
        assert_same_run(other, reference)


@pytest.mark.sample(1)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize(("phase", "epoch"), [("relu", 1), ("binarize", 0), ("norm", 0)])
def test_every_phase_resumes(phase, epoch, number, recipe, new_run, session, send, quick_reference):
    run = new_run(recipe(phases=PHASES))
    send(phase, epoch, 1, number)
    with pytest.raises(StoppedError) as stopped:
        train(run, session)
    assert stopped.value.exit_code == 128 + number
    train(Run.open(run.path), session)
    assert_same_run(run, quick_reference(recipe(phases=PHASES)))


@pytest.mark.slow
def test_until_phase(recipe, new_run, session, quick_reference):
    run = new_run(recipe(phases=PHASES))
    for until in ("relu", "relu", "binarize"):  # the second finds the phase complete and only returns
        network = train(run, dataclasses.replace(session, until_phase=until)).network
        assert run.position() == Position({"relu": 0, "binarize": 1}[until], 2)
        assert isinstance(network, tf.keras.Model)
    with pytest.raises(UsageError, match="in phase binarize already"):
        train(run, dataclasses.replace(session, until_phase="relu"))
    with pytest.raises(UsageError, match="'binarise'; did you mean 'binarize'"):
        train(run, dataclasses.replace(session, until_phase="binarise"))
    train(run, session)
    assert_same_run(run, quick_reference(recipe(phases=PHASES)))


def test_a_finished_run_only_returns(recipe, new_run, session, quick_fit, monkeypatch):
    run = new_run(recipe())
    first = train(run, session)
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*") if path.is_file()}
    monkeypatch.setattr(trainer, "prepare", None)
    again = train(run, session)
    for result, wanted in zip(again.network.get_weights(), first.network.get_weights(), strict=True):
        np.testing.assert_array_equal(result, wanted)
    assert again.evaluation.top1 == first.evaluation.top1 == pytest.approx(0.4)
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*") if path.is_file()} == before


def test_interrupted_before_the_first_epoch(recipe, new_run, session, interrupt, quick_reference):
    run = new_run(recipe())
    interrupt("train", 0, 0)
    with pytest.raises(KeyboardInterrupt):
        train(run, session)
    assert run.position() is None
    assert run.metrics() == []
    with pytest.raises(UserError, match="not one epoch is complete"):
        run.load_network()
    train(Run.open(run.path), session)
    assert_same_run(run, quick_reference(recipe()))


def test_interrupted_before_the_first_epoch_of_a_start_from_a_run(
    recipe, new_run, session, interrupt, quick_reference
):
    start = quick_reference(recipe("real", epochs=1))
    whole, run = (new_run(recipe(epochs=1), name, init_from=str(start.path)) for name in ("whole", "run"))
    train(whole, session)
    interrupt("train", 0, 0)
    with pytest.raises(KeyboardInterrupt):
        train(run, session)
    train(Run.open(run.path), session)
    assert_same_run(run, whole)


def test_a_moved_run_goes_on(recipe, new_run, session, send, tmp_path, quick_reference):
    run = new_run(recipe())
    send("train", 1, 0, signal.SIGTERM)
    with pytest.raises(StoppedError):
        train(run, session)
    moved = Run.open(run.path.rename(tmp_path / "moved"))
    train(moved, session)
    assert_same_run(moved, quick_reference(recipe()))
    assert not run.path.exists()


@pytest.mark.slow
def test_a_teacher(recipe, new_run, session, send, reference):
    """Distillation resumes as well, and saves the student alone."""
    teacher = reference(recipe("real", epochs=1))
    student = dataclasses.replace(
        recipe(
            "recu",
            loss=Distribution(),
            optimizer=SGD(learning_rate=0.05, weight_decay=1e-3),
            schedule=Cosine(warmup=2),
        ),
        teacher=str(teacher.path),
    )
    run = new_run(student, deterministic=True)
    send("train", 1, 1, signal.SIGTERM)
    with pytest.raises(StoppedError):
        train(run, session)
    network = train(Run.open(run.path), session).network
    assert_same_run(run, reference(student))
    assert [w.shape for w in run.load_network().get_weights()] == [w.shape for w in network.get_weights()]
    assert not any("teacher" in name for name in checkpoint(run, 0))
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} < set(run.metrics()[0])


@pytest.mark.slow
def test_methods_add_their_figures(recipe, new_run, session, reference):
    assert {"flip_ratio", "silent_share"} < set(reference(recipe("ovsw")).metrics()[0])
    run = reference(recipe("recu", **MID_EPOCH["recu"]))
    assert float(run.metrics()[0]["tau"]) == pytest.approx(0.85)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"steps_per_execution": 2}, {"precision": "bfloat16"}], ids=str)
def test_ways_to_compute(options, recipe, new_run, session):
    run = new_run(recipe("ovsw"), **options)
    network = train(run, session).network
    assert {weight.dtype for weight in network.get_weights()} == {np.dtype("f4")}
    assert all(np.isfinite(float(row["loss"])) for row in run.metrics())


@pytest.mark.slow
def test_several_steps_per_execution_are_the_same_steps(recipe, reference):
    assert rows(reference(recipe("ovsw"), steps_per_execution=2)) == rows(reference(recipe("ovsw")))


def test_float16_scales_the_loss_and_gives_a_float32_network(recipe, new_run, session, tmp_path):
    run = new_run(recipe("recu"), precision="float16")
    network = train(run, session).network
    assert any("loss_scale" in name for name in checkpoint(run, 0))
    network.save(tmp_path / "model.keras")
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype(np.float32)
    expected = run.load_network()(images).numpy()
    for model in (network, run.load_network(), bnn_tf.load_model(tmp_path / "model.keras")):
        assert {layer.dtype_policy.name for layer in model.layers} == {"float32"}
        np.testing.assert_array_equal(model(images), expected)


def test_a_model_of_mixed_precision_is_saved_in_float32_once_it_is_built_again(tiny, tmp_path):
    """What docs/speed.md says of scripts: Keras keeps the policy in the file."""
    build = zoo.get_model("tiny")
    with strategies.precision("bfloat16"):
        model = build(method="recu")
    again = build(method="recu")
    again.set_weights(model.get_weights())
    for network, name in ((model, "mixed_bfloat16"), (again, "float32")):
        network.save(tmp_path / "model.keras")
        loaded = bnn_tf.load_model(tmp_path / "model.keras")
        assert loaded.get_layer("stem_conv").dtype_policy.name == name
        for result, wanted in zip(loaded.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(result, wanted)


def test_averaged_weights_are_validated_and_saved(recipe, reference):
    run = reference(recipe("bireal", ema=0.9))
    saved, raw = checkpoint(run, 0), "model/layer_with_weights-0/kernel/.ATTRIBUTES/VARIABLE_VALUE"
    averaged = run.load_network()
    stem = averaged.get_layer("stem_conv").kernel.numpy()
    assert not np.array_equal(stem, saved[raw])
    assert any(np.array_equal(stem, value) for name, value in saved.items() if name.startswith("average/"))
    weights = averaged.get_weights()
    run.load_weights(averaged)
    for result, wanted in zip(averaged.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(result, wanted)


def test_averages_of_a_restart_begin_with_the_saved_weights(recipe, new_run, session):
    """Such a run has no averages of its own to go on from; those of random weights would take over."""
    run = new_run(recipe("bireal", epochs=1, ema=0.999))
    train(run, session)
    network = run.load_network()
    network.get_layer("stem_conv").kernel.assign(tf.fill((3, 3, 3, 4), 5.0))
    run.save_weights(network, Position(0, 1))
    shutil.rmtree(run.path / "checkpoints")
    longer = Run(run.path, dataclasses.replace(run.config, recipe=recipe("bireal", epochs=2, ema=0.999)))
    train(longer, dataclasses.replace(session, restart_from_weights=True))
    averaged = longer.load_network().get_layer("stem_conv").kernel.numpy()
    np.testing.assert_allclose(averaged, 5, rtol=0, atol=0.01)


@pytest.mark.slow
def test_averages_of_a_later_phase_or_of_other_weights_begin_with_those(recipe, new_run, session):
    start = new_run(recipe("bireal", epochs=1), "start")
    train(start, session)
    stem = start.load_network().get_layer("stem_conv").kernel.numpy()
    taken = new_run(recipe("bireal", epochs=1, ema=0.999), "taken", init_from=str(start.path))
    later = new_run(
        recipe("bireal", phases=(start.config.recipe.phases[0], Phase("later", 1, 16, ema=0.999))), "later"
    )
    for run in (taken, later):
        train(run, session)
        averaged = run.load_network().get_layer("stem_conv").kernel.numpy()
        np.testing.assert_allclose(averaged, stem, rtol=0, atol=0.01)


def test_averages_where_nothing_but_batch_norm_is_trained(recipe, new_run, session, send, reference):
    argument = recipe("bireal", ema=0.9, trainable="batch_norm")
    run = new_run(argument, deterministic=True)
    send("train", 1, 1, signal.SIGTERM)
    with pytest.raises(StoppedError):
        train(run, session)
    assert run.load_network().trainable_weights  # opened as any network is, not frozen
    trained = train(Run.open(run.path), session)
    assert_same_run(run, reference(argument))
    source, network = data.load("digits").limited(run.config.limit), run.load_network()
    again = evaluate(lambda images: network(images).numpy(), source, argument.images)
    assert again.top1 == pytest.approx(trained.evaluation.top1, abs=1e-6)
    np.testing.assert_array_equal(
        network.get_layer("stem_bn").gamma, trained.network.get_layer("stem_bn").gamma
    )


def stopped_in_mid_epoch(run, session, send):
    """Trains a run until a signal in its second epoch, and gives the checkpoint of that moment."""
    send("train", 1, 1, signal.SIGTERM)
    with pytest.raises(StoppedError):
        train(run, session)
    (saved,) = [one for one in run.checkpoints.all() if one.step]
    return saved


def test_seconds_are_of_the_whole_epoch_where_it_was_stopped_in_its_middle(
    recipe, new_run, session, send, quick_fit
):
    run = new_run(recipe())
    saved = stopped_in_mid_epoch(run, session, send)
    state = saved.state()
    assert 0 <= state["seconds"] < 100
    (saved.path / "state.json").write_text(json.dumps({**state, "seconds": 1000.0}))
    train(run, session)
    first, second = (float(row["seconds"]) for row in run.metrics())
    assert first < 1000 < second < 1100
    assert "  16 min 4" in session.console.file.getvalue().splitlines()[-1]


def test_a_checkpoint_that_does_not_know_its_seconds_is_gone_on_from(
    recipe, new_run, session, send, quick_fit
):
    run = new_run(recipe())
    saved = stopped_in_mid_epoch(run, session, send)
    state = {key: value for key, value in saved.state().items() if key != "seconds"}
    (saved.path / "state.json").write_text(json.dumps(state))
    train(run, session)
    assert [row["epoch"] for row in run.metrics()] == ["1", "2"]


def test_the_loss_on_held_out_images_is_the_one_that_evaluate_says(recipe, new_run, session):
    """Smoothed labels are for training: the same network has one loss, whoever reports it."""
    run = new_run(recipe("real", epochs=1, loss=CrossEntropy(label_smoothing=0.5)))
    trained = train(run, session).evaluation
    source, network = data.load("digits").limited(run.config.limit), run.load_network()
    wanted = evaluate(lambda images: network(images).numpy(), source, run.config.recipe.images)
    assert trained.loss == pytest.approx(wanted.loss, abs=1e-4)
    assert trained.top1 == pytest.approx(wanted.top1, abs=1e-6)
    assert trained.top5 == pytest.approx(wanted.top5, abs=1e-6)


def test_statistics_are_measured_after_the_last_epoch(recipe, reference):
    argument = recipe("recu", statistics_batches=2)
    run, plain = reference(argument), reference(recipe("recu"))
    assert [row["loss"] for row in run.metrics()] == [row["loss"] for row in plain.metrics()]
    (first, last), (plain_first, plain_last) = rows(run), rows(plain)
    assert first == plain_first
    assert last["val_loss"] != plain_last["val_loss"]
    network, norm = run.load_network(), "stem_bn"
    measured, moving = (net.get_layer(norm).moving_mean.numpy() for net in (network, plain.load_network()))
    assert not np.allclose(measured, moving, atol=1e-3)
    source, images = data.load("digits").limited(run.config.limit), run.config.recipe.images
    batches = data.training_batches(source, images, 16, run.config.seed, epochs=3, initial_epoch=2)
    of_batches = [
        network.get_layer("stem_conv")(batch).numpy().mean((0, 1, 2)) for batch, _ in batches.take(2)
    ]
    np.testing.assert_allclose(measured, np.mean(of_batches, axis=0), atol=1e-5)


def test_gradients_are_clipped(recipe, new_run, session):
    run = new_run(recipe(optimizer=SGD(learning_rate=1.0, momentum=0.0, clip_norm=1e-9)))
    before = trainer.prepare(run.config, session).network.get_layer("stem_conv").kernel.numpy()
    after = train(run, session).network.get_layer("stem_conv").kernel.numpy()
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-7)


def test_run_directory_is_complete(uninterrupted):
    run = uninterrupted
    names = {path.relative_to(run.path).parts[0] for path in run.path.rglob("*")}
    assert names == {
        "config.json", "environment.json", "metrics.csv", "diagnostics.jsonl", "checkpoints",
        "model.weights.h5", "model.weights.json", "tensorboard",
    }  # fmt: skip
    with (run.path / "metrics.csv").open() as file:
        assert next(csv.reader(file))[:2] == ["phase", "epoch"]
    assert {path.name for path in (run.path / "tensorboard").iterdir()} == {"relu", "binarize", "norm"}
    assert [saved.epoch for saved in run.checkpoints.all()] == [1, 2] * 3
