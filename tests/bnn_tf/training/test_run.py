"""Run directories: created once, opened again, never half-written."""

import dataclasses
import json

import pytest

from bnn_tf.errors import UserError
from bnn_tf.training import Run, RunConfig
from zoo import recipes

RECIPE = recipes.find("bireal")


@pytest.fixture
def run(tmp_path):
    return Run.create(RunConfig(RECIPE, class_names=("a", "b")), tmp_path / "run")


def test_configuration_survives_json():
    config = RunConfig(RECIPE, seed=3, data_dir="/data", limit=7, deterministic=True, class_names=("a", "ä"))
    assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_created_and_opened(run):
    opened = Run.open(run.path)
    assert opened.config == run.config
    assert opened.position() is None
    assert opened.metrics() == []
    environment = json.loads((run.path / "environment.json").read_text())
    assert environment["packages"]["tensorflow"].startswith("2.")
    assert not list(run.path.glob("*.part"))


def test_without_being_installed(tmp_path, monkeypatch):
    monkeypatch.setattr("bnn_tf.training.run._PACKAGES", ("numpy", "no-such-package"))
    run = Run.create(RunConfig(RECIPE), tmp_path / "run")
    assert json.loads((run.path / "environment.json").read_text())["packages"]["no-such-package"] is None


def test_a_default_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda _: "now")  # all in the same second
    paths = [Run.create(RunConfig(RECIPE)).path for _ in range(3)]
    base = "bireal-cifar_resnet20-digits-now"
    assert [path.name for path in paths] == [base, f"{base}-2", f"{base}-3"]
    assert {str(path.parent) for path in paths} == {"runs"}


def test_an_empty_folder_is_taken(tmp_path):
    assert Run.create(RunConfig(RECIPE), tmp_path).path == tmp_path


def test_a_folder_with_a_run_is_to_be_resumed(run):
    with pytest.raises(UserError, match=f"{run.path} is not empty; resume its run"):
        Run.create(run.config, run.path)


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("…")
    with pytest.raises(UserError, match="is not empty; name another folder"):
        Run.create(RunConfig(RECIPE), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("below", ["", "deeper/run"])
def test_a_file_in_the_way(tmp_path, below):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file is a file, not a folder; name another folder"):
        Run.create(RunConfig(RECIPE), tmp_path / "file" / below)


@pytest.mark.parametrize(("make", "message"), [(False, "does not exist"), (True, "has no config.json")])
def test_no_run_there(tmp_path, make, message):
    path = tmp_path / "x"
    if make:
        path.mkdir()
    with pytest.raises(UserError, match=f"{path} is no run directory: it {message}"):
        Run.open(path)


def edited(**changes):
    values = {**RunConfig(RECIPE).to_dict(), **changes}
    return json.dumps({key: value for key, value in values.items() if value != "absent"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "cannot be read"),
        ('{"recipe": {', "cannot be read"),
        ("[]", "it is no JSON object"),
        ("[" * 100_000, "cannot be read"),
        ("\udcff", "cannot be read"),
        (edited(format="absent"), "its format is 1, this version reads 2"),
        (edited(format=3), "its format is 3"),
        (edited(recipe="absent"), "it has no entry 'recipe'"),
        (edited(class_names="absent"), "it has no entry 'class_names'"),
        (edited(recipe=3), "recipe"),
        (edited(recipe={"phases": ["x"]}), "recipe"),
        (edited(colour="blue"), "no entry of a configuration called 'colour'"),
        (edited(seed=-1), "seed must be"),
        (edited(seed="one"), "seed must be"),
        (edited(seed=2**31), "seed must be"),
        (edited(limit=0), "limit must be"),
        (edited(limit=1.5), "limit must be"),
        (edited(deterministic=1), "deterministic must be true or false"),
        (edited(workers=-2), "workers must be"),
        (edited(data_dir=3), "data_dir must be"),
        (edited(class_names="abc"), "class_names must be"),
        (edited(class_names=[1]), "class_names must be"),
        (edited(precision="float8"), "precision must be"),
        (edited(steps_per_execution=0), "steps_per_execution must be"),
        (edited(checkpoint_every="soon"), "checkpoints are saved every"),
        (edited(recipe={**RECIPE.to_dict(), "method": {"name": "os:system"}}), "not installed|derive|os"),
        (edited(recipe={**RECIPE.to_dict(), "method": "nowhere.module:Method"}), "not installed"),
        (edited(recipe={**RECIPE.to_dict(), "phases": []}), "phases must not be empty"),
    ],
)
def test_a_damaged_configuration(run, content, message):
    path = run.path / "config.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=message) as error:
        Run.open(run.path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_configuration_without_later_additions_is_read(run):
    """Options that a later version adds have defaults."""
    (run.path / "config.json").write_text(edited(workers="absent", init_from="absent", limit="absent"))
    assert Run.open(run.path).config == RunConfig(RECIPE)


def test_metrics_have_the_columns_of_all_rows(run):
    run.write_metrics([{"phase": "a", "epoch": 1, "loss": 0.1}, {"phase": "b", "epoch": 1, "tau": 0.85}])
    assert run.metrics() == [
        {"phase": "a", "epoch": "1", "loss": "0.1", "tau": ""},
        {"phase": "b", "epoch": "1", "loss": "", "tau": "0.85"},
    ]


def test_a_half_made_folder_is_taken(tmp_path):
    """Of a process that was killed while it made it."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".config.json.123.part").touch()
    (folder / "environment.json").touch()
    run = Run.create(RunConfig(RECIPE), folder)
    assert Run.open(run.path).config == run.config
    assert not list(folder.glob(".*"))


def test_a_run_is_claimed_once(run):
    other = Run.open(run.path)
    with run.claimed(), pytest.raises(UserError, match="another process is training"), other.claimed():
        pass
    with other.claimed():
        pass


def test_checkpoint_folders_are_numbered(run):
    phases = tuple(dataclasses.replace(RECIPE.phases[0], name=name) for name in ("first", "second"))
    config = dataclasses.replace(run.config, recipe=dataclasses.replace(RECIPE, phases=phases))
    assert [Run(run.path, config).checkpoints.phase_folder(i).name for i in (0, 1)] == ["1-first", "2-second"]
