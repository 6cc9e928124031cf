"""One suite for state in memory and state in Valkey."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
from redis.asyncio import Redis

from shared.clock import SystemClock
from shared.events import Cause, Draft
from shared.events.audit import AuditActivity
from shared.events.images import ImageDeleted
from shared.outbox import Outbox
from shared.state import (
    STAMP,
    UNKNOWN,
    Add,
    Check,
    Drop,
    DropField,
    FieldAtMost,
    FieldIs,
    FieldOf,
    FieldsOf,
    Index,
    IsEmpty,
    IsMember,
    Keys,
    LaneEntry,
    LaneFull,
    Lease,
    MemberOf,
    MembersOf,
    Moved,
    NotMember,
    Put,
    PutField,
    RecordOf,
    ScoreIs,
    State,
    Step,
    Unindex,
    ValueIs,
    ValueOf,
    Write,
)
from shared.state.memory import MemoryState, MemoryStore
from shared.state.server import ValkeySettings
from shared.state.valkey import ValkeyState
from shared.state_rights import rights_of
from tests.support.servers import Server, valkey_shared

__all__ = ["valkey_shared"]

AT = "07"
numbers = itertools.count(1)

Open = Callable[[], State]


@pytest.fixture
def service() -> str:
    """A name of its own keeps each test's keys apart."""
    return f"service{next(numbers)}"


@pytest.fixture(params=["memory", "valkey"])
async def replica(request: pytest.FixtureRequest, service: str) -> AsyncIterator[Open]:
    """Opens the same state again and again, as replicas of one service do. Lanes hold four entries."""
    if request.param == "memory":
        store = MemoryStore()
        yield lambda: MemoryState(service, SystemClock().monotonic, store, lane_limit=4)
        return
    server: Server = request.getfixturevalue("valkey_shared")
    await _let_in(server, service)
    settings = ValkeySettings(f"redis://127.0.0.1:{server.port}", service, "secret", lane_limit=4)
    opened: list[ValkeyState] = []

    def one() -> State:
        opened.append(ValkeyState.connect(service, settings, SystemClock()))
        return opened[-1]

    yield one
    for state in opened:
        await state.close()


async def _let_in(server: Server, service: str) -> None:
    """Make an account with the rights that every deployment gives: whatever the state sends, those must allow."""
    administrator = Redis(port=server.port)
    await administrator.execute_command("ACL", "SETUSER", service, "on", ">secret", *rights_of(service).split())
    await administrator.aclose()


@pytest.fixture
def state(replica: Open) -> State:
    return replica()


@pytest.fixture
def keys(service: str) -> Keys:
    return Keys(service)


def step(*writes: Write, checks: tuple[Check, ...] = (), drafts: tuple[Draft, ...] = (), counter: str = "") -> Step:
    return Step(AT, f"request{next(numbers)}", checks, writes, drafts, counter)


def deleted(count: int, project: str = "acme") -> tuple[Draft, ...]:
    events = [ImageDeleted(project=project, repository="web", image="app", digest=f"sha256:{n}") for n in range(count)]
    return Outbox("registry", SystemClock()).drafts(events, Cause(id=f"cause{next(numbers)}"))


async def test_what_was_never_written_is_not_there(state: State, keys: Keys) -> None:
    key = keys.at(AT, "thing")
    assert await state.value(key) is None
    assert await state.field(key, "name") is None
    assert await state.fields(key, ["name", "size"]) == [None, None]
    assert await state.record(key) == {}
    assert await state.members(key) == []
    assert await state.ranked(key, low=float("-inf"), high=float("inf")) == []
    assert await state.size(key) == 0
    assert not await state.has_member(key, "x")
    assert await state.generation(AT, "web") == 0


async def peeked(state: State, key: str, field: str = "", unless: str = "") -> str | None:
    """What a peek finds, once this way is open."""
    async with asyncio.timeout(5):
        while True:
            told = asyncio.get_running_loop().create_future()
            found = await told if state.peek(key, told.set_result, field=field, unless=unless) else UNKNOWN
            if found is not UNKNOWN:
                return found
            await state.value(key)  # opens what a peek looks through


