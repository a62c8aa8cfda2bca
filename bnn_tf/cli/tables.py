"""Tables on standard output."""

from collections.abc import Sequence

import click

OFF_TERMINAL = 10_000  # columns; a pipe has no width, and its lines should not be broken


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], numbers_from: int | None = None
) -> None:
    """Prints rows under column names.

    Args:
        columns: Names of the columns.
        rows: Cells; an empty row becomes a line across the table.
        numbers_from: Align this column and those after it to the right.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for index, name in enumerate(columns):
        right = numbers_from is not None and index >= numbers_from
        table.add_column(name, justify="right" if right else "left")
    for row in rows:
        table.add_row(*row)
        if not row:
            table.add_section()
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = OFF_TERMINAL
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())
