"""What commands print: results on standard output for programs and people, everything else on standard error."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click


def show(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], form: str) -> None:
    """Print records, as JSON whole or as a table of some columns."""
    if form == "json":
        show_json(list(rows))
        return
    cells = [[_cell(row, column) for column in columns] for row in rows]
    heads = [column.rpartition(".")[2].upper() for column in columns]
    widths = [max(len(line[at]) for line in [heads, *cells]) for at in range(len(columns))]
    for number, line in enumerate([heads, *cells]):
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        click.echo(bold(text) if number == 0 else text)


def show_json(value: Any) -> None:
    """Print a value as indented JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def say(line: str) -> None:
    """A remark for a person, on standard error."""
    click.echo(line, err=True)


def bold(text: str) -> str:
    """Bold on a terminal that wants colour."""
    return click.style(text, bold=True) if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else text


def _cell(row: Mapping[str, Any], column: str) -> str:
    """A value out of nested records, by a path such as `vulnerability.severity`."""
    value: Any = row
    for name in column.split("."):
        value = value.get(name, "") if isinstance(value, Mapping) else ""  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return str(value)  # pyright: ignore[reportUnknownArgumentType]
