"""Saved models and weights: checked as data before Keras sees them, so that no file runs code.

Keras builds a model from a configuration that the file contains, and the configuration may name any function
of any installed module together with its arguments; a Lambda layer holds Python bytecode; a SavedModel holds
a program that may read, write and start what it likes. Keras' own safe mode stops some of this only.
`load_model` therefore reads the configuration as data first and compares every name in it with what Keras'
layers, Larq, Larq Zoo, this package and the calling program register. Of a SavedModel it compares every
operation with a list of operations that only compute. HDF5 files and archives are also checked for references
to other files and for sizes that would fill the memory, and HDF5 files are read in another process first,
which their library can end or keep for ever (`bnn_tf.hdf5`).

What remains is the trust in the libraries that parse the bytes (HDF5, protocol buffers, TensorFlow's
checkpoints), and in the size of the network that a configuration describes.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import json
import os
import re
import stat
import sys
import types
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from bnn_tf import hdf5
from bnn_tf._tensorflow import lazy, saved_metadata_pb2, saved_model_pb2, tf, tf_export
from bnn_tf.errors import UnknownClassError, UnsafeModelError, UserError, first_line, some

if TYPE_CHECKING:
    import h5py

    from bnn_tf import transforms
else:
    h5py, transforms = lazy("h5py"), lazy("bnn_tf.transforms")


CONFIG_LIMIT = hdf5.ATTRIBUTE_LIMIT
"""The largest configuration in bytes; that of a network with a thousand layers takes one megabyte."""

EXPANDED_LIMIT = hdf5.EXPANDED_LIMIT
"""The most bytes that the members of an archive may take in memory."""

_WEIGHTS = "model.weights.h5"
_MEMBERS = ("metadata.json", "config.json", _WEIGHTS)


def load_model(
    path: str | os.PathLike, *, custom_objects: Mapping[str, Any] | None = None, safe: bool = True
) -> tf.keras.Model:
    """The model that `model.save(path)` wrote: `.keras`, `.h5` or a SavedModel folder.

    Nothing that stands in the file is executed: before Keras sees it, every class, function and module that
    it names must be one of Keras' layers, of Larq, of Larq Zoo, of this package, or one that the caller
    passes or has registered with `tf.keras.utils.register_keras_serializable`.

    Args:
        path: The file or folder.
        custom_objects: The caller's own classes and functions by the names that the file uses.
        safe: With `False` the file is not checked. It may then run any code with the rights of this process.

    Raises:
        UnsafeModelError: the file names code (`UnknownClassError`: a class or function that nobody has made
            known), reads or writes other files, or is larger than any model.
        UserError: there is nothing at `path`, it is no saved Keras model, or it is damaged.

    Example:
        >>> import tempfile
        >>> model = tf.keras.Sequential([tf.keras.Input((4,)), tf.keras.layers.Dense(2)])
        >>> path = Path(tempfile.mkdtemp()) / "model.keras"
        >>> model.save(path)
        >>> load_model(path).count_params()
        10
    """
    path = Path(path)
    custom_objects = dict(custom_objects or {})
    _register()
    if safe:
        check_model(path, custom_objects)
    else:
        _kind(path)
        warnings.warn(f"{path} is loaded unchecked: code in it runs with your rights", stacklevel=2)
    try:
        model = tf.keras.models.load_model(os.fspath(path), custom_objects=custom_objects, safe_mode=safe)
    except Exception as error:  # whatever Keras meets in a damaged file
        if not safe:
            _require_known(path, custom_objects, error)
        why = first_line(Exception(str(error).rpartition("Exception encountered: ")[2]))[:200]
        raise UserError(f"{path} does not load as a Keras model: {type(error).__name__}: {why}") from error
    if not isinstance(model, tf.keras.Model):
        raise UserError(f"{path} holds TensorFlow functions, but no Keras model; write it with model.save")
    return model


def _require_known(path: Path, custom_objects: Mapping[str, Any], error: Exception) -> None:
    """Says which class is missing where a file did not load that was not checked before."""
    try:
        check_model(path, custom_objects)
    except UnknownClassError as missing:
        raise missing from error
    except UserError:  # it is loaded all the same
        pass


def register_classes(module: types.ModuleType) -> None:
    """Lets saved models name the layers, quantizers and other Keras classes that a module defines.

    What the module registers with Keras itself is known as soon as it is imported. A name that Keras or Larq
    has stays theirs.
    """
    if "tensorflow" not in sys.modules:  # then the module defines no such class
        return
    keras = tf.keras
    kinds = (
        keras.layers.Layer,
        keras.initializers.Initializer,
        keras.regularizers.Regularizer,
        keras.constraints.Constraint,
    )
    for name, thing in inspect.getmembers(module, inspect.isclass):
        own = f"{thing.__module__}.".startswith(f"{module.__name__}.") and issubclass(thing, kinds)
        if own and name not in _keras_names() and keras.utils.get_registered_object(name) is None:
            keras.utils.get_custom_objects()[name] = thing


def load_weights(model: tf.keras.Model, path: str | os.PathLike) -> None:
    """Loads weights that `model.save_weights` or `model.save` wrote into a model of the same architecture.

    Args:
        model: The network that takes the weights.
        path: An HDF5 file (`.weights.h5`, `.h5`), a `.keras` file, or the prefix of a TensorFlow checkpoint.

    Raises:
        UnsafeModelError: the file refers to other files, or is larger than any network's weights.
        UserError: there is no such file, or it does not fit the model.
    """
    path = Path(path)
    if path.exists():
        try:
            _check_weights(path)
        except UnsafeModelError as error:  # weights are never loaded unchecked
            raise UnsafeModelError(error.reason, advice="") from None
    elif not path.with_name(path.name + ".index").exists():
        raise UserError(f"there are no weights at {path}")
    try:
        model.load_weights(os.fspath(path))
    except Exception as error:  # whatever Keras meets in a damaged file
        raise UserError(f"{path} does not fit the network {model.name}: {first_line(error)[:200]}") from error


def _check_weights(path: Path) -> None:
    _require_regular(path)
    with _reading(path):
        if zipfile.is_zipfile(path) and path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                _check_members(path, archive)
            hdf5.inspect(path, _WEIGHTS)
        elif h5py.is_hdf5(path):
            hdf5.inspect(path)


def opened(model: tf.keras.Model | str | os.PathLike) -> tf.keras.Model:
    """The model itself, or the one that `load_model` reads at a path.

    Raises:
        UserError: see `load_model`.

    Example:
        >>> model = tf.keras.Sequential([tf.keras.Input((4,)), tf.keras.layers.Dense(2)])
        >>> opened(model) is model
        True
    """
    return load_model(model) if isinstance(model, str | os.PathLike) else model


def check_model(path: str | os.PathLike, custom_objects: Mapping[str, Any] | None = None) -> None:
    """Checks a saved model without loading it; `load_model` does so before it calls Keras.

    Args:
        path: A `.keras` or `.h5` file, or a SavedModel folder.
        custom_objects: Names that the file may use besides the registered ones.

    Raises:
        UnsafeModelError: the file names code, reads or writes other files, or is larger than any model.
        UserError: it is no saved model, or it is damaged.
    """
    path = Path(path)
    kind = _kind(path)
    _register()
    try:
        _check(path, kind, custom_objects)
    except UnsafeModelError:
        if "larq_zoo" in sys.modules:
            raise
        importlib.import_module("larq_zoo")  # slow, and it registers names that few files need
        _check(path, kind, custom_objects)


def _register() -> None:
    """Makes this package's classes known to Keras."""
    for module in ("layers", "losses", "optimizers", "quantizers"):
        importlib.import_module(f"bnn_tf.{module}")


