#!/usr/bin/env python3
"""Shows what model files of an attacker do: one row for each format and payload.

Every payload tries to write a marker file. The table has what the user sees and whether the marker was
written. `--unsafe` loads the same files with `safe=False`, which proves that the payloads work.
`--commands` also runs every command of `bnn-tf` that loads models on each file, and those that take runs on
hostile runs, each in its own process: the user must get exit code 1 and one line.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pickle
import shutil
import signal
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import numpy as np

import bnn_tf
from bnn_tf._tensorflow import tf
from bnn_tf.errors import UserError

FILES: dict[str, Callable[[Path, Path], Path]] = {}
"""Functions that make a hostile file in a folder, by format and payload: `(folder, marker) -> path`."""

HARMLESS = {
    "archive: bomb",
    "archive: path",
    "HDF5: other file",
    "SavedModel: checkpoint read",
    ".keras: Python lambda as loss",
}
"""Payloads that do damage in another way than by writing the marker."""

MODULE = """import pathlib
pathlib.Path({marker!r}).touch()
class Thing:
    from_config = classmethod(lambda cls, config: cls())
"""


def hostile(name: str) -> Callable:
    """Adds a function to the table."""

    def add(make: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
        FILES[name] = make
        return make

    return add


def network(*layers: tf.keras.layers.Layer) -> tf.keras.Model:
    """A small functional model that every payload is put into."""
    x = inputs = tf.keras.Input((4, 4, 3), name="image")
    for layer in (*layers, tf.keras.layers.Flatten(), tf.keras.layers.Dense(2, name="dense")):
        x = layer(x)
    return tf.keras.Model(inputs, x, name="victim")


def archive(folder: Path, change: Callable[[dict], None], name: str = "model.keras") -> Path:
    """A `.keras` file whose configuration was changed."""
    path = folder / name
    network().save(folder / "plain.keras")
    with zipfile.ZipFile(folder / "plain.keras") as plain, zipfile.ZipFile(path, "w") as hostile_file:
        for member in plain.namelist():
            data = plain.read(member)
            if member == "config.json":
                config = json.loads(data)
                change(config)
                data = json.dumps(config).encode()
            hostile_file.writestr(member, data)
    return path


def hdf5(folder: Path, change: Callable[[dict], None]) -> Path:
    """An `.h5` file whose configuration was changed."""
    path = folder / "model.h5"
    network().save(path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        change(config)
        file.attrs["model_config"] = json.dumps(config)
    return path


def insert(config: dict, layer: dict, nodes: list | None = None) -> None:
    """Adds a layer to a network; by default it takes the image."""
    layer["name"] = layer["config"]["name"]
    layer["inbound_nodes"] = nodes or [[["image", 0, 0, {}]]]
    config["config"]["layers"].append(layer)


def constant(value: object, arguments: dict) -> list:
    """An inbound node that calls its layer with a constant from the file."""
    return [["_CONSTANT_VALUE", -1, value, arguments]]


def bytecode(marker: Path) -> dict:
    """A Lambda layer with Python bytecode, as Keras writes it."""
    code = f"__import__('pathlib').Path({str(marker)!r}).touch()"
    function = eval(f"lambda x: ({code}, x)[1]", {})  # noqa: S307  the payload
    return tf.keras.layers.Lambda(function, name="evil").get_config()


def operation(name: str) -> dict:
    """A layer that stands for a call of a function of TensorFlow."""
    config = {"name": "evil", "trainable": True, "dtype": "float32", "function": name}
    return {
        "module": "tf_keras.src.layers.core.tf_op_layer",
        "class_name": "TFOpLambda",
        "registered_name": "TFOpLambda",
        "config": config,
    }


def module(folder: Path, marker: Path) -> str:
    """The name of an importable module that writes the marker when it is imported."""
    name = f"hostile_{folder.name.replace('-', '_').replace('.', '_')}"
    (folder / f"{name}.py").write_text(MODULE.format(marker=str(marker)))
    sys.path.insert(0, str(folder))
    return name


def lambda_layer(config: dict, marker: Path, function: object, kind: str) -> None:
    """Inserts a Lambda layer."""
    own = bytecode(marker) | ({"function": function, "function_type": kind} if function else {})
    insert(config, {"class_name": "Lambda", "module": "keras.layers", "registered_name": None, "config": own})


@hostile(".keras: Lambda, bytecode")
def _(folder: Path, marker: Path) -> Path:
    return archive(folder, lambda config: lambda_layer(config, marker, None, ""))


@hostile(".keras: Lambda, function of a module")
def _(folder: Path, marker: Path) -> Path:
    def change(config: dict) -> None:
        call = {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"}
        lambda_layer(config, marker, call, "function")
        # A constant in the inbound node is the function's argument.
        config["config"]["layers"][-1]["inbound_nodes"] = constant(f"touch {marker}", {})

    return archive(folder, change)


@hostile(".keras: module in the training's configuration")
def _(folder: Path, marker: Path) -> Path:
    thing = {"module": module(folder, marker), "class_name": "Thing", "config": {}, "registered_name": None}
    return archive(folder, lambda config: config.update(compile_config={"optimizer": thing}))


@hostile(".keras: module behind a known name")
def _(folder: Path, marker: Path) -> Path:
    thing = {"module": module(folder, marker), "class_name": "TensorShape", "config": {}, "items": [1]}
    return archive(folder, lambda config: config.update(compile_config={"optimizer": [[thing]]}))


@hostile(".keras: module of a function")
def _(folder: Path, marker: Path) -> Path:
    call = {
        "module": module(folder, marker),
        "class_name": "function",
        "config": "mse",
        "registered_name": "mse",
    }
    return archive(folder, lambda config: config.update(compile_config={"loss": call}))


@hostile(".keras: the model itself")
def _(folder: Path, marker: Path) -> Path:
    name = module(folder, marker)
    return archive(
        folder, lambda config: config.update(module=name, class_name="Thing", registered_name=None)
    )


@hostile(".keras: operation that writes")
def _(folder: Path, marker: Path) -> Path:
    def change(config: dict) -> None:
        insert(config, operation("io.write_file"), constant(str(marker), {"contents": "x", "name": None}))

    return archive(folder, change)


@hostile(".keras: class method")
def _(folder: Path, marker: Path) -> Path:
    def change(config: dict) -> None:
        layer = operation("")
        layer["class_name"] = layer["registered_name"] = "ClassMethod"
        layer["config"] = {"name": "evil", "cls_symbol": "io.write_file", "method_name": "__call__"}
        insert(config, layer, constant([str(marker), "x"], {"kwargs": {}}))

    return archive(folder, change)


@hostile(".keras: Python lambda as loss")
def _(folder: Path, marker: Path) -> Path:
    call = {"class_name": "__lambda__", "config": {"value": bytecode(marker)["function"]}}
    return archive(folder, lambda config: config.update(compile_config={"loss": call}))


@hostile(".keras: pickle among the weights")
def _(folder: Path, marker: Path) -> Path:
    class Payload:
        def __reduce__(self) -> tuple:
            return os.system, (f"touch {marker}",)

    path = archive(folder, lambda config: None)
    np.save(folder / "weights.npy", np.array([Payload()], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(folder / "weights.npz", "w") as weights:
        weights.write(folder / "weights.npy", "__root__.npy")
        for name in ("_layer_checkpoint_dependencies/dense", "layers/dense"):
            weights.write(folder / "weights.npy", f"{name}.npy")
    with zipfile.ZipFile(path) as plain, zipfile.ZipFile(folder / "pickle.keras", "w") as hostile_file:
        for member in ("metadata.json", "config.json"):
            hostile_file.writestr(member, plain.read(member))
        hostile_file.write(folder / "weights.npz", "model.weights.npz")
    assert pickle.dumps(Payload())
    return folder / "pickle.keras"


@hostile("archive: path")
def _(folder: Path, marker: Path) -> Path:
    path = archive(folder, lambda config: None)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(f"assets/../../{marker.name}", "x")
    return path


@hostile("archive: bomb")
def _(folder: Path, marker: Path) -> Path:
    path = archive(folder, lambda config: None)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as file, file.open("assets/zeros", "w") as member:
        for _ in range(512):
            member.write(bytes(2**20))
    return path


@hostile(".h5: Lambda, bytecode")
def _(folder: Path, marker: Path) -> Path:
    path = folder / "model.h5"
    network(tf.keras.layers.Lambda.from_config(bytecode(marker))).save(path)
    marker.unlink(missing_ok=True)  # building the network ran it
    return path


@hostile(".h5: operation that writes")
def _(folder: Path, marker: Path) -> Path:
    def change(config: dict) -> None:
        layer = operation("io.write_file")
        del layer["module"], layer["registered_name"]
        insert(config, layer, constant(str(marker), {"contents": "x", "name": None}))

    return hdf5(folder, change)


@hostile("HDF5: other file")
def _(folder: Path, marker: Path) -> Path:
    path = folder / "model.h5"
    network().save(path)
    with h5py.File(folder / "secret.h5", "w") as secret:
        secret["kernel"] = np.zeros((48, 2), "f")
    with h5py.File(path, "r+") as file:
        group = file["model_weights/dense/dense"]
        del group["kernel:0"]
        group["kernel:0"] = h5py.ExternalLink("secret.h5", "kernel")
    return path


def saved_model(folder: Path, body: Callable, name: str = "saved") -> Path:
    """A SavedModel whose layer runs `body`."""

    class Evil(tf.keras.layers.Layer):
        def call(self, x: tf.Tensor) -> tf.Tensor:
            return body(x)

    path = folder / name
    network(Evil(name="evil")).save(path, save_format="tf")
    return path


@hostile("SavedModel: Lambda, bytecode")
def _(folder: Path, marker: Path) -> Path:
    path = folder / "saved"
    network(tf.keras.layers.Lambda.from_config(bytecode(marker))).save(path, save_format="tf")
    marker.unlink(missing_ok=True)  # tracing ran it
    return path


@hostile("SavedModel: operation that writes")
def _(folder: Path, marker: Path) -> Path:
    def body(x: tf.Tensor) -> tf.Tensor:
        with tf.control_dependencies([tf.io.write_file(str(marker), "x")]):
            return tf.identity(x)

    return saved_model(folder, body)


@hostile("SavedModel: print to a file")
def _(folder: Path, marker: Path) -> Path:
    def body(x: tf.Tensor) -> tf.Tensor:
        with tf.control_dependencies([tf.print("x", output_stream=f"file://{marker}")]):
            return tf.identity(x)

    return saved_model(folder, body)


@hostile("SavedModel: checkpoint written")
def _(folder: Path, marker: Path) -> Path:
    def body(x: tf.Tensor) -> tf.Tensor:
        with tf.control_dependencies(
            [
                tf.raw_ops.SaveV2(
                    prefix=str(marker), tensor_names=["x"], shape_and_slices=[""], tensors=[tf.constant(1.0)]
                )
            ]
        ):
            return tf.identity(x)

    return saved_model(folder, body)


@hostile("SavedModel: checkpoint read")
def _(folder: Path, marker: Path) -> Path:
    def body(x: tf.Tensor) -> tf.Tensor:
        read = tf.raw_ops.RestoreV2(
            prefix="/elsewhere", tensor_names=["x"], shape_and_slices=[""], dtypes=[tf.float32]
        )
        return x + tf.ensure_shape(read[0], ())

    return saved_model(folder, body)


@hostile("SavedModel: operation at loading")
def _(folder: Path, marker: Path) -> Path:
    """A lookup table whose initialiser writes: it runs when the model is loaded."""

    class Evil(tf.keras.layers.Layer):
        def __init__(self, **options: object) -> None:
            super().__init__(**options)
            values = tf.lookup.KeyValueTensorInitializer(["a"], [1.0])
            self.table = tf.lookup.StaticHashTable(values, 0.0)

        def call(self, x: tf.Tensor) -> tf.Tensor:
            return x + self.table.lookup(tf.constant("a"))

    path = folder / "saved"
    network(Evil(name="evil")).save(path, save_format="tf")
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((path / "saved_model.pb").read_bytes())
    for function in saved.meta_graphs[0].graph_def.library.function:
        if "initializer" in function.signature.name:
            for name, value in (("file", str(marker)), ("text", "x")):
                node = function.node_def.add(name=name, op="Const")
                node.attr["dtype"].type = 7
                node.attr["value"].tensor.dtype = 7
                node.attr["value"].tensor.tensor_shape.SetInParent()
                node.attr["value"].tensor.string_val.append(value.encode())
            function.node_def.add(name="write", op="WriteFile", input=["file:output:0", "text:output:0"])
            function.control_ret["write"] = "write"
            function.signature.control_output.append("write")
    (path / "saved_model.pb").write_bytes(saved.SerializeToString())
    return path


RUNS: dict[str, Callable[[Path, Path], Path]] = {}
"""The same for run directories and recipes, which `load_model` does not take."""


def run_of_a_stranger(folder: Path, change: Callable[[dict], None]) -> Path:
    """A run directory whose configuration was changed."""
    from bnn_tf.training import RunConfig
    from zoo import recipes

    recipe = recipes.find("recu", "cifar_resnet20", "digits")
    config = RunConfig(recipe, class_names=tuple("0123456789")).to_dict()
    change(config)
    (folder / "run").mkdir()
    (folder / "run" / "config.json").write_text(json.dumps(config))
    return folder / "run"


def _method_of_a_module(folder: Path, marker: Path) -> Path:
    name = f"{module(folder, marker)}:Thing"
    return run_of_a_stranger(folder, lambda config: config["recipe"].update(method={"name": name}))


def _network_of_a_module(folder: Path, marker: Path) -> Path:
    name = f"{module(folder, marker)}:Thing"
    return run_of_a_stranger(folder, lambda config: config["recipe"].update(model=name))


def _function_of_a_package(field: str, folder: Path) -> Path:
    """A run that names a function of an installed package, which runs what it finds in the folder."""
    (folder / "conftest.py").write_text("import pathlib\npathlib.Path('marker').touch()\n")
    return run_of_a_stranger(folder, lambda config: config["recipe"].update({field: "pytest:main"}))


def _dataset_of_a_package(folder: Path, marker: Path) -> Path:
    return _function_of_a_package("dataset", folder)


def _network_of_a_package(folder: Path, marker: Path) -> Path:
    return _function_of_a_package("model", folder)


def _dataset_of_a_recipe(folder: Path, marker: Path) -> Path:
    return _dataset_of_a_package(folder, marker) / "config.json"


def _program(folder: Path, marker: Path) -> Path:
    """A run that names a module of an installed package that runs a program when it is imported."""
    return run_of_a_stranger(folder, lambda config: config["recipe"].update(model="tqdm.__main__:main"))


def _teacher_of_a_recipe(folder: Path, marker: Path) -> Path:
    name = f"{module(folder, marker)}:Thing"
    return run_of_a_stranger(folder, lambda config: config["recipe"].update(teacher=name)) / "config.json"


def _recipe(folder: Path, marker: Path) -> Path:
    return _method_of_a_module(folder, marker) / "config.json"


RUNS["run: method of a module"] = _method_of_a_module
RUNS["run: network of a module"] = _network_of_a_module
RUNS["run: network of a package"] = _network_of_a_package
RUNS["run: program of a package"] = _program
RUNS["recipe: method of a module"] = _recipe
RUNS["recipe: teacher of a module"] = _teacher_of_a_recipe
RUNS["recipe: dataset of a package"] = _dataset_of_a_recipe
# The dataset of a run comes behind its network, which this one does not have yet.
DATASETS = {"run: dataset of a package": _dataset_of_a_package}

TRAIN = "train --method recu --model cifar_resnet20 --dataset digits"
MODEL_COMMANDS = (
    "lint {}",
    "summary {}",
    "convert {} -o out.tflite",
    "export {} -o out.c",
    "evaluate {} --dataset digits --normalization none",
    f"{TRAIN} --teacher {{}} -o run",
    f"{TRAIN} --init-from {{}} -o run",
)
RUN_COMMANDS = ("lint {}", "summary {}", "evaluate {}", "report {}", "train --resume {}")
DATASET_COMMANDS = ("train --resume {}",)
RECIPE_COMMANDS = ("train --recipe {} -o new",)
PATIENCE = 600
"""Seconds after which a command is ended; none needs a tenth of them."""


def in_child(work: Callable[[], int], errors: Path) -> int:
    """The exit code of a forked process that does the work; what it prints is kept from the terminal.

    The process that forks must not compute with TensorFlow, whose threads a fork does not have.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(PATIENCE)
            for number, place in ((1, os.devnull), (2, errors)):
                os.dup2(os.open(place, os.O_WRONLY | os.O_CREAT), number)
            code = work()
            sys.stderr.flush()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def has_marker(folder: Path) -> bool:
    """Whether a payload wrote."""
    return any(folder.rglob("marker*")) or (folder.parent / "marker").exists()


