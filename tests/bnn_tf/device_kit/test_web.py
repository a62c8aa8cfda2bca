"""The page of a kit: compiled to WebAssembly, and used in a headless browser."""

import base64
import json
import shutil
import subprocess

import numpy as np
import pytest

from bnn_tf import device_kit
from bnn_tf.data import Images
from bnn_tf.device_kit import kit, web
from bnn_tf.errors import UserError

_BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(
    _BROWSER is None or web.compiler() is None,
    reason="needs Chromium and a compiler for WebAssembly (the package ziglang, extra `cross`)",
)
_SETTLED = (
    "ready.then(async () => {{ {steps}; await new Promise((done) => setTimeout(done, 300)); done(); }});"
)
# What ends up in the title shows that the script got to its end.
_DONE = "const done = () => { document.title = 'done'; };"


@pytest.fixture
def page(tiny, tmp_path, rng):
    """A kit's page of a tiny network; `page(steps)` is what it shows after some steps of script."""
    model, pre = tiny(), Images(size=(8, 8))
    image = rng.integers(0, 256, (8, 8, 3), np.uint8)
    outputs = model.predict(pre.normalize(image)[None], verbose=0)
    reference = device_kit.Reference(image, pre.normalize(image)[None], outputs, 1e-6, 1e-6)
    (tmp_path / "model.tflite").write_bytes(b"a model")
    names = ["<b>&", "</script>", *map(str, range(outputs.size - 2))]
    device_kit.write(tmp_path / "kit", tmp_path / "model.tflite", names, pre, reference, network=model)

    def show(steps: str) -> str:
        text = (tmp_path / "kit" / "index.html").read_text()
        script = f"<script>{_DONE}{_SETTLED.format(steps=steps)}</script></body>"
        (tmp_path / "kit" / "test.html").write_text(text.replace("</body>", script))
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--use-fake-ui-for-media-stream"]
        flags += ["--use-fake-device-for-media-stream", "--virtual-time-budget=20000"]
        flags += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
        address = (tmp_path / "kit" / "test.html").as_uri()
        result = subprocess.run(
            [_BROWSER, *flags, address], capture_output=True, text=True, timeout=300, check=True
        )
        assert "<title>done</title>" in result.stdout, result.stderr[-1000:]
        return result.stdout.rsplit("<script>", 2)[0]

    return show


def test_kit_holds_the_page(tiny, tmp_path, rng, monkeypatch):
    monkeypatch.setattr(web, "compiler", lambda: None)
    model, pre = tiny(), Images(size=(8, 8))
    image = rng.integers(0, 256, (8, 8, 3), np.uint8)
    reference = device_kit.Reference(image, pre.normalize(image)[None], np.eye(10)[:1], 1e-6, 1e-6)
    (tmp_path / "model.tflite").write_bytes(b"a model")
    names = ["</script>", *"123456789"]
    device_kit.write(tmp_path / "kit", tmp_path / "model.tflite", names, pre, reference, network=model)
    files = {path.name for path in (tmp_path / "kit").iterdir()}
    assert {"net.c", "web.c", "index.html", "Makefile", "run_on_pi.sh", "reference_image.ppm"} <= files
    text = (tmp_path / "kit" / "index.html").read_text()
    assert text.count("</script>") == 1
    data = json.loads(next(line for line in text.splitlines() if "KIT =" in line)[len("const KIT = ") : -1])
    assert data["classes"] == names
    assert base64.b64decode(data["reference"]) == image.tobytes()
    assert data["shape"] == [8, 8, 3]
    assert kit.rule(pre)["cover"] == data["cover"]


@needs_browser
@pytest.mark.slow
def test_page_computes_what_was_expected(page):
    shown = page("byId('reference').click()")
    assert "this browser computes what was expected" in shown
    assert shown.count("<li>") == 5


@needs_browser
@pytest.mark.slow
def test_dropped_picture(page):
    steps = (
        "const c = document.createElement('canvas'); c.width = 40; c.height = 20;"
        "const g = c.getContext('2d'); g.fillStyle = 'red'; g.fillRect(0, 0, 40, 20);"
        "const blob = await new Promise((r) => c.toBlob(r)); const t = new DataTransfer();"
        "t.items.add(new File([blob], 'a.png', { type: 'image/png' }));"
        "byId('drop').dispatchEvent(new DragEvent('drop', { dataTransfer: t, cancelable: true }));"
        "await new Promise((r) => setTimeout(r, 500))"
    )
    shown = page(steps)
    assert shown.count("<li>") == 5
    assert " ms</p>" in shown


@needs_browser
@pytest.mark.slow
def test_no_picture(page):
    shown = page("await classify(new File(['text'], 'a.png', { type: 'image/png' }))")
    assert "This is no picture that the browser can read" in shown
    assert "<li>" not in shown


@needs_browser
@pytest.mark.slow
def test_camera(page):
    shown = page("await camera(); await new Promise((r) => setTimeout(r, 1000)); stop()")
    assert shown.count("<li>") == 5


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