def _check(path: Path, kind: str, custom_objects: Mapping[str, Any] | None) -> None:
    with _reading(path):
        if kind == "Keras archive":
            with zipfile.ZipFile(path) as archive:
                _check_members(path, archive)
                _Names(path, custom_objects).check(_json(path, archive.read("config.json")))
            hdf5.inspect(path, _WEIGHTS)
        elif kind == "HDF5":
            for configuration in _hdf5_configurations(path):
                _Names(path, custom_objects).check(configuration)
        else:
            _check_saved_model(path, custom_objects)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Says which file is damaged, whatever zipfile, h5py and protocol buffers meet in it."""
    try:
        yield
    except RecursionError:
        raise UnsafeModelError(f"the configuration in {path} is nested too deeply") from None
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path} is damaged: {first_line(error)[:200]}") from error


def _kind(path: Path) -> str:
    """Which of the three formats a path holds, decided as Keras decides it."""
    if not path.exists():
        raise UserError(f"there is no saved model at {path}")
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            return "SavedModel"
        raise UserError(f"{path} does not load as a Keras model: the folder holds no saved_model.pb")
    _require_regular(path)
    if zipfile.is_zipfile(path) and path.suffix == ".keras":
        return "Keras archive"
    if h5py.is_hdf5(path):
        return "HDF5"
    if zipfile.is_zipfile(path):
        raise UserError(f"{path} is a zip archive; if it is a Keras model, its name has to end in .keras")
    raise UserError(
        f"{path} does not load as a Keras model: it is neither a .keras nor an HDF5 file, nor a SavedModel"
    )


def _require_regular(path: Path) -> None:
    if not path.is_dir() and not stat.S_ISREG(path.stat().st_mode):  # a FIFO or a device would block
        raise UserError(f"{path} is no regular file")


def _json(path: Path, text: str | bytes) -> Any:
    """Parses a configuration.

    The same parser as Keras' is used, so that both see the same value where a key stands twice.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"the configuration in {path} is damaged: {first_line(error)}") from None


