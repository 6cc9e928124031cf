"""Counters: where generations and sequences stood, from the snapshot and from everything that was said since."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from services.registry.rebuilding.rows import CountersRow
from shared.names import partition_of
from shared.state import Keys, PutField, State, Write

SKEW_SECONDS = 60.0
"""How far the clocks of two replicas may differ."""

_Numbers = dict[str, int]


@dataclass
class Counters:
    """The highest number of each counter, by the counter's name; names tell the project, and so the partition."""

    begun: float = 0.0
    """When the snapshot was begun; 0 without one."""
    generations: _Numbers = field(default_factory=dict[str, int])
    sequences: _Numbers = field(default_factory=dict[str, int])
    lanes: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    known: _Numbers = field(default_factory=dict[str, int])
    """Sequences as the snapshot has them."""
    gaps: dict[str, int] = field(default_factory=dict[str, int])
    """How many numbers of a source never showed."""

    def load(self, row: CountersRow) -> None:
        """Take what a snapshot says."""
        match row.which:
            case "lanes":
                self.lanes |= {(row.partition, stream): number for stream, number in row.numbers.items()}
            case "generations":
                self.generations |= row.numbers
            case "sequences":
                self.known |= row.numbers
                self.sequences |= row.numbers

    def told_before(self, topic: str, project: str, sequence: int, time: float) -> bool:
        """Whether the snapshot knows what this event says. One after a loss may have been numbered from 1 again."""
        return sequence <= self.known.get(f"{topic}|{project}", 0) and time <= self.begun + SKEW_SECONDS

    def count(self, topic: str, project: str, sequence: int) -> None:
        """An event was said under this number."""
        source = f"{topic}|{project}"
        before = self.sequences.get(source, 0)
        if sequence > before + 1:
            self.gaps[source] = self.gaps.get(source, 0) + sequence - before - 1
        self.sequences[source] = max(before, sequence)

    def reached(self, topic: str, project: str, sequence: int) -> None:
        """The source came so far, as somebody says who has heard it all."""
        source = f"{topic}|{project}"
        self.sequences[source] = max(self.sequences.get(source, 0), sequence)

    def grown(self, counter: str, generation: int) -> None:
        """A resource has come so far."""
        self.generations[counter] = max(self.generations.get(counter, 0), generation)

    def writes(self, keys: Keys) -> Iterator[tuple[str, Write]]:
        """What state is to remember, with the partition."""
        for counter, number in self.generations.items():
            partition = partition_of(counter.partition("/")[0])
            yield partition, PutField(keys.at(partition, "generations"), counter, str(number))
        for source, number in self.sequences.items():
            partition = partition_of(source.partition("|")[2])
            yield partition, PutField(keys.at(partition, "sequences"), source, str(number))
        for (partition, stream), number in self.lanes.items():
            yield partition, PutField(keys.at(partition, "lanes"), stream, str(number))

    async def merge(self, state: State, keys: Keys) -> None:
        """Never go behind what state counts already."""
        for partition in keys.all_partitions():
            for which, numbers in (("generations", self.generations), ("sequences", self.sequences)):
                for name, number in (await state.record(keys.at(partition, which))).items():
                    numbers[name] = max(numbers.get(name, 0), int(number))
            for stream, number in (await state.record(keys.at(partition, "lanes"))).items():
                self.lanes[partition, stream] = max(self.lanes.get((partition, stream), 0), int(number))