def run_commands(commands: Sequence[str], path: Path, folder: Path) -> int:
    """Runs commands on a file, each in a process of its own; gives how many did anything but refuse it."""
    from bnn_tf.cli import app

    bad = 0
    for command in commands:
        words = [word.format(path) for word in command.split()]
        errors = folder / "stderr"
        errors.unlink(missing_ok=True)

        def work(words: list[str] = words) -> int:
            os.chdir(folder)
            sys.path.insert(0, str(folder))
            return app.run(words)

        code, mark = in_child(work, errors), has_marker(folder)
        lines = errors.read_text(errors="replace").strip().splitlines() or [""]
        bad += mark or code != 1 or len(lines) != 1
        option = next(
            (f" {word}" for word in words[1:] if word in ("--teacher", "--init-from", "--resume")), ""
        )
        said = lines[-1].replace(f"{folder}/", "")
        print(f"    {words[0] + option:18} exit {code}, {'MARKER' if mark else 'no marker'},", end=" ")
        print(f"{len(lines)} line{'s' * (len(lines) > 1)}: {said}", flush=True)
        marker = folder / "marker"
        marker.unlink(missing_ok=True)
    return bad


def attempt(path: Path, safe: bool) -> str:
    """What loading a file says; a model that loads also computes once."""
    try:
        model = bnn_tf.load_model(path, safe=safe)
        model(np.zeros((1, 4, 4, 3), "f"))
    except UserError as error:
        return str(error).replace(str(path.parent) + "/", "")
    except Exception as error:  # a payload that breaks the computation
        return f"{type(error).__name__} when it computes"
    return "loaded"


