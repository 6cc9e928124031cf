"""`entrepot migrate`: a whole registry, or a part of one, into repositories here."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from cli import suite
from cli.exits import Failed
from cli.output import say, show_json
from cli.places import Known
from cli.progress import Progress
from cli.transport.addresses import parse_registry, parse_remote
from cli.transport.migrating import Course, Migration, Move, Outcome
from cli.transport.shelves import Shelves


@click.command()
@click.argument("source")
@click.argument("target")
@suite.data_option
@click.option("--names", type=click.Path(path_type=Path), default=None, help="Names to copy, one a line.")
@click.option("--at-once", type=click.IntRange(1, 64), default=4, show_default=True, help="Images copied at a time.")
@click.option("--untagged/--tagged", default=False, help="Untagged manifests too, where the source lists them.")
@click.option("--dry-run", is_flag=True, help="Only list what would be copied.")
@click.option("--source-credentials", envvar="ENTREPOT_SOURCE_CREDENTIALS", default="", help="USER:PASSWORD")
@click.option("--target-credentials", envvar="ENTREPOT_TARGET_CREDENTIALS", default="", help="USER:PASSWORD")
@click.option("--plain-http/--tls", default=None, help="Otherwise plain HTTP on loopback, and TLS elsewhere.")
@suite.format_option
def migrate(  # noqa: PLR0913, PLR0917 - click hands over each option by its name
    source: str,
    target: str,
    data: str,
    names: Path | None,
    at_once: int,
    untagged: bool,  # noqa: FBT001 - click hands it over so
    dry_run: bool,  # noqa: FBT001 - the same
    source_credentials: str,
    target_credentials: str,
    plain_http: bool | None,  # noqa: FBT001 - the same
    form: str,
) -> None:
    """Copy a whole registry, or what lies below a prefix, into repositories; run again, it goes on where it was.

    \b
    SOURCE  HOST or HOST/PREFIX; its names come from the catalog, from Container Registry's lists, or from --names
    TARGET  HOST/PROJECT/REPOSITORY[/PREFIX], or HOST/PROJECT for the project's repository gcr.io

    Signatures and whatever else refers to an image come along. Every copy is verified by its digest. Leaves with 1
    when something could not be copied; what, and why, is in the report.
    """  # noqa: D301 - click wants the character itself, not a backslash
    known = Known(data, Path(), plain_http=plain_http)
    course = Course(parse_registry(source), parse_remote(target.removeprefix("docker://")))
    door = known.door(course.source.host, source_credentials)
    shelves = Shelves(door)
    wanted = _named(names) if names else shelves.names(course.source.name)
    moves = course.moves(shelves, wanted, untagged=untagged)
    if dry_run:
        _plan(moves, form)
        return
    with Progress() as progress:
        goal = known.door(course.target.host, target_credentials)
        goal.knock()
        migration = Migration(door, goal, progress)
        outcomes = [_told(outcome) for outcome in migration.run(moves, at_once)]
    _report(outcomes, form)


def _named(path: Path) -> Iterator[str]:
    """The lines of a file, without empty ones and remarks."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, ValueError) as error:
        raise Failed(f"{path} cannot be read: {error}") from error
    for line in lines:
        name = line.partition("#")[0].strip()
        if name:
            yield parse_remote(f"names/{name}").name


def _plan(moves: Iterator[Move | Outcome], form: str) -> None:
    rows = [
        asdict(move) if isinstance(move, Outcome) else {"source": str(move.source), "target": str(move.target)}
        for move in moves
    ]
    if form == "json":
        show_json(rows)
        return
    for row in rows:
        click.echo(f"{row['source']}  ->  {row['target']}{'  ' + row['reason'] if row.get('reason') else ''}")


def _told(outcome: Outcome) -> Outcome:
    if outcome.state == "failed":
        say(f"failed: {outcome.source}: {outcome.reason}")
    return outcome


def _report(outcomes: list[Outcome], form: str) -> None:
    counts = Counter(outcome.state for outcome in outcomes)
    failed = counts["failed"]
    summary: dict[str, Any] = {state: counts[state] for state in ("copied", "present", "failed")}
    summary["referrers"] = sum(outcome.referrers for outcome in outcomes)
    if form == "json":
        show_json({**summary, "images": [asdict(outcome) for outcome in outcomes]})
    else:
        click.echo(", ".join(f"{count} {what}" for what, count in summary.items()))
    if failed:
        raise Failed(f"{failed} of {len(outcomes)} could not be copied")
