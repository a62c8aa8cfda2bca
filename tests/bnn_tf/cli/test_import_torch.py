"""`bnn-tf import-torch` and the commands that take its run."""

import importlib
import json

import numpy as np
import pytest


def checkpoint(torch, path, prefix="module."):
    """What DataParallel's state dict of a small network looks like; names as ReCU's, 8×8 images."""
    rng = np.random.default_rng(0)
    state = {
        "conv1.weight": rng.normal(size=(4, 3, 3, 3)),
        "bn1.weight": np.ones(4),
        "bn1.bias": rng.normal(size=4),
        "bn1.running_mean": rng.normal(size=4),
        "bn1.running_var": np.ones(4),
        "bn1.num_batches_tracked": np.array(9),
        "layer1.0.conv1.weight": rng.normal(size=(8, 4, 3, 3)),
        "layer1.0.conv1.alpha": rng.uniform(0.1, 1, (8, 1, 1)),
        "layer1.0.conv1.tau": np.array(0.99),
        "layer1.0.bn1.weight": np.ones(8),
        "layer1.0.bn1.bias": rng.normal(size=8),
        "layer1.0.bn1.running_mean": np.zeros(8),
        "layer1.0.bn1.running_var": np.ones(8),
        "linear.weight": rng.normal(size=(10, 8)),
        "linear.bias": rng.normal(size=10),
    }
    tensors = {prefix + name: torch.tensor(array) for name, array in state.items()}
    torch.save({"epoch": 5, "state_dict": tensors}, path)
    return path


@pytest.fixture
def network():
    """The architecture that the checkpoint is of, registered as `cifar_tiny`."""
    from zoo import MODELS, architecture

    with MODELS.temporary():

        @architecture("cifar_tiny", input_shape=(32, 32, 3), num_classes=10)
        def build(net, image, shortcut="pool"):
            x = net.batch_norm(net.conv(image, 4, 3, "stem_conv"), "stem_bn")
            return net.binary(x, 8, "stage1_block1a", strides=2)

        yield


@pytest.fixture
def options(network, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch, which reads its own files, is not installed")
    file = checkpoint(torch, tmp_path / "tiny.pth.tar")
    return [file, "--model", "cifar_tiny", "--set", "image_size=8,8", "-o", tmp_path / "run"]


def test_summary(command, options, tmp_path):
    code, out, err = command("import-torch", *options)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"{tmp_path / 'run'}: cifar_tiny × recu × cifar10, 10 classes"
    assert "network: torch_padding True" in lines
    assert f"file: epoch 5, file {tmp_path / 'tiny.pth.tar'}" in lines
    assert "images: 8×8, normalization imagenet" in lines
    assert "matched 14 variables, ignored 1 names" in lines
    assert "ignored, a counter of PyTorch's BatchNorm: bn1.num_batches_tracked" in lines


def test_json(command, options, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"bird {i}" for i in range(10)))
    code, out, _ = command("import-torch", *options, "--class-names", names, "--json")
    assert code == 0
    printed = json.loads(out)
    assert printed["matched"]["linear.weight"] == "logits/kernel"
    assert printed["method"] == {"name": "recu", "tau_min": 0.85, "tau_max": 0.99}
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["class_names"] == names.read_text().split("\n")


def test_other_commands_take_the_run(command, options, tmp_path):
    run = tmp_path / "run"
    assert command("import-torch", *options, "--dataset", "digits")[0] == 0
    assert command("evaluate", run, "--limit", 20)[0] == 0
    assert command("convert", run, "--images", 20)[0] == 0
    assert command("evaluate", run / "model.tflite", "--limit", 20)[0] == 0
    assert command("report", run)[0] == 0
    train = (
        "train",
        "--method",
        "recu",
        "--model",
        "cifar_tiny",
        "--dataset",
        "digits",
        "--set",
        "image_size=8,8",
    )
    train = (*train, "--limit", 20, "--epochs", 1, "--batch-size", 10, "--init-from", run, "--run-dir")
    code, _, err = command(*train, tmp_path / "fine")
    assert (code, "add --set model.torch_padding=true" in err) == (1, True)
    code, out, _ = command(*train, tmp_path / "fine", "--set", "model.torch_padding=true")
    assert (code, "14 variables took their weights" in out) == (0, True)


def test_resume_goes_on_from_the_imported_weights(command, options, tmp_path):
    run = tmp_path / "run"
    short = ("--set", "epochs=1", "--set", "batch_size=128", "--dataset", "digits")
    assert command("import-torch", *options, *short)[0] == 0
    code, out, _ = command("train", "--resume", run)
    assert (code, "variables took their weights" in out) == (0, True)


def test_numbered_classes_are_no_other_classes(command, options, tmp_path):
    assert command("import-torch", *options)[0] == 0
    code, out, _ = command("evaluate", tmp_path / "run", "--dataset", "digits", "--limit", 20)
    assert (code, "top-1" in out) == (0, True)


def test_second_import_into_the_same_folder(command, options, tmp_path):
    assert command("import-torch", *options)[0] == 0
    before = (tmp_path / "run" / "config.json").read_text()
    code, _, err = command("import-torch", *options)
    assert (code, err) == (1, f"bnn-tf: {tmp_path / 'run'} is not empty; name another folder with -o\n")
    assert (tmp_path / "run" / "config.json").read_text() == before


def test_another_network(command, options, tmp_path):
    options[2] = "vgg_small"
    code, out, err = command("import-torch", *options)
    assert (code, out) == (1, "")
    assert "is no checkpoint of vgg_small with that method and these options: " in err
    assert "conv1.weight is (4, 3, 3, 3), block2_conv/kernel wants (128, 128, 3, 3)" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (("--model", "cifar_tinny"), 2, "did you mean 'cifar_tiny'"),
        (("--method", "rekuh"), 2, "no method called 'rekuh'"),
        (("--set", "model.depth=3"), 2, "no option of model cifar_tiny called 'depth'"),
        (("--set", "epoch"), 2, "--set takes KEY=VALUE"),
        (("--normalization", "mean"), 2, "no normalization called 'mean'"),
        (("--class-names", "nothing.txt"), 1, "nothing.txt cannot be read"),
        (("--outputs", "run"), 2, "No such option"),
    ],
)
def test_wrong_options(command, options, tmp_path, change, code, message):
    exit_code, _, err = command("import-torch", *options, *change)
    assert (exit_code, message in err) == (code, True), err
    assert not (tmp_path / "run").exists()


def test_no_such_file(command, options, tmp_path):
    code, _, err = command("import-torch", tmp_path / "nothing.pth", *options[1:])
    assert (code, f"there is no checkpoint file {tmp_path / 'nothing.pth'}" in err) == (1, True)


def test_without_pytorch(command, monkeypatch, network, tmp_path):
    def fail(name, *arguments):
        if name == "torch":
            raise ModuleNotFoundError(name)
        return original(name, *arguments)

    original = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", fail)
    file = tmp_path / "net.pth"
    file.write_bytes(b"any")
    code, _, err = command("import-torch", file, "--model", "cifar_tiny", "-o", tmp_path / "run")
    assert (code, "needs PyTorch" in err, "'.[torch]'" in err, err.count("\n")) == (1, True, True, 1)
