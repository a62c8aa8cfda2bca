"""Keras 2 is assured, importing is lazy and quiet."""

import os
import subprocess
import sys

import pytest

from bnn_tf import _runtime


def python(code: str, **environment: str) -> subprocess.CompletedProcess:
    """Runs code in a new process without this one's Keras settings."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if key not in ("TF_USE_LEGACY_KERAS", "TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS")
    }
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**kept, **environment}, check=False
    )


def test_tensorflow_first_with_keras_3_is_one_clear_error():
    # The order matters to Keras even where tf.keras was not used yet.
    process = python(
        "import tensorflow\ntry:\n    import bnn_tf\nexcept ImportError as error:\n    print(error)"
    )
    assert process.stdout.startswith("bnn-tf needs Keras 2")
    assert "TF_USE_LEGACY_KERAS=1" in process.stdout
    assert len(process.stdout.splitlines()) == 1


@pytest.mark.slow
def test_tensorflow_first_with_keras_2_is_fine():
    process = python(
        "import tensorflow as tf\nimport bnn_tf.layers\n"
        "print(issubclass(bnn_tf.layers.HardTanh, tf.keras.layers.Layer), tf.keras.Model.__module__)",
        TF_USE_LEGACY_KERAS="1",
    )
    assert process.stdout.split()[0] == "True", process.stderr
    assert process.stdout.split()[1].startswith("tf_keras.")


@pytest.mark.slow
def test_onednn_is_on_unless_the_environment_says_otherwise():
    code = (
        "import bnn_tf, tensorflow\nfrom tensorflow.python.util import _pywrap_util_port\n"
        "print(_pywrap_util_port.IsMklEnabled())"
    )
    assert python(code).stdout.strip() == "True"
    assert python(code, TF_ENABLE_ONEDNN_OPTS="0").stdout.strip() == "False"


@pytest.mark.slow
def test_threads_may_be_the_first_to_use_tensorflow():
    process = python(
        "import time\nfrom concurrent.futures import ThreadPoolExecutor\nfrom bnn_tf._tensorflow import tf\n"
        "def rank(n):\n"
        "    time.sleep(n / 2)  # the first is still importing\n"
        "    return int(tf.rank(tf.zeros([1] * n)))\n"
        "with ThreadPoolExecutor(4) as pool:\n"
        "    print(list(pool.map(rank, range(4))))"
    )
    assert process.stdout.strip() == "[0, 1, 2, 3]", process.stderr


def test_imports_are_lazy_and_quiet():
    process = python(
        "import sys\n"
        "import bnn_tf\n"
        "from bnn_tf.cli import app\n"
        "for arguments in (['--help'], ['train', '--help'], ['trian'], ['train', '--batch-size', '0']):\n"
        "    assert app.run(arguments) in (0, 2)\n"
        "assert 'tensorflow' not in sys.modules\n"
        "assert 'quantizers' in dir(bnn_tf) and 'convert' in dir(bnn_tf)\n"
        "print('--- now TensorFlow'); print('--- now TensorFlow', file=sys.stderr)\n"
        "bnn_tf.quantizers.ReCU()\n"
        "import tensorflow\n"
        "assert tensorflow.keras.Model.__module__.startswith('tf_keras.')\n"
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.split("--- now TensorFlow")[1].strip() == ""
    assert process.stderr.split("--- now TensorFlow")[1].strip() == ""


def test_unknown_names_are_attribute_errors():
    import bnn_tf

    with pytest.raises(AttributeError, match="no attribute 'quantisers'"):
        _ = bnn_tf.quantisers


@pytest.mark.parametrize("name", __import__("bnn_tf").__all__)
def test_promised_names_exist(name):
    assert getattr(__import__("bnn_tf"), name) is not None


def test_native_output_is_held_back(capfd):
    with _runtime.quiet_native_stderr():
        os.write(2, b"a start-up notice")
    os.write(2, b"afterwards")
    assert capfd.readouterr().err == "afterwards"


def test_native_output_comes_through_with_an_error(capfd):
    def fail():
        os.write(2, b"why it broke")
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"), _runtime.quiet_native_stderr():
        fail()
    assert capfd.readouterr().err == "why it broke"


def test_no_standard_error_at_all(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with _runtime.quiet_native_stderr():
        pass
