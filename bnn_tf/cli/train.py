"""`bnn-tf train`."""

import contextlib
import dataclasses
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnn_tf._runtime import quiet_native_stderr
from bnn_tf.cli import launch, options
from bnn_tf.cli.configuration import configuration
from bnn_tf.cli.target import require_inputs
from bnn_tf.errors import UsageError, UserError, some
from bnn_tf.methods import METHODS
from bnn_tf.training import strategies
from bnn_tf.training.run import RunConfig
from bnn_tf.training.sources import near

if TYPE_CHECKING:
    from bnn_tf import data
    from bnn_tf.training import Prepared, Run, Session
    from zoo.recipes import Recipe

# Options that say where and how to run, which is all that can be said when a run is resumed.
_SESSION = (
    "resume",
    "restart_from_weights",
    "data_dir",
    "workers",
    "gpus",
    "cluster",
    "print_every",
    "quiet",
    "until_phase",
    "as_json",
)
_FEW_FILES = 2_000  # images that are all read before the training, which takes seconds


@options.command()
@options.recipe_options
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=RunConfig.seed,
    help="Seed of weights, order and augmentation.",
)
@click.option(
    "-o",
    "--run-dir",
    metavar="DIR",
    type=options.PATH_NAME,
    help="Folder of the run; default: a new one under runs/.",
)
@options.init_from
@click.option(
    "--resume", metavar="RUN", type=options.PATH_NAME, help="Continue a stopped run where it was stopped."
)
@click.option(
    "--restart-from-weights",
    is_flag=True,
    help="With --resume: go on from the last weights where no checkpoint can be used.",
)
@click.option("--from-phase", metavar="PHASE", help="Leave out earlier phases; start from --init-from.")
@click.option("--until-phase", metavar="PHASE", help="Stop after this phase; --resume continues.")
@click.option(
    "--checkpoint-every",
    metavar="N[s|m|h|steps]",
    default=RunConfig.checkpoint_every,
    help="How often to save in the middle of an epoch; epoch: only at its end.",
)
@options.limit
@options.hardware
@click.option(
    "--cluster",
    metavar="HOST:PORT,…|slurm",
    help="Train on several machines: the same list on each, or slurm; default: what TF_CONFIG says.",
)
@options.trust_model
@click.option(
    "--print-every", type=click.IntRange(min=0), default=0, help="Off a terminal, a line every N steps."
)
@click.option("--quiet", is_flag=True, help="Print the run directory and the result only.")
@click.option(
    "--dry-run", is_flag=True, help="Print the plan and leave; with --json every setting, for --recipe."
)
@options.json_option
@click.pass_context
def train(context: click.Context, **chosen: Any) -> None:
    """Train a network: by default the method's recipe on embedded handwritten digits.

    Prints the run directory first. Ctrl-C and SIGTERM save the run, also in the middle of an epoch; --resume
    continues it. The exit code is then 128 + the signal's number.
    """
    if chosen["resume"]:
        fixed = [name for name in chosen if name not in _SESSION]
        options.refuse(context, fixed, "--resume continues a run as it was configured")
        if not (folder := Path(chosen["resume"])).exists():  # said before TensorFlow is loaded
            raise UserError(f"{folder} is no run directory: it does not exist{near(folder)}")
    elif chosen["restart_from_weights"]:
        raise UsageError("--restart-from-weights goes with --resume RUN")
    run_dir = chosen["run_dir"]
    if strategies.LAUNCHED in os.environ:
        launch.end_with_parent()
    alone = not strategies.is_cluster(chosen["cluster"])
    if not alone and run_dir is None and not chosen["resume"] and not chosen["dry_run"]:
        raise UsageError("name the run directory (-o RUN, or --resume RUN): all workers share it")
    # Of several workers a slow one finds the first one's run there.
    if alone and run_dir is not None and not chosen["dry_run"] and (Path(run_dir) / "config.json").is_file():
        raise UserError(
            f"{run_dir} holds a run already: continue it with bnn-tf train --resume {shlex.quote(run_dir)}, "
            "or name another folder"
        )
    config = None if chosen["resume"] else _configuration(context, chosen)
    if config is not None:
        require_inputs(config.recipe.dataset, config.data_dir, config.sources(), config.recipe.teacher)
    # Workers report each other's ends in pages of native text, beside the one line that is said here.
    with contextlib.nullcontext() if alone else quiet_native_stderr(keep_python=True):
        _begin(chosen, config)


