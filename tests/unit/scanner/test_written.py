"""Notes and occurrences that callers write: each in one step with what is said about it, apart from what scans find."""

import asyncio
import base64
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scanner.clearing import Clearing
from services.scanner.store import Store
from services.scanner.written import tallies
from services.scanner.written.kinds import DETAILS, Note, Occurrence, read
from services.scanner.written.tallies import Tally
from shared.http.errors import ApiError, InvalidArgument
from shared.names import partition_of
from shared.state import Drop, PutField, Step
from tests.support.parts import bearer
from tests.support.scans import ADMIN, CRITICAL, ScannerAtWork, osv, python_image, scanner_at_work

NOTES, OCCURRENCES = "/v1/projects/demo/notes", "/v1/projects/demo/occurrences"
WRITER = "user:writer@example.org"
DIGEST = f"sha256:{'a' * 64}"
IMAGE = f"localhost:5000/demo/web/app@{DIGEST}"
AUTHORITY = {"attestation": {"hint": {"humanReadableName": "the release desk"}}}
SIGNATURE = {"publicKeyId": "ni:///sha-256;k", "signature": "c2ln"}
PERMISSIONS = (
    *(
        f"containeranalysis.notes.{verb}"
        for verb in ["create", "get", "list", "update", "delete", "attachOccurrence", "listOccurrences"]
    ),
    *(f"containeranalysis.{kind}.{verb}IamPolicy" for kind in ("notes", "occurrences") for verb in ("get", "set")),
    *(f"containeranalysis.occurrences.{verb}" for verb in ("create", "get", "list", "update", "delete")),
)


def attestation(note: str = "projects/demo/notes/n", uri: str = IMAGE, **more: Any) -> dict[str, Any]:
    signed = {"serializedPayload": "cGF5bG9hZA==", "signatures": [SIGNATURE]}
    return {"kind": "ATTESTATION", "noteName": note, "resourceUri": uri, "attestation": signed, **more}


