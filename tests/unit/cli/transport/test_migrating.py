"""Many images, from one registry to another."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from cli.exits import Failed
from cli.transport.addresses import parse_registry, parse_remote
from cli.transport.copying import copy
from cli.transport.credentials import Credentials
from cli.transport.door import Door
from cli.transport.layout import Layout
from cli.transport.migrating import Course, Migration, Outcome
from cli.transport.registry import RegistryImage
from cli.transport.shelves import Shelves
from shared.digest import Digest
from tests.support.layouts import LayoutWriter
from tests.support.small_registry import SmallRegistry, small_registry

FILES = [{"etc/os-release": b"ID=debian\n"}]
SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass
class Two:
    """A registry that is left, and the one that is moved to."""

    old: SmallRegistry
    new: SmallRegistry
    layout: LayoutWriter

    def push(self, name: str) -> Digest:
        """An image of its own at the old registry."""
        self.layout.name(self.layout.image([*FILES, {"name": name.encode()}]), name)
        door = Door(self.old.host, Credentials("me", "right"))
        return copy(Layout(self.layout.folder, name), RegistryImage(door, parse_remote(f"{self.old.host}/{name}")))

    def sign(self, name: str, subject: Digest) -> str:
        """A manifest that refers to another."""
        about = {"mediaType": MANIFEST, "digest": str(subject), "size": 1}
        content = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "layers": [], "subject": about}).encode()
        digest = str(Digest.of(content))
        self.old.manifests[name, digest] = (MANIFEST, content)
        return digest

    def migrate(self, prefix: str = "", *, untagged: bool = False, at_once: int = 2) -> list[Outcome]:
        """All that lies below the prefix, to `demo/moved`."""
        source, target = (Door(each.host, Credentials("me", "right")) for each in (self.old, self.new))
        shelves = Shelves(source)
        course = Course(parse_registry(f"{self.old.host}/{prefix}"), parse_remote(f"{self.new.host}/demo/moved"))
        moves = course.moves(shelves, shelves.names(prefix), untagged=untagged)
        return list(Migration(source, target).run(moves, at_once))


@pytest.fixture
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    with small_registry() as old, small_registry() as new:
        yield Two(old, new, LayoutWriter(tmp_path_factory.mktemp("images")))


def states(outcomes: list[Outcome]) -> dict[str, int]:
    found = [outcome.state for outcome in outcomes]
    return {state: found.count(state) for state in sorted(set(found))}


def test_every_tag_of_every_name_in_a_paged_catalog_arrives(two: Two) -> None:
    digests = {name: two.push(name) for name in ("a/x:1", "a/x:2", "a/x:3", "b:1", "c:1", "d/e/f:1", "g:1")}

    outcomes = two.migrate()

    assert states(outcomes) == {"copied": 7}
    assert {(outcome.target, outcome.digest) for outcome in outcomes} == {
        (f"{two.new.host}/demo/moved/{name}", digest) for name, digest in digests.items()
    }
    assert two.new.names() == [f"demo/moved/{name}" for name in ("a/x", "b", "c", "d/e/f", "g")]


def test_a_prefix_is_left_off_and_names_that_only_look_like_it_stay(two: Two) -> None:
    for name in ("team/web/app:1", "team/api:1", "teams/other:1"):
        two.push(name)
    two.migrate("team")
    assert two.new.names() == ["demo/moved/api", "demo/moved/web/app"]


def test_run_again_nothing_is_sent_that_is_there(two: Two) -> None:
    for name in ("a:1", "b:1"):
        two.push(name)
    two.migrate()
    two.push("c:1")
    before = len(two.new.asked)

    outcomes = two.migrate()

    assert states(outcomes) == {"copied": 1, "present": 2}
    written = [line for line in two.new.asked[before:] if line.startswith("PUT")]
    assert not [line for line in written if "/a/" in line or "/b/" in line]


def test_a_tag_that_was_moved_at_the_source_is_moved_here(two: Two) -> None:
    two.push("a:1")
    two.migrate()
    moved = two.push("b:1")
    two.old.manifests["a", "1"] = two.old.manifests["b", "1"]
    two.old.manifests["a", str(moved)] = two.old.manifests["b", "1"]
    two.old.blobs |= {("a", digest): content for (name, digest), content in two.old.blobs.items() if name == "b"}

    outcomes = two.migrate("a")

    assert [(outcome.state, outcome.digest) for outcome in outcomes] == [("copied", moved)]


def test_signatures_come_along_and_before_what_they_sign(two: Two) -> None:
    digest = two.push("a:1")
    signature = two.sign("a", digest)
    upon = two.sign("a", Digest.parse(signature))

    (outcome,) = two.migrate()

    assert outcome.referrers == 2
    puts = [line.rpartition("/")[2] for line in two.new.asked if line.startswith("PUT") and "/manifests/" in line]
    assert puts == [upon, signature, "1"]


def test_a_signature_made_after_the_migration_follows_in_the_next(two: Two) -> None:
    digest = two.push("a:1")
    two.migrate()
    two.sign("a", digest)
    (outcome,) = two.migrate()
    assert (outcome.state, outcome.referrers) == ("present", 1)


def test_a_registry_without_lists_of_referrers_is_asked_for_one_once(two: Two) -> None:
    two.old.tells_referrers = False
    for name in ("a:1", "b:1", "c:1"):
        two.push(name)
    assert states(two.migrate(at_once=1)) == {"copied": 3}
    assert len([line for line in two.old.asked if "/referrers/" in line]) == 1


def test_container_registrys_lists_are_walked_and_tell_untagged_manifests(two: Two) -> None:
    two.old.in_container_registrys_form = True
    kept = [two.push(name) for name in ("project/app:1", "project/app/nested:1")]
    lost = two.push("project/app:2")
    del two.old.manifests["project/app", "2"]

    assert states(two.migrate("project")) == {"copied": 2}
    assert states(two.migrate("project", untagged=True)) == {"copied": 1, "present": 2}
    there = {digest for name in two.new.names() for digest in two.new.digests(name)}
    assert there == {*map(str, kept), str(lost)}


def test_one_that_fails_is_reported_and_the_others_arrive(two: Two) -> None:
    for name in ("a:1", "b:1"):
        two.push(name)
    old = b'{"schemaVersion": 1}'
    for reference in ("1", str(Digest.of(old))):
        two.old.manifests["a", reference] = (SCHEMA_1, old)

    outcomes = {outcome.source: outcome for outcome in two.migrate()}

    failed = outcomes[f"{two.old.host}/a:1"]
    assert (failed.state, "schema 1" in failed.reason) == ("failed", True)
    assert outcomes[f"{two.old.host}/b:1"].state == "copied"


def test_a_blob_that_is_broken_at_the_source_does_not_arrive(two: Two) -> None:
    two.push("a:1")
    key = next(key for key in two.old.blobs if key[0] == "a")
    two.old.blobs[key] = b"x" * len(two.old.blobs[key])
    (outcome,) = two.migrate()
    assert outcome.state == "failed"
    assert two.new.names() == []


def test_a_catalog_that_is_not_told_is_said(two: Two) -> None:
    two.old.in_container_registrys_form = True
    with pytest.raises(Failed, match="the catalog"):
        two.migrate()
