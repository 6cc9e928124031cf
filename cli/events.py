"""`entrepot events`: reads along what the services say to each other."""

import asyncio
import contextlib
import json
from typing import Any, cast

import click

from cli import suite
from cli.bus import operator
from cli.exits import Failed
from shared.bus.face import BusUnavailable
from shared.bus.tail import Said, Tail

_STREAMS = ("EVENTS", "JOBS", "STATE", "AUDIT", "LOGS")


@click.group()
def events() -> None:
    """What the services say to each other."""


@events.command(short_help="Print events as they are said.")
@suite.data_option
@suite.format_option
@click.option("--subject", default=">", show_default=True, help="Such as image.pushed.> or scan.completed.demo.>")
@click.option("--stream", type=click.Choice(_STREAMS), default="EVENTS", show_default=True)
@click.option("--from-start", is_flag=True, help="Everything that is still kept, before what comes.")
@click.option("--until-now", is_flag=True, help="Stop where there is no more, instead of waiting.")
def tail(  # noqa: PLR0913, PLR0917 - click hands over each option by its name
    data: str,
    form: str,
    subject: str,
    stream: str,
    from_start: bool,  # noqa: FBT001 - the same
    until_now: bool,  # noqa: FBT001 - the same
) -> None:
    """Print each event as it is said, one a line, until Ctrl-C; as JSON, the whole envelope."""
    address = operator(suite.of(data))
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_tail(Tail(address, asyncio.sleep), stream, subject, form, (from_start or until_now, until_now)))


async def _tail(reading: Tail, stream: str, subject: str, form: str, span: tuple[bool, bool]) -> None:
    from_start, until_now = span
    try:
        after = 0 if from_start else await reading.end(stream)
        async for said in reading.follow(stream, subject, after, endless=not until_now):
            click.echo(said.content.decode() if form == "json" else line(said))
    except BusUnavailable as error:
        raise Failed(str(error)) from error
    finally:
        await reading.close()


def line(said: Said) -> str:
    """Time, topic, actor, and what is short among the event's own fields."""
    try:
        envelope = cast("dict[str, Any]", json.loads(said.content))
    except ValueError:
        return f"{said.time}  {said.subject}  ({len(said.content)} bytes)"
    data = cast("dict[str, Any]", envelope.get("data") or {})
    fields = [
        f"{name}={_on_one_line(value)}"
        for name, value in data.items()
        if isinstance(value, str | int) and value not in ("", 0)
    ]
    return "  ".join([str(envelope.get("time", said.time)), str(envelope.get("type", said.subject)), *fields])


def _on_one_line(value: str | int) -> str:
    return " ".join(str(value).split())