class Desk:
    """Calls the scanner's face as somebody who may do everything there, unless told otherwise."""

    def __init__(self, scanner: ScannerAtWork) -> None:
        self.scanner = scanner

    async def call(self, verb: str, path: str, body: Any = None, status: int = 200, member: str = ADMIN) -> Any:
        content = None if body is None else orjson.dumps(body)
        answer = await self.scanner.client.request(verb, path, data=content, headers=bearer(member))
        found = orjson.loads(await answer.read())
        assert answer.status == status, found
        return found if status == 200 else found["error"]["message"]

    async def note(self, own: str = "n", body: Any = None, project: str = "demo") -> Any:
        return await self.call("POST", f"/v1/projects/{project}/notes?noteId={own}", body or AUTHORITY)

    async def listed(self, path: str, **query: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        asked = "&".join(f"{name}={quote(value)}" for name, value in query.items())
        token = ""
        while True:
            page = await self.call("GET", f"{path}?{asked}&pageToken={token}")
            found += page.get("occurrences", page.get("notes", []))
            token = page.get("nextPageToken", "")
            if not token:
                return found


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with scanner_at_work() as scanner:
        for project in ("demo", "other"):
            scanner.memory.grant(f"projects/{project}", ADMIN, *PERMISSIONS)
        yield Desk(scanner)


# Notes.


async def test_a_note_is_made_read_listed_changed_and_deleted_and_each_change_is_said_and_audited(desk: Desk) -> None:
    made = await desk.note()
    assert made["name"] == "projects/demo/notes/n"
    assert (made["kind"], made["attestation"]) == ("ATTESTATION", AUTHORITY["attestation"])
    assert await desk.call("GET", f"{NOTES}/n") == made
    assert [one["name"] for one in await desk.listed(NOTES)] == ["projects/demo/notes/n"]
    changed = await desk.call("PATCH", f"{NOTES}/n?updateMask=shortDescription", {"shortDescription": "ours"})
    assert (changed["shortDescription"], changed["attestation"]) == ("ours", AUTHORITY["attestation"])
    assert changed["createTime"] == made["createTime"]
    await desk.call("DELETE", f"{NOTES}/n")
    await desk.call("GET", f"{NOTES}/n", status=404)
    assert await desk.listed(NOTES) == []
    said = desk.scanner.said("note.changed")
    assert [bool(one.get("object")) for one in said] == [True, True, False]
    methods = [entry["protoPayload"]["methodName"] for entry in desk.scanner.memory.audited()]
    assert [method.rpartition(".")[2] for method in methods] == ["CreateNote", "UpdateNote", "DeleteNote"]


async def test_a_note_of_each_kind_is_kept_as_it_was_sent(desk: Desk) -> None:
    for kind, field in DETAILS.items():
        details = {} if field in {"attestation", "dsseAttestation"} else {"anything": [1, {"x": None}]}
        await desk.note(f"of-{field}", {field: details})
        found = await desk.call("GET", f"{NOTES}/of-{field}")
        assert (found["kind"], found[field]) == (kind, details)
    (secret,) = await desk.listed(NOTES, filter='kind="SECRET"')
    assert secret["name"].endswith("/of-secret")


async def test_a_note_exists_once_and_the_scanner_s_own_are_nobody_else_s(desk: Desk) -> None:
    await desk.scanner.take_in(osv("PYSEC-1", "PyPI", "flask", {"introduced": "0"}))
    await desk.note()
    await desk.call("POST", f"{NOTES}?noteId=n", AUTHORITY, status=409)
    for own in ("PYSEC-1", "PACKAGE_VULNERABILITY", "CVE-2031-1"):
        assert "scanner's own" in await desk.call("POST", f"{NOTES}?noteId={own}", AUTHORITY, status=409)
    for verb, body in (("PATCH", {"shortDescription": "x"}), ("DELETE", None)):
        assert "scanner's own" in await desk.call(verb, f"{NOTES}/PYSEC-1", body, status=400)
    for own in ("", "-x", "a" * 129, "a%2Fb", "%00"):
        await desk.call("POST", f"{NOTES}?noteId={own}", AUTHORITY, status=400)


async def test_several_notes_are_made_together_or_not_at_all(desk: Desk) -> None:
    await desk.note("b")
    await desk.call("POST", f"{NOTES}:batchCreate", {"notes": {"a": AUTHORITY, "b": AUTHORITY}}, status=409)
    assert len(await desk.listed(NOTES)) == 1
    made = await desk.call("POST", f"{NOTES}:batchCreate", {"notes": {"c": AUTHORITY, "d": {"build": {}}}})
    assert [one["name"][-1] for one in made["notes"]] == ["c", "d"]
    for nothing in ({}, {"notes": {}}, {"notes": [AUTHORITY]}, {"notes": {"x": 1}}):
        await desk.call("POST", f"{NOTES}:batchCreate", nothing, status=400)


async def test_who_may_do_what_with_a_note_goes_with_it(desk: Desk) -> None:
    await desk.note()
    policy = {"policy": {"bindings": [{"role": "roles/test.1", "members": [ADMIN]}]}}
    await desk.call("POST", f"{NOTES}/n:setIamPolicy", policy)
    assert (await desk.call("POST", f"{NOTES}/n:getIamPolicy", {}))["bindings"]
    held = await desk.call("POST", f"{NOTES}/n:testIamPermissions", {"permissions": list(PERMISSIONS[:2])})
    assert held["permissions"] == list(PERMISSIONS[:2])
    await desk.call("DELETE", f"{NOTES}/n")
    await desk.note()
    assert not (await desk.call("POST", f"{NOTES}/n:getIamPolicy", {})).get("bindings")
    assert [one.get("deleted", False) for one in desk.scanner.said("state.policy")] == [False, True]


# Occurrences.


async def test_an_occurrence_is_written_said_listed_and_deleted(desk: Desk) -> None:
    await desk.note()
    made = await desk.call("POST", OCCURRENCES, attestation())
    assert made["resourceUri"] == IMAGE
    assert await desk.call("GET", f"/v1/{made['name']}") == made
    assert (await desk.call("GET", f"/v1/{made['name']}/notes"))["name"] == "projects/demo/notes/n"
    for asked in (
        "",
        'kind="ATTESTATION"',
        f'resourceUrl="https://any.host/demo/web/app@{DIGEST}"',
        f'has_suffix(resourceUrl, "{DIGEST}")',
        'has_prefix(resourceUrl, "h/demo/web") AND noteId="n"',
    ):
        assert await desk.listed(OCCURRENCES, filter=asked) == [made], asked
        assert await desk.listed(f"{NOTES}/n/occurrences", filter=asked) == [made], asked
    for asked in ('kind="BUILD"', 'has_suffix(resourceUrl, "b")', 'noteId="m"', 'severity="HIGH"'):
        assert await desk.listed(OCCURRENCES, filter=asked) == [], asked
    (said,) = desk.scanner.said("occurrence.changed")
    assert (said["occurrence"], said["note"], said["kind"]) == (made["name"], "projects/demo/notes/n", "ATTESTATION")
    kept = orjson.loads(await desk.scanner.memory.parts.blobs.content(said["object"]))
    assert kept["attestation"] == made["attestation"]
    await desk.call("DELETE", f"/v1/{made['name']}")
    assert "object" not in desk.scanner.said("occurrence.changed")[-1]
    await desk.call("GET", f"/v1/{made['name']}", status=404)
    assert await desk.listed(OCCURRENCES) == await desk.listed(f"{NOTES}/n/occurrences") == []
    methods = [entry["protoPayload"]["methodName"].rpartition(".")[2] for entry in desk.scanner.memory.audited()]
    assert methods == ["CreateNote", "CreateOccurrence", "DeleteOccurrence"]


async def test_bytes_are_taken_in_both_alphabets_and_kept_in_one(desk: Desk) -> None:
    await desk.note()
    signed = {"serializedPayload": "-_-_", "signatures": [{"signature": "_w"}]}
    made = await desk.call("POST", OCCURRENCES, attestation(attestation=signed))
    assert made["attestation"]["serializedPayload"] == base64.b64encode(base64.urlsafe_b64decode("-_-_")).decode()
    assert made["attestation"]["signatures"][0]["signature"] == "/w=="


async def test_who_writes_needs_the_note_s_permission_and_it_may_be_on_the_note_alone(desk: Desk) -> None:
    await desk.note()
    grant = desk.scanner.memory.grant
    grant("projects/other", WRITER, "containeranalysis.occurrences.create")
    path = "/v1/projects/other/occurrences"
    message = await desk.call("POST", path, attestation(), status=403, member=WRITER)
    assert "containeranalysis.notes.attachOccurrence" in message
    await desk.call("POST", path, attestation("projects/demo/notes/none"), status=403, member=WRITER)
    grant("projects/demo/notes/n", WRITER, "containeranalysis.notes.attachOccurrence")
    made = await desk.call("POST", path, attestation(), member=WRITER)
    assert made["name"].startswith("projects/other/occurrences/")
    assert await desk.listed(f"{NOTES}/n/occurrences") == [made]
    assert await desk.listed(OCCURRENCES) == []
    await desk.call("POST", OCCURRENCES, attestation(), status=403, member=WRITER)


async def test_the_scanner_s_own_can_neither_be_forged_nor_changed_nor_deleted(desk: Desk) -> None:
    await desk.scanner.take_in(osv("PYSEC-1", "PyPI", "flask", {"introduced": "0"}, vector=CRITICAL))
    await desk.scanner.push(python_image(("flask", "1.0")))
    own = await desk.listed(OCCURRENCES)
    assert len(own) == 2
    for one in own:
        assert "own" in await desk.call("POST", OCCURRENCES, {**one, "resourceUri": IMAGE}, status=400)
        for verb, body in (("PATCH", {"remediation": "none"}), ("DELETE", None)):
            assert "scanner's own" in await desk.call(verb, f"/v1/{one['name']}", body, status=400)
    await desk.note("mine", {"vulnerability": {"severity": "LOW"}})
    flaw = {
        "noteName": "projects/demo/notes/mine",
        "resourceUri": own[0]["resourceUri"],
        "vulnerability": {"severity": "LOW"},
    }
    made = await desk.call("POST", OCCURRENCES, {**flaw, "name": own[0]["name"]})
    assert made["name"] != own[0]["name"], "names are given, not taken"
    assert [one for one in await desk.listed(OCCURRENCES) if one["name"] != made["name"]] == own
    assert await desk.listed(OCCURRENCES, filter='severity="LOW"') == [made]
    counts = (await desk.call("GET", f"{OCCURRENCES}:vulnerabilitySummary"))["counts"]
    assert [one["severity"] for one in counts] == ["CRITICAL", "SEVERITY_UNSPECIFIED"], "nobody writes counts"


async def test_fields_are_changed_by_mask_and_what_is_signed_is_not(desk: Desk) -> None:
    await desk.note()
    await desk.note("b", {"build": {}})
    built = await desk.call(
        "POST", OCCURRENCES, {"noteName": "projects/demo/notes/b", "resourceUri": IMAGE, "build": {"a": 1, "b": 2}}
    )
    path = f"/v1/{built['name']}"
    changed = await desk.call("PATCH", f"{path}?updateMask=build.a,remediation", {"build": {"a": 3, "b": 9}})
    assert (changed["build"], "remediation" in changed) == ({"a": 3, "b": 2}, False)
    whole = await desk.call("PATCH", path, {**changed, "build": {"c": 1}, "remediation": "none"})
    assert (whole["build"], whole["remediation"]) == ({"c": 1}, "none")
    assert await desk.call("GET", path) == whole
    for body, mask in (
        ({"noteName": "projects/demo/notes/n"}, ""),
        ({"resourceUri": "x"}, ""),
        ({"vulnerability": {}}, ""),
        ({}, "noteName"),
        ({}, "build"),
        ({"build": 1}, ""),
    ):
        await desk.call("PATCH", f"{path}?updateMask={mask}", body, status=400)
    signed = await desk.call("POST", OCCURRENCES, attestation())
    again = {"attestation": {"serializedPayload": "eA==", "signatures": [SIGNATURE]}}
    assert "signed" in await desk.call("PATCH", f"/v1/{signed['name']}", again, status=400)
    assert (await desk.call("PATCH", f"/v1/{signed['name']}", {**signed, "remediation": "r"}))["remediation"] == "r"


async def test_several_occurrences_are_written_together_or_not_at_all(desk: Desk) -> None:
    await desk.note()
    path = f"{OCCURRENCES}:batchCreate"
    await desk.call("POST", path, {"occurrences": [attestation(), attestation("projects/demo/notes/m")]}, status=404)
    await desk.call("POST", path, {"occurrences": [attestation(), {"build": {}}]}, status=400)
    assert await desk.listed(OCCURRENCES) == []
    made = await desk.call("POST", path, {"occurrences": [attestation(), attestation(uri="https://h/x")]})
    assert {one["resourceUri"] for one in made["occurrences"]} == {IMAGE, "https://h/x"}
    assert len(await desk.listed(OCCURRENCES)) == len(desk.scanner.said("occurrence.changed")) == 2


async def test_a_project_writes_so_many_occurrences_about_an_image_and_no_more_until_some_are_deleted(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tallies, "OF_A_NOTE", Tally(3, 10_000))
    monkeypatch.setattr(tallies, "SIGNED_IN_ALL", Tally(5, 10_000))
    for own in ("n", "m"):
        await desk.note(own)
    first = attestation(), attestation(uri=f"https://h/demo/web/other@{DIGEST}")
    made = [await desk.call("POST", OCCURRENCES, each) for each in first]
    path = f"{OCCURRENCES}:batchCreate"
    message = await desk.call("POST", path, {"occurrences": [attestation()] * 2}, status=429)
    assert message == f"A project may have 3 occurrences about {DIGEST} on projects/demo/notes/n: delete some first."
    made.append(await desk.call("POST", OCCURRENCES, attestation()))
    await desk.call("POST", OCCURRENCES, attestation(), status=429)
    assert [one["name"] for one in await desk.listed(f"{NOTES}/n/occurrences")] == sorted(one["name"] for one in made)
    await desk.call("POST", OCCURRENCES, attestation(uri=f"h/demo/web/app@sha256:{'b' * 64}"))
    await desk.call("POST", path, {"occurrences": [attestation("projects/demo/notes/m")] * 2})
    message = await desk.call("POST", OCCURRENCES, attestation("projects/demo/notes/m"), status=429)
    assert message == f"A project may have 5 attestations about {DIGEST}: delete some first."
    await desk.call("POST", "/v1/projects/other/occurrences", attestation())
    await desk.call("DELETE", f"/v1/{made[0]['name']}")
    await desk.call("POST", OCCURRENCES, attestation())


async def test_bytes_count_also_where_an_occurrence_grows_and_are_given_back(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tallies, "OF_A_NOTE", Tally(100, 3_000))
    await desk.note("b", {"build": {}})
    built = {"noteName": "projects/demo/notes/b", "resourceUri": IMAGE, "build": {}, "remediation": "r" * 1_000}
    one, two = [(await desk.call("POST", OCCURRENCES, built))["name"] for _ in range(2)]
    message = (
        f"A project may have 3000 bytes of occurrences about {DIGEST} on projects/demo/notes/b: delete some first."
    )
    assert await desk.call("POST", OCCURRENCES, built, status=429) == message
    larger = {"remediation": "r" * 2_000}
    assert await desk.call("PATCH", f"/v1/{one}", larger, status=429) == message
    await desk.call("PATCH", f"/v1/{two}", {"remediation": "r"})
    await desk.call("PATCH", f"/v1/{one}", larger)
    for name in (one, two):
        await desk.call("DELETE", f"/v1/{name}")
    parts = desk.scanner.memory.parts
    assert await parts.state.record(parts.keys.of("demo", "occurrences_tallies")) == {}


async def test_those_who_write_at_the_same_time_share_the_room(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tallies, "OF_A_NOTE", Tally(4, 10_000))
    await desk.note()
    path = f"{desk.scanner.client.make_url(OCCURRENCES)}"
    content, headers = orjson.dumps(attestation()), bearer(ADMIN)
    answers = await asyncio.gather(
        *(desk.scanner.client.session.post(path, data=content, headers=headers) for _ in range(8))
    )
    assert Counter(answer.status for answer in answers) == {200: 4, 429: 4}
    assert len(await desk.listed(OCCURRENCES)) == 4


async def test_what_was_written_before_anything_was_counted_is_changed_and_deleted_all_the_same(desk: Desk) -> None:
    await desk.note()
    name = (await desk.call("POST", OCCURRENCES, attestation()))["name"]
    parts = desk.scanner.memory.parts
    entries, counts = (parts.keys.of("demo", kind) for kind in ("written_occurrences", "occurrences_tallies"))
    kept = orjson.loads((await parts.state.record(entries))[name.rpartition("/")[2]])
    before = orjson.dumps({field: value for field, value in kept.items() if field != "size"}).decode()
    writes = PutField(entries, name.rpartition("/")[2], before), Drop(counts)
    await parts.state.apply(Step(partition_of("demo"), "as before", writes=writes))
    await desk.call("PATCH", f"/v1/{name}", {"remediation": "r"})
    await desk.call("DELETE", f"/v1/{name}")
    assert await parts.state.record(counts) == {}


@pytest.mark.parametrize("size", ["1", "2", "3", "7"])
async def test_pages_bring_what_was_written_and_what_was_found_each_once(desk: Desk, size: str) -> None:
    await desk.note()
    await desk.scanner.push(python_image(("flask", "1.0")))
    for number in range(4):
        await desk.call("POST", OCCURRENCES, attestation(uri=f"h/demo/web/app{number}@{DIGEST}"))
    names = [one["name"] for one in await desk.listed(OCCURRENCES, pageSize=size)]
    assert len(names) == len(set(names)) == 5
    hanging = [one["name"] for one in await desk.listed(f"{NOTES}/n/occurrences", pageSize=size)]
    assert len(hanging) == len(set(hanging)) == 4
    notes = [one["name"] for one in await desk.listed(NOTES, pageSize=size)]
    assert len(notes) == len(set(notes))


async def test_contents_that_were_replaced_or_deleted_are_cleared_and_those_in_use_stay(desk: Desk) -> None:
    await desk.note()
    made = [await desk.call("POST", OCCURRENCES, attestation()) for _ in range(2)]
    await desk.call("PATCH", f"{NOTES}/n", {"shortDescription": "x"})
    await desk.call("DELETE", f"/v1/{made[0]['name']}")
    parts = desk.scanner.memory.parts
    clearing = Clearing(Store(parts.state, parts.keys, parts.outbox), parts.blobs, parts.clock, parts.ids, 0)
    assert await clearing.once() == 2
    assert (await desk.call("GET", f"/v1/{made[1]['name']}"))["kind"] == "ATTESTATION"
    assert (await desk.call("GET", f"{NOTES}/n"))["shortDescription"] == "x"


# What requests say.


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"attestation": {}, "build": {}},
        {"kind": "BUILD", "attestation": {}},
        {"build": []},
        {"build": {}, "unknown": 1},
        {"attestation": {"hint": {"other": 1}}},
    ],
)
def test_what_is_no_note_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        read(Note, body)


