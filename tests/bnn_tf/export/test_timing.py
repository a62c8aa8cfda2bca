"""What measures exported programs; no test looks at how long anything took."""

import pytest

import bnn_tf
from bnn_tf.deploy.benchmark import benchmark
from bnn_tf.errors import UserError
from bnn_tf.export import check
from bnn_tf.export.timing import CompiledProgram, Peaks

pytestmark = pytest.mark.skipif(check.compiler() is None, reason="there is no C compiler on this machine")


def test_program_is_measured(tiny, tmp_path):
    work = bnn_tf.export_c(tiny(), tmp_path / "net.c", check=False).work
    program = CompiledProgram.of(tmp_path / "net.c", "net", label="tiny", work=work)
    report = benchmark([program], threads=(2, 1), rounds=2, runs=3, warmup=1)
    (candidate,) = report["candidates"]
    measured = candidate["measurements"]
    assert [(entry["threads"], entry["inferences"]) for entry in measured] == [(2, 6), (1, 6)]
    for entry in measured:
        assert 100_000 < entry["peak_memory_bytes"] < 50_000_000
    assert (candidate["form"], candidate["operators"], candidate["xnnpack"]) == ("C", [], None)
    assert 0 < candidate["limit"]["seconds"] < 1
    assert str(work) in candidate["limit"]["reason"]


def test_peaks_of_this_machine():
    """Between a slow board and a very large core."""
    peaks = Peaks.measure()
    assert 1e7 < peaks.binary < 1e14
    assert 1e6 < peaks.real < 1e13


def test_a_file_of_that_name_in_the_current_folder_is_another_one(tiny, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "net.c").write_text("no C")
    monkeypatch.chdir(tmp_path / "here")
    bnn_tf.export_c(tiny(), tmp_path / "net.c", check=False)
    assert CompiledProgram.of(tmp_path / "net.c", "net").path == tmp_path / "net.program"


def test_what_does_not_compile(tmp_path):
    (tmp_path / "net.c").write_text("no C")
    with pytest.raises(UserError, match=r"net\.c does not compile: .*error"):
        CompiledProgram.of(tmp_path / "net.c", "net")


def test_a_program_that_ends(tmp_path):
    (tmp_path / "net.c").write_text(
        "#define NET_HEIGHT 1\n#define NET_WIDTH 1\n#define NET_CHANNELS 1\n#define NET_CLASSES 1\n"
        "#include <stdlib.h>\nstatic void net_run(float *x, float *y) { (void)x; (void)y; exit(3); }\n"
    )
    with pytest.raises(UserError, match="ends with code 3"):
        benchmark([CompiledProgram.of(tmp_path / "net.c", "net")], rounds=1, runs=1)
