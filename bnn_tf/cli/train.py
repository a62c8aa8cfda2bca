"""`bnn-tf train`."""

import json
import shlex
from typing import TYPE_CHECKING, Any

import click

from bnn_tf.cli import options, recipe_options
from bnn_tf.errors import UsageError, UserError

if TYPE_CHECKING:
    from rich.console import Console

    from bnn_tf.training import Run, RunConfig

# Options that say where and how to run, which is all that can be said when a run is resumed.
_SESSION = ("resume", "data_dir", "workers", "gpus", "print_every", "until_phase", "as_json")


@click.command()
@options.method
@options.model
@options.dataset
@options.data_dir
@click.option("--variant", default="default", help="Variant of the recipe; `bnn-tf recipes` lists them.")
@click.option("--epochs", metavar="N[,N…]", help="Epochs, of all phases or one number for each.")
@recipe_options.recipe_options
@options.settings
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=1,
    show_default=True,
    help="Seed of weights, order and augmentation.",
)
@click.option("-o", "--run-dir", metavar="DIR", help="Folder of the run; default: a new one under runs/.")
@click.option("--init-from", metavar="RUN", help="Start from the weights of another run, or larq-zoo:NAME.")
@click.option("--resume", metavar="RUN", help="Continue a stopped run after its last complete epoch.")
@click.option("--from-phase", metavar="PHASE", help="Leave out earlier phases; start from --init-from.")
@click.option("--until-phase", metavar="PHASE", help="Stop after this phase; --resume continues.")
@options.limit
@click.option("--gpus", type=click.IntRange(min=0), help="GPUs to use; default: all.")
@click.option("--workers", type=click.IntRange(min=1), help="Parallel image preparation; default: automatic.")
@click.option(
    "--print-every", type=click.IntRange(min=0), default=0, help="Off a terminal, a line every N steps."
)
@click.option("--deterministic", is_flag=True, help="Reproducible to the last bit, somewhat slower.")
@click.option("--dry-run", is_flag=True, help="Print the resolved configuration and leave.")
@options.json_option
@click.pass_context
def train(context: click.Context, **given: Any) -> None:
    """Train a network: by default the method's recipe on embedded handwritten digits.

    Prints the run directory first. Ctrl-C leaves a run that --resume continues.
    """
    from rich.console import Console

    # With --json standard output carries the result alone.
    console = Console(stderr=given["as_json"], soft_wrap=True, markup=False, highlight=False)
    run = _resumed(context, given) if given["resume"] else _new(given)
    if run is None:
        return
    console.print(f"Run directory: {run.path}")
    console.print(f"Recipe: {run.config.recipe.note}")
    for remark in _remarks(run):
        console.print(remark)
    _train(run, given, console)


def _resumed(context: click.Context, given: dict[str, Any]) -> "Run":
    import dataclasses

    from bnn_tf.training import Run

    source = click.core.ParameterSource.COMMANDLINE
    clash = [name for name in given if name not in _SESSION and context.get_parameter_source(name) == source]
    if clash:
        flags = ", ".join(f"--{'set' if name == 'settings' else name.replace('_', '-')}" for name in clash)
        raise UsageError(f"--resume continues a run as it was configured; leave out {flags}")
    run = Run.open(given["resume"])
    moved = {name: given[name] for name in ("data_dir", "workers") if given[name] is not None}
    return Run(run.path, dataclasses.replace(run.config, **moved))


def _new(given: dict[str, Any]) -> "Run | None":
    """A new run, or None after `--dry-run` said what it would be."""
    from bnn_tf.training import Run, RunConfig, checks, strategies

    if given["method"] is None:
        raise UsageError("name a --method (bireal, recu, subbit, ovsw), or a stopped run to --resume")
    config = RunConfig(
        recipe=recipe_options.resolve(given),
        seed=given["seed"],
        data_dir=given["data_dir"],
        limit=given["limit"],
        deterministic=given["deterministic"],
        workers=given["workers"],
        init_from=given["init_from"],
    )
    strategies.devices(given["gpus"])
    config = checks.checked(config)
    if given["dry_run"]:
        _print_plan(config, given["as_json"])
        return None
    return Run.create(config, given["run_dir"])


def _remarks(run: "Run") -> list[str]:
    """What may surprise about the configuration."""
    from bnn_tf.training import build

    return [
        f"Phase {phase.name}: its {phase.epochs} epoch(s) end within its {build.warmup_epochs(phase)} warm-up"
        " epochs, before the full rate; --set schedule.warmup=0 does without them"
        for phase in run.config.recipe.phases
        if phase.epochs < build.warmup_epochs(phase)
    ]


def _print_plan(config: "RunConfig", as_json: bool) -> None:
    from bnn_tf import data
    from bnn_tf.training import build

    source = build.source(config)
    steps = {phase.name: data.steps(source, "train", phase.batch_size) for phase in config.recipe.phases}
    total = sum(steps[phase.name] * phase.epochs for phase in config.recipe.phases)
    plan = {**config.to_dict(), "steps_per_epoch": steps, "steps": total}
    per_epoch = ", ".join(f"{name} {count}" for name, count in steps.items())
    text = f"{json.dumps(config.to_dict(), indent=2)}\nsteps per epoch: {per_epoch}\nsteps in all: {total}"
    options.emit(plan, as_json, text)


def _train(run: "Run", given: dict[str, Any], console: "Console") -> None:
    from bnn_tf.training import Session, build, evaluate
    from bnn_tf.training import train as run_phases

    session = Session(console, given["gpus"], given["print_every"], given["until_phase"])
    try:
        network = run_phases(run, session)
    except KeyboardInterrupt:
        again = f"bnn-tf train --resume {shlex.quote(str(run.path))}"
        raise UserError(f"stopped; continue after the last complete epoch with: {again}") from None
    recipe = run.config.recipe
    result = evaluate(
        lambda images: network.predict_on_batch(images),
        build.source(run.config),
        build.preprocessing(recipe),
        recipe.test_batch_size,
    )
    published = (
        "" if recipe.published_top1 is None else f"; the paper's full recipe: {recipe.published_top1} %"
    )
    options.emit(
        {"run_dir": str(run.path), **result.to_dict(), "published_top1": recipe.published_top1},
        given["as_json"],
        f"{run.path}: {result}{published}",
    )
