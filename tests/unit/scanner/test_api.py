"""The scanner's face: imports of advisories, occurrences and notes as Google's clients read them."""

from contextlib import suppress
from urllib.parse import urlencode

import orjson
import pytest
from hypothesis import given, strategies

from services.scanner.filters import filter_of
from services.scanner.occurrences import Json
from services.scanner.places import Place, place_at
from shared.events.attestations import AttestationCreated
from shared.http.errors import InvalidArgument
from tests.support.parts import bearer
from tests.support.scans import ADMIN, CRITICAL, ScannerAtWork, osv, python_image, scanner_at_work

ADVISORIES = [
    osv(
        "PYSEC-1",
        "PyPI",
        "jinja2",
        {"introduced": "0"},
        {"fixed": "2.10.1"},
        vector=CRITICAL,
        aliases=["CVE-2019-10906"],
    ),
    osv("PYSEC-2", "PyPI", "flask", {"introduced": "0"}),
]
IMPORT = "/v1/projects/demo/advisories:import"
OCCURRENCES = "/v1/projects/demo/occurrences"


async def refused(scanner: ScannerAtWork, path: str, body: bytes, status: int, member: str = ADMIN) -> str:
    answer = await scanner.client.post(path, data=body, headers=bearer(member))
    found = orjson.loads(await answer.read())
    assert answer.status == status, found
    return found["error"]["message"]


# Importing.


async def test_an_import_says_what_it_brought_and_is_audited() -> None:
    async with scanner_at_work() as scanner:
        answer = await scanner.take_in(
            *ADVISORIES, osv("X", "PyPI", "a", withdrawn="2026-01-01T00:00:00Z"), {"no": "id"}
        )
        assert [answer[count] for count in ("records", "withdrawn", "unusable", "changed")] == [4, 1, 1, 2]
        assert (answer["source"], answer["ecosystems"]) == ("test", {"PyPI": 2})
        (updated,) = scanner.said("advisory.updated")
        assert updated["count"] == 2
        listed = orjson.loads(await scanner.memory.parts.blobs.content(updated["object"]))
        assert listed == {"advisories": ["PYSEC-1", "PYSEC-2"]}
        (entry,) = scanner.memory.audited()
        assert entry["protoPayload"]["methodName"] == "entrepot.scanner.v1.ImportAdvisories"
        assert entry["protoPayload"]["authenticationInfo"]["principalEmail"] == "admin@example.org"


async def test_an_import_replaces_its_source_and_leaves_others() -> None:
    async with scanner_at_work() as scanner:
        await scanner.take_in(ADVISORIES[0], source="one")
        await scanner.take_in(ADVISORIES[1], source="two")
        await scanner.take_in(ADVISORIES[1], source="one")
        feeds = (await scanner.get("/v1/projects/demo/advisoryFeeds"))["advisoryFeeds"]
        assert [(feed["source"], feed["records"]) for feed in feeds] == [("one", 1), ("two", 1)]
        assert [note["name"] for note in (await scanner.get("/v1/projects/demo/notes"))["notes"]] == [
            "projects/demo/notes/PYSEC-2"
        ]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "no advisory"),
        (b"[]", "no advisory"),
        (b"PK\x03\x04 no zip", "cannot be read"),
        (b"\x1f\x8b\x08\x00xx", "cut off|decompressed"),
    ],
)
async def test_what_is_no_import_is_refused_and_changes_nothing(body: bytes, reason: str) -> None:
    async with scanner_at_work() as scanner:
        await scanner.take_in(*ADVISORIES)
        message = await refused(scanner, f"{IMPORT}?source=test", body, 400)
        assert any(word in message for word in reason.split("|")), message
        assert (await scanner.get("/v1/projects/demo/advisoryFeeds"))["advisoryFeeds"][0]["records"] == 2


async def test_an_import_needs_a_source_and_the_permission() -> None:
    async with scanner_at_work() as scanner:
        for source in ("", "../x", "A", "x" * 64):
            assert "source" in await refused(scanner, f"{IMPORT}?source={source}", b"[]", 400)
        await refused(scanner, f"{IMPORT}?source=a", b"[]", 403, "user:nobody@example.org")


async def test_an_import_beyond_the_limit_is_refused() -> None:
    async with scanner_at_work({"ENTREPOT_SCANNER_IMPORT_BYTES": "100"}) as scanner:
        assert "more than 100 bytes" in await refused(scanner, f"{IMPORT}?source=a", b"x" * 1000, 400)


# Occurrences.


async def test_an_image_has_a_discovery_and_an_occurrence_for_each_finding() -> None:
    async with scanner_at_work() as scanner:
        await scanner.take_in(*ADVISORIES)
        image = python_image(("jinja2", "2.10"), ("flask", "1.0"))
        await scanner.push(image)
        found = (await scanner.get(OCCURRENCES))["occurrences"]
        by_kind = {(one["kind"], one["noteName"]): one for one in found}
        jinja = by_kind["VULNERABILITY", "projects/demo/notes/CVE-2019-10906"]
        assert jinja["resourceUri"] == f"https://localhost:5000/demo/web/app@{image.digest}"
        assert jinja["vulnerability"]["effectiveSeverity"] == "CRITICAL"
        assert jinja["vulnerability"]["packageIssue"][0]["fixedVersion"]["fullName"] == "2.10.1"
        assert by_kind["VULNERABILITY", "projects/demo/notes/PYSEC-2"]["vulnerability"]["fixAvailable"] is False
        discovery = by_kind["DISCOVERY", "projects/demo/notes/PACKAGE_VULNERABILITY"]["discovery"]
        assert discovery["analysisStatus"] == "FINISHED_SUCCESS"
        assert len(found) == 3


