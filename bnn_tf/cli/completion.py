"""`bnn-tf completion`."""

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class, get_completion_class

from bnn_tf.cli import options

_WHERE = {
    "bash": 'add to ~/.bashrc: eval "$(bnn-tf completion bash)"',
    "zsh": 'add to ~/.zshrc: eval "$(bnn-tf completion zsh)"',
    "fish": "run once: bnn-tf completion fish > ~/.config/fish/completions/bnn-tf.fish",
}


@add_completion_class
class ColonBashComplete(BashComplete):
    """Bash's completion for names with a colon, such as `zoo:cifar_resnet20-ovsw`.

    Bash takes a colon for the end of a word (COMP_WORDBREAKS) and replaces only what stands behind the last
    one. The words are therefore joined here before they are completed, and an answer leaves out what stands
    before the colon.
    """

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the one that is completed, and its beginning."""
        before, last = super().get_completion_args()
        words: list[str] = []
        for word in [*before, last]:
            if words and (word == ":" or words[-1].endswith(":")):
                words[-1] += word
            else:
                words.append(word)
        self.before_colon = words[-1][: words[-1].rfind(":") + 1]
        return words[:-1], words[-1]

    def format_completion(self, item: CompletionItem) -> str:
        """One answer, from behind the last colon of what was typed."""
        return f"{item.type},{item.value.removeprefix(self.before_colon)}"


@options.command()
@click.argument("shell", type=click.Choice(list(_WHERE)))
@options.json_option
@click.pass_context
def completion(context: click.Context, shell: str, as_json: bool) -> None:
    """Print the script that completes commands, options and names in SHELL.

    bash: add to ~/.bashrc: eval "$(bnn-tf completion bash)". zsh: the same with zsh in ~/.zshrc. fish: run
    bnn-tf completion fish > ~/.config/fish/completions/bnn-tf.fish once.
    """
    kind = get_completion_class(shell)
    group = context.find_root().command
    script = kind.source_template % kind(group, {}, "bnn-tf", "_BNN_TF_COMPLETE").source_vars()  # type: ignore[union-attr,misc]
    options.emit(
        {"shell": shell, "script": script, "install": _WHERE[shell]}, as_json, f"# {_WHERE[shell]}\n{script}"
    )
