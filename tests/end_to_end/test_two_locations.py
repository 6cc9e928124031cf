"""Two locations as docs/operate/locations.md says: a suite in the east, a second registry in the west, one bus for all.

Every service is a process of its own; the registries have a state and a bucket each, the others share the east's.
"""

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from cli import keyfile
from cli.api import access_token
from infra.embedded.folder import DataFolder
from infra.embedded.services import Place, make_secrets
from shared.bus.tail import Tail
from shared.clock import SystemClock
from tests.support.bus import NatsWorld, bounded, nats_world, until
from tests.support.images import MANIFEST, Image, image_of, layer_of
from tests.support.layouts import LayoutWriter
from tests.support.ports import free_base
from tests.support.servers import Server, running, valkey_server
from tests.support.twins import Twin, started

pytestmark = pytest.mark.timeout(240)

LOCATIONS = ("east", "west")
REPOSITORY = "projects/demo/locations/{}/repositories/shore"
NAME = "demo/shore/app"
DSSE = "application/vnd.dsse.envelope.v1+json"
SECONDS = 60.0
"""How long what follows from a push may take."""


@dataclass
class Coast:
    """All processes, the servers under them, and a client."""

    folder: Path
    nats: NatsWorld
    states: dict[str, Server]
    place: Place
    twins: dict[str, Twin] = field(default_factory=dict[str, Twin])
    token: str = ""

    @property
    def hosts(self) -> dict[str, str]:
        """How clients reach the registries, by location."""
        return {"east": f"127.0.0.1:{self.place.base}", "west": f"127.0.0.1:{self.place.base + 10}"}

    def bucket(self, location: str) -> Path:
        return self.folder / "buckets" / location

    def build(self) -> None:
        """All services, not started yet."""
        make_secrets(self.place)
        ports = {"identity": 1, "scanner": 3, "attestor": 4, "cleanup": 5, "audit_log": 6}
        for service, offset in ports.items():
            self.twins[service] = self._twin(service, "east", self.place.base + offset, service)
        for location, host in self.hosts.items():
            name = f"registry-{location}"
            self.twins[name] = self._twin("registry", location, int(host.rpartition(":")[2]), name)

    def _twin(self, service: str, location: str, port: int, name: str) -> Twin:
        data = self.folder / name
        data.mkdir()
        self.nats.passwords.of(service)
        settings = {
            "PORT": str(port),
            "PUBLIC_URL": f"http://127.0.0.1:{port}",
            "LOCATION": location,
            "LOCATIONS": " ".join(f"{where}={host}" for where, host in self.hosts.items()),
            "DATA": str(data),
            "STATE_URL": f"valkey://127.0.0.1:{self.states[location].port}",
            "BUS_URL": self.nats.url,
            "BUS_USER": service,
            "BUS_PASSWORD_FILE": str(self.nats.passwords.path(service)),
            "BUS_MONITOR": self.nats.monitor,
            "BUCKET": "directory",
            "BUCKET_DIRECTORY": str(self.bucket(location)),
            "BUCKETS_FILE": str(self._other_buckets(location)),
            "ISSUER": self.place.address("identity"),
            "ROOT_KEY_FILE": str(self.place.folder.keys / "root.pub"),
            "STOP_SECONDS": "5",
            **self._own(location).get(service, {}),
        }
        return Twin(service, {f"ENTREPOT_{key}": text for key, text in settings.items()}, data / "log")

    def _own(self, location: str) -> dict[str, dict[str, str]]:
        keys = self.place.folder.keys
        return {
            "identity": {
                "IDENTITY_ROOT_KEY_FILE": str(keys / "root.pem"),
                "IDENTITY_ADMIN_KEY_FILE": str(self.place.admin_key),
                "IDENTITY_FIRST_PROJECT": "demo",
            },
            "registry": {
                "REGISTRY_CREATE_ON_PUSH": "true",
                "REGISTRY_TOKEN_REALM": f"{self.place.address('identity')}/token",
                "REGISTRY_UPLOAD_KEY_FILE": str(self._upload_key(location)),
                "REGISTRY_COLLECT_AFTER_SECONDS": "1",
                "REGISTRY_COLLECT_EVERY_SECONDS": "0.5",
            },
            "scanner": {"SCANNER_REGISTRY_HOST": "LOCATION-docker.pkg.dev"},
            "attestor": {
                "ATTESTOR_MASTER_KEY_FILE": str(keys / "attestor-master"),
                "ATTESTOR_REGISTRY_HOSTS": ",".join(f"{host}={where}" for where, host in self.hosts.items()),
            },
            "cleanup": {"CLEANUP_CHECK_SECONDS": "0.5"},
        }

    def _upload_key(self, location: str) -> Path:
        key = self.folder / f"uploads-{location}"
        if not key.exists():
            key.touch(mode=0o600)
            key.write_text(f"of the registries in the {location}")
        return key

    def _other_buckets(self, location: str) -> Path:
        file = self.folder / f"buckets-{location}.json"
        others = {
            other: {"kind": "directory", "directory": str(self.bucket(other))}
            for other in LOCATIONS
            if other != location
        }
        file.write_text(json.dumps(others))
        return file

    # What clients do.

    def address(self, service: str) -> str:
        return self.twins[service].address

    def call(self, service: str, path: str, body: Any = None, verb: str = "", accept: str = "*/*") -> Any:
        """The answer of a JSON face; raises HTTPError."""
        request = urllib.request.Request(
            f"{self.address(service)}/{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json", "Accept": accept},
            method=verb or ("GET" if body is None else "POST"),
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    def status(self, service: str, path: str, verb: str = "HEAD") -> int:
        """Only the status of an answer."""
        try:
            self.call(service, path, verb=verb, accept=MANIFEST)
        except urllib.error.HTTPError as refused:
            return refused.code
        return 200

    def push(self, location: str, image: Image, tag: str) -> None:
        """By skopeo, which asks for its own token where the registry of that location sends it."""
        layout = LayoutWriter(self.folder / f"layout-{location}-{tag}")
        layout.name(layout.add(image), tag)
        key = keyfile.read(self.place.admin_key)
        ran = subprocess.run(
            [
                *("skopeo", "copy", "--insecure-policy", "--preserve-digests", "--dest-tls-verify=false"),
                *("--dest-creds", f"_json_key:{key.content}", f"oci:{layout.folder}:{tag}"),
                f"docker://{self.hosts[location]}/{NAME}:{tag}",
            ],
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr

    async def said(self, topic: str, digests: Sequence[str] = ()) -> list[dict[str, Any]]:
        """What was said of these digests; of none, everything."""
        tail = Tail(self.nats.address("operator"), SystemClock().sleep)
        try:
            found = [orjson.loads(one.content) async for one in tail.follow("EVENTS", f"{topic}.>", 0, endless=False)]
        finally:
            await tail.close()
        return [one["data"] for one in found if not digests or one["data"].get("digest") in digests]

    async def hears(self, topic: str, digest: str, *locations: str) -> list[dict[str, Any]]:
        """Wait until something was said of a digest in each of these locations, once in each."""
        end = time.monotonic() + SECONDS
        while True:
            found = await self.said(topic, [digest])
            if sorted(one["location"] for one in found) == sorted(locations):
                return found
            assert time.monotonic() < end, f"{topic}: {found}"
            await SystemClock().sleep(0.2)

    def held(self, location: str, digest: str) -> list[str]:
        """The blobs and manifests of a bucket that are named for a digest."""
        found = self.bucket(location).rglob(f"*{digest.partition(':')[2]}*")
        return [path.name for path in found if path.is_file() and {"blobs", "manifests"} & set(path.parts)]


@pytest.fixture
async def coast(tmp_path: Path) -> AsyncIterator[Coast]:
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
    folders = {name: tmp_path / name for name in ("bus", "east", "west", "data")}
    for folder in folders.values():
        folder.mkdir()
    nats = nats_world(folders["bus"], locations=LOCATIONS)
    states = {location: valkey_server(folders[location]) for location in LOCATIONS}
    made = Coast(tmp_path, nats, states, Place(DataFolder(folders["data"]), free_base()))
    with ExitStack() as all_of_it:
        for server in (nats.server, *states.values()):
            all_of_it.enter_context(running(server))
        await nats.provision()
        made.build()
        for name, twin in made.twins.items():
            all_of_it.enter_context(started({name: twin}))
        await until(made.place.admin_key.exists)
        made.token = access_token(keyfile.read(made.place.admin_key))
        yield made
        await bounded(nats.close())


def fresh(name: str) -> Image:
    """An image with a package that no other has."""
    status = f"Package: {name}\nStatus: install ok installed\nArchitecture: all\nVersion: 1.0-1\n\n"
    return image_of([layer_of({"var/lib/dpkg/status": status.encode(), "etc/os-release": b"ID=debian\n"})])


async def test_two_locations_are_one_house_with_two_doors(coast: Coast) -> None:
    """One after the other, on the same processes: to start them takes longer than all of it."""
    both, alone = fresh("both"), fresh("alone")
    threshold_is_set(coast)
    coast.push("east", both, "v1")
    coast.push("west", both, "v1")
    coast.push("west", alone, "v2")

    names_say_where(coast, both)
    await each_is_announced_scanned_and_attested_where_it_lies(coast, both, alone)
    the_audit_log_says_where(coast)
    await what_is_cleaned_in_the_west_goes_from_the_west_alone(coast, both)


def threshold_is_set(coast: Coast) -> None:
    # A scan without any advisories is no ground to attest anything.
    advisory = {"id": "X-1", "affected": [{"package": {"ecosystem": "PyPI", "name": "x"}, "versions": ["1"]}]}
    path = "v1/projects/demo/advisories:import?source=test"
    coast.call("scanner", path, {**advisory, "modified": "2026-01-01T00:00:00Z"})
    limits = {"autoAttest": {"maximumFixableSeverity": "LOW", "maximumUnfixableSeverity": "MEDIUM"}}
    coast.call("attestor", "v1/projects/demo/attestors?attestorId=coast", limits)


def names_say_where(coast: Coast, image: Image) -> None:
    for location in LOCATIONS:
        here, repository = f"registry-{location}", REPOSITORY.format(location)
        listed = coast.call(here, "v1/projects/demo/locations")["locations"]
        assert [one["locationId"] for one in listed] == list(LOCATIONS)
        images = coast.call(here, f"v1/{repository}/dockerImages")["dockerImages"]
        assert f"{repository}/dockerImages/app@{image.digest}" in {one["name"] for one in images}
        assert f"{location}-docker.pkg.dev/{NAME}@{image.digest}" in {one["uri"] for one in images}
    with pytest.raises(urllib.error.HTTPError) as refused:
        coast.call("registry-east", f"v1/{REPOSITORY.format('west')}")
    assert refused.value.code == 404
    assert coast.hosts["west"] in refused.value.read().decode()


async def each_is_announced_scanned_and_attested_where_it_lies(coast: Coast, both: Image, alone: Image) -> None:
    assert coast.status("registry-east", f"v2/{NAME}/manifests/{alone.digest}") == 404
    assert not coast.held("east", alone.digest)
    assert coast.held("west", alone.digest)
    for image, locations in ((both, LOCATIONS), (alone, ("west",))):
        await coast.hears("image.pushed", image.digest, *locations)
        for scan in await coast.hears("scan.completed", image.digest, *locations):
            assert (scan.get("status", "FINISHED_SUCCESS"), scan["packages"]) == ("FINISHED_SUCCESS", 1), scan
        await coast.hears("attestation.created", image.digest, *locations)
        for location in locations:
            await hangs(coast, location, image)


async def hangs(coast: Coast, location: str, image: Image) -> None:
    """Wait until the attestation is a referrer of the image at that registry."""
    path = f"v2/{NAME}/referrers/{image.digest}"

    def found() -> bool:
        return [one["artifactType"] for one in coast.call(f"registry-{location}", path)["manifests"]] == [DSSE]

    await until(found, SECONDS)


def the_audit_log_says_where(coast: Coast) -> None:
    words = {"resourceNames": ["projects/demo"], "filter": 'protoPayload.methodName="Docker-PutManifest"'}
    asked: Callable[[], Any] = lambda: coast.call("audit_log", "v2/entries:list", {**words, "pageSize": 1000})  # noqa: E731
    end = time.monotonic() + SECONDS
    while True:
        names = {one["protoPayload"]["resourceName"] for one in asked().get("entries", [])}
        if all(any(f"/locations/{location}/" in name for name in names) for location in LOCATIONS):
            return
        assert time.monotonic() < end, names
        time.sleep(0.2)


async def what_is_cleaned_in_the_west_goes_from_the_west_alone(coast: Coast, image: Image) -> None:
    """Manifest, attestation, bytes: cleanup asks the one registry, and its collector clears its own bucket."""
    west, layer = REPOSITORY.format("west"), next(digest for digest in image.blobs)
    assert coast.held("east", layer)
    assert coast.held("west", layer)
    assert coast.call("registry-west", f"v2/{NAME}/manifests/v1", verb="DELETE") is None
    policies = {"cleanupPolicies": {"untagged": {"action": "DELETE", "condition": {"tagState": "UNTAGGED"}}}}

    def planned() -> list[str]:
        plan = coast.call("cleanup", f"v1/{west}:planCleanup", policies)
        return [one["digest"] for one in plan["delete"]]

    end = time.monotonic() + SECONDS
    while image.digest not in planned():
        assert time.monotonic() < end, planned()
        await SystemClock().sleep(0.2)
    coast.call("cleanup", f"v1/{west}:runCleanup", policies)
    await until(lambda: coast.status("registry-west", f"v2/{NAME}/manifests/{image.digest}") == 404, SECONDS)
    await coast.hears("image.deleted", image.digest, "west")
    await until(lambda: not coast.held("west", layer), SECONDS)
    assert coast.held("east", layer)
    assert coast.status("registry-east", f"v2/{NAME}/manifests/v1") == 200
