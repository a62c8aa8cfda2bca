"""The script that measures training steps: what its rows are."""

import importlib.util
from pathlib import Path

import click.testing
import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark_training.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("benchmark_training", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--cases foo", "there is no case 'foo': write plain, torch, bireal"),
        ("--cases bireal,larq", "there is no case 'larq'"),
        ("--cases larq_recu", "there is no case 'larq_recu'"),
        ("--cases 'recu float64'", "there is no case 'recu float64'"),
        ("--cases 'larq plain'", "there is no case 'larq plain'"),
        ("--model cifar_resnet18 --cases torch", "torch has cifar_resnet20 alone, not cifar_resnet18"),
        ("--model vgg", "there is no model called 'vgg'; did you mean 'vgg_small'?"),
        ("--rounds 1", "1 is not in the range"),
    ],
)
def test_mistakes_are_said_in_a_line(script, arguments, message, monkeypatch):
    monkeypatch.setattr(script, "make_step", lambda *_: None)
    result = click.testing.CliRunner().invoke(script.main, arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_every_method_has_its_composition_beside_it(script, monkeypatch):
    monkeypatch.setattr(script.importlib.util, "find_spec", lambda name: None)
    names = script.default_cases("cifar_resnet20")
    assert names == [
        f"{kind}{name}" for name in ("bireal", "recu", "ovsw", "subbit") for kind in ("", "larq ")
    ]
    monkeypatch.setattr(script.importlib.util, "find_spec", lambda name: object())
    assert script.default_cases("cifar_resnet20")[0] == "torch"
    assert script.default_cases("cifar_resnet18") == names


def test_the_peak_of_a_process(script):
    assert 50 < script.peak_of_this_process() < 100_000


@pytest.mark.slow
def test_a_table(script):
    arguments = ["--batch-size", 2, "--rounds", 2, "--cases", "larq ovsw,larq subbit", "--memory"]
    result = click.testing.CliRunner().invoke(script.main, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    rows = result.output.splitlines()
    assert "peak MB" in result.output
    assert [row.split("  ")[0] for row in rows[-3:]] == ["plain", "larq ovsw", "larq subbit"]


def test_the_network_of_pytorch_is_the_same(script):
    pytest.importorskip("torch")
    step = script.torch_step(2)
    (network,) = (c.cell_contents for c in step.__closure__ if hasattr(c.cell_contents, "parameters"))
    assert sum(parameter.numel() for parameter in network.parameters()) == 269_850
    step()
