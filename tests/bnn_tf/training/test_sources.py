"""What names of networks stand for, the same wherever weights or a teacher are named."""

import dataclasses

import pytest

from bnn_tf.errors import UsageError, UserError
from bnn_tf.training import prepare, sources, start, train


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with something of each kind in it."""
    monkeypatch.chdir(tmp_path)
    for name in ("run/config.json", "saved/saved_model.pb", "net.keras", "net.TFLITE", "net.snn", "empty/x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    return tmp_path


KINDS = {
    "run": "run",
    "saved": "saved model",
    "net.keras": "saved model",
    "net.TFLITE": "tflite",
    "net.snn": "snn",
    "zoo:cifar_resnet20-recu": "zoo",
    "larq-zoo:QuickNet:random": "larq-zoo",
    "keras:ResNet50": "keras",
    "nothing": None,
    "numpy:show_config": None,
}


@pytest.mark.parametrize("name", KINDS)
def test_kinds(name, folder):
    assert sources.kind_of(name) == KINDS[name]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ruin", r"^there is no run and no model at ruin; did you mean run\?$"),
        ("net.snn", "^net.snn is neither a run nor a saved Keras model$"),
        ("keras:ResNet50", "^keras:ResNet50 can only be a teacher"),
        ("empty", r"is neither a run directory \(no config.json\) nor a SavedModel$"),
        ("zoo:cifar_resnet20-rec", "no trained network in the zoo called 'cifar_resnet20-rec'"),
        ("larq-zoo:QuickNt", "no network in Larq Zoo called 'QuickNt'"),
    ],
)
def test_what_gives_no_weights(name, message, folder):
    for ask in (sources.require, start.load_source, start.require_source):
        with pytest.raises(UserError, match=message):
            ask(name)
    if name.startswith("keras"):
        assert sources.require(name, sources.TEACHERS) == "keras"


@pytest.mark.parametrize("kind", ["run", "saved model"])
@pytest.mark.parametrize("index", [0, 1])
def test_a_phase_starts_from_a_network(
    kind, index, recipe, configuration, new_run, session, quick_fit, tiny, tmp_path
):
    origin = tiny(method="bireal")
    if kind == "run":
        run = new_run(recipe(), "origin")
        run.save_weights(origin)
        name = str(run.path)
    else:
        name = str(tmp_path / "origin.keras")
        origin.save(name)
    phases = [dataclasses.replace(recipe().phases[0], name=name, epochs=1) for name in ("first", "second")]
    phases[index] = dataclasses.replace(phases[index], start=name)
    train(new_run(recipe(phases=tuple(phases))), session)
    assert f"Starting from {name}: " in session.console.file.getvalue()


@pytest.mark.parametrize("name", ["zoo:cifar_resnet20-recu", "larq-zoo:QuickNet:random", "missing"])
def test_what_a_later_phase_starts_from_is_looked_up_first(name, recipe, configuration, session):
    first, second = (dataclasses.replace(recipe().phases[0], name=name) for name in ("first", "second"))
    config = configuration(recipe(phases=(first, dataclasses.replace(second, start=name))))
    if name == "missing":
        with pytest.raises(UserError, match="there is no run and no model at missing"):
            prepare(config, session)
    else:
        assert prepare(config, session).config.sources() == [None, name]


def test_a_later_phase_takes_no_converted_file(folder, recipe, configuration, session):
    first, second = (dataclasses.replace(recipe().phases[0], name=name) for name in ("first", "second"))
    config = configuration(recipe(phases=(first, dataclasses.replace(second, start="net.snn"))))
    with pytest.raises(UsageError, match="neither a run nor a saved Keras model"):
        prepare(config, session)