def main() -> int:
    """Prints the table; the exit code is 1 if a payload worked or was not refused in one line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--unsafe", action="store_true", help="load the files with safe=False")
    parser.add_argument("--commands", action="store_true", help="run the commands on each file as well")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    bad = 0
    print(f"TensorFlow {tf.__version__}")
    for package in ("larq_zoo", "bnn_tf.training.trainer", "bnn_tf.deploy.convert"):  # once for all processes
        importlib.import_module(package)
    for name, make in (FILES | RUNS | DATASETS if options.commands else FILES).items():
        folder = Path(tempfile.mkdtemp())
        marker, note = folder / "marker", folder / "note.json"

        def work(name: str = name, make: Callable = make, folder: Path = folder) -> int:
            marker, note = folder / "marker", folder / "note.json"
            path = make(folder, marker)
            marker.unlink(missing_ok=True)
            said = attempt(path, not options.unsafe) if name in FILES else ""
            note.write_text(json.dumps([str(path), said]))
            return 0

        if in_child(work, folder / "stderr"):
            print((folder / "stderr").read_text(), file=sys.stderr)
            return 1
        path, said = json.loads(note.read_text())
        mark = has_marker(folder)
        bad += mark
        print(f"{name:48} {'MARKER' if mark else 'no marker':10} {said}", flush=True)
        marker.unlink(missing_ok=True)
        if options.commands:
            commands = MODEL_COMMANDS if name in FILES else RUN_COMMANDS
            commands = RECIPE_COMMANDS if name.startswith("recipe") else commands
            commands = DATASET_COMMANDS if name in DATASETS else commands
            bad += run_commands(commands, Path(path), folder)
        shutil.rmtree(folder)
    print(f"{bad} problems")
    return int(bool(bad) and not options.unsafe)


if __name__ == "__main__":
    sys.exit(main())
