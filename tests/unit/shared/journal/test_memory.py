import asyncio

from shared.bus.memory import MemoryBroker, MemoryBus
from shared.clock import SystemClock
from shared.events import Cause, Envelope
from shared.events.audit import AuditAccess
from shared.journal.memory import MemoryJournal, Pages


async def test_what_is_written_is_told_and_pages_outlive_the_journal() -> None:
    clock = SystemClock()
    broker = MemoryBroker(clock)
    publisher = MemoryBus("registry", clock, broker).publisher
    pages, event = Pages(), AuditAccess(project="acme", producer="registry", entry={})
    await MemoryJournal("registry/1", publisher, clock, pages).keep([event], Cause(id="a"))
    journal = MemoryJournal("registry/1", publisher, clock, pages)
    journal.note([event], Cause(id="a"))
    running = asyncio.create_task(journal.run())
    await asyncio.sleep(0.01)
    running.cancel()
    said = [Envelope.parse(stored.content) for stored in broker.messages("AUDIT")]
    assert [envelope.sequence for envelope in said] == [1, 2]
    assert said[0].id != said[1].id


async def test_two_replicas_asked_the_same_do_not_seem_to_say_one_event_twice() -> None:
    clock = SystemClock()
    publisher = MemoryBus("registry", clock).publisher
    one, two = Pages(), Pages()
    for name, pages in (("registry/1", one), ("registry/2", two)):
        event = AuditAccess(project="acme", producer="registry", entry={})
        MemoryJournal(name, publisher, clock, pages).note([event], Cause(id="asked twice"))
    assert one.waiting["AUDIT"][0].id != two.waiting["AUDIT"][0].id
