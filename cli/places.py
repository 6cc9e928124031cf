"""Opens the places that images are copied from and to, with the credentials that are known for each."""

from pathlib import Path

from cli import account, keyfile, suite
from cli.exits import Failed
from cli.transport import credentials
from cli.transport.addresses import Local, Remote
from cli.transport.content import Source, Target
from cli.transport.docker_archive import DockerArchive, DockerArchiveTarget
from cli.transport.door import Door
from cli.transport.layout import ArchivedLayout, Layout
from cli.transport.registry import RegistryImage


class Known:
    """What is known about registries: the suite's own by its account, others by what container clients keep."""

    def __init__(self, data: str, between: Path, *, plain_http: bool | None) -> None:
        self._data = data
        self._between = between
        self._plain_http = plain_http

    def source(self, place: Remote | Local, given: str) -> Source:
        """A place to copy from."""
        if isinstance(place, Remote):
            return RegistryImage(self.door(place.host, given), place)
        path = Path(place.path)
        if place.kind == "oci":
            return Layout(path, place.reference)
        if place.kind == "oci-archive":
            return ArchivedLayout(path, place.reference, self._between_at("source"), reading=True)
        return DockerArchive(path, place.reference)

    def target(self, place: Remote | Local, given: str, mount_from: str) -> Target:
        """A place to copy to."""
        if isinstance(place, Remote):
            return RegistryImage(self.door(place.host, given), place, mount_from)
        path = Path(place.path)
        if place.kind == "oci":
            return Layout(path, place.reference)
        if place.kind == "oci-archive":
            return ArchivedLayout(path, place.reference, self._between_at("target"), reading=False)
        return DockerArchiveTarget(path, place.reference, self._between_at("target"))

    def _between_at(self, name: str) -> Path:
        folder = self._between / name
        folder.mkdir()
        return folder

    def door(self, host: str, given: str) -> Door:
        """The way into a registry, with given credentials or those that are known."""
        found = credentials.given(given) if given else self._of_suite(host) or credentials.kept(host)
        return Door(host, found, plain_http=self._plain_http)

    def _of_suite(self, host: str) -> credentials.Credentials | None:
        try:
            found = suite.of(self._data)
            if host != found.registry_host:
                return None
            return credentials.Credentials("_json_key", keyfile.read(account.key_path(found)).content)
        except Failed:
            return None
