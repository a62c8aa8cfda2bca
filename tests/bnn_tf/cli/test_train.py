"""`bnn-tf train` as users see it."""

import dataclasses
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from bnn_tf.training import Run, trainer
from zoo import pretrained
from zoo.recipes import Recipe


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


class TestOutput:
    def test_the_run_directory_comes_first(self, said):
        lines = said.out.splitlines()
        assert re.fullmatch("Run directory: /.*/run", lines[0])
        assert lines[1].startswith("Recipe: there is no recipe for this combination; these are ")
        assert lines[2] == "Data: 10 classes, 48 + 48 images, 32 px, shrunk to 8×8"
        assert lines[3] == "Compiling the training step…"
        assert [line.split("  ")[0] for line in lines[4:6]] == ["train 1/2", "train 2/2"]
        assert re.fullmatch(r".*: top-1 [\d.]+%  top-5 [\d.]+%  loss [\d.]+  \(48 images\)", lines[6])
        assert len(lines) == 7

    def test_nothing_else(self, said):
        assert said.err == ""
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", said.out)

    def test_the_last_epoch_and_the_result_agree(self, said, trained):
        shown = float(re.search(r"top-1 ([\d.]+)%", said.out)[1])
        assert shown == pytest.approx(100 * float(Run.open(trained).metrics()[-1]["val_accuracy"]), abs=0.006)

    def test_json_is_one_document_and_nothing_else(self, command, tiny_options, tmp_path, quick_fit):
        code, out, err = command(
            "train", "--method", "bireal", *tiny_options, "--epochs", 2, "--run-dir", tmp_path / "x", "--json"
        )
        printed = json.loads(out)
        assert code == 0
        assert set(printed) == {"run_dir", "images", "top1", "top5", "loss", "published_top1"}
        assert (printed["run_dir"], printed["images"]) == (str(tmp_path / "x"), 48)
        assert err.splitlines()[0] == f"Run directory: {tmp_path / 'x'}"

    def test_brackets_in_paths_are_no_markup(self, command, tiny_options, tmp_path, quick_fit):
        run = tmp_path / "[bold]a[/bold] [x]"
        _, out, _ = command("train", "--method", "bireal", *tiny_options, "--epochs", 1, "--run-dir", run)
        assert out.splitlines()[0] == f"Run directory: {run}"

    @pytest.mark.parametrize(("method", "remarks"), [("ovsw", 1), ("real", 0)])
    def test_averages_of_latent_weights(self, method, remarks, command, tiny_options, tmp_path, quick_fit):
        """--ema 0.999 took OvSW from 72.5 to 26.7 % of CIFAR-10: a quarter of the signs were others."""
        options = [*tiny_options, "--epochs", 1, "--ema", 0.9, "--run-dir", tmp_path / "run"]
        _, out, _ = command("train", "--method", method, *options)
        assert out.count("averages latent weights") == remarks

    @pytest.mark.parametrize(("epochs", "warmup", "remarks"), [(1, 1, 0), (1, 2, 1), (2, 2, 1), (3, 2, 0)])
    def test_a_phase_that_is_all_warm_up(
        self, epochs, warmup, remarks, command, tiny_options, tmp_path, quick_fit
    ):
        _, out, _ = command(
            "train", "--method", "recu", *tiny_options, "--epochs", epochs, "--run-dir", tmp_path / "run",
            "--set", f"schedule.warmup={warmup}",
        )  # fmt: skip
        lines = [line for line in out.splitlines() if line.startswith("Phase ")]
        assert len(lines) == remarks
        length = "1 epoch" if epochs == 1 else f"{epochs} epochs"
        said = f"Phase train has {length} and a warm-up of 2, during which the learning rate only rises; "
        assert all(said in line for line in lines)

    @pytest.mark.parametrize(("images", "batch"), [(2, 1), (5, 2), (16, 6), (48, 8)])
    def test_the_batch_that_is_advised_makes_several_steps(self, images, batch, command, tiny_options):
        options = (*tiny_options, "--limit", images, "--batch-size", 64, "--dry-run")
        _, out, _ = command("train", "--method", "recu", *options)
        assert f"The batch (64) is larger than the training set ({images}), so that" in out
        assert f"an epoch is a single step; try --batch-size {batch}\n" in out

    def test_one_image_makes_one_step_with_any_batch(self, command, tiny_options):
        _, out, _ = command("train", "--method", "recu", *tiny_options, "--limit", 1, "--dry-run")
        assert "an epoch is a single step\n" in out

    def test_a_batch_of_all_images_is_meant(self, command, tiny_options):
        options = (*tiny_options, "--limit", 48, "--batch-size", 48, "--dry-run")
        assert "single step" not in command("train", "--method", "recu", *options)[1]

    def test_what_was_changed_is_said(self, command):
        line = ("train", "--method", "bireal", "--dry-run", "--epochs", 3, "--set", "weight_decay=1e-3")
        lines = command(*line)[1].splitlines()
        assert lines[0].endswith(": not from the paper: the embedded default")  # without its 2.5 minutes
        assert "changed: train.epochs 25 → 3" in lines
        assert "changed: train.optimizer.weight_decay 0.0 → 0.001" in lines
        plan = json.loads(command(*line, "--json")[1])
        assert plan["differences"] == ["train.epochs: 25 → 3", "train.optimizer.weight_decay: 0.0 → 0.001"]
        assert "2.5 minutes" in command("train", "--method", "bireal", "--dry-run")[1]

    def test_a_complete_run_has_nothing_left(self, command, trained):
        code, out, _ = command("train", "--resume", trained)
        assert code == 0
        assert f"{trained} is complete: nothing is left to train. To train more, start a new run" in out
        assert f"--init-from {trained}\n" in out

    def test_the_default_folder(self, command, tiny_options, tmp_path, quick_fit, monkeypatch):
        monkeypatch.chdir(tmp_path)
        _, out, _ = command("train", "--method", "bireal", *tiny_options, "--epochs", 1)
        (run,) = (tmp_path / "runs").iterdir()
        assert out.splitlines()[0] == f"Run directory: runs/{run.name}"
        assert run.name.startswith("bireal-tiny-digits-")


