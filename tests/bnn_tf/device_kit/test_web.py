"""The page of a kit: compiled to WebAssembly, and used in a headless browser."""

import base64
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from bnn_tf import device_kit
from bnn_tf._tensorflow import tf
from bnn_tf.data import Images
from bnn_tf.device_kit import kit, web
from bnn_tf.errors import UserError
from bnn_tf.export import check

_BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(
    _BROWSER is None or web.compiler() is None,
    reason="needs Chromium and a compiler for WebAssembly (the package ziglang, extra `cross`)",
)


class Browser:
    """Headless Chromium, told what to do through a pipe."""

    def __init__(self, profile):
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
        ]
        flags += ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream", "about:blank"]
        # It reads commands from descriptor 3 and writes answers to 4.
        start = (
            "import fcntl, os, sys;"
            "commands, answers = (fcntl.fcntl(int(n), fcntl.F_DUPFD, 10) for n in sys.argv[1:3]);"
            "os.dup2(commands, 3); os.dup2(answers, 4); os.execv(sys.argv[3], sys.argv[3:])"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", start, str(commands), str(answers), _BROWSER, *flags],
            pass_fds=(commands, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self._rest, self._number, self._session = b"", 0, None
        pages = [
            target for target in self.call("Target.getTargets")["targetInfos"] if target["type"] == "page"
        ]
        attached = self.call("Target.attachToTarget", targetId=pages[0]["targetId"], flatten=True)
        self._session = attached["sessionId"]

    def call(self, method, **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        os.write(
            self._commands,
            json.dumps(message | ({"sessionId": self._session} if self._session else {})).encode(),
        )
        os.write(self._commands, b"\0")
        while True:
            while b"\0" not in self._rest:
                part = os.read(self._answers, 1 << 20)
                assert part, "the browser has ended"
                self._rest += part
            line, self._rest = self._rest.split(b"\0", 1)
            answer = json.loads(line)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def run(self, script):
        """What a script, which may wait, returns in the page."""
        script = f"(async () => {{ {script} }})()"
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def close(self):
        self._process.kill()
        self._process.wait()
        os.close(self._commands)
        os.close(self._answers)


@pytest.fixture
def make(tiny, tmp_path, rng):
    """Writes the kit of a tiny network, with a reference of invented outputs, into `kit`."""
    pre, image = Images(size=(8, 8)), rng.integers(0, 256, (8, 8, 3), np.uint8)
    (tmp_path / "model.tflite").write_bytes(b"a model")

    def write(network, names=tuple("0123456789"), predict=lambda inputs: np.eye(10)[:1]):
        inputs = pre.normalize(image)[None]
        reference = device_kit.Reference(image, inputs, predict(inputs), 1e-6, 1e-6)
        folder, model = tmp_path / "kit", tmp_path / "model.tflite"
        return device_kit.write(folder, model, names, pre, reference, network=network)

    return write


@pytest.fixture
def page(tiny, make, tmp_path):
    """The page of a tiny network's kit in a browser."""
    model = tiny()
    names = ["<b>&", "</script>", *map(str, range(model.output_shape[-1] - 2))]
    make(model, names, lambda inputs: np.asarray(model(inputs, training=False)))

    browser = Browser(tmp_path / "profile")
    browser.call("Page.navigate", url=(tmp_path / "kit" / "index.html").as_uri())
    browser.run(
        "while (document.readyState !== 'complete') await new Promise((r) => setTimeout(r, 20)); await ready"
    )
    yield browser
    browser.close()


def test_a_kit_without_a_program_says_why(tiny, make):
    model = tiny()
    by_rows = tf.keras.Model(model.input, model(model.input * np.ones((8, 1, 1), np.float32)))
    with_program = set(make(model).files)
    report = make(by_rows)
    assert {"net.c", "Makefile", "index.html"} <= with_program - set(report.files)
    assert "its constant of shape (8, 1, 1) is not one value for each channel" in report.no_program
    assert "without a C program: " in str(report)


@pytest.mark.skipif(check.compiler() is None, reason="needs a C compiler")
def test_the_program_is_compared_with_keras(tiny, make, tmp_path, monkeypatch):
    model = tiny()
    report = make(model)
    assert (report.program.proof.difference, report.program.parity.images) == (None, 1)
    assert "layer by layer: " in str(report)

    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\necho 'internal compiler error' >&2\nexit 1\n")
    broken.chmod(0o755)
    for compiler, reason in ((None, "there is no C compiler"), (str(broken), "the compiler failed (1)")):
        monkeypatch.setattr(check, "compiler", lambda compiler=compiler: compiler)
        report = make(model)
        assert {"net.c", "Makefile"} <= set(report.files)
        assert f"agreement with Keras: not checked ({reason}" in str(report)


def test_kit_holds_the_page(tiny, make, tmp_path, monkeypatch):
    monkeypatch.setattr(web, "compiler", lambda: None)
    names = ["</script>", *"123456789"]
    image = make(tiny(), names).reference.image
    files = {path.name for path in (tmp_path / "kit").iterdir()}
    assert {"net.c", "web.c", "index.html", "Makefile", "run_on_pi.sh", "reference_image.ppm"} <= files
    text = (tmp_path / "kit" / "index.html").read_text()
    assert text.count("</script>") == 1
    data = json.loads(next(line for line in text.splitlines() if "KIT =" in line)[len("const KIT = ") : -1])
    assert data["classes"] == names
    assert base64.b64decode(data["reference"]) == image.tobytes()
    assert data["shape"] == [8, 8, 3]
    assert kit.rule(Images(size=(8, 8)))["cover"] == data["cover"]


_SHOWN = "while (!byId('top').children.length) await new Promise((r) => setTimeout(r, 20));"
_SHOWN += "return byId('top').children.length"


@needs_browser
@pytest.mark.slow
def test_page_in_a_browser(page):
    """The reference picture, a dropped picture, the camera, and what is no picture."""
    assert "this browser computes what was expected" in page.run("return byId('proof').textContent")
    assert page.run(f"byId('reference').click(); {_SHOWN}") == 5
    dropped = (
        "byId('top').replaceChildren(); const c = document.createElement('canvas');"
        "c.width = 40; c.height = 20;"
        "const g = c.getContext('2d'); g.fillStyle = 'red'; g.fillRect(0, 0, 40, 20);"
        "const blob = await new Promise((r) => c.toBlob(r)); const t = new DataTransfer();"
        "t.items.add(new File([blob], 'a.png', { type: 'image/png' }));"
        "byId('drop').dispatchEvent(new DragEvent('drop', { dataTransfer: t, cancelable: true }));"
    )
    assert page.run(dropped + _SHOWN) == 5
    assert page.run("return byId('time').textContent").endswith(" ms")
    assert page.run(f"byId('top').replaceChildren(); byId('camera').click(); {_SHOWN}") == 5
    page.run("stop(); byId('top').replaceChildren(); await classify(new File(['x'], 'a.png'))")
    assert page.run("return byId('status').textContent").startswith(
        "This is no picture that the browser can read"
    )
    assert page.run("return byId('top').children.length") == 0


def test_says_what_does_not_compile(tmp_path):
    (tmp_path / "web.c").write_text("no C")
    with pytest.raises(UserError, match="does not compile"):
        web.compile_page(tmp_path, ["false"])


def test_resizing_in_the_page(tmp_path):
    """The page scales as `preprocess.py` does."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node")
    from bnn_tf.device_kit.files import preprocess

    image = np.random.default_rng(0).integers(0, 256, (13, 21, 3), np.uint8)
    text = (kit.FILES / "program" / "index.html").read_text()
    functions = text[text.index("/* First row and weights") : text.index("/* What the network sees")]
    rgba = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)]).ravel().tolist()
    script = (
        f"{functions} console.log(JSON.stringify(Array.from(resized("
        f"{{data: {rgba}, width: 21, height: 13}}, 8, 9))));"
    )
    (tmp_path / "resize.js").write_text(script)
    out = subprocess.run([node, tmp_path / "resize.js"], capture_output=True, text=True, check=True).stdout
    difference = np.array(json.loads(out)).reshape(8, 9, 3) - preprocess.resize(image, (8, 9)).astype(int)
    assert np.abs(difference).max() <= 1
    assert (difference != 0).mean() < 0.02
