"""Random networks as programs against NumPy; `scripts/check_export.py` compares thousands."""

import importlib.util
from pathlib import Path

import pytest

from bnn_tf.export import check

_SCRIPT = Path(__file__).parents[3] / "scripts" / "check_export.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("check_export", _SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(check.compiler() is None, reason="there is no C compiler on this machine")
@pytest.mark.parametrize(
    "flags",
    [[], ["-march=native"], ["-DNET_THREADS=3", "-pthread"]],
    ids=["portable", "native", "threads"],
)
@pytest.mark.parametrize("seed", range(6))
def test_random_network(seed, flags, script):
    assert script.differs(seed, [check.compiler(), "-std=c99", "-O0", *flags]) is None
