"""Where a run computes: one device, several GPUs, several machines; and in which precision."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from bnn_tf import data
from bnn_tf._tensorflow import coordination_pb2, eager_context, tf
from bnn_tf.errors import UsageError, UserError, first_line

LAUNCHED = "BNN_TF_LAUNCHED"
"""Variable by which `bnn-tf launch` tells a process its number and how many there are: `1/2`."""

_HEARTBEAT = 40  # seconds without a sign of life after which a worker is taken as dead; TensorFlow: 10
_SLOWEST = 600  # seconds that others wait for one that lives, but compiles or saves

_CUDA = "NVIDIA's need CUDA libraries: pip install '.[gpu]' in bnn-tf's checkout"
_ADDRESS = re.compile(r"(?:[\w.-]+|\[[0-9a-fA-F:.]+\]):(\d{1,5})")


def devices(gpus: int | None = None) -> list:
    """The logical GPUs to use: all, or the first `gpus`.

    Raises:
        UsageError: the machine has fewer.
    """
    present = tf.config.list_logical_devices("GPU")
    if gpus is not None and gpus > len(present):
        raise UsageError(
            f"TensorFlow sees {len(present)} GPUs on this machine, not {gpus} as asked for ({_CUDA})"
        )
    return present[:gpus]


def select(gpus: int | None = None, cluster: str | None = None) -> tf.distribute.Strategy:
    """The distribution strategy for a number of GPUs and machines.

    Args:
        gpus: How many to use on this machine; `None` uses all, 0 the CPU.
        cluster: `"host:port,host:port"` (the same list, in the same order, on every machine; which of them
            this process is, it finds by the host's name or by the variable `BNN_TF_WORKER`), `"slurm"` for
            SLURM's variables, `None` for what the variable `TF_CONFIG` says, if it is set.

    Returns:
        Replication over several machines or GPUs, one device, or TensorFlow's default.

    Raises:
        UsageError: the machine has fewer GPUs, or the cluster does not hold this machine.
        UserError: the cluster's other machines cannot be reached.
    """
    place = workers(cluster)
    if place is not None:
        present = tf.config.list_physical_devices("GPU")
        tf.config.set_visible_devices(worker_gpus(present, gpus, os.environ.get(LAUNCHED)), "GPU")
        return _multi_worker(*place)
    chosen = [device.name for device in devices(gpus)]
    if len(chosen) > 1:
        return tf.distribute.MirroredStrategy(chosen)
    if chosen:
        return tf.distribute.OneDeviceStrategy(chosen[0])
    return tf.distribute.get_strategy() if gpus is None else tf.distribute.OneDeviceStrategy("/CPU:0")


def worker_gpus(present: Sequence[Any], gpus: int | None, launched: str | None) -> list[Any]:
    """The GPUs of one of several workers.

    Args:
        present: Those of this machine.
        gpus: How many to use; `None` for all that are this worker's.
        launched: `"1/2"` for the second of two workers on this machine, which share its GPUs; `None` where
            this worker has the machine for itself.

    Raises:
        UsageError: there are fewer.

    Example:
        >>> worker_gpus(["GPU:0", "GPU:1", "GPU:2", "GPU:3"], None, "1/2")
        ['GPU:2', 'GPU:3']
    """
    number, count = (int(part) for part in (launched or "0/1").split("/"))
    each = len(present) // count
    if present and not each and gpus != 0:
        raise UsageError(
            f"{count} processes cannot share {len(present)} GPU{'s' * (len(present) > 1)}; start fewer, or "
            "use none (gpus=0)"
        )
    if gpus is not None and gpus > each:
        where = f"for each of {count} processes" if count > 1 else "here"
        raise UsageError(f"{gpus} GPUs were asked for, there are {each} {where} ({_CUDA})")
    return list(present[number * each : (number + 1) * each][:gpus])


def workers(cluster: str | None) -> tuple[list[str], int] | None:
    """The workers' addresses and this process's number among them; `None` for a single machine.

    Args:
        cluster: `host:port,host:port`, `"slurm"`, or `None` for what `TF_CONFIG` says.

    Raises:
        UsageError: the description of the cluster is wrong, or does not say which worker this process is.

    Example:
        >>> os.environ["BNN_TF_WORKER"] = "1"
        >>> workers("node6:2000,node7:2000")
        (['node6:2000', 'node7:2000'], 1)
        >>> del os.environ["BNN_TF_WORKER"]
    """
    if cluster is None and os.environ.get("TF_CONFIG"):
        addresses, number = _tf_config(os.environ["TF_CONFIG"])
        return (addresses, number) if len(addresses) > 1 else None
    if cluster == "slurm":
        return _slurm()
    if cluster is None:
        return None
    addresses = _checked(part.strip() for part in cluster.split(","))
    if len(addresses) < 2:
        raise UsageError(f"{cluster} is one worker; several are named host:port,host:port")
    return addresses, _own_number(addresses)


def is_cluster(cluster: str | None) -> bool:
    """Whether several processes train together, told without importing TensorFlow; errors as `workers`.

    Example:
        >>> is_cluster(None), is_cluster("slurm")
        (False, True)
    """
    return cluster == "slurm" or workers(cluster) is not None


def _checked(addresses: Iterable[Any]) -> list[str]:
    """The addresses, if all are such and each is there once."""
    found: list[str] = []
    for address in addresses:
        match = _ADDRESS.fullmatch(address) if isinstance(address, str) else None
        if not match:
            raise UsageError(f"workers are named host:port,host:port, not {address!r}")
        if not 0 < int(match[1]) < 2**16:
            raise UsageError(f"{address}: ports are from 1 to 65535")
        if address in found:
            raise UsageError(f"the worker {address} is named twice")
        found.append(address)
    return found


def _tf_config(text: str) -> tuple[list[str], int]:
    """The addresses that `TF_CONFIG` holds, the chief's first, and this process's number among them."""
    try:
        config = json.loads(text)
        cluster, kind, index = config["cluster"], config["task"]["type"], config["task"]["index"]
        jobs = {name: cluster.get(name, []) for name in ("chief", "worker")}
        number = int(index)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"the variable TF_CONFIG is no cluster description: {error!r}") from error
    for name, members in jobs.items():
        if not isinstance(members, list):
            raise UsageError(f"TF_CONFIG must have a list of addresses for {name}, not {members!r}")
    try:
        addresses = _checked([*jobs["chief"], *jobs["worker"]])
    except UsageError as error:
        raise UsageError(f"TF_CONFIG: {error}") from error
    if kind not in jobs:
        raise UsageError(f"TF_CONFIG names this process a {kind}; only chief and worker train")
    if isinstance(index, bool | float) or not 0 <= number < len(jobs[kind]):
        raise UsageError(f"TF_CONFIG: there is no {kind} {index!r}, there are {len(jobs[kind])}, from 0 on")
    return addresses, number + (len(jobs["chief"]) if kind == "worker" else 0)


def _own_number(addresses: list[str]) -> int:
    if "BNN_TF_WORKER" in os.environ:
        number = os.environ["BNN_TF_WORKER"]
        if not number.isdigit() or int(number) >= len(addresses):
            raise UsageError(f"BNN_TF_WORKER must be from 0 to {len(addresses) - 1}, not {number!r}")
        return int(number)
    # A host may be listed by less than its full name: bnn-0.bnn of bnn-0.bnn.default.svc.cluster.local.
    parts = [name.split(".") for name in (socket.gethostname(), socket.getfqdn())]
    names = {".".join(labels[:count]) for labels in parts for count in range(1, len(labels) + 1)}
    matching = [index for index, address in enumerate(addresses) if address.rpartition(":")[0] in names]
    if len(matching) != 1:
        raise UsageError(
            f"which of {', '.join(addresses)} this process is cannot be told from the host name "
            f"{socket.gethostname()}; set the variable BNN_TF_WORKER to its number, from 0"
        )
    return matching[0]


def _slurm() -> tuple[list[str], int]:
    try:
        # The resolver divides a node's GPUs among its tasks; where there are none, it needs to be told some.
        without = {"gpus_per_node": 4096, "gpus_per_task": 1, "auto_set_gpu": False}
        gpus = {} if shutil.which("nvidia-smi") else without
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(**gpus)
        spec = resolver.cluster_spec().as_dict()
        _, index = resolver.get_task_info()
    except Exception as error:  # what TensorFlow raises outside of SLURM is of many kinds
        raise UsageError(f"SLURM's variables do not describe a job: {first_line(error)}") from error
    return list(spec["worker"]), int(index)


def _multi_worker(addresses: list[str], number: int) -> tf.distribute.Strategy:
    spec: dict[str, Any] = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": number}}
    os.environ["TF_CONFIG"] = json.dumps(spec)
    options = tf.distribute.experimental.CommunicationOptions(timeout_seconds=_SLOWEST)
    try:
        _watch(len(addresses))
        return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise UserError(f"the workers {', '.join(addresses)} do not start: {first_line(error)}") from error


def _watch(count: int) -> None:
    """Sets how soon a silent worker is taken as dead; the strategy takes over what is set before it.

    On a machine with much to do TensorFlow's ten seconds end live workers.
    """
    job = coordination_pb2.CoordinatedJob(name="worker", num_tasks=count)
    eager_context.context().configure_coordination_service(
        service_type="standalone",
        service_leader="/job:worker/replica:0/task:0",
        heartbeat_timeout_in_ms=_HEARTBEAT * 1000,
        coordinated_jobs=[job],
    )


class LostWorkerError(UserError):
    """Another of several workers ended, or cannot be reached any more.

    Example:
        >>> str(LostWorkerError("another worker ended or cannot be reached"))
        'another worker ended or cannot be reached'
    """

    at_once = True  # TensorFlow would wait for the others once more


@contextlib.contextmanager
def clear_losses(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Says in one sentence that another worker is lost, which TensorFlow reports as various errors.

    Raises:
        LostWorkerError: the body failed in a way in which it does where another worker is lost.
    """
    lost = (
        tf.errors.UnavailableError,
        tf.errors.DeadlineExceededError,
        tf.errors.AbortedError,
        tf.errors.CancelledError,
        tf.errors.InternalError,
    )
    try:
        yield
    except (tf.errors.OpError, UserError) as error:
        # A checkpoint that cannot be written for that reason says so in its own words.
        causes = [one for one in (error, error.__cause__) if isinstance(one, lost)]
        if is_multi_worker(strategy) and any(map(_is_of_cluster, causes)):
            raise LostWorkerError("another worker ended or cannot be reached") from error
        raise


def _is_of_cluster(error: Exception) -> bool:
    """Whether an error is about other workers: an internal one may be this worker's own."""
    if not isinstance(error, tf.errors.InternalError):
        return True
    return bool(re.search("collective|coordination|heartbeat|rpc|peer|socket|worker", str(error), re.I))


def is_multi_worker(strategy: tf.distribute.Strategy) -> bool:
    """Whether other processes take part."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes checkpoints, metrics and logs."""
    resolver = strategy.cluster_resolver if is_multi_worker(strategy) else None
    return resolver is None or resolver.task_id in (None, 0)


def agree(strategy: tf.distribute.Strategy, code: int) -> int:
    """The largest code that any worker has; every worker must call it at the same place.

    A signal reaches one process, or all of them in the middle of different steps, but a checkpoint is
    written by all together.
    """
    if not is_multi_worker(strategy):
        return code
    return int(_largest(strategy)(tf.constant([code])))


def by_chief(strategy: tf.distribute.Strategy, action: Callable[[], Any]) -> Any:
    """Lets the chief do what must be done before any worker goes on; every worker must call it.

    Returns:
        What the action gave; `None` on the other workers.

    Raises:
        UserError: it failed on the chief, and this is another worker. On the chief its own error is raised.
    """
    if not is_chief(strategy):
        if agree(strategy, 0):
            raise UserError("the first worker failed; its own output says why")
        return None
    try:
        result = action()
    except BaseException:
        agree(strategy, 1)
        raise
    agree(strategy, 0)
    return result


def distribute(strategy: tf.distribute.Strategy, make: Callable[[data.Share | None], tf.data.Dataset]) -> Any:
    """What a pipeline gives to the replicas; every process reads only its own part of each batch.

    Args:
        strategy: The strategy.
        make: Gives the dataset of a process, or for one replica that of whole batches.
    """
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        return strategy.experimental_distribute_dataset(make(None))

    def of_process(context: tf.distribute.InputContext) -> tf.data.Dataset:
        count = replicas // context.num_input_pipelines
        return make(data.Share(replicas, context.input_pipeline_id * count, count))

    return strategy.distribute_datasets_from_function(of_process)


@functools.cache
def _largest(strategy: tf.distribute.Strategy) -> Any:
    """A function that gives the largest of all workers' numbers; traced once."""

    @tf.function(autograph=False)
    def largest(code: tf.Tensor) -> tf.Tensor:
        def gathered(mine: tf.Tensor) -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            placed = tf.identity(mine)  # an argument has no device, and what is gathered needs one
            return tf.reduce_max(context.all_gather(placed, axis=0))

        return strategy.experimental_local_results(strategy.run(gathered, args=(code,)))[0]

    return largest


@contextlib.contextmanager
def precision(name: str) -> Iterator[None]:
    """Networks that are built in the body compute in this precision; their variables are float32.

    Args:
        name: `float32`, `bfloat16` or `float16`.
    """
    before = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy("float32" if name == "float32" else f"mixed_{name}")
    try:
        yield
    finally:
        tf.keras.mixed_precision.set_global_policy(before)


def synchronize_batch_norm(network: tf.keras.Model) -> None:
    """Lets every BatchNorm take its statistics over the images of all replicas; call it before compiling."""
    for layer in network.layers:
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            layer.synchronized, layer.fused = True, False