def _begin(chosen: dict[str, Any], config: RunConfig | None) -> None:
    """Makes the run that was configured, or opens the one to resume, and trains it; or prints the plan."""
    from bnn_tf.training import Session, create_run, prepare

    console = options.console(chosen["as_json"])
    session = Session(
        options.console(chosen["as_json"], chosen["quiet"]),
        chosen["gpus"],
        chosen["print_every"],
        chosen["until_phase"],
        restart_from_weights=chosen["restart_from_weights"],
        cluster=chosen["cluster"],
        safe=not options.model_is_trusted(),
    )
    if config is None:
        run, prepared = _resumed(chosen), None
    elif chosen["dry_run"]:
        _print_plan(config, chosen["as_json"])
        return
    else:
        prepared = prepare(config, session)
        _require_sound(prepared.source, config.data_dir)
        run = create_run(prepared, chosen["run_dir"])
    console.print(f"Run directory: {run.path}")
    session.console.print(f"Recipe: {_note(run.config.recipe)}")
    if config is None and run.reached() == run.end:
        session.console.print(
            f"{run.path} is complete: nothing is left to train. To train more, start a new run from it: "
            f"bnn-tf train … --init-from {shlex.quote(str(run.path))}"
        )
    if prepared is not None:
        from bnn_tf import data

        facts = data.describe(prepared.source)
        session.console.print(f"Data: {facts}{_resizing(facts, run.config.recipe)}")
        for remark in (*facts.notes, *_misfits(facts, run.config)):
            session.console.print(remark)
    for remark in _remarks(run):
        session.console.print(remark)
    _train(run, session, prepared, chosen["as_json"])


def _note(recipe: "Recipe") -> str:
    """What the recipe says of itself; how long it takes only where its epochs are as they were."""
    from zoo import recipes

    known = recipe.duration and recipes.original(recipe).epochs == recipe.epochs
    return f"{recipe.note}; takes {recipe.duration}" if known else recipe.note


def _require_sound(source: "data.Source", folder: str | None) -> None:
    """Refuses a small image folder in which an image cannot be read, before anything is compiled.

    Raises:
        UserError: there is one.
    """
    from bnn_tf.data.folder import FileSplit, faults

    splits = [split for split in (source.train, source.test) if isinstance(split, FileSplit)]
    paths = [path for split in splits for path, _ in split.files]
    found = faults(paths) if len(paths) <= _FEW_FILES else ()
    if found:
        listed = some((f"{path} {reason}" for path, reason in found), count=3)
        check = f"bnn-tf data check {shlex.quote(str(folder))}"
        raise UserError(f"{len(found)} images cannot be read: {listed}; {check} lists all such files")


def _resumed(chosen: dict[str, Any]) -> "Run":
    from bnn_tf.training import Run

    run = Run.open(chosen["resume"])
    return Run(run.path, dataclasses.replace(run.config, **options.moved(chosen)))


def _configuration(context: click.Context, chosen: dict[str, Any]) -> RunConfig:
    """What the options describe."""
    if chosen["method"] is None and chosen["recipe"] is None:
        if chosen["model"] is not None:
            from zoo import get_model

            get_model(chosen["model"])  # a wrong name is said first
        raise UsageError(
            f"name a --method ({', '.join(METHODS)}), a --recipe file, or a stopped run to --resume"
        )
    return configuration(context, chosen)


def _remarks(run: "Run") -> list[str]:
    """What may surprise about the configuration."""
    recipe = run.config.recipe
    within = [
        f"Phase {phase.name} has {phase.epochs} epoch{'s' * (phase.epochs != 1)} and a warm-up of "
        f"{phase.schedule.warmup}, during which the learning rate only rises; "
        "--set schedule.warmup=0 leaves the warm-up out"
        for phase in recipe.phases
        if phase.schedule.warmup > 1
        and phase.epochs <= phase.schedule.warmup  # one epoch is at the full rate
    ]
    averaged = [
        f"Phase {phase.name}: --ema {phase.ema:g} averages latent weights; averages have other signs, which "
        "made binary networks far worse (docs/results.md); without it they keep the last weights"
        for phase in recipe.phases
        if phase.ema is not None and recipe.method_of(phase).kernel_quantizer(3, "conv") is not None
    ]
    return within + averaged


def _resizing(facts: "data.Facts", recipe: "Recipe") -> str:
    """What becomes of the images' size."""
    if facts.pixels is None:
        return ""
    (shortest, longest), size = facts.pixels, recipe.images.size
    if (shortest, shortest) == (longest, longest) == size:
        return ""
    verb = "shrunk" if shortest >= max(size) else "enlarged" if longest < min(size) else "scaled"
    return f", {verb} to {size[0]}×{size[1]}"


