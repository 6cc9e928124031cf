"""`entrepot dead`: events that no handler could take, why, and once more."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click

from cli import suite
from cli.bus import operator
from cli.exits import Failed, Missing
from cli.output import show, show_json
from shared.bus.dead import DeadLetter, JetStreamDeadLetters, LetterUnknown
from shared.bus.face import BusUnavailable

T = TypeVar("T")


@click.group()
def dead() -> None:
    """Events that could not be handled."""


@dead.command("list")
@suite.data_option
@suite.format_option
@click.option("--service", default="", help="Only what this service could not take.")
def list_letters(data: str, form: str, service: str) -> None:
    """Dead letters in the order in which they died."""

    async def all_of(letters: JetStreamDeadLetters) -> list[DeadLetter]:
        return [letter async for letter in letters.all(service=service)]

    rows = [_row(letter) for letter in _asked(data, all_of)]
    show(rows, ["number", "time", "service", "subject", "delivery", "reason"], form)


@dead.command("show")
@click.argument("number", type=int)
@suite.data_option
def show_letter(number: int, data: str) -> None:
    """One dead letter, with the event, as JSON."""
    letter = _asked(data, lambda letters: letters.show(number))
    show_json({**_row(letter), "event": letter.content.decode(errors="replace")})


@dead.command(short_help="Have events handled once more.")
@click.argument("numbers", type=int, nargs=-1, required=True)
@suite.data_option
def redrive(numbers: tuple[int, ...], data: str) -> None:
    """Have these handled once more: all that hear the topic hear it again, and know what they have done already."""
    for number in numbers:
        _asked(data, lambda letters, number=number: letters.redrive(number))
        click.echo(number)


def _asked(data: str, question: Callable[[JetStreamDeadLetters], Awaitable[T]]) -> T:
    address = operator(suite.of(data))

    async def ask() -> T:
        letters = JetStreamDeadLetters(address)
        try:
            return await question(letters)
        finally:
            await letters.close()

    try:
        return asyncio.run(ask())
    except LetterUnknown as error:
        raise Missing(f"there is no dead letter {error}") from error
    except BusUnavailable as error:
        raise Failed(str(error)) from error


def _row(letter: DeadLetter) -> dict[str, Any]:
    return {name: value for name, value in vars(letter).items() if name != "content"}
