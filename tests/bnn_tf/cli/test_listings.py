"""`bnn-tf models` and `bnn-tf recipes`; `--set KEY=VALUE`."""

import json
import re

import pytest

import zoo
from bnn_tf.cli import options
from bnn_tf.errors import UsageError
from zoo import pretrained
from zoo.recipes import RECIPES


def test_models(command):
    code, out, err = command("models")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0].split()[:4] == ["model", "input", "parameters", "binary"]
    assert [line.split()[0] for line in lines[1:]] == zoo.list_models()
    assert "0.27 M" in next(line for line in lines if line.startswith("cifar_resnet20 "))


def test_models_as_json(command):
    rows = {row["model"]: row for row in json.loads(command("models", "--json")[1])}
    assert list(rows) == zoo.list_models()
    resnet = rows["cifar_resnet20"]
    assert (resnet["function"], resnet["input"], resnet["paper_top1"]) == ("zoo.CifarResNet20", 32, 0.875)
    assert "recu:cifar10" in resnet["recipes"]


def test_models_filtered_and_sorted(command):
    options = ("--filter", "input=32", "--filter", "parameters<1e6", "--json")
    shown = [row["model"] for row in json.loads(command("models", *options)[1])]
    assert shown == ["cifar_resnet20", "cifar_resnet18a"]
    rows = json.loads(command("models", "--sort", "-parameters", "--json")[1])
    counts = [row["parameters"] for row in rows]
    assert counts == sorted(counts, reverse=True)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("zoo_top1>80", ["cifar_resnet20"]),
        ("zoo top-1<0.79", ["cifar_resnet20"]),
        ("recipes=recu:tiny_imagenet", ["cifar_resnet18"]),
        ("recipes=tiny_imagenet", ["cifar_resnet18"]),
        ("recipes=rec", []),
    ],
)
def test_conditions_on_lists_and_titles(command, condition, expected):
    code, out, _ = command("models", "--filter", condition, "--json")
    assert (code, [row["model"] for row in json.loads(out)]) == (0, expected)


def test_titles_stand_for_keys(command):
    by_title, by_key = (
        command("models", "--filter", f"{name}>0.9", "--json") for name in ("binary", "binary_share")
    )
    assert by_title == by_key
    assert 0 < len(json.loads(by_title[1])) < len(zoo.list_models())


def test_the_converted_file(command):
    lines = command("models")[1].splitlines()
    assert ".tflite" in lines[0].split()
    assert "65 kB" in next(line for line in lines if line.startswith("cifar_resnet20 "))
    assert "4.22 MB" in next(line for line in lines if line.startswith("quicknet_small "))
    rows = json.loads(command("models", "--filter", "tflite<1", "--sort", "tflite", "--json")[1])
    sizes = [row["tflite_bytes"] for row in rows]
    assert rows[0]["model"] == "cifar_resnet20"
    assert sizes == sorted(sizes)
    assert max(sizes) < 1e6
    for condition in (".tflite<1", "TFLite<1", "tflite_bytes<1e6"):
        assert json.loads(command("models", "--filter", condition, "--sort", "tflite", "--json")[1]) == rows


def test_a_title_in_millions(command):
    rows = json.loads(
        command("models", "--filter", "real MMAC<10", "--sort", "best paper top-1", "--json")[1]
    )
    assert rows
    assert all(row["real_macs"] < 10e6 for row in rows)


def test_the_accuracy_of_shipped_weights(command):
    lines = command("models", "--filter", "model=cifar_resnet20")[1].splitlines()
    reached = [100 * pretrained.record(name)["accuracy"]["keras"] for name in pretrained.names()]
    assert ", ".join(f"{percent:.1f} %" for percent in sorted(reached, reverse=True)) in lines[1]
    assert min(reached) > 78


def test_recipes_are_one_line_each(command):
    code, out, err = command("recipes")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert len(lines) == 1 + len(RECIPES)
    for line, recipe in zip(lines[1:], RECIPES, strict=True):
        assert line.split()[:4] == [recipe.method.name, recipe.model, recipe.dataset, recipe.variant]


