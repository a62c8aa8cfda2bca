"""`bnn-tf sweep`."""

import contextlib
import json
import math
import re
import shlex
from collections.abc import Sequence
from typing import Any

import click
import numpy as np

from bnn_tf.cli import options
from bnn_tf.cli.configuration import configuration
from bnn_tf.cli.target import require_inputs
from bnn_tf.errors import UsageError, UserError
from bnn_tf.training import strategies
from bnn_tf.training import sweep as sweeps

# Options that say where and how to run, which is all that can be said when a sweep is resumed.
_SESSION = ("resume", "data_dir", "workers", "gpus", "verbose", "as_json")


def _folder(name: str, text: str) -> options.Decorator:
    return click.option(name, metavar="DIR", type=options.PATH, help=text)


@options.command()
@options.recipe_options
@click.option(
    "--grid",
    "--search",
    "axes",
    multiple=True,
    metavar="KEY=A,B,…|LOW..HIGH[:log]",
    callback=options.trust_settings,
    help="Values, combined with all of other keys; with --random values or a range to draw from.",
)
@click.option("--random", type=click.IntRange(min=1), metavar="N", help="Draw N configurations.")
@click.option("--search-seed", type=click.IntRange(0), default=1, help="Seed with which --random draws.")
@click.option("--seeds", default=str(options.RunConfig.seed), metavar="N,…", help="Seeds to train each with.")
@_folder("--sweep-dir", "Where to keep the sweep: sweep.json, and runs/.")
@_folder("--resume", "Continue, or help with, the sweep in DIR as it was started.")
@_folder("--show", "Only print the results of the sweep in DIR so far.")
@options.init_from
@options.limit
@options.hardware
@options.trust_model
@click.option("--verbose", is_flag=True, help="Also print each epoch.")
@options.json_option
@click.pass_context
def sweep(context: click.Context, **chosen: Any) -> None:
    """Train configurations × seeds and compare them: mean ± standard deviation of the test accuracy.

    A KEY is anything that --set takes, or method, model, dataset, variant. Stopped or killed, the same
    command continues. Started in several terminals at once, it shares the work.
    """
    for name, allowed in (("show", ("show", "as_json")), ("resume", _SESSION)):
        if chosen[name]:
            options.refuse(context, set(chosen) - set(allowed), f"--{name} takes a sweep as it was started")
    folder = chosen["show"] or chosen["resume"] or chosen["sweep_dir"]
    if folder is None:
        raise UsageError("name a --sweep-dir for the sweep, or one to --resume or to --show")
    if chosen["show"]:
        _report(sweeps.load(folder), chosen["as_json"])
        return
    if strategies.is_cluster(None):
        raise UsageError(
            "a sweep does not train on several machines as one; unset TF_CONFIG, and start it on each"
        )
    tasks = sweeps.load(folder) if chosen["resume"] else _started(context, chosen)
    again = f"bnn-tf sweep --resume {shlex.quote(str(folder))}"
    with options.continued_by(again):
        _work(tasks, chosen)
    _report(tasks, chosen["as_json"])
    if failed := [one for one in map(sweeps.Task.outcome, tasks) if "error" in one]:
        first = "{run_dir}: {error}".format(**failed[0])
        raise UserError(f"{len(failed)} trainings failed, the first in {first}; {again} tries them again")


def _started(context: click.Context, chosen: dict[str, Any]) -> list[sweeps.Task]:
    """The tasks of the sweep that the options describe, which is new or as far as it got."""
    seeds = options.numbers(chosen["seeds"], "--seeds takes whole numbers (1,2,3)")
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"--seeds {chosen['seeds']} names a seed twice")
    if chosen["random"] and not chosen["axes"]:
        raise UsageError("--random draws from --search KEY=LOW..HIGH or KEY=A,B,…")
    axes: dict[str, Sequence[Any]] = {}
    for text in chosen["axes"]:
        key, values = _axis(text, chosen["random"] is not None)
        if key in axes:
            raise UsageError(f"--grid names {key} twice; give all its values at once")
        axes[key] = values
    if chosen["method"] is None and chosen["recipe"] is None and "method" not in axes:
        methods = ", ".join(options.METHODS)
        raise UsageError(f"name a --method ({methods}), or a sweep to --resume")
    require_inputs(chosen["dataset"], chosen["data_dir"], (chosen["init_from"],), chosen["teacher"])
    if chosen["random"]:
        configurations = sweeps.draw(axes, chosen["random"], chosen["search_seed"])
    else:
        configurations = sweeps.grid(axes)
    folder = chosen["sweep_dir"]
    tasks = sweeps.plan(folder, configurations, seeds, lambda one: configuration(context, chosen, one))
    return sweeps.start(tasks)


