"""The command line `bnn-tf`: each command in a file of its own, which parses and delegates."""

from bnn_tf.cli.app import cli, main

__all__ = ["cli", "main"]
