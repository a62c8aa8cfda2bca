"""Latency, memory, size and operators of converted networks, side by side on this machine."""

from bnn_tf.deploy.benchmarking.candidates import Candidate, OperatorCount
from bnn_tf.deploy.benchmarking.host import Host
from bnn_tf.deploy.benchmarking.measuring import benchmark
from bnn_tf.deploy.benchmarking.plain import plain_tflite, real_valued
from bnn_tf.deploy.benchmarking.report import BenchmarkReport, Measurement

__all__ = [
    "BenchmarkReport",
    "Candidate",
    "Host",
    "Measurement",
    "OperatorCount",
    "benchmark",
    "plain_tflite",
    "real_valued",
]
