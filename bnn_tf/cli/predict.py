"""`bnn-tf predict`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnn_tf.cli import options
from bnn_tf.cli.target import Target, read_class_names
from bnn_tf.errors import UserError, first_line
from bnn_tf.training.sources import near

if TYPE_CHECKING:
    import numpy as np

    from bnn_tf import data


@options.command()
@click.argument("target", type=options.TARGET)
@click.argument("images", metavar="IMAGE…", nargs=-1, required=True, type=options.PATH)
@click.option("--top", type=click.IntRange(min=1), default=3, help="Classes to show.")
@options.normalization
@options.class_names
@options.opening
def predict(
    target: Path,
    images: tuple[Path, ...],
    top: int,
    normalization: str | None,
    class_names: Path | None,
    as_json: bool,
) -> None:
    """Classify IMAGEs with TARGET: a run, a saved Keras model, a .tflite or a .snn file.

    An image is scaled, cut and normalised as in the evaluation of the training; of a folder all images
    directly in it are taken. JPEG, PNG, GIF and BMP are read, where Pillow is installed also WebP, TIFF, PPM
    and PGM. A network with one output tells two classes apart; probabilities of a softmax or sigmoid stay
    what they are.
    """
    opened = Target.open(target)
    opened.require_weights()
    opened.require_lce()
    images = tuple(path for named in images for path in _files(named))
    # A model that says nothing of its images needs only their normalisation here, no dataset.
    known = opened.knows_images() or normalization is None
    chosen = opened.images(None if known else "any", None, normalization)
    names = list(chosen.class_names) if class_names is None else read_class_names(class_names)

    import numpy as np

    from bnn_tf.training.evaluation import as_logits

    pre = chosen.pre()
    views: list[tuple[str, np.ndarray]] = []
    unread: dict[str, str] = {}
    for path in images:
        try:
            views.append((str(path), _pixels(path, pre)))
        except UserError as error:
            unread[str(path)] = str(error)
    if not views:
        raise UserError("; ".join(unread.values()))
    inputs = np.concatenate([pre.normalize(view[None]) for _, view in views])
    logits = np.asarray(opened.predict()(inputs), np.float64)
    if logits.ndim != 2:
        raise UserError(f"{target} gives outputs of shape {logits.shape[1:]}, not one value for each class")
    logits = as_logits(logits)
    if len(names) != logits.shape[1]:
        if class_names is not None:
            raise UserError(
                f"{class_names} holds {len(names)} names, the model has {logits.shape[1]} classes"
            )
        names = [str(number) for number in range(logits.shape[1])]
    rows: list[dict[str, Any]] = [
        {"image": path, "classes": _best(values, names, top)}
        for (path, _), values in zip(views, logits, strict=True)
    ]
    lines = [
        f"{row['image']}: " + ", ".join(f"{one['class']} {one['probability']:.1%}" for one in row["classes"])
        for row in rows
    ]
    result = {"target": str(target), "images": rows, "unread": unread}
    options.emit(result, as_json, "\n".join(lines))
    if unread:
        raise UserError("; ".join(unread.values()))


def _files(path: Path) -> list[Path]:
    """A file, or the images in a folder.

    Raises:
        UserError: there is none.
    """
    from bnn_tf.data.folder import images_in
    from bnn_tf.data.images import suffixes

    if not path.is_dir():
        if not path.exists():
            raise UserError(f"there is no image {path}{near(path)}")
        return [path]
    inside = images_in(path)
    if not inside and (folders := [entry for entry in sorted(path.iterdir()) if images_in(entry)]):
        raise UserError(
            f"{path} holds folders, not images; name one of them, such as {folders[0]}, or several: {path}/*"
        )
    if not inside:
        raise UserError(f"there is no image directly in the folder {path} ({', '.join(suffixes())})")
    return [Path(image) for image in inside]


def _pixels(path: Path, pre: "data.Images") -> "np.ndarray":
    """The image as the network sees it, uint8.

    Raises:
        UserError: it is no image.
    """
    from bnn_tf._runtime import quiet_native_stderr
    from bnn_tf._tensorflow import tf
    from bnn_tf.data.folder import fault

    with quiet_native_stderr():
        try:
            return pre.view(tf.constant(path.read_bytes())).numpy()
        except (OSError, tf.errors.OpError, ValueError) as error:
            reason = fault(path) or f"cannot be read as an image: {first_line(error)}"
            raise UserError(f"{path} {reason}") from error


def _best(logits: "np.ndarray", names: list[str], top: int) -> list[dict]:
    """The classes with the largest logits and their softmax."""
    import numpy as np

    shares = np.exp(logits - logits.max())
    shares /= shares.sum()
    order = np.argsort(-logits, kind="stable")[:top]
    return [
        {
            "class": names[i],
            "index": int(i),
            "probability": round(float(shares[i]), 6),
            "logit": float(logits[i]),
        }
        for i in order
    ]