class TestDryRun:
    def test_writes_nothing(self, command, tiny_options, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        code, out, _ = command("train", "--method", "subbit", *tiny_options, "--epochs", "2,3", "--dry-run")
        assert code == 0
        lines = out.splitlines()
        assert lines[0].startswith("recipe: subbit × tiny × digits: ")
        assert lines[1:3] == [
            "phase activations: 2 epochs, batches of 16, adam at 0.003, linear",
            "phase weights: 3 epochs, batches of 16, adam at 0.003, linear",
        ]
        assert lines[-2:] == ["steps per epoch: activations 3, weights 3", "steps in all: 15"]
        assert files(tmp_path) == []

    def test_json_is_the_configuration(self, command, tiny_options, tmp_path, monkeypatch):
        (tmp_path / "pictures").mkdir()
        monkeypatch.chdir(tmp_path)
        _, out, _ = command(
            "train", "--method", "recu", *tiny_options, "--seed", 7, "--learning-rate", 0.5,
            "--momentum", 0.8, "--weight-decay", 0.25, "--test-batch-size", 9, "--set", "method.tau_min=0.6",
            "--deterministic", "--schedule", "multistep", "--set", "schedule.warmup=0",
            "--set", "schedule.milestones=1,2", "--workers", 2, "--clip-norm", 5,
            "--data-dir", "pictures", "--dry-run", "--json",
        )  # fmt: skip
        printed = json.loads(out)
        (phase,) = printed["recipe"]["phases"]
        assert (printed["seed"], printed["deterministic"], printed["workers"]) == (7, True, 2)
        assert printed["data_dir"] == os.path.join(os.getcwd(), "pictures")
        optimizer = phase["optimizer"]
        chosen = [optimizer[name] for name in ("learning_rate", "momentum", "weight_decay", "clip_norm")]
        assert chosen == [0.5, 0.8, 0.25, 5]
        assert (phase["schedule"]["name"], phase["schedule"]["milestones"]) == ("multistep", [1, 2])
        assert printed["recipe"]["method"]["tau_min"] == 0.6
        assert printed["recipe"]["test_batch_size"] == 9
        assert (printed["steps_per_epoch"], printed["steps"]) == ({"train": 3}, 3 * phase["epochs"])

    @pytest.mark.parametrize(
        ("name", "steps", "said"),
        [
            ("tiny_imagenet", 391, "data: 200 classes, 100,000 + 10,000 images, 64 px, shrunk to 32×32"),
            ("cifar100", 196, "data: 100 classes, 50,000 + 10,000 images, 32 px"),
            ("food101", 296, "data: 101 classes, 75,750 + 25,250 images"),
        ],
    )
    def test_where_the_dataset_is_absent(self, command, tmp_path, monkeypatch, name, steps, said):
        monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
        code, out, err = command(
            "train", "--method", "bireal", "--model", "cifar_resnet20", "--dataset", name,
            "--batch-size", 256, "--image-size", 32, "--dry-run",
        )  # fmt: skip
        assert (code, err) == (0, "")
        lines = out.splitlines()
        assert said in lines
        assert lines[-2] == f"steps per epoch: train {steps}"

    def test_bits(self, command, tiny_options, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        chosen = ("train", "--method", "subbit", *tiny_options, "--bits", 4, "--dry-run", "--json")
        _, out, _ = command(*chosen)
        assert json.loads(out)["recipe"]["method"]["bits"] == 4


class TestWrongUsage:
    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            (("--method", "bireal", "--model", "cifar_resnet21"), 2, "did you mean 'cifar_resnet20'"),
            (("--method", "bireal", "--variant", "multi-step"), 2, "did you mean 'multistep'"),
            (
                ("--method", "bireal", "--epochs", "two"),
                2,
                "--epochs takes a whole number, or one for each phase",
            ),
            (("--method", "bireal", "--epochs", "1,2"), 2, "one for each phase (train)"),
            (("--method", "bireal", "--epochs", "0"), 2, "one positive number"),
            (("--method", "bireal", "--set", "epochs"), 2, "--set takes KEY=VALUE, not 'epochs'"),
            (("--method", "bireal", "--set", "bathc_size=3"), 2, "did you mean 'batch_size'"),
            (
                ("--method", "bireal", "--set", "batch_size=-3"),
                2,
                "must be a whole number at least 1, not -3",
            ),
            (("--method", "bireal", "--learning-rate", "nan"), 2, "it must be finite and above 0, not nan"),
            (("--method", "bireal", "--schedule", "cosin"), 2, "did you mean 'cosine'"),
            (("--method", "bireal", "--until-phase", "trian"), 2, "did you mean 'train'"),
            (("--method", "bireal", "--from-phase", "trian"), 2, "did you mean 'train'"),
            (
                ("--method", "bireal", "--variant", "multistep", "--from-phase", "clip"),
                2,
                "needs a run to start from",
            ),
            (("--method", "bireal", "--bits", "5"), 2, "there is no option of bireal called 'bits'"),
            (("--method", "subbit", "--bits", "0"), 2, "Invalid value for '--bits'"),
            (("--method", "bireal", "--gpus", "64"), 2, "sees 0 GPUs on this machine, not 64 as asked for"),
            (
                ("--method", "recu", "--set", "method.tau_min=85"),
                2,
                "tau_min must be a number above 0.5",
            ),
            (
                ("--method", "bireal", "--init-from", "nowhere"),
                1,
                "there is no run and no model at nowhere",
            ),
            (("--method", "bireal", "--teacher", "nowhere"), 1, "there is no run and no model at nowhere"),
            (("--method", "bireal", "--data-dir", "nowhere"), 1, "data directory nowhere does not exist"),
            (("--method", "bireal", "--dataset", "folder"), 1, "say where it is with --data-dir"),
            (("--resume", "nowhere"), 1, "nowhere is no run directory: it does not exist"),
            (("--resume", "."), 1, "it has no config.json"),
        ],
    )
    def test_one_line_and_no_run_directory(
        self, command, tmp_path, monkeypatch, tiny, arguments, code, message
    ):
        monkeypatch.chdir(tmp_path)
        if "--model" not in arguments and "--resume" not in arguments and "--variant" not in arguments:
            arguments = (*arguments, "--model", "tiny")
        exit_code, out, err = command("train", *arguments)
        assert (exit_code, out) == (code, "")
        assert message in err
        assert err.startswith("bnn-tf: ")
        assert len(err.splitlines()) == 1
        assert files(tmp_path) == []

    def test_a_folder_that_is_not_empty(self, command, tiny_options, trained):
        before = files(trained)
        code, _, err = command("train", "--method", "bireal", *tiny_options, "--run-dir", trained)
        assert (code, files(trained)) == (1, before)
        assert f"{trained} holds a run already: continue it with bnn-tf train --resume" in err


