"""`bnn-tf benchmark` of runs, saved models and files."""

import json

import pytest

from bnn_tf.export import check

_SUFFIXES = (".tflite", ".program", ".float32.tflite", ".int8.tflite")
_FORMS = ["LCE", "C", "float32", "int8"]
if check.compiler() is None:
    del _FORMS[1]
    _SUFFIXES = (".tflite", ".float32.tflite", ".int8.tflite")
QUICK = ("--threads", "1", "--rounds", "1", "--runs", "2")


@pytest.fixture
def file(command, trained, tmp_path):
    """The converted run, as a file alone."""
    assert command("convert", trained, "-o", tmp_path / "tiny.tflite")[0] == 0
    return tmp_path / "tiny.tflite"


def test_a_file(command, file):
    code, out, err = command("benchmark", file, *QUICK)
    assert (code, err) == (0, "")
    header, row = out.splitlines()[:2]
    assert header.split()[:4] == ["candidate", "form", "size", "threads"]
    assert row.split()[:2] == [str(file), "LCE"]
    assert "1 LceBconv2d bits→float32" in out
    assert "Host: " in out
    assert "LCE's interpreter measures no single operators" in out


@pytest.mark.slow
def test_a_run_compared(command, trained, tmp_path):
    options = (*QUICK, "--compare", "--calibration-images", "8", "-o", tmp_path / "built", "--json")
    code, out, err = command("benchmark", trained, *options)
    assert (code, err) == (0, "")
    printed = json.loads(out)
    assert [candidate["form"] for candidate in printed["candidates"]] == _FORMS
    assert {candidate["name"] for candidate in printed["candidates"]} == {str(trained)}
    sizes = {
        f"{trained.name}{suffix}": candidate["size"]
        for suffix, candidate in zip(_SUFFIXES, printed["candidates"], strict=True)
    }
    built = {path.name: path.stat().st_size for path in (tmp_path / "built").iterdir()}
    assert {name: size for name, size in built.items() if not name.endswith(".c")} == sizes
    for candidate in printed["candidates"]:
        (measurement,) = candidate["measurements"]
        assert measurement["inferences"] == 2
        assert measurement["median_ms"] > 0
    assert not (trained / "model.tflite").exists()


def test_a_converted_run_is_taken_as_it_is(command, trained):
    assert command("convert", trained)[0] == 0
    written = (trained / "model.tflite").stat().st_mtime_ns
    code, out, _ = command("benchmark", trained, *QUICK, "--json")
    (candidate,) = json.loads(out)["candidates"]
    assert (code, candidate["name"], candidate["form"]) == (0, str(trained), "LCE")
    assert (trained / "model.tflite").stat().st_mtime_ns == written


def test_a_saved_model_and_a_file(command, tiny, file, tmp_path):
    tiny().save(tmp_path / "model.keras")
    code, out, _ = command("benchmark", tmp_path / "model.keras", file, *QUICK, "--json")
    printed = json.loads(out)
    assert code == 0
    assert [candidate["name"] for candidate in printed["candidates"]] == [
        str(tmp_path / "model.keras"), str(file)
    ]  # fmt: skip


@pytest.mark.slow
def test_ranges_of_noise_are_admitted(command, tiny, tmp_path):
    tiny().save(tmp_path / "model.keras")
    code, out, err = command(
        "benchmark", tmp_path / "model.keras", *QUICK, "--compare", "--calibration-images", "4", "--json"
    )
    assert code == 0
    assert [candidate["form"] for candidate in json.loads(out)["candidates"]] == _FORMS
    assert err.startswith(f"{tmp_path / 'model.keras'}: int8 ranges are measured on noise; name a --dataset")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "TARGET…"),
        (("nothing.tflite",), 1, "nothing.tflite"),
        (("nothing",), 1, "there is no run and no model at nothing"),
        (("text.tflite",), 1, "is no TFLite model"),
        (("text.tflite", "--compare"), 2, "--compare needs a run or a saved Keras model"),
        (("text.tflite", "--threads", "1,x"), 2, "'1,x' is no list of numbers of threads such as 1,2"),
        (("text.tflite", "--threads", "0"), 2, "'0' is no list"),
        (("text.tflite", "--rounds", "0"), 2, "'--rounds'"),
        (("text.tflite", "--run", "1"), 2, "--runs"),
    ],
)
def test_wrong_usage(command, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.tflite").write_text("not a model")
    exit_code, out, err = command("benchmark", *arguments)
    assert (exit_code, out) == (code, "")
    assert message in err
    assert len(err.splitlines()) == 1
