import json

import pytest
from click.testing import CliRunner

from bnn_tf import cli


def run(*arguments):
    result = CliRunner().invoke(cli.cli, ["summary", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def fails(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["summary", *arguments])
    return stopped.value.code, capsys.readouterr().err


def test_sub_bit_network():
    lines = run("--model", "react_resnet18", "--method", "subbit", "--bits", "5").splitlines()
    text = "\n".join(lines)
    for figure in ("0.56", "6.103 Mbit (10,985,472 weights)", "0.501 G", "published: 6.103 Mbit, the same"):
        assert figure in text
    layer = next(line.split() for line in lines if line.startswith("stage4_block4_conv"))
    assert layer[1:] == ["7×7×512", "3×3×512×512", "0.556", "/", "1", "1.3107", "115.606", "13.648"]


def test_larqs_own_table_is_an_option():
    assert "Ratio of MACs that are binarized" in run("--model", "vgg_small", "--larq")
    assert "Ratio of MACs" not in run("--model", "vgg_small")


def test_json():
    printed = json.loads(run("--model", "bireal_net18", "--json"))
    assert printed["total"]["memory_bits"] == 33_514_752
    assert printed["published"] == {"memory_bits": 33.6e6, "operations": 1.63e8}
    assert printed["layers"][0]["kernel"] == [7, 7, 3, 64]


def test_options_of_method_and_model():
    printed = json.loads(
        run(
            *("--model", "vgg_small", "--method", "subbit", "--set", "method.bits=4"),
            *("--set", "model.num_classes=7", "--input-size", "48x32", "--json"),
        )
    )
    assert printed["input_shape"] == [48, 32, 3]
    assert printed["layers"][-1]["output"] == [7]
    assert printed["total"]["bits_per_weight"] == pytest.approx(4 / 9)


def test_grey_images():
    for size, shape in (([], [32, 32, 1]), (["--image-size", "48x32"], [48, 32, 1])):
        printed = json.loads(run("--model", "vgg_small", "--channels", "1", *size, "--json"))
        assert (printed["input_shape"], printed["layers"][0]["kernel"][2]) == (shape, 1)


def test_bits_mean_the_sub_bit_method():
    assert json.loads(run("--model", "vgg_small", "--bits", "6", "--json"))["total"]["codebook_bits"] > 0


def test_saved_model(tmp_path, capsys):
    from bnn_tf._tensorflow import lq, tf
    from bnn_tf.quantizers import ReCU

    path = tmp_path / "net.keras"
    conv = lq.layers.QuantConv2D(4, 3, kernel_quantizer=ReCU(), use_bias=False)
    tf.keras.Sequential([tf.keras.Input((8, 8, 3)), conv]).save(path)
    printed = json.loads(run(str(path), "--json"))
    assert printed["total"]["binary_parameters"] == 4 * 27
    larger = json.loads(run(str(path), "--input-size", "18", "--json"))
    assert larger["total"]["real_macs"] == 4 * 27 * 16 * 16
    assert json.loads(run(str(path), "--channels", "3", "--json")) == printed
    assert fails(capsys, str(path), "--channels", "1")[0] == 2


def test_run(tmp_path):
    from bnn_tf.training import Run, RunConfig
    from zoo import recipes

    names = tuple("0123456789")
    Run.create(RunConfig(recipe=recipes.find("subbit"), class_names=names), tmp_path / "run")
    printed = json.loads(run(str(tmp_path / "run"), "--input-size", "64", "--json"))
    assert (printed["model"], printed["input_shape"]) == ("cifar_resnet20", [64, 64, 3])
    assert printed["total"]["codebook_bits"] > 0
    grey = json.loads(run(str(tmp_path / "run"), "--channels", "1", "--json"))
    assert (grey["input_shape"], grey["layers"][0]["kernel"]) == ([32, 32, 1], [3, 3, 1, 16])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A sub-bit convolution as a .tflite and as a .snn file."""
    import bnn_tf
    from bnn_tf import subbit
    from bnn_tf._tensorflow import lq, tf
    from bnn_tf.quantizers import ApproxSign, SubBit

    folder = tmp_path_factory.mktemp("files")
    conv = lq.layers.QuantConv2D(
        *(64, 3), input_quantizer=ApproxSign(), kernel_quantizer=SubBit(bits=4), use_bias=False
    )
    network = tf.keras.Sequential([tf.keras.Input((6, 6, 64)), conv, tf.keras.layers.BatchNormalization()])
    bnn_tf.convert(network, folder / "net.tflite", parity=False)
    subbit.compress_file(folder / "net.tflite", folder / "net.snn")
    return folder


def test_converted_file(files):
    printed = json.loads(run(str(files / "net.tflite"), "--json"))
    assert printed["file_size"] == (files / "net.tflite").stat().st_size
    (binary,) = (layer for layer in printed["layers"] if layer["kind"] == "LceBconv2d")
    assert (binary["kernel"], binary["output"]) == ([3, 3, 64, 64], [4, 4, 64])
    assert (binary["weight_bits"], binary["binary_input"], binary["patterns"]) == (1, True, 0)
    lines = run(str(files / "net.tflite")).splitlines()
    row = next(line.split() for line in lines if "LceBconv2d" in line)
    weights = 64 * 9 * 64 // 8 + 2 * 4 * 64
    assert row[1:] == ["LceBconv2d", "4×4×64", "3×3×64×64", "1", "/", "1", f"{weights:,}", "0.590"]
    assert any(line.split() == ["total", f"{weights:,}", "0.590"] for line in lines)
    assert any("1 of the 1 that have a kernel" in line for line in lines)


def test_sub_bit_file(files):
    printed = json.loads(run(str(files / "net.snn"), "--json"))
    assert printed["file_size"] == (files / "net.snn").stat().st_size
    (binary,) = (layer for layer in printed["layers"] if layer["kind"] == "LceBconv2d")
    assert (binary["patterns"], binary["index_bits"]) == (16, 4)
    assert binary["cost"]["codebook_bits"] == 9 * 16
    assert "16 patterns, 4 bits" in run(str(files / "net.snn"))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "name a run or saved model, or a --model"),
        (["somewhere", "--model", "vgg_small"], 2, "name a run or saved model, or a --model"),
        (["somewhere", "--bits", "5"], 2, "go with --model"),
        (["nowhere.keras"], 1, "no run and no model at nowhere.keras"),
        (["net.tflite"], 1, "'net.tflite' is no TFLite model; convert the network first"),
        (["net.snn"], 1, "net.snn: not a whole and undamaged .snn file"),
        (["net.tflite", "--input-size", "32"], 2, "takes images of one size; leave out --input-size"),
        (["net.snn", "--larq"], 2, "prints Larq's table of a Keras network"),
        (["--model", "vgg_smal"], 2, "did you mean 'vgg_small'"),
        (
            ["--model", "vgg_small", "--method", "recu", "--bits", "5"],
            2,
            "option of method recu called 'bits'",
        ),
        (["--model", "vgg_small", "--set", "bits=5"], 2, "method.OPTION=VALUE or model.OPTION=VALUE"),
        (["--model", "vgg_small", "--set", "model.pad_value=1"], 2, "did you mean 'pad_values'"),
        (["--model", "vgg_small", "--input-size", "big"], 2, "no size such as"),
        (["--model", "vgg_small", "--bits", "12"], 2, "not in the range 1<=x<=9"),
    ],
)
def test_wrong_usage(arguments, code, message, capsys, tmp_path, monkeypatch):
    for name in ("net.tflite", "net.snn"):
        (tmp_path / name).write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    exit_code, text = fails(capsys, *arguments)
    assert message in text
    assert text.count("\n") == 1
    assert exit_code == code
