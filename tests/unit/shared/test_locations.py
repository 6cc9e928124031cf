"""Several locations as settings name them: their hosts, and the buckets that their registries keep."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.blobs import BlobMissing
from shared.blobs.elsewhere import Buckets, places_in
from shared.blobs.memory import MemoryBlobs
from shared.events.cleanups import CleanupRequested
from shared.events.contracts import BY_NAME, durable_of
from shared.events.images import ImagePushed, ReferrerRequested
from shared.settings import Settings, SettingsWrong, hosts_of, read

LOCATION = st.from_regex(r"[a-z][a-z0-9-]{0,10}", fullmatch=True)
HOST = st.from_regex(r"[a-z0-9][a-z0-9.-]{0,20}(:[0-9]{1,5})?", fullmatch=True)


@given(st.dictionaries(LOCATION, HOST, max_size=5).filter(lambda found: len(set(found.values())) == len(found)))
def test_hosts_are_read_as_they_were_written(hosts: dict[str, str]) -> None:
    assert hosts_of("  ".join(f"{location}={host}" for location, host in hosts.items())) == hosts


@given(st.text(alphabet="ea=.:1 /\n%A_", max_size=12))
def test_whatever_is_read_has_a_location_and_a_host_of_its_own(text: str) -> None:
    try:
        found = hosts_of(text)
    except ValueError:
        return
    assert len(found) == len(text.split()) == len(set(found.values()))


@pytest.mark.parametrize("text", ["east", "east=", "=host", "East=host", "east=a east=b", "east=a west=a", "east=a/b"])
def test_hosts_that_cannot_be_are_refused_at_the_start(text: str) -> None:
    with pytest.raises(SettingsWrong, match="ENTREPOT_LOCATIONS"):
        read(Settings, {"ENTREPOT_LOCATIONS": text})


def test_only_where_there_are_several_locations_does_a_deployment_take_jobs_by_location() -> None:
    assert read(Settings, {"ENTREPOT_LOCATION": "east"}).one_of_several == ""
    several = {"ENTREPOT_LOCATION": "east", "ENTREPOT_LOCATIONS": "east=a west=b"}
    assert read(Settings, several).one_of_several == "east"


def test_jobs_of_the_registry_have_a_durable_in_each_location_and_events_one_for_all() -> None:
    assert durable_of("registry", CleanupRequested, "west") == "registry-cleanup-requested-west"
    assert durable_of("registry", CleanupRequested) == "registry-cleanup-requested"
    assert durable_of("scanner", ImagePushed, "west") == "scanner-image-pushed"
    assert BY_NAME[CleanupRequested.topic].heard_by("registry", "west") == "cleanup.requested.registry.*.west.*"
    assert BY_NAME[ReferrerRequested.topic].heard_by("registry", "west") == "referrer.requested.*.west.*"
    assert BY_NAME[ImagePushed.topic].heard_by("scanner", "west") == "image.pushed.>"


def test_buckets_are_listed_in_a_file(tmp_path: Path) -> None:
    file, secret = tmp_path / "buckets.json", tmp_path / "secret"
    secret.write_text("hidden\n")
    secret.chmod(0o600)
    west = {"kind": "s3", "endpoint": "s3.west.test:8333", "name": "bytes", "access_key": "scanner"}
    east = {"kind": "directory", "directory": f"{tmp_path}/east"}
    file.write_text(json.dumps({"east": east, "west": {**west, "secret_key_file": str(secret), "secure": False}}))
    found = places_in(file)
    assert (found["east"].kind, found["east"].directory) == ("directory", tmp_path / "east")
    there = found["west"]
    assert (there.endpoint, there.bucket, there.secret_key, there.secure) == (
        "s3.west.test:8333",
        "bytes",
        "hidden",
        False,
    )
    assert places_in(None) == {}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"East": {"kind": "directory", "directory": "/x"}}',
        '{"east": {"kind": "directory"}}',
        '{"east": {"kind": "s3", "name": "bytes"}}',
        '{"east": {"kind": "tape"}}',
        '{"east": {"kind": "directory", "directory": "/x", "secret": "hidden"}}',
    ],
)
def test_a_list_of_buckets_that_cannot_be_is_refused_and_tells_no_values(tmp_path: Path, content: str) -> None:
    file = tmp_path / "buckets.json"
    file.write_text(content)
    with pytest.raises(SettingsWrong, match="the list of buckets") as refused:
        places_in(file)
    assert "hidden" not in str(refused.value)
    with pytest.raises(SettingsWrong, match="cannot be read"):
        places_in(tmp_path / "none.json")


async def test_the_bucket_of_a_location_is_its_own_or_ours() -> None:
    here, west = MemoryBlobs(lambda: 0.0), MemoryBlobs(lambda: 0.0)
    buckets = Buckets(here, {"west": west})
    assert buckets.of("west") is west
    assert buckets.of("east") is here
    await west.put("a", b"there")
    assert await buckets.having("a") is west
    await here.put("a", b"here")
    assert await buckets.having("a") is here
    with pytest.raises(BlobMissing):
        await buckets.having("b")
    assert await Buckets(here).having("b") is here
