"""`bnn-tf benchmark`."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnn_tf.cli import options
from bnn_tf.cli.target import Target, require_images
from bnn_tf.deploy.lce_file import require_converter
from bnn_tf.errors import UsageError, UserError
from bnn_tf.files import make_folder

if TYPE_CHECKING:
    from bnn_tf.deploy.benchmark import Candidate


_OPERATORS = "LCE's interpreter measures no single operators; lce_benchmark_model does, on the device."


class _Threads(click.ParamType):
    name = "N[,N…]"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        parts = str(value).split(",")
        if not all(part.isascii() and part.isdigit() and 1 <= int(part) <= 64 for part in parts):
            self.fail(f"{value!r} is no list of numbers of threads such as 1,2", param, ctx)
        return tuple(dict.fromkeys(map(int, parts)))


@options.command()
@click.argument("files", metavar="TARGET…", nargs=-1, required=True, type=options.TARGET)
@click.option(
    "--compare",
    is_flag=True,
    help="Add the exported C program and plain float32 and int8 TFLite builds of runs and models.",
)
@click.option("--threads", type=_Threads(), default="1,2", help="Numbers of threads.")
@click.option(
    "--rounds", type=click.IntRange(min=1), default=5, help="How many times all candidates take a turn."
)
@click.option("--runs", type=click.IntRange(min=1), default=10, help="Inferences in one turn.")
@click.option(
    "--xnnpack/--no-xnnpack", default=True, help="Use TFLite's XNNPACK kernels for what is not binary."
)
@options.pictures
@click.option(
    "--calibration-images",
    type=click.IntRange(min=1),
    default=64,
    help="Images to measure the ranges of int8 builds on.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), help="Folder to keep built files in."
)
@options.opening
def benchmark(
    files: tuple[Path, ...], compare: bool, output: Path | None, as_json: bool, **chosen: Any
) -> None:
    """Latency, peak memory, size and operators of each TARGET on this machine.

    TARGET is a .tflite file, a run, a saved Keras model, or the name of a network (with random weights, to
    know its speed before training it); of a run its model.tflite is taken, else it is converted. All take
    turns, each in a process of its own, on LCE's interpreter, which runs plain TFLite files as well. It has
    no profile of single operators. "× first" is the median of the ratios to the first
    candidate, inference by inference; what disturbs the machine disturbs both.
    """
    opened = [Target.open(file) for file in files]
    require_converter()
    settings = {name: chosen.pop(name) for name in ("threads", "rounds", "runs", "xnnpack")}
    require_images(*(chosen[name] for name in ("dataset", "data_dir", "normalization")))
    if compare and all(target.kind == "tflite" for target in opened):
        raise UsageError("--compare needs a run or a saved Keras model, to build the other forms of")

    from bnn_tf.deploy import benchmark as benchmarking

    names = [file.resolve().name.removesuffix(".keras") for file in files]
    with tempfile.TemporaryDirectory() as temporary:
        folder = make_folder(output or temporary)
        candidates: list[Candidate] = []
        for number, (target, name) in enumerate(zip(opened, names, strict=True), 1):
            stem = name if names.count(name) == 1 else f"{name}-{number}"
            candidates += _candidates(target, compare, chosen, folder / stem)
        with options.console(True).status("Measuring…", refresh_per_second=1):  # on terminals alone
            report = benchmarking.benchmark(candidates, **settings)
    if as_json:
        options.emit(report, True, "")
    else:
        _print(report, settings["xnnpack"])


def _candidates(target: Target, compare: bool, images: dict[str, Any], stem: Path) -> "list[Candidate]":
    """What a target stands for; the names of files that must be built start with `stem`."""
    from bnn_tf import convert
    from bnn_tf.deploy.benchmark import Candidate

    if target.kind == "tflite":
        return [Candidate.of_file(target.path)]
    path = target.path / "model.tflite"
    if target.kind != "run" or not path.is_file():
        path = stem.with_name(f"{stem.name}.tflite")
        convert(target.network(), path, parity=False)  # only time is measured; bnn-tf convert checks
    binary = Candidate.of_file(path, str(target))
    return [binary, *_program(target, stem), *_plain(target, stem, **images)] if compare else [binary]


def _program(target: Target, stem: Path) -> "list[Candidate]":
    """The network as a compiled C program; nothing where that cannot be."""
    from bnn_tf import export_c
    from bnn_tf.export.timing import CompiledProgram

    network = target.network()
    try:
        source = export_c(network, stem.with_name(f"{stem.name}.c"), name="net", check=False)
        return [CompiledProgram.of(source.path, "net", len(network.outputs), str(target), source.work)]
    except UserError as error:
        click.echo(f"{target}: no C program is measured: {error}", err=True)
        return []


def _plain(
    target: Target,
    stem: Path,
    dataset: str | None,
    data_dir: str | None,
    normalization: str | None,
    calibration_images: int,
) -> "list[Candidate]":
    """Float32 and int8 builds of the same architecture with real weights and activations.

    Ranges of int8 are measured on images of the dataset; on noise where nothing says which.
    """
    import numpy as np

    from bnn_tf.binarization import real_valued
    from bnn_tf.deploy.benchmark import Candidate
    from bnn_tf.deploy.lce_file import plain_tflite

    real = real_valued(target.network())
    if dataset is None and not target.knows_images():
        click.echo(
            f"{target}: int8 ranges are measured on noise; name a --dataset and a --normalization", err=True
        )
        shape = (calibration_images, *real.input_shape[1:])
        calibration = np.random.default_rng(0).standard_normal(shape, np.float32)
    else:
        image_set = target.images(dataset, data_dir, normalization)
        calibration = image_set.pre().normalize(image_set.samples(calibration_images)[0])
    candidates = []
    for form, ranges in (("float32", None), ("int8", calibration)):
        path = stem.with_name(f"{stem.name}.{form}.tflite")
        path.write_bytes(plain_tflite(real, ranges))
        candidates.append(Candidate(str(target), form, path))
    return candidates


def _print(report: dict[str, Any], xnnpack: bool) -> None:
    columns = ["candidate", "form", "size", "threads", "median ms", "p90 ms", "× first", "peak memory"]
    rows, lines, limits = [], [], []
    for candidate in report["candidates"]:
        name, form, size = candidate["name"], candidate["form"], f"{candidate['size'] / 1e6:.3f} MB"
        operators = [f"{one['count']} {one['name']} {one['type']}" for one in candidate["operators"]]
        line = f"{name} ({form}): {', '.join(operators) or 'one compiled program'}"
        if xnnpack and (delegated := candidate["xnnpack"]):
            left = f" (not {', '.join(dict.fromkeys(delegated['left']))})" if delegated["left"] else ""
            line += f"; XNNPACK takes {delegated['taken']} of {delegated['operators']} operators{left}"
        lines.append(line)
        for measured in candidate["measurements"]:
            figures = [f"{measured[key]:.3f}" for key in ("median_ms", "p90_ms", "times_the_first")]
            memory = f"{measured['peak_memory_bytes'] / 1e6:.1f} MB"
            rows.append([name, form, size, str(measured["threads"]), *figures, memory])
            if limit := candidate["limit"]:
                shortest = 1e3 * limit["seconds"]
                times = (
                    f"{measured['median_ms'] / shortest:.2f} times the shortest time that it can take here"
                )
                limits.append(f"{name} ({form}): {times}, {shortest:.3f} ms: {limit['reason']}.")
    options.print_table(columns, rows, numbers_from=2, spare=("size", "p90 ms", "peak memory"))
    host, rounds = report["host"], report["rounds"]
    load = "" if host["load"] is None else f", load {host['load']:.1f} before"
    machine = f"{host['cpu']}, {host['cores']} cores, {host['architecture']}, {host['system']}{load}"
    turns = f"{rounds} round{'s' * (rounds != 1)} of {report['runs']} inferences"
    notes = [f"Host: {machine}", f"Interpreter: {report['interpreter']}; {turns}."]
    notes += [report["caveat"], report["memory"], _OPERATORS]
    click.echo("\n".join(["", *lines, "", *limits, *notes]))
