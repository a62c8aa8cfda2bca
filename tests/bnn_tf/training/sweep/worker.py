"""A process that works on a sweep: `worker.py TASKS.json PATH all|one`, and says which tasks it claimed.

With `one` it keeps its first claim until it is killed.
"""

import json
import signal
import sys

from bnn_tf.training import RunConfig
from bnn_tf.training.sweep import Sweep, Task

RESULT = {"top1": 0.5, "top5": 1.0}


def start(description: str, path: str) -> Sweep:
    with open(description) as file:
        given = json.load(file)
    tasks = [
        Task(one["number"], one["choices"], RunConfig.from_dict(one["config"])) for one in given["tasks"]
    ]
    return Sweep.start(path, {"grid": given["grid"]}, given["grid"], lambda: tasks)


def main(description: str, path: str, how_many: str) -> None:
    sweep = start(description, path)
    while (claim := sweep.claim()) is not None:
        print(claim.task.name, flush=True)
        if how_many == "one":
            signal.pause()
        sweep.finish(claim, RESULT)
        claim.lock.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