# Archives


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    """Checks names and sizes in an archive; nothing is unpacked."""
    members = archive.infolist()
    names = [member.filename for member in members]
    for name in names:
        if name.endswith(".npz"):
            raise UnsafeModelError(f"{path} stores its weights in {name}, a format that can hold Python code")
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if name not in _MEMBERS and (parts[:1] != ("assets",) or ".." in parts):
            raise UnsafeModelError(f"{path} contains {name!r}, which no Keras model has")
    if len(set(names)) < len(names) or any(member.flag_bits & 1 for member in members):
        raise UnsafeModelError(f"{path} contains members twice or encrypted, which no Keras model does")
    for name in ("config.json", _WEIGHTS):
        if name not in names:
            raise UserError(f"{path} does not load as a Keras model: it has no {name}")
    if archive.getinfo("config.json").file_size > CONFIG_LIMIT:
        raise UnsafeModelError(f"the configuration in {path} is larger than {CONFIG_LIMIT >> 20} MB")
    expanded = sum(member.file_size for member in members)
    if expanded > min(EXPANDED_LIMIT, 100 * path.stat().st_size + CONFIG_LIMIT):
        raise UnsafeModelError(f"{path} would expand to {expanded / 1e9:.3g} GB")


# HDF5


def _hdf5_configurations(path: Path) -> list[Any]:
    """The configurations of the model and of its training in an HDF5 file."""
    texts = hdf5.inspect(path, attributes=("model_config", "training_config"))
    if "model_config" not in texts:
        raise UserError(
            f"{path} holds weights only, no network; build the network and load the file as its weights"
        )
    if max(map(len, texts.values())) > CONFIG_LIMIT:
        raise UnsafeModelError(f"the configuration in {path} is larger than {CONFIG_LIMIT >> 20} MB")
    return [_json(path, text) for text in texts.values()]


# Names in configurations


_NOT_KNOWN = "which is neither Keras' nor Larq's nor registered"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_KERAS = re.compile(r"(tf_)?keras(\.|$)")
_PACKAGES = ("tf_keras", "larq", "larq_zoo", "bnn_tf", "zoo")  # whose classes the checks below know
# Under these keys, text is the name of a function or class.
_NAMED = re.compile(
    r"(^|_)(activation|initializer|regularizer|constraint|quantizer|optimizer|loss|fn|metrics)$"
)
_FUNCTIONS_OF_TENSORFLOW = re.compile(
    r"(compat\.v1\.)?(__operators__|math|nn|linalg|signal|bitwise|quantization)\.[a-z]\w*"
    r"|(compat\.v1\.)?image\.(?!decode|encode|is_jpeg|extract_jpeg)\w+"
    r"|random\.(stateless_)?(normal|uniform|truncated_normal|gamma|poisson|categorical|shuffle)"
    r"|keras\.(activations|backend)\.[a-z]\w*"
)
_TENSORFLOW = _words(
    """
    abs acos acosh add add_n argmax argmin argsort asin asinh atan atan2 atanh batch_to_space bitcast
    boolean_mask broadcast_dynamic_shape broadcast_static_shape broadcast_to cast ceil clip_by_global_norm
    clip_by_norm clip_by_value complex concat convert_to_tensor cos cosh cumsum depth_to_space divide
    dynamic_partition dynamic_stitch edit_distance einsum ensure_shape equal exp expand_dims
    extract_volume_patches eye fill floor foldl foldr gather gather_nd greater greater_equal
    histogram_fixed_width identity identity_n less less_equal linspace logical_and logical_not logical_or
    matmul maximum meshgrid minimum multiply negative no_op norm not_equal one_hot ones ones_like pad
    parallel_stack pow range rank realdiv recip reduce_all reduce_any reduce_logsumexp reduce_max
    reduce_mean reduce_min reduce_prod reduce_sum repeat reshape reverse reverse_sequence roll round rsqrt
    saturate_cast scalar_mul scatter_nd searchsorted sequence_mask shape shape_n sigmoid sign sin sinh
    size slice sort space_to_batch space_to_batch_nd space_to_depth split sqrt square squeeze stack
    stop_gradient strided_slice subtract switch_case tan tanh tensor_scatter_nd_add tensor_scatter_nd_max
    tensor_scatter_nd_min tensor_scatter_nd_sub tensor_scatter_nd_update tensordot tile transpose truediv
    truncatediv truncatemod unique unravel_index unstack where zeros zeros_like
    """
)
_BACKEND_WITH_EFFECTS = ("get_value", "set_value", "batch_get_value", "batch_set_value", "print_tensor")


