"""The audit log as a whole, on memory parts: events in, entries, pages and exports out."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from services.audit_log.app import build
from services.audit_log.entries import Pending
from services.audit_log.sequencer import Sequencer
from shared.blobs import BucketUnavailable
from shared.events.audit import AuditAccess, AuditActivity, AuditDenied, AuditEntry
from tests.support.audit import entry
from tests.support.events import said
from tests.support.parts import Client, MemoryParts, bearer, client_of, json_of, memory_parts

READER, AUDITOR, ADMIN = "user:reader@x.example", "user:auditor@x.example", "user:admin@x.example"
SINK = {"name": "s", "destination": "storage.googleapis.com/anywhere", "filter": "protoPayload.methodName=Create"}


@dataclass
class House:
    """The audit log with everything around it."""

    memory: MemoryParts
    client: Client
    said: int = 0

    async def hear(self, *events: AuditEntry, sequence: int = 0) -> None:
        """Say entries and wait until they are written."""
        messages = []
        for event in events:
            self.said += 1
            messages.append(said(event, cause=f"cause-{self.said}", sequence=sequence or self.said))
        await self.memory.parts.bus.publisher.publish(messages)
        for _ in range(30):
            await asyncio.sleep(0.01)
            await self.memory.clock.advance(0.02)

    async def call(self, verb: str, path: str, body: object = None, member: str = AUDITOR) -> tuple[int, Any]:
        headers = bearer(member) if member else {}
        response = await self.client.request(verb, path, json=body, headers=headers)
        return response.status, await json_of(response)

    async def entries(self, text: str = "", member: str = AUDITOR, **more: object) -> list[str]:
        body = {"resourceNames": ["projects/demo"], "filter": text, **more}
        status, found = await self.call("POST", "/v2/entries:list", body, member)
        assert status == 200, found
        return [one["insertId"] for one in found.get("entries", [])]


@pytest.fixture
async def house() -> AsyncGenerator[House]:
    memory = memory_parts("audit_log", projects=("demo", "other"))
    memory.grant("projects/demo", READER, "logging.logEntries.list")
    memory.grant("projects/demo", AUDITOR, "logging.logEntries.list", "logging.privateLogEntries.list")
    memory.grant("projects/demo", AUDITOR, "logging.logs.list")
    memory.grant("projects/demo", ADMIN, *(f"logging.sinks.{verb}" for verb in ("create", "get", "list")))
    memory.grant("projects/demo", ADMIN, *(f"logging.sinks.{verb}" for verb in ("update", "delete")))
    service = build(memory.parts)
    async with client_of(service, memory.parts) as client:
        loops = [asyncio.create_task(loop()) for loop in service.background]
        yield House(memory, client)
        for loop in loops:
            loop.cancel()


def activity(name: str, *, method: str = "Create", project: str = "demo") -> AuditActivity:
    content = {"insertId": name, "timestamp": f"2026-01-01T00:00:0{name[-1]}.000000Z", "logName": "projects/x/logs/lie"}
    return AuditActivity(
        project=project, producer="registry", entry={**content, "protoPayload": {"methodName": method}}
    )


async def test_what_is_heard_is_listed_in_order_and_once(house: House) -> None:
    await house.hear(activity("e2"), activity("e1"), activity("e3"), activity("e1"))
    assert await house.entries() == ["e1", "e2", "e3"]
    assert await house.entries(orderBy="timestamp desc") == ["e3", "e2", "e1"]
    assert await house.entries('insertId="e2"') == ["e2"]
    _, found = await house.call("POST", "/v2/entries:list", {"resourceNames": ["projects/demo"]})
    assert found["entries"][0]["logName"] == "projects/demo/logs/cloudaudit.googleapis.com%2Factivity"
    assert found["entries"][0]["receiveTimestamp"]


async def test_pages_go_on_where_the_last_one_ended(house: House) -> None:
    await house.hear(*(activity(f"e{number}") for number in range(5)))
    body = {"resourceNames": ["projects/demo"], "pageSize": 2, "orderBy": "timestamp desc"}
    names: list[str] = []
    token = ""
    for _ in range(3):
        _, page = await house.call("POST", "/v2/entries:list", {**body, "pageToken": token})
        names += [one["insertId"] for one in page["entries"]]
        token = page.get("nextPageToken", "")
    assert names == ["e4", "e3", "e2", "e1", "e0"]
    assert token == ""
    _, page = await house.call("POST", "/v2/entries:list", body)
    other = {**body, "filter": "a=1", "pageToken": page["nextPageToken"]}
    assert (await house.call("POST", "/v2/entries:list", other))[0] == 400


async def test_data_access_is_shown_to_who_may_see_it_and_other_projects_to_nobody(house: House) -> None:
    content = {"insertId": "r1", "timestamp": "2026-01-01T00:00:09.000000Z"}
    await house.hear(
        activity("e1"),
        activity("o1", project="other"),
        AuditAccess(project="demo", producer="registry", entry=content),
        AuditDenied(project="demo", producer="registry", entry={**content, "insertId": "d1"}),
    )
    assert await house.entries(member=AUDITOR) == ["e1", "r1", "d1"]
    assert await house.entries(member=READER) == ["e1", "d1"]
    for names, member, status in (
        (["projects/other"], AUDITOR, 403),
        (["projects/demo", "projects/other"], AUDITOR, 403),
        (["projects/demo"], ADMIN, 403),
        (["projects/demo"], "", 401),
        ([], AUDITOR, 400),
        (["folders/1"], AUDITOR, 404),
    ):
        assert (await house.call("POST", "/v2/entries:list", {"resourceNames": names}, member))[0] == status


async def test_a_wrong_filter_is_answered_with_the_place(house: House) -> None:
    body = {"resourceNames": ["projects/demo"], "filter": "severity>=LOUD"}
    status, answer = await house.call("POST", "/v2/entries:list", body)
    assert status == 400
    assert "character 11" in answer["error"]["message"]


async def test_a_sink_exports_what_comes_after_it_and_says_so(house: House) -> None:
    await house.hear(activity("e1"))
    status, sink = await house.call("POST", "/v2/projects/demo/sinks?uniqueWriterIdentity=true", SINK, ADMIN)
    assert status == 200
    assert sink["resourceName"] == "projects/demo/sinks/s"
    assert (await house.call("POST", "/v2/projects/demo/sinks", SINK, ADMIN))[0] == 409
    await house.hear(activity("e2"), activity("e3", method="Delete"), activity("e4"), activity("o5", project="other"))
    for _ in range(3):
        await house.memory.clock.advance(6)
    (event,) = house.memory.announced("log.exported")
    lines = (await house.memory.parts.blobs.content(event.data["object"])).splitlines()
    assert [orjson.loads(line)["insertId"] for line in lines] == ["e2", "e4"]
    assert event.data["count"] == 2
    assert event.subject == "log.exported.demo._.s"


async def test_sinks_are_listed_changed_and_deleted(house: House) -> None:
    for name in ("a", "b"):
        await house.call("POST", "/v2/projects/demo/sinks", {**SINK, "name": name}, ADMIN)
    _, page = await house.call("GET", "/v2/projects/demo/sinks?pageSize=1", None, ADMIN)
    assert [sink["name"] for sink in page["sinks"]] == ["a"]
    _, page = await house.call("GET", f"/v2/projects/demo/sinks?pageToken={page['nextPageToken']}", None, ADMIN)
    assert [sink["name"] for sink in page["sinks"]] == ["b"]
    change = {**SINK, "name": "a", "filter": "a=1", "description": "left as it was"}
    _, sink = await house.call("PATCH", "/v2/projects/demo/sinks/a?updateMask=filter", change, ADMIN)
    assert sink["filter"] == "a=1"
    assert "description" not in sink
    for bad in ({"filter": "a="}, {"destination": "bigquery.googleapis.com/x"}, {"name": "-"}):
        assert (await house.call("POST", "/v2/projects/demo/sinks", {**SINK, **bad}, ADMIN))[0] == 400
    assert (await house.call("DELETE", "/v2/projects/demo/sinks/a", None, ADMIN))[0] == 200
    assert (await house.call("GET", "/v2/projects/demo/sinks/a", None, ADMIN))[0] == 404
    assert (await house.call("GET", "/v2/projects/demo/sinks/b", None, READER))[0] == 403


async def test_a_gap_in_a_producers_numbers_shows_until_it_is_filled(house: House) -> None:
    await house.hear(activity("e1"), sequence=1)
    await house.hear(activity("e3"), sequence=3)
    _, found = await house.call("GET", "/v1/projects/demo/auditLog:completeness")
    (source,) = found["incompleteSources"]
    assert (source["producer"], source["gaps"]) == ("registry", [{"first": 2, "last": 2}])
    assert b"entrepot_audit_log_missing 1.0" in await (await house.client.get("/metrics")).read()
    await house.hear(activity("e2"), sequence=2)
    assert (await house.call("GET", "/v1/projects/demo/auditLog:completeness"))[1]["complete"] is True


async def test_the_checkpoint_is_open_and_verification_finds_a_changed_entry(house: House) -> None:
    await house.hear(activity("e1"))
    _, checkpoint = await house.call("GET", "/v1/auditLog/checkpoint", member="")
    assert checkpoint["size"] == 1
    _, verified = await house.call("POST", "/v1/projects/demo/auditLog:verify")
    assert verified == {"valid": True, "size": 1, "rootHash": checkpoint["rootHash"], "problem": ""}
    name = "audit/segments/000000/0000000000.ndjson"
    content = await house.memory.parts.blobs.content(name)
    await house.memory.parts.blobs.put(name, content.replace(b"Create", b"Delete"))
    _, verified = await house.call("POST", "/v1/projects/demo/auditLog:verify")
    assert verified["valid"] is False
    assert "segment 0" in verified["problem"]


class Counting:
    """A log that counts its writes, and fails when it is told to."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.away = False

    async def append(self, entries: list[Pending]) -> int:
        if self.away:
            raise BucketUnavailable
        self.batches.append(len(entries))
        return len(entries)


async def test_entries_that_come_together_are_written_together_and_each_learns_of_a_failure() -> None:
    log = Counting()
    memory = memory_parts("audit_log")
    as_log: Any = log
    sequencer = Sequencer(as_log, memory.clock, 0.01)
    await asyncio.gather(*(sequencer.add(entry(number)) for number in range(1500)))
    assert log.batches == [512, 512, 476]
    log.away = True
    results = await asyncio.gather(*(sequencer.add(entry(number)) for number in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [BucketUnavailable] * 3
    log.away = False
    await sequencer.add(entry(4))
    await sequencer.stop()
    assert log.batches[-1] == 1