async def test_each_occurrence_is_found_by_its_name_and_so_is_its_note() -> None:
    async with scanner_at_work() as scanner:
        await scanner.take_in(*ADVISORIES)
        await scanner.push(python_image(("jinja2", "2.10"), ("flask", "1.0")))
        for occurrence in (await scanner.get(OCCURRENCES))["occurrences"]:
            assert await scanner.get(f"/v1/{occurrence['name']}") == occurrence
            note = await scanner.get(f"/v1/{occurrence['name']}/notes")
            assert note == await scanner.get(f"/v1/{occurrence['noteName']}")
            assert note["kind"] == occurrence["kind"]
        await scanner.get(f"{OCCURRENCES}/nothing", 404)
        await scanner.get("/v1/projects/demo/notes/CVE-1999-0001", 404)


async def test_pages_of_any_size_bring_every_occurrence_once() -> None:
    async with scanner_at_work() as scanner:
        await scanner.take_in(*ADVISORIES)
        for name in ("a", "b", "c/d"):
            await scanner.push(python_image(("jinja2", "2.10"), ("flask", "1.0")), name=name)
        whole = [one["name"] for one in (await scanner.get(OCCURRENCES))["occurrences"]]
        assert len(whole) == len(set(whole)) == 9
        for size in (1, 2, 3, 4, 9):
            paged, token = list[str](), ""
            while True:
                page = await scanner.get(f"{OCCURRENCES}?pageSize={size}&pageToken={token}")
                paged += [one["name"] for one in page["occurrences"]]
                token = page.get("nextPageToken", "")
                if not token:
                    break
            assert paged == whole, size


async def test_a_filter_chooses_by_resource_and_kind() -> None:
    async with scanner_at_work() as scanner:
        await scanner.take_in(*ADVISORIES)
        image = python_image(("jinja2", "2.10"))
        await scanner.push(image)
        await scanner.push(python_image(("flask", "1.0")), name="other")
        address = f"https://any.host:5000/demo/web/app@{image.digest}"
        chosen = f'resourceUrl="{address}" AND kind="VULNERABILITY"'
        found = (await scanner.get(f"{OCCURRENCES}?filter={quoted(chosen)}"))["occurrences"]
        assert [one["noteName"] for one in found] == ["projects/demo/notes/CVE-2019-10906"]
        nothing = 'resourceUrl="https://h/other/web/app@' + image.digest + '"'
        assert (await scanner.get(f"{OCCURRENCES}?filter={quoted(nothing)}"))["occurrences"] == []
        await scanner.get(f"{OCCURRENCES}?filter={quoted('kind=A OR NOT')}", 400)