class _Names:
    """Compares every name in a configuration with what may be built from a file.

    Args:
        path: The file, for messages.
        custom_objects: The caller's names.
        revived: For SavedModels: Keras builds a layer of an unknown class from the file's operations, and
            does not look at its configuration.
    """

    def __init__(self, path: Path, custom_objects: Mapping[str, Any] | None, revived: bool = False):
        self.path, self.revived = path, revived
        self.custom = dict(custom_objects or {})

    def check(self, configuration: Any) -> None:
        """Walks through a configuration.

        Raises:
            UnsafeModelError: a name in it is not allowed.
        """
        # Value, the layer it belongs to, and whether its keys have Keras' meaning.
        waiting = [(configuration, "the model", True)]
        while waiting:
            value, owner, registered = waiting.pop()
            if isinstance(value, list):
                waiting += [(item, owner, registered) for item in value]
            elif isinstance(value, dict):
                if "class_name" in value:
                    owner = self._owner(value, owner)
                    registered, value = self._check_object(value, owner)
                for key, item in value.items():
                    if registered and _NAMED.search(str(key)):
                        self._check_identifiers(key, item, owner)
                    if registered and key == "vocabulary" and isinstance(item, str):
                        self._refuse(owner, f"reads the file {item}")
                    waiting.append((item, owner, registered))

    @staticmethod
    def _owner(value: dict, outer: str) -> str:
        config = value.get("config")
        name = config.get("name") if isinstance(config, dict) else None
        return f"{value['class_name']} {name!r}" if isinstance(name, str) else outer

    def _refuse(self, owner: str, what: str) -> None:
        raise UnsafeModelError(f"{self.path} is not loaded: {owner} {what}")

    def _registered(self, name: Any) -> Any:
        return tf.keras.utils.get_registered_object(name, self.custom) if isinstance(name, str) else None

    def _check_object(self, value: dict, owner: str) -> tuple[bool, dict]:
        """Checks one serialised object; returns whether we know its class, and what is left to check."""
        kind, module = value["class_name"], value.get("module")
        if not isinstance(kind, str) or not isinstance(module, str | None):
            self._refuse(owner, "has a class whose name is no text")
        if kind == "Lambda" or kind == "__lambda__" or value.get("registered_name") == "Lambda":
            self._refuse(owner, "runs Python code from the file (Lambda)")
        if kind in _CONSTANTS or (kind in _DATA and module is None):
            self._check_data(kind, value, owner)
            return True, value
        if kind == "function":
            self._check_function(value, owner)
            return True, value
        thing = self._class(kind, module, value)
        if thing is None and self.revived and module is None:
            return False, {key: item for key, item in value.items() if key != "config"}
        if thing is None:
            self._unknown(owner, kind, module, value.get("registered_name"))
        if getattr(thing, "__name__", "") in ("TFOpLambda", "SlicingOpLambda"):
            self._check_operation(value.get("config"), owner)
        return str(getattr(thing, "__module__", "")).partition(".")[0] in _PACKAGES, value

    def _class(self, kind: str, module: str | None, value: dict) -> Any:
        """What Keras would build, if it may be built."""
        thing = self._registered(value.get("registered_name", kind) or None)
        if thing is None and module is None:  # the older form, where the name is all
            thing = self._registered(kind)
            thing = thing if thing is not None else _keras_names().get(kind)
            return thing if thing is not None else transforms.TRANSFORMS.get(kind)
        if thing is None and module is not None and _KERAS.match(module):
            thing = _keras_symbol(module, kind)
            return thing if any(thing is known for known in _keras_things()) else None
        return thing

    def _check_function(self, value: dict, owner: str) -> None:
        name, module, alias = value.get("config"), value.get("module"), value.get("registered_name")
        for text in (name, alias):  # Keras uses the one or the other
            known = self._registered(text) is not None or text in _keras_names()
            if not (known or (text in (None, "function") and text is not name)):
                self._unknown(owner, text, module, alias)
        if self._registered(name) is None and module not in (None, "builtins"):
            thing = _keras_symbol(module, name) if _KERAS.match(str(module)) else None
            if not any(thing is known for known in _keras_things()):
                self._unknown(owner, name, module, alias)

    def _check_data(self, kind: str, value: dict, owner: str) -> None:
        """Tensors, shapes and types that stand in a configuration."""
        if kind in ("__tensor__", "__numpy__"):
            dtype = value["config"].get("dtype") if isinstance(value.get("config"), dict) else None
            if not _DTYPE.fullmatch(str(dtype)):
                self._refuse(owner, f"has a constant of the type {dtype!r}")
        elif kind == "TypeSpec" and value.get("type_spec") not in _TYPE_SPECS:
            self._refuse(owner, f"has a specification {value.get('type_spec')!r}")
        elif kind == "__typespec__":
            module, name = value.get("module"), value.get("spec_name")
            spec = getattr(sys.modules.get(str(module)), str(name), None)
            if self._registered(value.get("registered_name")) is not None or spec is not tf.TensorSpec:
                self._refuse(owner, f"has a specification {module}.{name}")

    def _check_operation(self, config: Any, owner: str) -> None:
        """The function of a layer that stands for a call of TensorFlow, such as `tf.nn.relu(x)`."""
        name = config.get("function") if isinstance(config, dict) else None
        plain = str(name).removeprefix("compat.v1.")
        if not isinstance(name, str) or not (
            plain in _TENSORFLOW
            or (_FUNCTIONS_OF_TENSORFLOW.fullmatch(name) and not plain.endswith(_BACKEND_WITH_EFFECTS))
        ):
            self._refuse(owner, f"calls tf.{name}, which is not on the list of functions that only compute")

    def _check_identifiers(self, key: str, item: Any, owner: str) -> None:
        """Text in the place of a function or class, possibly in lists or by output."""
        items = item.values() if isinstance(item, dict) and "class_name" not in item else [item]
        for one in items if not isinstance(item, list) else item:
            if isinstance(one, list | dict) and one is not item:
                self._check_identifiers(key, one, owner)
            elif isinstance(one, str) and one not in _keras_names() and self._registered(one) is None:
                reason = f"{self.path} is not loaded: {owner} names {one!r} as its {key}, {_NOT_KNOWN}"
                raise UnknownClassError(reason, one)

    def _unknown(self, owner: str, name: Any, module: Any, registered: Any) -> None:
        if module and _KERAS.match(module):
            self._refuse(
                owner, f"names {module}.{name}, which is no layer or function for networks of images"
            )
        key = registered if isinstance(registered, str) and registered != "function" else name
        where = f" of the module {module!r}" if module else ""
        reason = f"{self.path} is not loaded: {owner} names {name!r}{where}, {_NOT_KNOWN}"
        raise UnknownClassError(reason, key, None if module in ("__main__", "builtins") else module)


