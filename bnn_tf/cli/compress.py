"""`bnn-tf compress` and `bnn-tf expand`."""

from pathlib import Path

import click

from bnn_tf.cli import options


@options.command()
@click.argument("source", type=options.PATH)
@click.option("-o", "--output", required=True, type=options.PATH, help="The .snn file to write.")
@options.json_option
def compress(source: Path, output: Path, as_json: bool) -> None:
    """Store the sub-bit kernels of a .tflite file as codebooks and indices; `expand` undoes it exactly."""
    from bnn_tf.subbit import compress_file

    report = compress_file(source, output)
    options.emit(report.to_dict(), as_json, f"{output}: {report}")


@options.command()
@click.argument("source", type=options.PATH)
@click.option("-o", "--output", required=True, type=options.PATH, help="The .tflite file to write.")
@options.json_option
def expand(source: Path, output: Path, as_json: bool) -> None:
    """Restore the .tflite file that was compressed, bit for bit."""
    from bnn_tf.subbit import expand_file

    size = expand_file(source, output)
    options.emit({"path": str(output), "size": size}, as_json, f"{output}: {size:,} bytes, checksum verified")