async def test_a_peek_finds_what_a_read_finds(state: State, keys: Keys) -> None:
    value, record = keys.at(AT, "value"), keys.at(AT, "record")
    assert await peeked(state, value) is None
    assert await peeked(state, record, "name") is None
    for text in ("größe {}", "", "x" * 100_000):
        await state.apply(step(Put(value, text), PutField(record, "name", text)))
        assert await peeked(state, value) == text
        assert await peeked(state, record, "name") == text
    await state.apply(step(Drop(value), DropField(record, "name")))
    assert await peeked(state, value) is None
    assert await peeked(state, record, "name") is None


async def test_a_peek_finds_nothing_where_there_is_a_value_that_must_not_be(state: State, keys: Keys) -> None:
    value, record, sign = keys.at(AT, "value"), keys.at(AT, "record"), keys.at(AT, "sign")
    await state.apply(step(Put(value, "a"), PutField(record, "name", "b")))
    for _ in range(2):
        assert await peeked(state, value, unless=sign) == "a"
        assert await peeked(state, record, "name", unless=sign) == "b"
        await state.apply(step(Put(sign, "")))
        told: list[object] = []
        for _ in range(2):  # together in one turn with others that it does not concern
            assert state.peek(value, told.append, unless=sign)
            assert state.peek(value, told.append)
            assert state.peek(record, told.append, field="name", unless=sign)
            assert state.peek(record, told.append, field="name")
        for _ in range(2):  # what is asked later is answered later
            await state.value(value)
        assert sorted(map(str, told)) == sorted(map(str, [UNKNOWN, "a", UNKNOWN, "b"] * 2))
        await state.apply(step(Drop(sign)))


async def test_a_peek_of_one_replica_sees_what_another_has_written(replica: Open, keys: Keys) -> None:
    writer, reader = replica(), replica()
    key = keys.at(AT, "value")
    for number in range(50):
        reader.peek(key, lambda _: None)  # under way while the other writes
        await writer.apply(step(Put(key, str(number))))
        assert await peeked(reader, key) == str(number)


async def test_every_kind_of_write_is_read_back(state: State, keys: Keys) -> None:
    value, record, index = (keys.at(AT, kind) for kind in ("value", "record", "index"))
    done = await state.apply(
        step(
            Put(value, "größe {} \n"),
            PutField(record, "name", "web"),
            PutField(record, "generation", STAMP),
            Add(record, "count", 3),
            Add(record, "count", -5),
            Index(index, "late", 2.5),
            Index(index, "early", -1),
            counter="web",
        )
    )
    assert (done.generation, done.again) == (1, False)
    assert await state.value(value) == "größe {} \n"
    assert await state.record(record) == {"name": "web", "generation": "1", "count": "-2"}
    assert await state.fields(record, ["count", "missing", "name"]) == ["-2", None, "web"]
    assert await state.ranked(index, low=-5, high=2.5) == [("early", -1), ("late", 2.5)]
    assert await state.ranked(index, low=0, high=float("inf"), limit=1) == [("late", 2.5)]
    assert await state.generation(AT, "web") == 1


async def test_every_kind_of_removal_is_felt(state: State, keys: Keys) -> None:
    value, record, index = (keys.at(AT, kind) for kind in ("value", "record", "index"))
    await state.apply(step(Put(value, "v"), PutField(record, "a", "1"), PutField(record, "b", "2"), Index(index, "m")))
    await state.apply(step(Drop(value), DropField(record, "a"), Unindex(index, "m")))
    assert await state.value(value) is None
    assert await state.record(record) == {"b": "2"}
    assert await state.size(index) == 0
    await state.apply(step(Drop(record), DropField(record, "b"), Unindex(index, "m"), checks=(IsEmpty(index),)))
    assert await state.record(record) == {}


async def test_a_stamped_value_holds_the_generation(state: State, keys: Keys) -> None:
    await state.apply(step(counter="web"))
    await state.apply(step(Put(keys.at(AT, "at"), STAMP), counter="web"))
    assert await state.value(keys.at(AT, "at")) == "2"


async def test_a_value_that_lives_for_a_second_is_gone_after_it(state: State, keys: Keys) -> None:
    key = keys.at(AT, "short")
    await state.apply(step(Put(key, "here", seconds=1)))
    assert await state.value(key) == "here"
    await asyncio.sleep(1.1)
    assert await state.value(key) is None
    await state.apply(step(checks=(ValueIs(key, None),)))