def _axis(text: str, ranges: bool) -> tuple[str, Sequence[Any]]:
    """A key and its values: of LOW..HIGH all whole numbers or a thousand others, by ratio where :log."""
    key, _, values = (part.strip() for part in text.partition("="))
    if not key or not values:
        raise UsageError(f"--grid takes KEY=A,B,…, not {text!r}")
    if key in ("seed", "seeds"):
        raise UsageError(f"seeds are swept by --seeds {values}, not by --grid")
    interval = re.fullmatch(r"([^:/,]+?)\.\.([^:/,]+)(:log)?", values)
    if interval is None:
        with contextlib.suppress(ValueError):
            return key, json.loads(f"[{values}]")
        return key, [options.parse_setting(f"{key}={part.strip()}")[1] for part in values.split(",")]
    if not ranges:
        raise UsageError(f"--grid takes values, not a range ({text}); --search needs --random N")
    low, high = (options.parse_setting(f"bound={bound}")[1] for bound in interval.groups()[:2])
    kinds, log = {type(low), type(high)}, interval[3] is not None
    if not kinds <= {int, float} or not (0 if log else -math.inf) < low < high < math.inf:
        wanted = "two numbers, from a lower to a higher one, of which :log takes positive ones"
        raise UsageError(f"--search takes KEY=LOW..HIGH with {wanted}, not {text!r}")
    if kinds == {int} and not log:
        return key, range(low, high + 1)
    numbers = (np.geomspace if log else np.linspace)(low, high, 1001)
    rounded = (round(number) if kinds == {int} else float(f"{number:.4g}") for number in numbers)
    return key, [min(max(number, low), high) for number in rounded]


def _work(tasks: list[sweeps.Task], chosen: dict[str, Any]) -> None:
    """Trains what waits, and says how each task ends."""
    from bnn_tf.training import Session

    strategies.devices(chosen["gpus"])
    console = options.console(chosen["as_json"])
    epochs = options.console(chosen["as_json"], quiet=not chosen["verbose"])
    session = Session(epochs, chosen["gpus"], safe=not options.model_is_trusted())
    console.print(f"Sweep directory: {tasks[0].folder}")
    console.print(f"{len(tasks)} trainings, {sweeps.counts(tasks)['complete']} of them complete")
    for task in sweeps.work(tasks, session, options.moved(chosen)):
        outcome, counts = task.outcome(), sweeps.counts(tasks)
        finding = f"failed: {outcome['error']}" if "error" in outcome else outcome["state"]
        if "top1" in outcome:
            finding = f"test accuracy {outcome['top1']:.2%}"
        console.print(f"{counts['complete'] + counts['failed']}/{len(tasks)}  {task}  {finding}")


def _report(tasks: list[sweeps.Task], as_json: bool) -> None:
    """Prints the table, or everything as JSON."""
    folder, summaries, counts = tasks[0].folder, sweeps.summaries(tasks), sweeps.counts(tasks)
    if as_json:
        options.emit({"sweep_dir": str(folder), **counts, "configurations": summaries}, True, "")
        return
    keys = list(summaries[0]["choices"])
    rows = []
    for one in summaries:
        mean, deviation = one["mean"], one["standard_deviation"]
        spread = "" if deviation is None else f" ± {100 * deviation:.2f}"
        accuracy = "–" if mean is None else f"{100 * mean:.2f}{spread} %"
        rows.append([*map(str, one["choices"].values()), accuracy, str(one["n"])])
    options.print_table([*keys, "test accuracy", "n"], rows, numbers_from=len(keys))
    if left := [f"{counts[state]} {state}" for state in ("running", "waiting", "failed") if counts[state]]:
        click.echo(f"not complete: {', '.join(left)} of {len(tasks)}; {folder} keeps what is done")