# Values that Keras writes in the form of an object.
_CONSTANTS = ("__tensor__", "__numpy__", "__bytes__", "__typespec__")
_DATA = (*_CONSTANTS, "__tuple__", "__ellipsis__", "TensorShape", "TypeSpec")
_DTYPE = re.compile(r"[<|=]?[a-z]*(int|float|bool|complex|string|half|double)\d*(_e\dm\d\w*)?|[<|=]?[fiub]\d")
_TYPE_SPECS = ("tf.TensorSpec", "tf.RaggedTensorSpec", "tf.SparseTensorSpec")


def _keras_symbol(module: str, name: Any) -> Any:
    """What Keras finds under one of its own modules and a name; imports nothing."""
    if not isinstance(name, str):
        return None
    thing = tf_export.get_symbol_from_name(f"{module}.{name}")
    if thing is None:
        module = f"tf_{module}" if module.startswith("keras") else module
        thing = vars(sys.modules[module]).get(name) if module in sys.modules else None
    return thing


@functools.cache
def _keras_names() -> dict[str, Any]:
    """The classes and functions of Keras that a file may name."""
    keras = tf.keras
    functions = (keras.activations, keras.losses, keras.metrics)
    classes: tuple[Any, ...] = (
        keras.layers,
        keras.initializers,
        keras.regularizers,
        keras.constraints,
        keras.mixed_precision,
    )
    classes += (keras.losses, keras.metrics, keras.optimizers.schedules)
    optimizers = (keras.optimizers, keras.optimizers.legacy, keras.optimizers.experimental)
    internal = sys.modules["tf_keras.src.layers.core.tf_op_layer"]
    names = {
        "Functional": sys.modules["tf_keras.src.engine.functional"].Functional,
        "Model": keras.Model,
        "Sequential": keras.Sequential,
        "SlicingOpLambda": internal.SlicingOpLambda,
        "SyncBatchNormalization": keras.layers.experimental.SyncBatchNormalization,
        "TFOpLambda": internal.TFOpLambda,
    }
    for space in (*classes, *optimizers, *functions):
        for name, thing in vars(space).items():
            wanted = inspect.isfunction if space in functions else inspect.isclass
            if (wanted(thing) or inspect.isclass(thing)) and name not in _NOT_FOR_FILES:
                names.setdefault(name, thing)
                if space in optimizers:
                    names.setdefault(name.lower(), thing)  # "adam"
                if space is keras.initializers:
                    names.setdefault(f"{name}V2", thing)
    return names | {name: names[other] for name, other in _ALIASES.items()}