def test_recipes_of_a_method_as_json(command):
    printed = json.loads(command("recipes", "--method", "recu", "--json")[1])
    assert {row["method"]["name"] for row in printed} == {"recu"}
    assert len(printed) == sum(recipe.method.name == "recu" for recipe in RECIPES)


def test_recipes_of_a_network_a_dataset_and_a_variant(command):
    options = ("--model", "CIFAR-ResNet20", "--dataset", "cifar10", "--variant", "fast", "--json")
    printed = json.loads(command("recipes", *options)[1])
    assert {row["method"]["name"] for row in printed} == {"bireal", "recu", "subbit", "ovsw", "real"}
    assert {(row["model"], row["dataset"], row["variant"]) for row in printed} == {
        ("cifar_resnet20", "cifar10", "fast")
    }
    nothing = command("recipes", "--model", "bireal_net18", "--dataset", "digits")
    said = "No recipe has all of these; `bnn-tf train` then takes the nearest one and says which\n"
    assert nothing == (0, said, "")


def test_methods_with_the_same_datasets_stand_together(command):
    lines = command("models", "--filter", "model=cifar_resnet18")[1].splitlines()
    assert "recu: cifar10 cifar100 tiny_imagenet; ovsw: cifar10 cifar100" in lines[1]


@pytest.fixture
def terminal(monkeypatch):
    """Makes the output a terminal of some columns."""

    def of(columns):
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("TTY_COMPATIBLE", "1")
        monkeypatch.setenv("FORCE_COLOR", "1")

    return of


@pytest.mark.parametrize(
    ("columns", "left_out"),
    [
        (60, "recipes, ARM instructions, packed, binary, zoo top-1, parameters, best paper top-1"),
        (80, "recipes, ARM instructions, packed, binary, zoo top-1"),
        (100, "recipes, ARM instructions, packed, binary"),
    ],
)
def test_size_and_work_stay_on_a_narrow_terminal(terminal, command, columns, left_out):
    terminal(columns)
    assert f"columns do not fit: {left_out}. --json" in command("models")[1]


@pytest.mark.parametrize("columns", [60, 80, 100])
def test_tables_can_be_read_on_a_terminal(terminal, command, columns):
    terminal(columns)
    out = command("models")[1]
    lines = [line for line in out.splitlines() if "--json" not in line]
    assert [line.split()[0] for line in lines if line[0] != " "] == ["model", *zoo.list_models()]
    assert "…" not in out
    assert max(map(len, lines)) <= columns
    assert re.search(r"not fit: recipes.*\. --json has everything", out)
    lines = [line for line in command("recipes")[1].splitlines() if "--json" not in line and line[0] != " "]
    expected = [[r.method.name, r.model, r.dataset, r.variant] for r in RECIPES]
    assert [line.split()[:4] for line in lines[1:]] == expected
    assert max(map(len, lines)) <= columns


def test_a_table_folds_long_texts_then_runs_over(terminal, capsys):
    terminal(60)
    note = "a note of many words that does not fit beside the others"
    options.print_table(["run", "best", "note"], [["a" * 30, "68.40 %", note]])
    folded = capsys.readouterr().out.splitlines()
    assert folded[1].split()[:2] == ["a" * 30, "68.40"]
    assert " ".join(" ".join(line[41:] for line in folded[1:]).split()) == note
    options.print_table(["run", "best"], [["a" * 80, "68.40 %"]])
    assert capsys.readouterr().out.splitlines()[1] == "a" * 80 + "  68.40 %"
    options.print_table(["run", "best"], [["蜂" * 40, "68.40 %"]])
    assert capsys.readouterr().out.splitlines()[1] == "蜂" * 40 + "  68.40 %"
    options.print_table(["run", "last", "best"], [["a" * 50, "7.5 %", "68.40 %"]], spare=["last"])
    assert capsys.readouterr().out.splitlines()[1:] == [
        "a" * 50 + "  68.40 %",
        "On this terminal this column does not fit: last. --json has everything.",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("batch_size=64", ("batch_size", 64)),
        ("learning_rate=1e-3", ("learning_rate", 1e-3)),
        ("learning_rate=.9", ("learning_rate", 0.9)),
        ("learning_rate=1.", ("learning_rate", 1.0)),
        ("teacher=runs/.9", ("teacher", "runs/.9")),
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
