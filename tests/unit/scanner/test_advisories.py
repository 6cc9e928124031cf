"""OSV records as databases really write them, the forms an import may have, and what a feed keeps of them."""

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import orjson
import pytest
import yaml
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scanner.advisories import reading
from services.scanner.advisories.database import Feed, Gathering, canonical
from services.scanner.advisories.reading import ImportRefused, documents
from services.scanner.advisories.record import RecordUnusable, Row, Span, advisory
from services.scanner.layers.limits import Limits
from services.scanner.matching import affects, fix_of
from tests.support.scans import CRITICAL, osv


def row(*events: dict[str, str], ecosystem: str = "PyPI", **more: Any) -> Row:
    (found,) = advisory(osv("X-1", ecosystem, "name", *events, **more)).rows
    return found


# Records.


@pytest.mark.parametrize(
    ("version", "affected"),
    [("1.0", True), ("1.9", True), ("2.0", False), ("3.0", True), ("3.5", False), ("2.0rc1", True)],
)
def test_a_range_goes_from_introduced_to_before_fixed_and_may_do_so_twice(version: str, *, affected: bool) -> None:
    found = row({"introduced": "0"}, {"fixed": "2.0"}, {"introduced": "3.0"}, {"fixed": "3.5"})
    assert affects(found, version) is affected


def test_events_may_come_in_any_order() -> None:
    found = row({"fixed": "3.5"}, {"introduced": "3.0"}, {"fixed": "2.0"}, {"introduced": "1.0"})
    assert found.spans == (Span(start="1.0", end="2.0"), Span(start="3.0", end="3.5"))


def test_the_last_affected_version_is_affected() -> None:
    found = row({"introduced": "1.0"}, {"last_affected": "1.5"})
    assert affects(found, "1.5")
    assert not affects(found, "1.5.post1")
    assert fix_of(found, "1.2") == ""


def test_the_fix_is_that_of_the_range_the_version_lies_in() -> None:
    found = row({"introduced": "0"}, {"fixed": "2.0"}, {"introduced": "3.0"}, {"fixed": "3.5"})
    assert [fix_of(found, version) for version in ("1.0", "3.1", "9")] == ["2.0", "3.5", ""]


def test_listed_versions_are_affected_however_they_are_spelt() -> None:
    found = row(versions=["1.0", "1.0.1"])
    assert affects(found, "1.0.0")
    assert affects(found, "1.0.1")
    assert not affects(found, "1.0.2")


def test_listed_versions_that_a_range_covers_are_not_kept_twice() -> None:
    assert row({"introduced": "0"}, {"fixed": "2"}, versions=["1", "1.5", "5"]).versions == ("5",)


def test_a_malformed_version_of_a_package_matches_only_its_exact_text() -> None:
    found = row({"introduced": "0"}, versions=["not-a-version"])
    assert affects(found, "not-a-version")
    assert not affects(found, "other-text")


def test_git_ranges_say_nothing_of_versions() -> None:
    record = osv("X-1", "PyPI", "name")
    record["affected"][0]["ranges"] = [{"type": "GIT", "events": [{"introduced": "0"}]}]
    assert advisory(record).rows == ()


def test_a_range_with_a_malformed_end_is_left_out_rather_than_left_open() -> None:
    record = osv("X-1", "PyPI", "name", {"introduced": "0"}, {"fixed": "no version"}, versions=["1.0"])
    (found,) = advisory(record).rows
    assert (found.spans, found.versions) == ((), ("1.0",))


