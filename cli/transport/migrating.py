"""Copies many images from one registry to another, several at a time, and leaves alone what is there already.

The target itself is the memory: a name that already means the same digest there is whole, because a registry takes
a manifest only after everything that it names. So a migration that was broken off is simply run again.
"""

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from itertools import islice

from cli.exits import Failed
from cli.transport.addresses import Remote
from cli.transport.copying import Progress, copy
from cli.transport.door import Door
from cli.transport.registry import RegistryImage
from cli.transport.shelves import Shelves
from shared.digest import Digest

_DEEPEST = 4


@dataclass(frozen=True)
class Outcome:
    """What became of one name."""

    source: str
    target: str
    digest: str = ""
    state: str = "copied"
    """`copied`, `present` (the same digest was there before) or `failed`."""
    reason: str = ""
    referrers: int = 0
    """Signatures, package lists and the like that were copied with it."""


@dataclass(frozen=True)
class Move:
    """One image to be copied."""

    source: Remote
    target: Remote


@dataclass(frozen=True)
class Course:
    """From where to where, and how a name there is called here."""

    source: Remote
    target: Remote
    """Their names are the prefixes; the source's may be empty."""

    def moves(self, shelves: Shelves, names: Iterable[str], *, untagged: bool) -> Iterator[Move | Outcome]:
        """Every tag of every name; a name that cannot be listed is an outcome already."""
        for name in names:
            try:
                contents = shelves.contents(name)
            except Failed as error:
                place = f"{self.source.host}/{name}"
                yield Outcome(place, self._called(name).name, state="failed", reason=str(error))
                continue
            digests = contents.untagged if untagged else ()
            for tag in contents.tags:
                yield Move(replace(self.source, name=name, tag=tag), replace(self._called(name), tag=tag))
            for digest in digests:
                yield Move(replace(self.source, name=name, digest=digest), replace(self._called(name), digest=digest))

    def _called(self, name: str) -> Remote:
        rest = name.removeprefix(self.source.name).strip("/")
        return replace(self.target, name="/".join(part for part in (self.target.name, rest) if part))


class Migration:
    """Copies moves between two registries."""

    def __init__(self, source: Door, target: Door, progress: Progress = lambda _: None) -> None:
        """`progress` is told how many more bytes were copied."""
        self._source = source
        self._target = target
        self._shelves = Shelves(source)
        self._progress = progress
        self._stopped = threading.Event()

    def run(self, moves: Iterable[Move | Outcome], at_once: int) -> Iterator[Outcome]:
        """Do them, `at_once` at a time; each outcome as it comes."""
        waiting = iter(moves)
        with ThreadPoolExecutor(at_once) as together:
            running: set[Future[Outcome]] = set()
            try:
                while True:
                    for move in islice(waiting, 2 * at_once - len(running)):
                        running.add(together.submit(self._done, move))
                    if not running:
                        return
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    for one in done:
                        yield one.result()
            finally:
                self._stopped.set()
                for one in running:
                    one.cancel()

    def _done(self, move: Move | Outcome) -> Outcome:
        if isinstance(move, Outcome):
            return move
        places = str(move.source), str(move.target)
        try:
            return self._moved(move, Outcome(*places))
        except Failed as error:
            return Outcome(*places, state="failed", reason=str(error))

    def _moved(self, move: Move, outcome: Outcome) -> Outcome:
        """Referrers come before what they refer to: once the name is there, all is there."""
        source, target = RegistryImage(self._source, move.source), self._at(move.target)
        digest = source.digest() or source.manifest(None).digest
        if target.digest() == digest:
            more = self._referrers(move, [digest])
            return replace(outcome, digest=digest, state="present", referrers=more)
        # By its digest from here on, so that a tag which is moved meanwhile does not split the image.
        source = RegistryImage(self._source, replace(move.source, tag="", digest=digest))
        whole = source.manifest(None)
        more = self._referrers(move, [digest, *(child.digest for child in whole.children())])
        copied = copy(source, target, progress=self._progress)
        if (found := target.digest()) != copied:
            raise Failed(f"{move.target} is {found}, not {copied}, right after it was copied")
        return replace(outcome, digest=copied, referrers=more)

    def _referrers(self, move: Move, subjects: list[Digest], depth: int = 0) -> int:
        """Copy what refers to these manifests, and what refers to that; returns how many were not there before."""
        if depth > _DEEPEST or self._stopped.is_set():
            return 0
        count = 0
        for subject in subjects:
            for described in self._shelves.referrers(move.source.name, subject):
                found = described.digest
                count += self._referrers(move, [found], depth + 1)
                target = self._at(replace(move.target, tag="", digest=found))
                if target.digest() != found:
                    copy(RegistryImage(self._source, replace(move.source, tag="", digest=found)), target)
                    count += 1
        return count

    def _at(self, place: Remote) -> RegistryImage:
        return RegistryImage(self._target, place, mount_any=True)