async def test_writing_a_short_lived_value_anew_keeps_it(state: State, keys: Keys) -> None:
    key = keys.at(AT, "kept")
    await state.apply(step(Put(key, "short", seconds=1)))
    await state.apply(step(Put(key, "long")))
    await asyncio.sleep(1.1)
    assert await state.value(key) == "long"


async def test_members_come_in_byte_order_by_page_and_prefix(state: State, keys: Keys) -> None:
    key = keys.at(AT, "tags")
    names = ["a", "a.1", "a/b", "b", "ä", "a-b", "Z", "a[", "a("]
    await state.apply(step(*(Index(key, name) for name in names)))
    in_order = sorted(names, key=str.encode)
    assert await state.members(key) == in_order
    assert await state.members(key, limit=2) == in_order[:2]
    assert await state.members(key, after=in_order[1], limit=3) == in_order[2:5]
    assert await state.members(key, prefix="a") == [name for name in in_order if name.startswith("a")]
    assert await state.members(key, prefix="a", after="a-b") == ["a.1", "a/b", "a["]
    assert await state.members(key, prefix="b", after="a-b") == ["b"]
    assert await state.members(key, prefix="a", after="b") == []
    assert await state.members(key, prefix="ä") == ["ä"]


@pytest.mark.parametrize(
    ("check", "holds"),
    [
        (lambda k: ValueIs(k("value"), "v"), True),
        (lambda k: ValueIs(k("value"), "w"), False),
        (lambda k: ValueIs(k("value"), None), False),
        (lambda k: ValueIs(k("nothing"), None), True),
        (lambda k: ValueIs(k("nothing"), ""), False),
        (lambda k: FieldIs(k("record"), "n", "7"), True),
        (lambda k: FieldIs(k("record"), "n", None), False),
        (lambda k: FieldIs(k("record"), "other", None), True),
        (lambda k: FieldIs(k("nothing"), "n", ""), False),
        (lambda k: NotMember(k("index"), "m"), False),
        (lambda k: NotMember(k("index"), "n"), True),
        (lambda k: IsMember(k("index"), "m"), True),
        (lambda k: IsMember(k("nothing"), "m"), False),
        (lambda k: IsEmpty(k("index")), False),
        (lambda k: IsEmpty(k("record")), False),
        (lambda k: IsEmpty(k("nothing")), True),
        (lambda k: ScoreIs(k("index"), "m", 0), True),
        (lambda k: ScoreIs(k("index"), "m", 1.5), False),
        (lambda k: ScoreIs(k("index"), "other", 0), False),
        (lambda k: ScoreIs(k("nothing"), "m", 0), False),
        (lambda k: FieldAtMost(k("record"), "n", 7), True),
        (lambda k: FieldAtMost(k("record"), "n", 6), False),
        (lambda k: FieldAtMost(k("nothing"), "n", 0), True),
    ],
)
async def test_a_check_decides_over_the_whole_step(
    state: State, keys: Keys, check: Callable[[Callable[[str], str]], Check], *, holds: bool
) -> None:
    await state.apply(
        step(
            Put(keys.at(AT, "value"), "v"), PutField(keys.at(AT, "record"), "n", "7"), Index(keys.at(AT, "index"), "m")
        )
    )
    tried = step(
        Put(keys.at(AT, "did"), "it"),
        checks=(check(lambda kind: keys.at(AT, kind)),),
        drafts=deleted(1),
        counter="web",
    )
    if holds:
        assert (await state.apply(tried)).generation == 1
        return
    with pytest.raises(Moved):
        await state.apply(tried)
    assert await state.value(keys.at(AT, "did")) is None
    assert await state.generation(AT, "web") == 0
    assert await state.busy_lanes() == []


async def test_a_step_against_the_kind_of_a_key_is_refused_before_it_begins(state: State, keys: Keys) -> None:
    await state.apply(step(Put(keys.at(AT, "thing"), "v")))
    with pytest.raises(TypeError, match="thing"):
        await state.apply(step(Put(keys.at(AT, "other"), "w"), PutField(keys.at(AT, "thing"), "a", "b")))
    assert await state.value(keys.at(AT, "other")) is None


async def test_of_fifty_that_compare_and_set_at_once_one_wins(replica: Open, keys: Keys) -> None:
    replicas = [replica() for _ in range(5)]
    tag = keys.at(AT, "tag")

    async def claim(number: int) -> bool:
        try:
            await replicas[number % 5].apply(step(Put(tag, str(number)), checks=(ValueIs(tag, None),), counter="web"))
        except Moved:
            return False
        return True

    won = await asyncio.gather(*map(claim, range(50)))
    assert won.count(True) == 1
    assert await replicas[0].value(tag) == str(won.index(True))
    assert await replicas[0].generation(AT, "web") == 1