@functools.cache
def _keras_things() -> list[Any]:
    """The same without names; several optimizers of one name are different classes."""
    keras = tf.keras
    more = [vars(space).values() for space in (keras.optimizers.legacy, keras.optimizers.experimental)]
    return [
        *_keras_names().values(),
        *(thing for things in more for thing in things if inspect.isclass(thing)),
    ]


# Public, but no part of a network for images, or able to reach beyond the file.
_NOT_FOR_FILES = {"Lambda", "DenseFeatures", "InputSpec", "Reduction", "get", "serialize", "deserialize"}
_ALIASES = {
    **{"BatchNormalizationV1": "BatchNormalization", "BatchNormalizationV2": "BatchNormalization"},
    **{"uniform": "random_uniform", "normal": "random_normal", "zero": "zeros", "one": "ones"},
    **{"accuracy": "binary_accuracy", "acc": "binary_accuracy", "crossentropy": "binary_crossentropy"},
    **{"ce": "binary_crossentropy", "l1_l2": "L1L2", "leaky_relu": "LeakyReLU"},
}


# SavedModels


def _check_saved_model(folder: Path, custom_objects: Mapping[str, Any] | None) -> None:
    """Checks the configurations in a SavedModel, and every operation in its graphs and functions."""
    names = _Names(folder, custom_objects, revived=True)
    saved = _proto(folder / "saved_model.pb", saved_model_pb2.SavedModel())
    metadata = saved_metadata_pb2.SavedMetadata()
    if (folder / "keras_metadata.pb").exists():
        _proto(folder / "keras_metadata.pb", metadata)
    configurations = [node.metadata for node in metadata.nodes]
    for graph in saved.meta_graphs:
        # Before TensorFlow 2.5 the configurations were here.
        configurations += [node.user_object.metadata for node in graph.object_graph_def.nodes]
        _check_operations(folder, graph)
    for text in filter(None, configurations):
        names.check(_json(folder, text))


def _proto(path: Path, message: Any) -> Any:
    _require_regular(path)
    if path.stat().st_size > _PROTO_LIMIT:
        raise UnsafeModelError(f"{path} is larger than {_PROTO_LIMIT >> 20} MB")
    with _reading(path):
        message.ParseFromString(path.read_bytes())
    return message


def _check_operations(folder: Path, graph: Any) -> None:
    """Compares the operations of a SavedModel with those that only compute.

    Every SavedModel contains functions that write and read its checkpoint. They are accepted where nothing
    but the graph for TensorFlow 1, which is never run here, can call them.
    """
    library = {function.signature.name: function for function in graph.graph_def.library.function}
    reachable: set[str] = set()
    waiting = [
        name
        for node in graph.object_graph_def.nodes
        for name in (*node.function.concrete_functions, node.bare_concrete_function.concrete_function_name)
    ]
    while waiting:
        name = waiting.pop()
        if name in library and name not in reachable:
            reachable.add(name)
            waiting += _called(library[name].node_def)
    for name, function in library.items():
        allowed = _OPERATIONS if name in reachable else _OPERATIONS | _CHECKPOINT_OPERATIONS
        _require_operations(folder, f"its function {name}", function.node_def, allowed | set(library))
    allowed = _OPERATIONS | _CHECKPOINT_OPERATIONS | set(library)
    _require_operations(folder, "its graph", graph.graph_def.node, allowed)