class TestResume:
    def test_a_finished_run_reports_again(self, command, trained, said):
        before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
        code, out, err = command("train", "--resume", trained)
        assert (code, err) == (0, "")
        assert out.splitlines()[-1].partition(": ")[2] == said.out.splitlines()[-1].partition(": ")[2]
        assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before

    @pytest.mark.parametrize(
        ("options", "flag"),
        [
            (("--method", "bireal"), "--method"),
            (("--epochs", "9"), "--epochs"),
            (("--set", "epochs=9"), "--set"),
            (("--run-dir", "x"), "--run-dir"),
            (("--seed", "1"), "--seed"),
            (("--batch-size", "4", "--dry-run"), "--batch-size, --dry-run"),
        ],
    )
    def test_settings_stay(self, command, trained, options, flag):
        code, _, err = command("train", "--resume", trained, *options)
        assert code == 2
        assert f"--resume continues a run as it was configured; leave out {flag}" in err

    def test_where_and_how_may_change(self, command, trained, tmp_path):
        code, out, _ = command(
            "train", "--resume", trained, "--json", "--workers", 1, "--gpus", 0, "--print-every", 1,
            "--until-phase", "train",
        )  # fmt: skip
        assert code == 0
        assert json.loads(out)["images"] == 48

    def test_data_that_have_moved(self, command, trained, tmp_path):
        code, _, err = command("train", "--resume", trained, "--data-dir", tmp_path / "nowhere")
        assert code == 1
        assert f"{tmp_path / 'nowhere'} does not exist" in err

    @pytest.mark.parametrize("content", ["", "{", '{"recipe": {}}'])
    def test_a_damaged_configuration(self, command, trained, content):
        (trained / "config.json").write_text(content)
        code, out, err = command("train", "--resume", trained)
        assert (code, out) == (1, "")
        assert "config.json cannot be read" in err

    def test_without_checkpoints_a_restart_is_offered(self, command, trained):
        shutil.rmtree(trained / "checkpoints")
        config = json.loads((trained / "config.json").read_text())
        config["recipe"]["phases"][0]["epochs"] = 3
        (trained / "config.json").write_text(json.dumps(config))
        before = files(trained)
        code, _, err = command("train", "--resume", trained)
        assert code == 1
        assert "was trained before (phase train, 2 epochs), but no checkpoint of it can be used" in err
        assert "--restart-from-weights goes on from its last weights with a fresh optimizer" in err
        assert len(err.splitlines()) == 1
        assert files(trained) == before


