"""`bnn-tf completion`."""

import click

from bnn_tf.cli import options

_WHERE = {
    "bash": 'add to ~/.bashrc: eval "$(bnn-tf completion bash)"',
    "zsh": 'add to ~/.zshrc: eval "$(bnn-tf completion zsh)"',
    "fish": "run once: bnn-tf completion fish > ~/.config/fish/completions/bnn-tf.fish",
}


@options.command()
@click.argument("shell", type=click.Choice(list(_WHERE)))
@options.json_option
@click.pass_context
def completion(context: click.Context, shell: str, as_json: bool) -> None:
    """Print the script that completes commands, options and names in SHELL.

    bash: add to ~/.bashrc: eval "$(bnn-tf completion bash)". zsh: the same with zsh in ~/.zshrc. fish: run
    bnn-tf completion fish > ~/.config/fish/completions/bnn-tf.fish once.
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    group = context.find_root().command
    script = kind.source_template % kind(group, {}, "bnn-tf", "_BNN_TF_COMPLETE").source_vars()  # type: ignore[union-attr,misc]
    options.emit(
        {"shell": shell, "script": script, "install": _WHERE[shell]}, as_json, f"# {_WHERE[shell]}\n{script}"
    )