def _called(nodes: Iterable[Any]) -> Iterator[str]:
    """The functions that operations call."""
    for node in nodes:
        yield node.op
        for value in node.attr.values():
            yield value.func.name
            yield from (function.name for function in value.list.func)


def _require_operations(folder: Path, where: str, nodes: Iterable[Any], allowed: frozenset[str]) -> None:
    if foreign := sorted({node.op for node in nodes} - allowed):
        raise UnsafeModelError(
            f"{folder} is not loaded: {where} uses {some(foreign)}, "
            "which is not on the list of operations that only compute"
        )


_PROTO_LIMIT = 1 << 30
_CHECKPOINT_OPERATIONS = _words(
    "DisableCopyOnRead MergeV2Checkpoints RestoreV2 SaveV2 ShardedFilename StaticRegexFullMatch StringJoin"
)
_OPERATIONS = _words(
    """
    Abs Acos Acosh Add AddN AddV2 AdjustContrastv2 AdjustHue AdjustSaturation All Any ApproximateEqual
    ArgMax ArgMin Asin Asinh Assert AssignAddVariableOp AssignSubVariableOp AssignVariableOp Atan Atan2
    Atanh AvgPool AvgPool3D AvgPool3DGrad AvgPoolGrad BatchMatMul BatchMatMulV2 BatchMatMulV3 BatchToSpace
    BatchToSpaceND BesselI0e BesselI1e BiasAdd BiasAddGrad BiasAddV1 Bincount Bitcast BitwiseAnd BitwiseOr
    BitwiseXor BroadcastArgs BroadcastGradientArgs BroadcastTo Bucketize Case Cast Ceil CheckNumerics
    CheckNumericsV2 Cholesky ClipByValue Complex ComplexAbs Concat ConcatOffset ConcatV2 Conj
    ConjugateTranspose Const ControlTrigger Conv2D Conv2DBackpropFilter Conv2DBackpropInput Conv3D
    Conv3DBackpropFilterV2 Conv3DBackpropInputV2 Cos Cosh CropAndResize Cross Cumprod Cumsum
    CumulativeLogsumexp DataFormatDimMap DataFormatVecPermute DenseBincount DepthToSpace
    DepthwiseConv2dNative DepthwiseConv2dNativeBackpropFilter DepthwiseConv2dNativeBackpropInput
    Dequantize Diag DiagPart Dilation2D Div DivNoNan DynamicPartition DynamicStitch Einsum Elu EluGrad
    Empty EmptyTensorList EnsureShape Equal Erf Erfc Erfinv EuclideanNorm Exp ExpandDims Expm1
    ExtractImagePatches FFT FFT2D FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars
    FakeQuantWithMinMaxVarsPerChannel Fill Floor FloorDiv FloorMod FractionalAvgPool FractionalMaxPool
    FusedBatchNorm FusedBatchNormGrad FusedBatchNormGradV2 FusedBatchNormGradV3 FusedBatchNormV2
    FusedBatchNormV3 FusedPadConv2D FusedResizeAndPadConv2D Gather GatherNd GatherV2 Greater GreaterEqual
    HSVToRGB HistogramFixedWidth IFFT IFFT2D IRFFT IRFFT2D Identity IdentityN If Imag
    ImageProjectiveTransformV2 ImageProjectiveTransformV3 InTopK InTopKV2 Invert InvertPermutation
    IsFinite IsInf IsNan IsVariableInitialized L2Loss LRN LeakyRelu LeakyReluGrad LeftShift Less LessEqual
    Lgamma LinSpace Log Log1p LogSoftmax LogicalAnd LogicalNot LogicalOr LoopCond LowerBound MatMul
    MatrixBandPart MatrixDeterminant MatrixDiag MatrixDiagPart MatrixDiagPartV2 MatrixDiagPartV3
    MatrixDiagV2 MatrixDiagV3 MatrixInverse MatrixSetDiag MatrixSetDiagV2 MatrixSetDiagV3 MatrixSolve
    MatrixTriangularSolve Max MaxPool MaxPool3D MaxPool3DGrad MaxPoolGrad MaxPoolGradV2 MaxPoolV2
    MaxPoolWithArgmax Maximum Mean Merge Min Minimum MirrorPad MirrorPadGrad Mod Mul MulNoNan Multinomial
    Neg NextAfter NextIteration NoOp NonMaxSuppression NonMaxSuppressionV2 NonMaxSuppressionV3
    NonMaxSuppressionV4 NonMaxSuppressionV5 NotEqual OneHot OnesLike Pack Pad PadV2 ParallelConcat
    ParallelDynamicStitch ParameterizedTruncatedNormal PartitionedCall Placeholder PlaceholderWithDefault
    Polygamma PopulationCount Pow PreventGradient Prod Qr QuantizeAndDequantize QuantizeAndDequantizeV2
    QuantizeAndDequantizeV3 QuantizeAndDequantizeV4 QuantizeV2 RGBToHSV RandomCrop RandomGamma
    RandomPoissonV2 RandomShuffle RandomStandardNormal RandomUniform RandomUniformInt Range Rank
    ReadVariableOp Real RealDiv Relu Relu6 Relu6Grad ReluGrad Reshape ResizeArea ResizeBicubic
    ResizeBilinear ResizeBilinearGrad ResizeNearestNeighbor ResizeNearestNeighborGrad ResourceGather
    ResourceGatherNd Reverse ReverseSequence ReverseV2 RightShift Rint RngReadAndSkip RngSkip Roll Round
    Rsqrt RsqrtGrad ScaleAndTranslate ScatterNd ScatterNdNonAliasingAdd SegmentMax SegmentMaxV2
    SegmentMean SegmentMin SegmentProd SegmentSum Select SelectV2 SelfAdjointEigV2 Selu SeluGrad Shape
    ShapeN Sigmoid SigmoidGrad Sign Sin Sinh Size Slice Softmax SoftmaxCrossEntropyWithLogits Softplus
    SoftplusGrad Softsign SoftsignGrad SpaceToBatch SpaceToBatchND SpaceToDepth
    SparseSoftmaxCrossEntropyWithLogits Split SplitV Sqrt SqrtGrad Square SquaredDifference Squeeze
    StatefulPartitionedCall StatefulRandomBinomial StatefulStandardNormalV2 StatefulTruncatedNormal
    StatefulUniform StatefulUniformFullInt StatefulUniformInt StatelessCase StatelessIf
    StatelessMultinomial StatelessParameterizedTruncatedNormal StatelessRandomBinomial
    StatelessRandomGammaV2 StatelessRandomGammaV3 StatelessRandomGetAlg StatelessRandomGetKeyCounter
    StatelessRandomGetKeyCounterAlg StatelessRandomNormal StatelessRandomNormalV2 StatelessRandomPoisson
    StatelessRandomUniform StatelessRandomUniformFullInt StatelessRandomUniformFullIntV2
    StatelessRandomUniformInt StatelessRandomUniformIntV2 StatelessRandomUniformV2
    StatelessSampleDistortedBoundingBox StatelessShuffle StatelessTruncatedNormal
    StatelessTruncatedNormalV2 StatelessWhile StopGradient StridedSlice StridedSliceGrad Sub Sum Svd
    Switch SymbolicGradient Tan Tanh TanhGrad TensorListConcat TensorListConcatLists TensorListConcatV2
    TensorListElementShape TensorListFromTensor TensorListGather TensorListGetItem TensorListLength
    TensorListPopBack TensorListPushBack TensorListPushBackBatch TensorListReserve TensorListResize
    TensorListScatter TensorListScatterIntoExistingList TensorListScatterV2 TensorListSetItem
    TensorListSplit TensorListStack TensorScatterAdd TensorScatterMax TensorScatterMin TensorScatterSub
    TensorScatterUpdate TensorStridedSliceUpdate Tile TopK TopKV2 Transpose TruncateDiv TruncateMod
    TruncatedNormal Unique UniqueV2 UniqueWithCounts UniqueWithCountsV2 Unpack UnravelIndex
    UnsortedSegmentMax UnsortedSegmentMin UnsortedSegmentProd UnsortedSegmentSum UpperBound VarHandleOp
    VarIsInitializedOp VariableShape Where While Xdivy Xlog1py Xlogy ZerosLike Zeta
    """
)