class TestPhases:
    def test_until_and_then_the_rest(self, command, tiny_options, tmp_path, quick_fit):
        run = tmp_path / "run"
        options = ("train", "--method", "subbit", *tiny_options, "--epochs", "1,2", "--run-dir", run)
        assert command(*options, "--until-phase", "activations")[0] == 0
        assert [row["phase"] for row in Run.open(run).metrics()] == ["activations"]
        assert command("train", "--resume", run)[0] == 0
        assert [row["phase"] for row in Run.open(run).metrics()] == ["activations", "weights", "weights"]
        code, _, err = command("train", "--resume", run, "--until-phase", "activations")
        assert code == 2
        assert "the run is in phase weights already" in err

    def test_from_a_phase_with_another_run_s_weights(self, command, tiny_options, tmp_path, quick_fit):
        run, first = tmp_path / "run", tmp_path / "first"
        options = ("train", "--method", "subbit", *tiny_options, "--epochs", "1")
        assert command(*options, "--run-dir", first, "--until-phase", "activations")[0] == 0
        code, out, _ = command(*options, "--run-dir", run, "--from-phase", "weights", "--init-from", first)
        assert code == 0
        assert "3 without a source: body_conv/codebook, body_conv/memory, body_conv/step" in out
        assert [row["phase"] for row in Run.open(run).metrics()] == ["weights"]


