"""The guides: every command of a page is run, in order, with little data and a faked device."""

import importlib.util
import os
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import zoo
from bnn_tf import cli
from bnn_tf._tensorflow import tf
from bnn_tf.deploy import Interpreter

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tutorials" / "from_checkpoint_to_device.md"
STARTS = ("From nothing", "From a PyTorch checkpoint", "From Larq Zoo")
AFTER = ("2. A file for the device", "3. A folder for the device", "Raspberry Pi", "Android")
ELF_AARCH64 = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xb7\x00"


def commands():
    """The lines of the page's sh blocks under each heading."""
    pages, heading, inside = {}, "", False
    for line in PAGE.read_text().splitlines():
        title = re.match(r"#+ (.*)", line)
        if title and not inside:
            heading = title[1]
        elif line.startswith("```"):
            inside = line == "```sh"
        elif inside and line.startswith("  "):
            pages[heading][-1] = pages[heading][-1].removesuffix("\\") + line
        elif inside:
            pages.setdefault(heading, []).append(line)
    return pages


def load(path):
    """A Python file as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Reader:
    """Who follows the page: in a folder with a few pictures and a device that is faked."""

    def __init__(self, folder, capsys):
        self.folder, self.capsys = folder, capsys
        self.device, self.bin = folder / "device", folder / "bin"
        for path in (self.device, self.bin, self.device / "outputs"):
            path.mkdir()
        self.tool("python3", f'exec "{sys.executable}" "$@"\n')

    def follow(self, heading):
        """Runs the commands under a heading; returns what they print."""
        return [self.run(line) for line in commands()[heading]]

    def run(self, line):
        """One command: bnn-tf in this process, anything else in a shell."""
        if line.startswith("bnn-tf "):
            return self._bnn_tf(shlex.split(line, comments=True)[1:])
        path = f"{self.bin}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["/bin/sh", "-c", line], capture_output=True, text=True, cwd=self.folder, check=False,
            env={**os.environ, "PATH": path},
        )  # fmt: skip
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout

    def _bnn_tf(self, arguments):
        if arguments[0] == "train":
            # Two epochs: Bi-Real's schedule runs the last one at rate 0.
            arguments = [*arguments, "--epochs", "2", "--batch-size", "4", "--set", "image_size=32,32"]
        with pytest.raises(SystemExit) as stopped:
            cli.main(arguments)
        said = self.capsys.readouterr()
        assert stopped.value.code == 0, f"{arguments}\n{said.out}{said.err}"
        return said.out

    def plug_in(self):
        """A board and a phone that answer with what LCE's interpreter makes of the inputs they may get."""
        kit = self.folder / "kit"
        for name in ("lce_benchmark_model_aarch64", "lce_benchmark_model_android_arm64"):
            (kit / name).write_bytes(ELF_AARCH64)
        preprocess = load(kit / "preprocess.py")
        for picture in (kit / "reference_image.npy", self.folder / "photo.jpg"):
            inputs = preprocess.preprocess(preprocess.read_picture(picture), preprocess.read_rule())
            outputs = Interpreter(kit / "model.tflite").predict(inputs)
            preprocess.write_array(self.device / "input", inputs)
            answer = self.device / "outputs" / checksum(self.device / "input")
            preprocess.write_array(answer, outputs)
        infer = f"""
cd {self.device}
echo "INFO: Inference timings in us: Init: 1, First inference: 2, Warmup (avg): 3, Inference (avg): 4"
cmp model.tflite {kit}/model.tflite && cp "outputs/$(cksum <input.bin | tr -d ' ')" output.bin"""
        for name, answers in (("adb", ADB), ("ssh", SSH), ("scp", SCP)):
            self.tool(name, answers.format(device=self.device, infer=infer))

    def tool(self, name, body):
        """Puts a shell script on the `PATH`."""
        path = self.bin / name
        path.write_text("#!/bin/sh\n" + body)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)


def checksum(path):
    """As the fake device computes it."""
    with path.open("rb") as file:
        return subprocess.check_output("cksum | tr -d ' \n'", shell=True, stdin=file, text=True)


