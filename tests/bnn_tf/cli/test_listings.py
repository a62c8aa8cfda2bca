"""`bnn-tf models` and `bnn-tf recipes`; `--set KEY=VALUE`."""

import json

import pytest

import zoo
from bnn_tf.cli import options
from bnn_tf.errors import UsageError
from zoo.recipes import RECIPES


def test_models(command):
    code, out, err = command("models")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0].split() == ["model", "function", "about"]
    assert [line.split()[:2] for line in lines[1:]] == [
        [name, f"zoo.{zoo.get_model(name).__name__}"] for name in zoo.list_models()
    ]


def test_models_as_json(command):
    found = json.loads(command("models", "--json")[1])
    assert [row["model"] for row in found] == zoo.list_models()
    resnet = next(row for row in found if row["model"] == "cifar_resnet20")
    assert (resnet["function"], resnet["input_shape"], resnet["num_classes"]) == (
        "zoo.CifarResNet20",
        [32, 32, 3],
        10,
    )
    assert all(row["summary"] for row in found)


def test_recipes_are_one_line_each(command):
    code, out, err = command("recipes")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert len(lines) == 1 + len(RECIPES)
    for line, recipe in zip(lines[1:], RECIPES, strict=True):
        assert line.split()[:4] == [recipe.method, recipe.model, recipe.dataset, recipe.variant]
        assert recipe.note in line


def test_recipes_of_a_method_as_json(command):
    found = json.loads(command("recipes", "--method", "recu", "--json")[1])
    assert {row["method"] for row in found} == {"recu"}
    assert len(found) == sum(recipe.method == "recu" for recipe in RECIPES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("batch_size=64", ("batch_size", 64)),
        ("learning_rate=1e-3", ("learning_rate", 1e-3)),
        ("method.delta=none", ("method.delta", None)),
        ("method.delta=null", ("method.delta", None)),
        ("method.telemetry=False", ("method.telemetry", False)),
        ("method.telemetry=true", ("method.telemetry", True)),
        ("schedule.milestones=[10, 15]", ("schedule.milestones", [10, 15])),
        ("schedule.milestones=10,15", ("schedule.milestones", [10, 15])),
        ("image_size=64,64", ("image_size", [64, 64])),
        ("schedule=cosine", ("schedule", "cosine")),
        ("teacher=runs/a=b", ("teacher", "runs/a=b")),
        ("teacher=a,b", ("teacher", "a,b")),
        ("teacher=", ("teacher", "")),
        (" epochs =3", ("epochs", 3)),
        ("lr=0.5", ("learning_rate", 0.5)),
        ("binarize.bs=8", ("binarize.batch_size", 8)),
        ("method.lr=1", ("method.lr", 1)),
    ],
)
def test_settings(text, expected):
    key, value = options.parse_setting(text)
    assert (key, value) == expected
    assert type(value) is type(expected[1])


@pytest.mark.parametrize("text", ["epochs", "=3", ""])
def test_no_settings(text):
    with pytest.raises(UsageError, match="--set takes KEY=VALUE"):
        options.parse_setting(text)
