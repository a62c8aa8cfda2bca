"""`bnn-tf sweep`."""

import json
import re
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from bnn_tf._tensorflow import lazy
from bnn_tf.cli import options
from bnn_tf.cli.configuration import configuration
from bnn_tf.cli.target import require_inputs
from bnn_tf.errors import UsageError, UserError
from bnn_tf.training.run import RunConfig

if TYPE_CHECKING:
    from rich.console import Console

    from bnn_tf.training import sweep as sweeps
else:
    sweeps = lazy("bnn_tf.training.sweep")

# Options that say where and how to run, which is all that can be said when a sweep is resumed or shown.
_SESSION = ("resume", "show", "data_dir", "workers", "gpus", "verbose", "as_json")
_RANGE = re.compile(r"(?P<low>[^:/,]+?)\.\.(?P<high>[^:/,]+)(?P<log>:log)?")


@options.command()
@options.recipe_options
@click.option(
    "--grid",
    multiple=True,
    metavar="KEY=A,B,…",
    callback=options.trust_settings,
    help="Values, combined with all of other keys.",
)
@click.option("--random", type=click.IntRange(min=1), metavar="N", help="Draw N configurations by --search.")
@click.option(
    "--search",
    multiple=True,
    metavar="KEY=LOW..HIGH[:log]|A,B,…",
    callback=options.trust_settings,
    help="Values or range from which --random draws.",
)
@click.option(
    "--search-seed",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Seed with which --random draws.",
)
@click.option(
    "--seeds",
    default=str(RunConfig.seed),
    show_default=True,
    metavar="N,…",
    help="Seeds of each configuration.",
)
@click.option(
    "--sweep-dir",
    metavar="DIR",
    type=options.PATH_NAME,
    help="Where to keep the sweep: sweep.json, and runs/.",
)
@click.option(
    "--resume",
    metavar="DIR",
    type=options.PATH_NAME,
    help="Continue, or help with, the sweep in DIR as it was started.",
)
@click.option(
    "--show", metavar="DIR", type=options.PATH_NAME, help="Only print the results of the sweep in DIR so far."
)
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
    wanted = _wanted(context, chosen)
    if chosen["show"]:
        _report(sweeps.Sweep.open(chosen["show"]), chosen["as_json"])
        return

    from rich.console import Console

    from bnn_tf.training import Session, StoppedError, strategies
    from bnn_tf.training.progress import duration

    if strategies.is_cluster(None):
        raise UsageError(
            "a sweep does not train on several machines together, as TF_CONFIG says: unset that variable; "
            "started on each machine with the same --sweep-dir, it shares the work"
        )
    strategies.devices(chosen["gpus"])
    # With --json standard output carries the result alone.
    console = Console(stderr=chosen["as_json"], soft_wrap=True, markup=False, highlight=False)
    shown = console if chosen["verbose"] else Console(quiet=True)
    session = Session(shown, chosen["gpus"], safe=not options.model_is_trusted())
    if wanted is None:
        opened = sweeps.Sweep.open(chosen["resume"])
    else:
        opened = _started(context, chosen, *wanted, console)
    again = f"bnn-tf sweep --resume {shlex.quote(str(opened.path))}"
    console.print(f"Sweep directory: {opened.path}")
    counts = sweeps.counts(opened.outcomes())
    console.print(f"{len(opened.tasks)} trainings, {counts['complete']} of them complete")
    moved = {name: chosen[name] for name in ("data_dir", "workers") if chosen[name] is not None}
    try:
        for outcome in opened.work(session, moved):
            counts = sweeps.counts(opened.outcomes())
            over = f"{counts['complete'] + counts['failed']}/{len(opened.tasks)}"
            finding = "failed: " * (outcome.state == "failed") + outcome.finding
            console.print(f"{over}  {outcome.task}  {finding}  {duration(outcome.seconds)}")
    except StoppedError as error:
        error.args = (f"{error}. Continue: {again}",)
        raise
    _report(opened, chosen["as_json"])
    failed = [f"{one.run_dir}: {one.error}" for one in opened.outcomes() if one.state == "failed"]
    if failed:
        raise UserError(f"{len(failed)} trainings failed, the first in {failed[0]}; {again} tries them again")


