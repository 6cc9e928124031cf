"""How an event of the journal gets its id."""

from dataclasses import replace

from shared.events import Cause, Draft, Event, draft


def numbered(event: Event, *, producer: str, number: int, cause: Cause, time: str) -> Draft:
    """The event as entry `number` of this journal.

    What is asked again is written again, perhaps by another replica under the same number: so the id is the journal's,
    else the bus would take the second for a twin of the first, and leave a gap.
    """
    own = replace(cause, id=f"{producer} {cause.id}")
    return draft(event, producer=producer, cause=own, position=number, time=time)