def test_custom_ranges_stand_for_plain_ones_that_name_every_version() -> None:
    record = osv("GO-1", "Go", "example.com/x", {"introduced": "0"})
    record["affected"][0]["ranges"][0]["type"] = "SEMVER"
    custom = {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.2.3"}]}
    record["affected"][0]["ecosystem_specific"] = {"custom_ranges": [custom]}
    assert advisory(record).rows[0].spans == (Span(end="1.2.3"),)


def test_a_withdrawn_record_has_no_rows() -> None:
    found = advisory(osv("X-1", "PyPI", "name", {"introduced": "0"}, withdrawn="2026-01-01T00:00:00Z"))
    assert (found.rows, found.withdrawn) == ((), True)


def test_dates_that_yaml_made_of_text_are_dates_of_json_again() -> None:
    text = """
        id: X-1
        published: 2021-03-04
        modified: 2021-03-04T05:06:07Z
        affected: [{package: {ecosystem: PyPI, name: a}, versions: ['1']}]
    """
    (found,) = advisory(yaml.safe_load(text)).rows
    assert found.published == "2021-03-04T00:00:00Z"
    assert found.modified.startswith("2021-03-04T05:06:07")


def test_names_of_python_packages_are_normalised_and_ubuntus_pockets_folded() -> None:
    assert advisory(osv("X-1", "PyPI", "Zope.Interface", {"introduced": "0"})).rows[0].name == "zope-interface"
    (ubuntu,) = advisory(osv("X-1", "Ubuntu:22.04:LTS", "openssl", {"introduced": "0"})).rows
    assert ubuntu.ecosystem == "Ubuntu:22.04"
    assert advisory(osv("X-1", "Ubuntu:Pro:22.04:LTS", "openssl", {"introduced": "0"})).rows == ()


@pytest.mark.parametrize(
    ("more", "severity", "score"),
    [
        ({"severity": [{"type": "CVSS_V3", "score": CRITICAL}]}, "CRITICAL", 9.8),
        ({"severity": [{"type": "CVSS_V2", "score": "AV:N/AC:L/Au:N/C:P/I:P/A:P"}]}, "HIGH", 7.5),
        (
            {
                "severity": [
                    {"type": "CVSS_V4", "score": "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:L/VI:N/VA:N/SC:N/SI:N/SA:N"}
                ]
            },
            "MEDIUM",
            6.9,
        ),
        ({"severity": [{"type": "CVSS_V3", "score": "garbage"}]}, "SEVERITY_UNSPECIFIED", 0.0),
        ({"database_specific": {"severity": "MODERATE"}}, "MEDIUM", 0.0),
        ({"database_specific": {"severity": "unheard of"}}, "SEVERITY_UNSPECIFIED", 0.0),
        ({}, "SEVERITY_UNSPECIFIED", 0.0),
    ],
)
def test_a_rating_comes_from_a_vector_or_from_the_databases_word(
    more: dict[str, Any], severity: str, score: float
) -> None:
    rating = row({"introduced": "0"}, **more).rating
    assert (rating.severity, rating.score) == (severity, score)


def test_an_advisory_is_known_by_its_cve_unless_it_collects_several() -> None:
    assert canonical(row({"introduced": "0"}, aliases=["GHSA-1", "CVE-2024-1000"])) == "CVE-2024-1000"
    assert canonical(row({"introduced": "0"}, aliases=["CVE-2024-1000", "CVE-2024-1001"])) == "X-1"


FIELDS = ["id", "affected", "package", "ecosystem", "name", "ranges", "events", "introduced", "versions", "severity"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=100, deadline=None)
@given(JSON)
def test_any_json_is_an_advisory_or_unusable(found: object) -> None:
    for record in (found, {"id": "X", "affected": found}, osv("X", "PyPI", "a") | {"severity": found}):
        try:
            advisory(record)
        except RecordUnusable:
            continue


# Forms of an import.

RECORDS = [osv(f"X-{number}", "PyPI", "name", {"introduced": "0"}, {"fixed": "1"}) for number in range(3)]


def tar(pack: Callable[[bytes], bytes] = bytes) -> bytes:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for number, record in enumerate(RECORDS):
            form = yaml.safe_dump(record).encode() if number else orjson.dumps(record)
            member = tarfile.TarInfo(f"vulns/{number}.{'yaml' if number else 'json'}")
            member.size = len(form)
            archive.addfile(member, io.BytesIO(form))
        archive.addfile(tarfile.TarInfo("README.md"))
    return pack(plain.getvalue())


def zipped() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for record in RECORDS:
            archive.writestr(f"{record['id']}.json", orjson.dumps(record))
        archive.writestr("LICENSE", "x")
    return packed.getvalue()


@pytest.mark.parametrize(
    "brought",
    [
        tar(),
        tar(zstandard.ZstdCompressor().compress),
        tar(gzip.compress),
        zipped(),
        orjson.dumps(RECORDS),
        orjson.dumps({"vulns": RECORDS}),
        b"\n".join(map(orjson.dumps, RECORDS)),
        yaml.safe_dump_all(RECORDS).encode(),
    ],
    ids=["tar", "tar.zst", "tar.gz", "zip", "list", "vulns", "lines", "yaml"],
)
def test_every_form_of_an_import_brings_the_same_records(brought: bytes) -> None:
    gathering = Gathering()
    gathering.take(documents(io.BytesIO(brought)))
    assert (gathering.tally.records, gathering.tally.unusable) == (3, 0)
    assert [found.id for found in Feed(gathering.written()).about("PyPI", "name")] == ["X-0", "X-1", "X-2"]


@settings(max_examples=100, deadline=None)
@given(
    st.binary(max_size=600),
    st.sampled_from([b"", b"PK\x03\x04", b"\x1f\x8b\x08\0", b"\x28\xb5\x2f\xfd", b"[{", b"- a: ["]),
)
def test_any_bytes_are_records_or_refused(noise: bytes, start: bytes) -> None:
    gathering = Gathering()
    try:
        gathering.take(documents(io.BytesIO(start + noise)))
    except ImportRefused:
        return
    assert gathering.tally.unusable == gathering.tally.records


def test_a_yaml_bomb_and_deep_json_are_unusable() -> None:
    bomb = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
        b"%c: &%c [%b]\n" % (letter, letter, b",".join([b"*%c" % (letter - 1)] * 9)) for letter in b"bcdefghi"
    )
    for place in (
        "affected: *i",
        "published: *i",
        "aliases: *i",
        "database_specific: {severity: *i}",
        "severity: [*i]",
    ):
        (record,) = yaml.safe_load_all(bomb.decode() + f"id: X\n{place}\n")
        with suppress(RecordUnusable):
            advisory(osv("X", "PyPI", "a", {"introduced": "0"}) | record)
    for brought in (bomb, b"[" * 100_000, b"{" * 50_000):
        gathering = Gathering()
        gathering.take(documents(io.BytesIO(brought)))
        assert gathering.tally.unusable == gathering.tally.records == 1