def _wanted(context: click.Context, chosen: dict[str, Any]) -> tuple[list[int], dict[str, Any]] | None:
    """The seeds, and the list of values or the range of every key; None of a sweep that was started before.

    Raises:
        UsageError: an option is wrong, or makes no sense together with others.
    """
    for name, allowed in (("show", ("show", "as_json")), ("resume", _SESSION)):
        if chosen[name]:
            others = [other for other in chosen if other not in allowed]
            options.refuse(context, others, f"--{name} takes a sweep as it was started")
            return None
    if not chosen["sweep_dir"]:
        raise UsageError("name a --sweep-dir for the sweep, or one to --resume or to --show")
    if chosen["random"] and (chosen["grid"] or not chosen["search"]):
        raise UsageError("--random draws from --search KEY=LOW..HIGH or KEY=A,B,…, and goes without --grid")
    if chosen["search"] and not chosen["random"]:
        raise UsageError("--search needs --random N, the number of configurations to draw")
    if not re.fullmatch(r"\d+(,\d+)*", chosen["seeds"]):
        raise UsageError(f"--seeds takes whole numbers (1,2,3), not {chosen['seeds']!r}")
    seeds = [int(part) for part in chosen["seeds"].split(",")]
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"--seeds {chosen['seeds']} names a seed twice")
    axes = _axes("--search", chosen["search"]) if chosen["random"] else _axes("--grid", chosen["grid"])
    if chosen["method"] is None and chosen["recipe"] is None and "method" not in axes:
        methods = ", ".join(options.method_names())
        raise UsageError(f"name a --method ({methods}), or a sweep to --resume")
    require_inputs(chosen["dataset"], chosen["data_dir"], (chosen["init_from"],), chosen["teacher"])
    return seeds, axes


def _started(
    context: click.Context, chosen: dict[str, Any], seeds: list[int], axes: dict[str, Any], console: "Console"
) -> "sweeps.Sweep":
    """The sweep that the options describe, new or as far as it got."""

    def make() -> "list[sweeps.Task]":
        if chosen["random"]:
            configurations = sweeps.draw(axes, chosen["random"], chosen["search_seed"])
        else:
            configurations = sweeps.grid(axes)
        n, m = len(configurations), len(seeds)
        console.print(f"Checking {n} configuration{'s' * (n != 1)}, each with {m} seed{'s' * (m != 1)}")
        return sweeps.plan(configurations, seeds, lambda choices: configuration(context, chosen, choices))

    asked = {name: value for name, value in chosen.items() if name not in (*_SESSION, "sweep_dir")}
    plain = {key: str(axis) if isinstance(axis, sweeps.Range) else axis for key, axis in axes.items()}
    asked |= {"seeds": seeds, "search" if chosen["random"] else "grid": plain}
    asked["recipe"] = chosen["recipe"] and str(chosen["recipe"])
    return sweeps.Sweep.start(chosen["sweep_dir"], asked, make)


def _axes(flag: str, texts: Sequence[str]) -> dict[str, Any]:
    """The values or ranges that `--grid` or `--search` name.

    Raises:
        UsageError: one is not KEY=VALUES, or a key or value is there twice.
    """
    axes: dict[str, Any] = {}
    for text in texts:
        key, equals, values = (part.strip() for part in text.partition("="))
        if not equals or not key or not values:
            raise UsageError(f"{flag} takes KEY=A,B,…, not {text!r}")
        if key in ("seed", "seeds"):
            raise UsageError(f"seeds are swept by --seeds {values}, not by {flag}")
        if key in axes:
            raise UsageError(f"{flag} names {key} twice; give all its values at once")
        interval = _RANGE.fullmatch(values)
        axes[key] = _range(flag, text, interval) if interval else _values(flag, key, values)
    return axes


def _range(flag: str, text: str, interval: re.Match[str]) -> "sweeps.Range":
    if flag != "--search":
        raise UsageError(f"{flag} takes values, not a range ({text}); --random N --search draws from ranges")
    low, high = (options.parse_setting(f"bound={interval[name]}")[1] for name in ("low", "high"))
    if not {type(low), type(high)} <= {int, float}:
        raise UsageError(f"--search takes KEY=LOW..HIGH with two numbers, not {text!r}")
    return sweeps.Range(low, high, log=interval["log"] is not None)


def _values(flag: str, key: str, text: str) -> list[Any]:
    try:
        values = json.loads(f"[{text}]")
    except ValueError:
        values = [options.parse_setting(f"{key}={part.strip()}")[1] for part in text.split(",")]
    if "" in values:
        raise UsageError(f"{flag} {key}={text} has an empty value")
    for index, value in enumerate(values):
        if value in values[:index]:
            raise UsageError(f"{flag} {key}={text} names {value} twice")
    return values


def _report(opened: "sweeps.Sweep", as_json: bool) -> None:
    """Prints the table, or everything as JSON."""
    outcomes = opened.outcomes()
    summaries, counts = sweeps.summarize(outcomes), sweeps.counts(outcomes)
    if as_json:
        configurations = [summary.to_dict() for summary in summaries]
        options.emit({"sweep_dir": str(opened.path), **counts, "configurations": configurations}, True, "")
        return
    keys = list(summaries[0].choices)
    rows = [[*map(sweeps.as_text, s.choices.values()), s.accuracy, str(len(s.accuracies))] for s in summaries]
    options.print_table([*keys, "test accuracy", "n"], rows, numbers_from=len(keys))
    left = [f"{counts[state]} {state}" for state in ("running", "waiting", "failed") if counts[state]]
    if left:
        click.echo(f"not complete: {', '.join(left)} of {len(outcomes)}; {opened.path} keeps what is done")
