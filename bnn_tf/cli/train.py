"""`bnn-tf train`."""

import dataclasses
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnn_tf.cli import options
from bnn_tf.cli.target import near, require_inputs
from bnn_tf.errors import UsageError, UserError, some, unknown

if TYPE_CHECKING:
    from bnn_tf import data
    from bnn_tf.training import Prepared, Run, RunConfig, Session
    from zoo.recipes import Recipe

# Fields of `RunConfig` that only this command has an option for.
_OWN = ("seed", "checkpoint_every")
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
    default=1,
    show_default=True,
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
    default="10m",
    show_default=True,
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
    if run_dir is not None and not chosen["dry_run"] and (Path(run_dir) / "config.json").is_file():
        raise UserError(
            f"{run_dir} holds a run already: continue it with bnn-tf train --resume {shlex.quote(run_dir)}, "
            "or name another folder"
        )
    config = None if chosen["resume"] else _configuration(context, chosen)
    if config is not None:
        recipe = config.recipe
        require_inputs(recipe.dataset, config.data_dir, (config.init_from, recipe.teacher))

    from rich.console import Console

    from bnn_tf.training import Run, Session, prepare

    # With --json standard output carries the result alone.
    console = Console(stderr=chosen["as_json"], soft_wrap=True, markup=False, highlight=False)
    session = Session(
        Console(quiet=True) if chosen["quiet"] else console,
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
        # Standard output begins with the run directory, which does not exist before.
        aside = Console(stderr=True, quiet=chosen["quiet"], soft_wrap=True, markup=False, highlight=False)
        prepared = prepare(config, dataclasses.replace(session, console=aside))
        _require_sound(prepared.source, config.data_dir)
        run = Run.create(prepared.config, chosen["run_dir"])
    console.print(f"Run directory: {run.path}")
    session.console.print(f"Recipe: {run.config.recipe.note}")
    if prepared is not None:
        from bnn_tf import data

        facts = data.describe(prepared.source)
        session.console.print(f"Data: {facts}{_resizing(facts, run.config.recipe)}")
        for remark in (*facts.notes, *_misfits(facts, run.config)):
            session.console.print(remark)
    for remark in _remarks(run):
        session.console.print(remark)
    _train(run, session, prepared, chosen["as_json"])


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
    moved = {name: chosen[name] for name in ("data_dir", "workers") if chosen[name] is not None}
    return Run(run.path, dataclasses.replace(run.config, **moved))


def _configuration(context: click.Context, chosen: dict[str, Any]) -> "RunConfig":
    """What the options describe; a file after --recipe may hold settings of the run, too."""
    if chosen["method"] is None and chosen["recipe"] is None:
        if chosen["model"] is not None:
            from zoo import get_model

            get_model(chosen["model"])  # a wrong name is said first
        raise UsageError(
            f"name a --method ({', '.join(options.method_names())}), a --recipe file, or a stopped run "
            "to --resume"
        )
    recipe = _phases(options.recipe(context, chosen), chosen)
    written = options.recipe_file(chosen["recipe"]) if chosen["recipe"] else {}
    typed = {parameter.name for parameter in options.typed(context)}
    values = {
        name: chosen[name] for name in (*options.CONFIGURED, *_OWN) if name in typed or name not in written
    }
    stored = {
        name: written[name] for name in (*options.CONFIGURED, *_OWN) if name in written and name not in values
    }

    if recipe.dataset == "folder" and not values.get("init_from") and chosen["recipe"] is None:
        values["init_from"] = _shipped(recipe)
        if values["init_from"] and chosen["from_phase"] is None and chosen["until_phase"] is None:
            # These weights have all phases behind them; one with real kernels would discard their codebooks.
            first = next((i for i, phase in enumerate(recipe.phases) if phase.method is None), 0)
            recipe = _with_all_epochs(recipe, first, chosen)

    from bnn_tf.training import RunConfig

    return RunConfig(recipe=recipe, **values, **stored)


def _with_all_epochs(recipe: "Recipe", first: int, chosen: dict[str, Any]) -> "Recipe":
    """The recipe from a phase on, which then gets the epochs of those before, too, unless they were typed."""
    from zoo.recipes import with_epochs

    rest = dataclasses.replace(recipe, phases=recipe.phases[first:])
    set_fields = [options.parse_setting(text)[0].rpartition(".")[2] for text in chosen["settings"]]
    if chosen["epochs"] is not None or "epochs" in set_fields:
        return _typed_epochs(rest, chosen)
    return with_epochs(rest, [round(phase.epochs * recipe.epochs / rest.epochs) for phase in rest.phases])


def _shipped(recipe: "Recipe") -> str | None:
    """The weights to start from with pictures of one's own: the package's for this network and method."""
    from zoo import pretrained

    name = f"{recipe.model}-{recipe.method.name}"
    if name not in pretrained.names():
        return None
    trained = pretrained.record(name)["config"]["recipe"]
    fits = trained["model_options"] == recipe.model_options and recipe.images.channels == 3
    return f"{pretrained.PREFIX}{name}" if fits else None


def _phases(recipe: "Recipe", chosen: dict[str, Any]) -> "Recipe":
    """The recipe from `--from-phase` on; the name after `--until-phase` is only looked up."""
    names = [phase.name for phase in recipe.phases]
    for name in (chosen["from_phase"], chosen["until_phase"]):
        if name is not None and name not in names:
            raise unknown("phase", name, names)
    first = names.index(chosen["from_phase"] or names[0])
    if first and chosen["init_from"] is None:
        raise UsageError(f"--from-phase {chosen['from_phase']} needs a run to start from: --init-from RUN")
    rest = dataclasses.replace(recipe, phases=recipe.phases[first:])
    return _typed_epochs(rest, chosen) if first else rest


def _typed_epochs(recipe: "Recipe", chosen: dict[str, Any]) -> "Recipe":
    """The phases that are left share the number after `--epochs` where a recipe's phases do."""
    from zoo.recipes import with_epochs

    typed = chosen["epochs"]
    shared = recipe.shared_epochs and typed is not None and "," not in typed
    return with_epochs(recipe, options.numbers(typed)) if shared else recipe


def _remarks(run: "Run") -> list[str]:
    """What may surprise about the configuration."""
    recipe = run.config.recipe
    within = [
        f"Phase {phase.name}: its {phase.epochs} epoch(s) end within its {phase.schedule.warmup} warm-up"
        " epochs, in which the rate only rises; --set schedule.warmup=0 does without them"
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


def _misfits(facts: "data.Facts", config: "RunConfig") -> list[str]:
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
    if facts.train is not None and facts.train <= batch:
        several = max(min(8, -(-facts.train // 3)), facts.train // 8)
        advice = f"; try --batch-size {several}" if several < facts.train else ""
        remarks.append(
            f"One step is all of an epoch: a batch holds {batch} images, there are {facts.train} to train "
            f"on{advice}"
        )
    smaller = max(recipe.images.size)
    if facts.side is not None and facts.side > 6 * smaller:
        remarks.append(
            f"The pictures are far larger than what the network sees: try --image-size {2 * smaller}, or "
            "--model bireal_net18 for 224×224"
        )
    return remarks


def _print_plan(config: "RunConfig", as_json: bool) -> None:
    """Prints the phases and their steps, or the configuration; the dataset's files may be absent."""
    from bnn_tf import data

    config = config.located()
    recipe = config.recipe
    facts = data.facts(recipe.dataset, config.data_dir)
    if config.limit is not None:
        train, test = (count and min(count, config.limit) for count in (facts.train, facts.test))
        facts = dataclasses.replace(facts, train=train, test=test)
    plan = {**config.to_dict(), "data": facts.to_dict()}
    variant = "" if recipe.variant == "default" else f", variant {recipe.variant}"
    lines = [f"recipe: {recipe.method.name} × {recipe.model} × {recipe.dataset}{variant}: {recipe.note}"]
    for phase in recipe.phases:
        rate = f"{phase.optimizer.name} at {phase.optimizer.rate(phase.batch_size):g}, {phase.schedule.name}"
        lines.append(f"phase {phase.name}: {phase.epochs} epochs, batches of {phase.batch_size}, {rate}")
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
    from bnn_tf.training import NotResumableError, StoppedError
    from bnn_tf.training import train as run_phases

    try:
        trained = run_phases(run, session, prepared)
    except StoppedError as error:
        error.args = (f"{error}; continue with: bnn-tf train --resume {shlex.quote(str(run.path))}",)
        raise
    except NotResumableError as error:
        advice = "--restart-from-weights goes on from its last weights with a fresh optimizer"
        raise UserError(f"{error.reason}; {advice}, or start a new run") from error
    result, published = trained.evaluation, run.config.recipe.published_top1
    beside = "" if published is None else f"; the paper's full recipe: {published} %"
    figures = {} if result is None else result.to_dict()
    options.emit(
        {"run_dir": str(run.path), **figures, "published_top1": published},
        as_json,
        f"{run.path}: {result}{beside}",
    )