@pytest.mark.parametrize(
    "change",
    [
        {"resourceUri": ""},
        {"resourceUri": "a b"},
        {"resourceUri": "a\nb"},
        {"resourceUri": "x" * 3000},
        {"noteName": "n"},
        {"noteName": "projects/demo/notes/a/b"},
        {"noteName": "projects/demo/notes/n\n"},
        {"attestation": {"serializedPayload": "!", "signatures": [SIGNATURE]}},
        {"attestation": {"serializedPayload": "eA==", "signatures": []}},
        {"attestation": {"serializedPayload": "", "signatures": [SIGNATURE]}},
        {"attestation": {"serializedPayload": "eA==", "signatures": [SIGNATURE] * 17}},
        {"vulnerabilityAssessment": {}},
        {"build": {}},
    ],
)
def test_what_is_no_occurrence_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        read(Occurrence, {**attestation(), **change})


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*DETAILS.values(), "kind", "resourceUri", "noteName", "name", "x"]), _JSON))
def test_any_json_is_taken_or_refused(body: dict[str, Any]) -> None:
    for model in (Note, Occurrence):
        with suppress(ApiError):
            assert read(model, body).said()["kind"] in DETAILS


@given(st.binary(min_size=1, max_size=60), st.booleans(), st.booleans())
def test_bytes_survive_whatever_form_they_come_in(content: bytes, url: bool, padded: bool) -> None:  # noqa: FBT001
    text = (base64.urlsafe_b64encode if url else base64.b64encode)(content).decode()
    signed = {"serializedPayload": text if padded else text.rstrip("="), "signatures": [SIGNATURE]}
    kept = read(Occurrence, attestation(attestation=signed)).said()
    assert base64.b64decode(kept["attestation"]["serializedPayload"], validate=True) == content