_TOO_FEW_FOR_RANDOM_WEIGHTS = 2_000  # images


def _misfits(facts: "data.Facts", config: RunConfig) -> list[str]:
    """Where the recipe does not fit the data."""
    from zoo import pretrained

    remarks, recipe = [], config.recipe
    shipped = [name for name in pretrained.names() if name.startswith(f"{recipe.model}-")]
    few = facts.train is not None and facts.train <= _TOO_FEW_FOR_RANDOM_WEIGHTS
    if recipe.dataset == "folder" and few and shipped and not config.init_from:
        *first, last = (f"--method {name.removeprefix(f'{recipe.model}-')}" for name in shipped)
        others = f"{', '.join(first)} and {last}" if first else last
        remarks.append(
            f"--method {recipe.method.name} starts from random weights, for which {facts.train:,} images are "
            f"few; {others} can start from weights that come with the package"
        )
    batch = max(phase.batch_size for phase in recipe.phases)
    if facts.train is not None and facts.train < batch:
        several = max(min(8, -(-facts.train // 3)), facts.train // 8)
        advice = f"; try --batch-size {several}" if several < facts.train else ""
        remarks.append(
            f"The batch ({batch}) is larger than the training set ({facts.train}), so that an epoch is a "
            f"single step{advice}"
        )
    smaller = max(recipe.images.size)
    if facts.side is not None and facts.side > 6 * smaller:
        remarks.append(
            f"The pictures are far larger than what the network sees: try --image-size {2 * smaller}, or "
            "--model bireal_net18 for 224×224"
        )
    return remarks


def _print_plan(config: RunConfig, as_json: bool) -> None:
    """Prints the phases and their steps, or the configuration; the dataset's files may be absent."""
    from bnn_tf import data
    from bnn_tf.report.page import differences
    from zoo import recipes

    config = config.located()
    recipe = config.recipe
    facts = data.facts(recipe.dataset, config.data_dir)
    if config.limit is not None:
        train, test = (count and min(count, config.limit) for count in (facts.train, facts.test))
        facts = dataclasses.replace(facts, train=train, test=test)
    plan = {**config.to_dict(), "data": facts.to_dict()}
    variant = "" if recipe.variant == "default" else f", variant {recipe.variant}"
    lines = [f"recipe: {recipe.method.name} × {recipe.model} × {recipe.dataset}{variant}: {_note(recipe)}"]
    for phase in recipe.phases:
        rate = f"{phase.optimizer.name} at {phase.optimizer.rate(phase.batch_size):g}, {phase.schedule.name}"
        lines.append(f"phase {phase.name}: {phase.epochs} epochs, batches of {phase.batch_size}, {rate}")
    changed = differences(recipes.original(recipe).to_dict(), recipe.to_dict())
    plan |= {"differences": changed}
    lines += [f"changed: {difference.replace(': ', ' ', 1)}" for difference in changed]
    lines += [f"start: {config.init_from}"] if config.init_from else []
    lines += [f"data: {facts}{_resizing(facts, recipe)}", *facts.notes, *_misfits(facts, config)]
    if facts.train is not None:
        steps = {phase.name: -(-facts.train // phase.batch_size) for phase in recipe.phases}
        plan |= {"steps_per_epoch": steps}
        plan |= {"steps": sum(steps[phase.name] * phase.epochs for phase in recipe.phases)}
        per_epoch = ", ".join(f"{name} {count}" for name, count in steps.items())
        lines += [f"steps per epoch: {per_epoch}", f"steps in all: {plan['steps']}"]
    options.emit(plan, as_json, "\n".join(lines))


def _train(run: "Run", session: "Session", prepared: "Prepared | None", as_json: bool) -> None:
    from bnn_tf.training import train as run_phases

    _, _, launched = os.environ.get(strategies.LAUNCHED, "").partition("/")
    start = f"bnn-tf launch -n {launched} -- train" if launched else "bnn-tf train"
    with options.continued_by(f"{start} --resume {shlex.quote(str(run.path))}", on_all=not launched):
        trained = run_phases(run, session, prepared)
    result, published = trained.evaluation, run.config.recipe.published_top1
    beside = "" if published is None else f"; the paper's full recipe: {100 * published:g} %"
    figures = {} if result is None else result.to_dict()
    options.emit(
        {"run_dir": str(run.path), **figures, "published_top1": published},
        as_json,
        f"{run.path}: {result}{beside}",
    )