class TestStopped:
    def test_says_how_to_continue(self, command, tiny_options, tmp_path, quick_fit, monkeypatch):
        run = tmp_path / "my runs" / "1"
        original = trainer.PhaseTraining.save_if_due

        def terminated(self, *at):
            os.kill(os.getpid(), signal.SIGTERM)
            original(self, *at)

        with monkeypatch.context() as patch:
            patch.setattr(trainer.PhaseTraining, "save_if_due", terminated)
            code, _, err = command(
                "train", "--method", "ovsw", *tiny_options, "--epochs", 2, "--run-dir", run
            )
        assert code == 143
        assert "stopped (SIGTERM) in epoch 1 of 2, after step 1 of 3. " in err
        assert f"Continue: bnn-tf train --resume '{run}'" in err
        assert len(err.splitlines()) == 1
        assert command("train", "--resume", run)[0] == 0
        assert [row["epoch"] for row in Run.open(run).metrics()] == ["1", "2"]

    def test_nan_fails(self, command, tiny_options, tmp_path):
        code, _, err = command(
            "train", "--method", "bireal", *tiny_options, "--learning-rate", 1e30, "--set", "optimizer=sgd",
            "--schedule", "constant", "--run-dir", tmp_path / "run",
        )  # fmt: skip
        assert code == 1
        assert "the loss is not finite any more in epoch" in err
        assert len(err.splitlines()) == 1


# The tiny network in a new process; every step of the second epoch takes a second, so that there is time.
SLOW_TRAINING = """
import sys, time
from zoo import architecture
from bnn_tf import cli
from bnn_tf._tensorflow import tf
from bnn_tf.training import trainer

@architecture("tiny", input_shape=(8, 8, 3), num_classes=10)
def build(net, image, width=4):
    x = net.batch_norm(net.conv(image, width, 3, "stem_conv"), "stem_bn")
    return net.binary(x, 2 * width, "body")

original = trainer.PhaseTraining.save_if_due
def slow(self, epoch, *rest):
    time.sleep(epoch == 1)
    original(self, epoch, *rest)

trainer.PhaseTraining.save_if_due = slow
cli.main(sys.argv[1:])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)],
    ids=lambda number: number.name,
)
def test_a_process_stopped_in_an_epoch(number, command, tiny_options, tmp_path):
    """Resumed in this process, it gives what training in one go gives, bit for bit."""
    options = ("train", "--method", "ovsw", *tiny_options, "--epochs", "2", "--deterministic")
    run, whole = tmp_path / "run", tmp_path / "whole"
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_TRAINING, *options, "--run-dir", run],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # Where the tests run in the background of a shell, Ctrl-C would be ignored from the start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    while not (line := process.stdout.readline()).startswith("train 1/2"):
        assert line, process.stderr.read()
    process.send_signal(number)
    _, err = process.communicate()
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert "stopped (Ctrl-C) " in err
        assert f". Continue: bnn-tf train --resume {run}" in err
    assert [row["epoch"] for row in Run.open(run).metrics()] == ["1"]
    try:
        assert command("train", "--resume", run)[0] == command(*options, "--run-dir", whole)[0] == 0
    finally:
        from tensorflow.python.framework import config

        config.disable_op_determinism()
    resumed, at_once = ([{**row, "seconds": ""} for row in Run.open(path).metrics()] for path in (run, whole))
    assert resumed == at_once
    for weights, wanted in zip(
        *(Run.open(p).load_network().get_weights() for p in (run, whole)), strict=True
    ):
        np.testing.assert_array_equal(weights, wanted)


def test_the_configuration_is_all_that_resuming_needs(trained):
    config = Run.open(trained).config
    assert config.class_names == tuple("0123456789")
    assert dataclasses.replace(config, seed=config.seed) == config
    environment = json.loads((trained / "environment.json").read_text())
    assert environment["packages"]["larq"].startswith("0.")


@pytest.mark.parametrize("name", pretrained.names())
def test_the_command_of_weights_that_ship_gives_their_settings(command, name):
    record = pretrained.record(name)
    code, out, _ = command(*shlex.split(record["command"])[1:], "--dry-run", "--json")
    assert code == 0
    planned, trained = map(Recipe.from_dict, (json.loads(out)["recipe"], record["config"]["recipe"]))
    assert (planned.method, planned.model_options) == (trained.method, trained.model_options)
    for phase, wanted in zip(planned.phases, trained.phases, strict=True):
        assert phase.optimizer.decay(phase.epochs) == wanted.optimizer.decay(wanted.epochs)
        used = [
            dataclasses.replace(p.optimizer, weight_decay=0.0, decay_epochs=None) for p in (phase, wanted)
        ]
        assert dataclasses.replace(phase, optimizer=used[0]) == dataclasses.replace(wanted, optimizer=used[1])
        kinds = [
            [type(op) for op in r.images_of(p).training] for r, p in ((planned, phase), (trained, wanted))
        ]
        assert kinds[0] == kinds[1]