def test_an_archive_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LIMITS", Limits(unpacked=1000, file=100))
    for brought in (tar(), zipped()):
        with pytest.raises(ImportRefused, match=r"larger|more than"):
            list(documents(io.BytesIO(brought)))


# A feed.


def feed(*records: dict[str, Any]) -> Feed:
    gathering = Gathering()
    gathering.take(records)
    return Feed(gathering.written())


def test_a_feed_is_the_same_bytes_whatever_order_its_records_came_in() -> None:
    one, other = Gathering(), Gathering()
    one.take(RECORDS)
    other.take(reversed(RECORDS))
    assert one.written() == other.written()


def test_a_later_record_of_the_same_id_replaces_the_earlier() -> None:
    found = feed(RECORDS[0], {**RECORDS[0], "withdrawn": "2026-01-01T00:00:00Z"})
    assert list(found.about("PyPI", "name")) == []


def test_the_difference_of_two_feeds_names_the_advisories_that_are_not_the_same() -> None:
    changed = osv("X-1", "PyPI", "name", {"introduced": "0"}, {"fixed": "2"})
    fresh = osv("X-9", "npm", "name", {"introduced": "0"})
    assert feed(*RECORDS).changed(feed(*RECORDS)) == []
    assert feed(RECORDS[0], changed, fresh).changed(feed(*RECORDS)) == ["X-1", "X-2", "X-9"]


def test_an_advisory_is_found_by_its_name() -> None:
    found = feed(osv("PYSEC-1", "PyPI", "a", {"introduced": "0"}, aliases=["CVE-2024-1000"]))
    assert [one.id for one in found.named("CVE-2024-1000")] == ["PYSEC-1"]
    assert found.names() == ["CVE-2024-1000"]
    assert list(found.named("PYSEC-1")) == []