def quoted(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


async def test_the_summary_counts_by_image_and_severity() -> None:
    async with scanner_at_work() as scanner:
        await scanner.take_in(*ADVISORIES)
        await scanner.push(python_image(("jinja2", "2.10"), ("flask", "1.0")))
        counts = (await scanner.get(f"{OCCURRENCES}:vulnerabilitySummary"))["counts"]
        assert [(one["severity"], one["totalCount"], one["fixableCount"]) for one in counts] == [
            ("CRITICAL", "1", "1"),
            ("SEVERITY_UNSPECIFIED", "2", "1"),
        ]


async def test_an_attestation_is_listed_as_an_occurrence() -> None:
    async with scanner_at_work() as scanner:
        image = python_image(("flask", "1.0"))
        await scanner.push(image)
        attestation = {"serializedPayload": "cGF5bG9hZA==", "signatures": [{"signature": "c2ln", "publicKeyId": "k"}]}
        await scanner.memory.parts.blobs.put("attestor/a/1", orjson.dumps({"attestation": attestation}))
        await scanner.hear(
            AttestationCreated(
                project="demo", location="local", attestor="projects/demo/attestors/a", repository="web", image="app",
                digest=image.digest, note="projects/demo/notes/n", object="attestor/a/1", key_id="k",
            )
        )  # fmt: skip
        found = (await scanner.get(f"{OCCURRENCES}?filter={quoted('kind=ATTESTATION')}"))["occurrences"]
        assert [(one["noteName"], one["attestation"]) for one in found] == [("projects/demo/notes/n", attestation)]
        assert await scanner.get(f"/v1/{found[0]['name']}") == found[0]


async def test_who_may_not_list_is_refused() -> None:
    async with scanner_at_work() as scanner:
        for path in (OCCURRENCES, f"{OCCURRENCES}/a-b", "/v1/projects/demo/notes", "/v1/projects/demo/advisoryFeeds"):
            answer = await scanner.client.get(path, headers=bearer("user:nobody@example.org"))
            assert answer.status == 403, path


# What requests say.


HERE = Place("demo", "local", "web", "app", f"sha256:{'a' * 64}")
NAME = f"h/demo/web/app@{HERE.digest}"
FLAW: Json = {
    "noteName": "projects/other/notes/CVE-1",
    "kind": "VULNERABILITY",
    "vulnerability": {"severity": "HIGH"},
}


@pytest.mark.parametrize(
    "text",
    [
        "",
        'kind="VULNERABILITY"',
        "kind = VULNERABILITY AND severity=HIGH",
        f'resource_url="https://{NAME}" kind="VULNERABILITY"',
        'noteId="CVE-1" AND noteProjectId="other"',
        'kind="BUILD" OR kind="VULNERABILITY"',
        f'((kind = "BUILD") OR (kind = "VULNERABILITY")) AND ((resourceUrl = "x") OR (resourceUrl = "{NAME}"))',
        '(has_prefix(resourceUrl, "https://o/demo/web") OR has_prefix(resourceUrl, "h/demo/x")) AND (severity=HIGH)',
        'kind="DISCOVERY" AND severity="LOW" OR severity="HIGH"',
        f'has_suffix(resourceUrl, "{HERE.digest}")',
    ],
)
def test_a_filter_takes_what_it_asks_for(text: str) -> None:
    assert filter_of(text).takes(HERE.path, FLAW)
    assert filter_of(text).takes(HERE.path)


@pytest.mark.parametrize(
    "text",
    [
        'kind="DISCOVERY"',
        'kind="VULNERABILITY" kind="DISCOVERY"',
        f'resourceUrl="{NAME[:-1]}b"',
        'has_prefix(resourceUrl, "h/demo/webs")',
        'severity="HIGH" AND (kind="BUILD" OR kind="SBOM_REFERENCE")',
        r'noteId="CVE\"-1"',
    ],
)
def test_a_filter_leaves_out_what_it_does_not_ask_for(text: str) -> None:
    assert not filter_of(text).takes(HERE.path, FLAW)


def test_a_filter_names_the_resources_it_is_bound_to() -> None:
    assert filter_of('(resourceUrl="h/a" OR resourceUrl="https://h/b") AND kind="BUILD"').resources == {"a", "b"}
    assert filter_of('resourceUrl="a" OR kind="BUILD"').resources is None


@pytest.mark.parametrize(
    "text",
    [
        "kind",
        'kind="',
        "owner=x",
        "(kind=A",
        "kind=A)",
        "kind:A",
        "kind=A OR",
        "AND kind=A",
        "()",
        "kind=(",
        "has_prefix(kind, A)",
        'has_prefix(resourceUrl "a")',
        'has_suffix(resourceUrl, "a"',
        f"{'(' * 17}kind=A{')' * 17}",
        f'kind="{"a" * 9000}"',
    ],
)
def test_a_filter_that_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        filter_of(text)


@given(strategies.text('()=,"\\ ANDORkind:x', max_size=60))
def test_any_text_is_a_filter_or_is_refused(text: str) -> None:
    with suppress(InvalidArgument):
        filter_of(text).takes(HERE.path, FLAW)


async def test_the_filters_of_gcloud_find_an_image_s_occurrences() -> None:
    async with scanner_at_work() as scanner:
        await scanner.take_in(*ADVISORIES)
        image = python_image(("jinja2", "2.10"))
        await scanner.push(image)
        address = f"localhost:5000/demo/web/app@{image.digest}"
        asked = f'((kind = "VULNERABILITY") OR (kind = "BUILD")) AND ((resourceUrl = "{address}") OR (resourceUrl = "https://{address}"))'
        found = await scanner.get(f"{OCCURRENCES}?{urlencode({'filter': asked})}")
        assert [one["kind"] for one in found["occurrences"]] == ["VULNERABILITY"]
        for prefix, images in (("h/demo/web", 1), ("h/demo/other", 0)):
            of = urlencode({"filter": f'(has_prefix(resourceUrl, "{prefix}"))'})
            counts = (await scanner.get(f"{OCCURRENCES}:vulnerabilitySummary?{of}"))["counts"]
            assert len({one["resourceUri"] for one in counts}) == images


DIGEST = f"sha256:{'a' * 64}"


@pytest.mark.parametrize("image", ["app", "team/app/x"])
def test_an_address_names_the_place_it_was_made_of(image: str) -> None:
    place = Place("demo", "local", "web", image, DIGEST)
    assert place_at(place.address("localhost:5000"), "local") == place
    assert Place.named("demo", place.text) == place


def test_an_address_of_two_parts_means_gcr_io_and_nonsense_means_nothing() -> None:
    assert place_at(f"https://h/demo/app@{DIGEST}", "local") == Place("demo", "local", "gcr.io", "app", DIGEST)
    for nonsense in (
        "",
        "https://h/demo",
        f"https://h/DEMO/web/app@{DIGEST}",
        "https://h/demo/web/app@sha256:12",
        "x" * 9000,
    ):
        assert place_at(nonsense, "local") is None