async def test_the_same_request_is_done_once_and_answers_the_same(replica: Open, keys: Keys) -> None:
    once = Step(AT, "one", (), (Add(keys.at(AT, "count"), "n", 1),), deleted(1), "web", "an answer: with spaces")
    answers = await asyncio.gather(*(replica().apply(once) for _ in range(10)))
    assert [done.again for done in answers].count(False) == 1
    assert {(done.generation, done.answer) for done in answers} == {(1, "an answer: with spaces")}
    state = replica()
    assert await state.field(keys.at(AT, "count"), "n") == "1"
    assert len(await state.entries(keys.lane(AT, "EVENTS"), 10)) == 1


async def test_a_request_that_was_refused_may_come_again(state: State, keys: Keys) -> None:
    tag = keys.at(AT, "tag")
    refused = Step(AT, "later", (ValueIs(tag, "v1"),), (Put(tag, "v2"),))
    with pytest.raises(Moved):
        await state.apply(refused)
    await state.apply(step(Put(tag, "v1")))
    assert not (await state.apply(refused)).again


async def test_entries_are_numbered_and_their_envelopes_finished(state: State, keys: Keys) -> None:
    await state.apply(step(drafts=deleted(2), counter="web"))
    await state.apply(step(drafts=deleted(1, project="other"), counter="web"))
    drafts = deleted(1)
    await state.apply(step(drafts=drafts))
    entries = await state.entries(keys.lane(AT, "EVENTS"), 10)
    assert [entry.number for entry in entries] == [1, 2, 3, 4]
    assert entries[0].content.endswith(b',"sequence":1,"generation":1}')
    assert entries[1].content.endswith(b',"sequence":2,"generation":1}')
    assert entries[2].content.endswith(b',"sequence":1,"generation":2}')
    assert entries[3].content == drafts[0].finished(3, 0)
    assert (entries[3].id, entries[3].subject) == (drafts[0].id, drafts[0].subject)
    assert await state.entries(keys.lane(AT, "EVENTS"), 2) == entries[:2]


async def test_a_full_lane_refuses_the_step_and_others_go_on(state: State, keys: Keys) -> None:
    audit = Outbox("registry", SystemClock()).drafts(
        [AuditActivity(project="acme", producer="registry", entry={})], Cause(id="a")
    )
    for _ in range(4):
        await state.apply(step(drafts=deleted(1)))
    with pytest.raises(LaneFull, match="EVENTS"):
        await state.apply(step(Put(keys.at(AT, "did"), "it"), drafts=(*audit, *deleted(1)), counter="web"))
    assert await state.value(keys.at(AT, "did")) is None
    assert await state.generation(AT, "web") == 0
    await state.apply(step(drafts=audit))
    assert sorted(await state.busy_lanes()) == [keys.lane(AT, "AUDIT"), keys.lane(AT, "EVENTS")]


async def test_several_questions_are_answered_each_in_its_own_kind(state: State, keys: Keys) -> None:
    value, record, index = (keys.of("acme", kind) for kind in ("value", "record", "index"))
    writes = (Put(value, "v"), PutField(record, "a", "1"), PutField(record, "b", "é"), Index(index, "m"))
    await state.apply(step(*writes))
    asked = (ValueOf(value), FieldOf(record, "b"), FieldsOf(record, ("b", "none", "a")), MemberOf(index, "m"))
    nothing = (ValueOf(f"{value}x"), FieldOf(record, "none"), FieldsOf(f"{record}x", ("a",)), MemberOf(index, "n"))
    assert await state.look((*asked, *nothing)) == ["v", "é", ["é", None, "1"], True, None, None, [None], False]
    assert await state.look(()) == []


async def test_records_and_indexes_are_asked_for_together_too(state: State, keys: Keys) -> None:
    record, index = (keys.of("acme", kind) for kind in ("record", "index"))
    members = (Index(index, "z"), Index(index, "a"), Index(index, "é"))
    await state.apply(step(PutField(record, "a", "1"), PutField(record, "b", "é"), *members))
    asked = (RecordOf(record), MembersOf(index), MembersOf(index, 2), RecordOf(f"{record}x"), MembersOf(f"{index}x"))
    assert await state.look(asked) == [{"a": "1", "b": "é"}, ["a", "z", "é"], ["a", "z"], {}, []]


