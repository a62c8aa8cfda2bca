"""What a command was pointed at: a run, a saved Keras model, a name of Larq Zoo, or a converted file."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnn_tf.errors import UsageError, UserError, unknown

if TYPE_CHECKING:
    import numpy as np

    from bnn_tf import data
    from bnn_tf._tensorflow import tf


@dataclasses.dataclass(frozen=True)
class Images:
    """Which images a model is for.

    Args:
        dataset: Name of the dataset.
        data_dir: Its folder.
        preprocessing: Fields of `bnn_tf.data.Preprocessing`.
        class_names: The labels' names, in order.
    """

    dataset: str
    data_dir: str | None
    preprocessing: dict[str, Any]
    class_names: list[str]

    def source(self, limit: int | None = None) -> "data.Source":
        """The dataset."""
        from bnn_tf import data

        return data.load(self.dataset, self.data_dir, limit=limit)

    def pre(self) -> "data.Preprocessing":
        """The preprocessing."""
        from bnn_tf import data

        return data.Preprocessing(**self.preprocessing)


def sidecar(path: Path) -> Path:
    """The file beside a converted model that says which images it takes."""
    return path.with_name(path.name + ".json")


def write_sidecar(path: Path, images: Images) -> None:
    """Writes what `load_images` reads."""
    from bnn_tf.training.run import write_atomically

    write_atomically(sidecar(path), json.dumps(dataclasses.asdict(images), indent=2) + "\n")


def is_run(path: Path) -> bool:
    """Whether the path is a run directory."""
    return (path / "config.json").is_file()


def knows_images(path: Path) -> bool:
    """Whether a run or a sidecar says which images the model takes."""
    return is_run(path) or sidecar(path).is_file()


def load_images(
    path: Path,
    dataset: str | None = None,
    data_dir: str | None = None,
    normalization: str | None = None,
    input_size: tuple[int | None, ...] = (),
) -> Images:
    """The images of a run, a model with a sidecar, or Larq Zoo (ImageNet); the other arguments override.

    Args:
        path: The run or model.
        dataset: `--dataset`.
        data_dir: `--data-dir`.
        normalization: `--normalization`.
        input_size: Height and width that the model takes, for models that nothing is known of.

    Raises:
        UsageError: nothing says which images, and dataset or normalization is not given.
    """
    from bnn_tf.training import larq_zoo

    if is_run(path):
        found = _of_run(path)
    elif sidecar(path).is_file():
        found = _read(sidecar(path))
    elif larq_zoo.is_name(path):
        preprocessing = larq_zoo.preprocessing(larq_zoo.parse(path).size)
        found = Images("imagenet2012", data_dir, preprocessing, [])
    elif dataset is None or normalization is None:
        raise UsageError(
            f"{path} does not say which images it takes; name a --dataset and a --normalization "
            "(imagenet, cifar, unit, or none)"
        )
    else:
        found = Images(dataset, data_dir, {"image_size": input_size} if all(input_size) else {}, [])
    return dataclasses.replace(
        found,
        dataset=dataset or found.dataset,
        data_dir=data_dir or (None if dataset else found.data_dir),
        preprocessing={**found.preprocessing, **_statistics(normalization)},
    )


def _of_run(path: Path) -> Images:
    from bnn_tf import data
    from bnn_tf.training import Run, build

    config = Run.open(path).config
    preprocessing = dataclasses.asdict(build.preprocessing(config.recipe))
    names = config.class_names
    known = [] if names == data.placeholder_names(len(names)) else list(names)
    return Images(config.recipe.dataset, config.data_dir, preprocessing, known)


def _statistics(normalization: str | None) -> dict[str, Any]:
    from bnn_tf import data

    if normalization is None:
        return {}
    if normalization not in data.NORMALIZATIONS:
        raise unknown("normalization", normalization, data.NORMALIZATIONS)
    mean, std = data.NORMALIZATIONS[normalization]
    return {"mean": mean, "std": std}


def _read(path: Path) -> Images:
    try:
        found = Images(**json.loads(path.read_text()))
        found.pre()
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    return found


def read_class_names(path: Path) -> list[str]:
    """The names in a file, one a line.

    Raises:
        UserError: it cannot be read, or holds none.
    """
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the class names in {path} cannot be read: {error}") from error
    if not names:
        raise UsageError(f"{path} holds no class names")
    return names


def load_network(path: Path) -> "tf.keras.Model":
    """The Keras model of a run, of a saved model, or of a name of Larq Zoo (`bnn_tf.training.larq_zoo`).

    Raises:
        UserError: there is none of them.
    """
    from bnn_tf.saving import load_model
    from bnn_tf.training import Run, build, larq_zoo

    if larq_zoo.is_name(path):
        return larq_zoo.load(path)
    if is_run(path):
        return build.load_run_model(Run.open(path))
    if not path.exists():
        raise UserError(f"there is no run and no model at {path}")
    if path.is_dir() and not (path / "saved_model.pb").is_file():
        raise UserError(f"{path} is neither a run directory (no config.json) nor a SavedModel")
    return load_model(path)


def predictor(path: Path) -> "tuple[Callable[[np.ndarray], np.ndarray], tuple[int, int]]":
    """A function from images to logits, and the images' height and width."""
    if path.suffix == ".tflite":
        from bnn_tf.deploy import Interpreter

        interpreter = Interpreter(path)
        return interpreter.predict, tuple(interpreter.input_shape[1:3])  # type: ignore[return-value]
    network = load_network(path)
    return lambda images: network.predict_on_batch(images), tuple(network.input_shape[1:3])