ADB = """case $* in
    get-state) echo device ;;
    *getprop*) echo arm64-v8a ;;
    *--graph=model.tflite*--input_layer_value_files=input:input.bin*) {infer} ;;
    push*) cp "$2" "{device}/${{3##*/}}" ;;
    pull*) cp "{device}/${{2##*/}}" "$3" ;;
esac
"""
SSH = """case $* in
    *uname*) echo aarch64; echo 64 ;;
    *--graph=model.tflite*--input_layer_value_files=input:input.bin*) {infer} ;;
esac
"""
SCP = """case $2 in
    *:*) cp "{device}/${{2##*/}}" "$3" ;;
    *) cp "$2" "{device}/${{3##*/}}" ;;
esac
"""


@pytest.fixture
def reader(tmp_path, monkeypatch, capsys):
    """A reader with pictures of two classes, one darker than the other, and a photo of the first."""
    rng = np.random.default_rng(0)

    def picture(path, brightness):
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.clip(rng.normal(brightness, 40, (36, 48, 3)), 0, 255).astype(np.uint8)
        path.write_bytes(tf.io.encode_jpeg(pixels).numpy())

    for split, count in (("train", 6), ("test", 4)):
        for name, brightness in (("cat", 70), ("dog", 180)):
            for number in range(count):
                picture(tmp_path / "pictures" / split / name / f"{number}.jpg", brightness)
    picture(tmp_path / "photo.jpg", 70)
    monkeypatch.chdir(tmp_path)
    return Reader(tmp_path, capsys)


def go_on(reader, convolutions):
    """From the run to the prediction on both devices."""
    evaluated, converted, lite = reader.follow(AFTER[0])
    assert "(8 images)" in evaluated
    assert f"binary convolutions: {convolutions} of {convolutions} as LceBconv2d" in converted
    assert lite.startswith("model.tflite: top-1 ")
    _, predicted = reader.follow(AFTER[1])
    classes = re.findall(r"(cat|dog)  \(class", predicted)
    assert sorted(classes) == ["cat", "dog"]
    reader.plug_in()
    for heading in AFTER[2:]:
        reference, photo = reader.follow(heading)
        assert "Inference timings in us" in reference
        assert "AGREES: largest difference 0," in reference
        assert photo.endswith(predicted)


def test_the_page_has_these_sections():
    assert tuple(commands()) == (*STARTS, *AFTER)


@pytest.mark.slow
def test_from_nothing(reader, tiny):
    """With one binary convolution in place of eighteen."""
    pytest.importorskip("PIL")
    with zoo.MODELS.temporary({"cifar_resnet20": tiny}):
        lint, trained = reader.follow(STARTS[0])
        assert "0 errors" in lint
        assert trained.startswith("Run directory: run\n")
        go_on(reader, 1)


@pytest.fixture
def imported(reader):
    """What importing the authors' ResNet-20, with ReCU and random weights, prints."""
    torch = pytest.importorskip("torch")
    authors = load(ROOT / "tests" / "bnn_tf" / "torch_import" / "authors.py")
    state, _, _ = authors.example(authors.cifar20(authors.recu_conv), 32, 2)
    tensors = {name: torch.tensor(value) for name, value in state.items()}
    torch.save({"state_dict": tensors, "epoch": 600}, "checkpoint.pth")
    (said,) = reader.follow(STARTS[1])
    return said


def test_from_a_pytorch_checkpoint(reader, imported):
    assert "matched 137 variables" in imported
    assert "(8 images)" in reader.run(commands()[AFTER[0]][0])


@pytest.mark.slow
def test_from_a_pytorch_checkpoint_to_the_device(reader, imported):
    pytest.importorskip("PIL")
    go_on(reader, 18)


@pytest.mark.slow
def test_from_larq_zoo(reader, monkeypatch):
    """With fewer channels and random weights in place of the downloaded ones."""
    from larq_zoo.literature import birealnet

    from zoo import bireal_net

    def narrow(*, weights, input_shape=(224, 224, 3)):
        factory = birealnet.BiRealNetFactory(
            filters=8, weights=None, input_shape=(32, 32, 3), num_classes=1000
        )
        return factory.build()

    monkeypatch.setattr("larq_zoo.literature.BiRealNet", narrow)
    monkeypatch.setattr(bireal_net, "WIDTHS", (8, 16, 32, 64))
    summary, trained = reader.follow(STARTS[2])
    assert "birealnet18" in summary
    assert "Starting from larq-zoo:BiRealNet: 100 variables took their weights" in trained