async def test_only_the_holder_removes_and_exactly_so_far(state: State, keys: Keys) -> None:
    lane = keys.lane(AT, "EVENTS")
    await state.apply(step(drafts=deleted(3)))
    assert await state.acquire(lane, "a", 5)
    assert not await state.acquire(lane, "b", 5)
    assert not await state.remove(Lease(lane, "b"), 2)
    assert await state.remove(Lease(lane, "a"), 2)
    assert [entry.number for entry in await state.entries(lane, 10)] == [3]
    await state.release(Lease(lane, "b"))
    assert not await state.acquire(lane, "b", 5)
    await state.release(Lease(lane, "a"))
    assert await state.acquire(lane, "b", 5)
    assert await state.remove(Lease(lane, "b"), 3)
    assert await state.busy_lanes() == []
    await state.apply(step(drafts=deleted(1)))
    assert [entry.number for entry in await state.entries(lane, 10)] == [4]


async def test_one_turn_takes_the_lease_removes_what_was_published_and_reads_on(state: State, keys: Keys) -> None:
    lane = keys.lane(AT, "EVENTS")
    await state.apply(step(drafts=deleted(3)))
    assert _numbers(await state.drain(Lease(lane, "a"), 5, 0, 2)) == [1, 2]
    assert await state.drain(Lease(lane, "b"), 5, 0, 2) is None
    assert await state.drain(Lease(lane, "b"), 5, 2, 2) is None
    assert not await state.acquire(lane, "b", 5)
    assert _numbers(await state.drain(Lease(lane, "a"), 5, 2, 2)) == [3]
    assert _numbers(await state.drain(Lease(lane, "a"), 5, 2, 2)) == [3], "a turn that is sent again"
    assert _numbers(await state.drain(Lease(lane, "a"), 5, 3, 2)) == []
    assert await state.busy_lanes() == []


async def test_a_turn_whose_lease_ran_out_removes_nothing(state: State, keys: Keys) -> None:
    lane = keys.lane(AT, "EVENTS")
    await state.apply(step(drafts=deleted(2)))
    assert _numbers(await state.drain(Lease(lane, "a"), 0.1, 0, 1)) == [1]
    await asyncio.sleep(0.2)
    assert await state.drain(Lease(lane, "a"), 5, 1, 1) is None
    assert _numbers(await state.drain(Lease(lane, "b"), 5, 0, 5)) == [1, 2]


def _numbers(entries: Sequence[LaneEntry] | None) -> list[int]:
    assert entries is not None
    return [entry.number for entry in entries]


async def test_a_lease_runs_out_unless_it_is_renewed(state: State, keys: Keys) -> None:
    lane = keys.lane(AT, "EVENTS")
    await state.apply(step(drafts=deleted(1)))
    assert await state.acquire(lane, "a", 0.2)
    assert await state.acquire(lane, "a", 0.4)
    await asyncio.sleep(0.25)
    assert not await state.acquire(lane, "b", 1)
    await asyncio.sleep(0.25)
    assert not await state.remove(Lease(lane, "a"), 1)
    assert await state.acquire(lane, "b", 1)
    assert not await state.acquire(lane, "a", 1)


async def test_replicas_that_wait_to_be_woken_are_counted(replica: Open) -> None:
    async def listen() -> None:
        async for _ in replica().woken():
            pass

    listening = [asyncio.create_task(listen()) for _ in range(2)]
    await asyncio.sleep(0.2)
    assert await replica().listeners() == 2
    for task in listening:
        task.cancel()
    await asyncio.gather(*listening, return_exceptions=True)
    await asyncio.sleep(0.2)
    assert await replica().listeners() == 0


async def test_a_replica_is_woken_by_the_first_entry_of_a_lane(replica: Open, keys: Keys) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()

    async def listen() -> None:
        async for lane in replica().woken():
            heard.put_nowait(lane)

    listening = asyncio.create_task(listen())
    await asyncio.sleep(0.2)
    await replica().apply(step(drafts=deleted(1)))
    assert await asyncio.wait_for(heard.get(), 2) == keys.lane(AT, "EVENTS")
    listening.cancel()
