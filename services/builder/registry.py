"""The registry as the builder sees it: an ordinary client that pulls manifests and layers, checked by digest."""

import hashlib
import platform
import re
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from yarl import URL

from services.builder.account import BuildAccount
from services.builder.errors import ImageUnavailable
from services.builder.references import Reference, parse_reference
from services.builder.web import Refused, Web, parsed
from shared.digest import Digest

MAX_MANIFEST = 8 * 1024 * 1024
MAX_TOKEN = 64 * 1024
MAX_LAYER = 16 * 1024**3
PIECE = 256 * 1024

INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
IMAGE_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_ACCEPT = ", ".join((*IMAGE_TYPES, *INDEX_TYPES))
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


class RegistryClient:
    """Pulls. The account's token is sent only to the registry that this builder belongs to, for one project's images.

    The account may pull in every project. Whoever may build in one must not come by the images of another through it.
    """

    def __init__(self, web: Web, home: str, account: BuildAccount | None, project: str = "") -> None:
        """`home` is that registry's host and port; without a project all pulls are anonymous."""
        self._web = web
        self._home = home
        self._account = account
        self._project = project

    def within(self, project: str) -> "RegistryClient":
        """The same for the builds of a project."""
        return RegistryClient(self._web, self._home, self._account, project)

    async def manifest(self, reference: Reference) -> tuple[Digest, dict[str, Any]]:
        """The image manifest for this machine, through an index where there is one. Raises ImageUnavailable."""
        digest, manifest = await self._fetch_manifest(reference, reference.wanted)
        if str(manifest.get("mediaType", "")) in INDEX_TYPES or "manifests" in manifest:
            digest, manifest = await self._fetch_manifest(reference, _child_for_this_machine(reference, manifest))
        if not isinstance(manifest.get("layers"), list):
            raise ImageUnavailable(f"{reference} is no image")
        return digest, manifest

    async def blob(self, reference: Reference, digest: Digest) -> bytes:
        """A small blob whole, such as an image's configuration."""
        content = await self._get(reference, f"blobs/{digest}", MAX_MANIFEST)
        return _checked(content, digest, reference)

    async def download(self, reference: Reference, digest: Digest, target: Path) -> None:
        """A layer into a file, hashed on the way. Raises ImageUnavailable."""
        running, size = hashlib.new(digest.algorithm), 0
        async with await self._open(reference, f"blobs/{digest}") as answer:
            with target.open("wb") as file:
                async for piece in answer.content.iter_chunked(PIECE):
                    running.update(piece)
                    size += file.write(piece)
                    if size > MAX_LAYER:
                        raise ImageUnavailable(f"{reference}: {digest} is over {MAX_LAYER} bytes")
        if running.hexdigest() != digest.hex:
            raise ImageUnavailable(f"{reference}: the bytes of {digest} have another digest")

    async def _fetch_manifest(self, reference: Reference, wanted: str) -> tuple[Digest, dict[str, Any]]:
        content = await self._get(reference, f"manifests/{wanted}", MAX_MANIFEST)
        digest = _checked(content, Digest.parse(wanted), reference) and Digest.parse(wanted) if ":" in wanted else None
        try:
            manifest: Any = orjson.loads(content)
        except ValueError:
            raise ImageUnavailable(f"{reference}: the manifest is not JSON") from None
        if not isinstance(manifest, dict):
            raise ImageUnavailable(f"{reference}: the manifest is not an object")
        return digest or Digest.of(content), manifest  # pyright: ignore[reportUnknownVariableType]

    async def _get(self, reference: Reference, path: str, limit: int) -> bytes:
        async with await self._open(reference, path) as answer:
            content = await answer.content.read(limit + 1)
            while len(content) <= limit and (piece := await answer.content.read(limit)):
                content += piece
        if len(content) > limit:
            raise ImageUnavailable(f"{reference}: {path} is over {limit} bytes")
        return content

    async def _open(self, reference: Reference, path: str) -> aiohttp.ClientResponse:
        address = parsed(f"{_scheme(reference)}://{reference.host}/v2/{reference.name}/{path}")
        own = reference.host == self._home
        headers = {"Accept": _ACCEPT}
        try:
            answer = await self._web.get(address, headers, own=own)
            if answer.status == 401:
                answer.release()
                token = await self._token_for(reference, answer.headers.get("WWW-Authenticate", ""))
                answer = await self._web.get(address, {**headers, "Authorization": f"Bearer {token}"}, own=own)
        except Refused as refused:
            raise ImageUnavailable(f"{reference}: {refused}") from None
        except (aiohttp.ClientError, TimeoutError) as away:
            raise ImageUnavailable(f"{reference}: {type(away).__name__}") from None
        if answer.status != 200:
            answer.release()
            raise ImageUnavailable(f"{reference}: the registry answered {answer.status}")
        return answer

    async def _token_for(self, reference: Reference, challenge: str) -> str:
        """Follow a Bearer challenge; anonymous except at home, in the build's own project."""
        realm, service = _challenged(reference, challenge)
        own = reference.host == self._home and self.trusts(realm)
        if not own and realm.scheme != "https" and not reference.local:
            raise ImageUnavailable(f"{reference}: the registry's token service is not at an https address")
        headers: dict[str, str] = {}
        if own and reference.name.partition("/")[0] == self._project and self._account is not None:
            login = aiohttp.encode_basic_auth("oauth2accesstoken", await self._account.token())
            headers = {"Authorization": login}
        query = {"service": service, "scope": f"repository:{reference.name}:pull"}
        async with await self._web.get(realm.update_query(query), headers, own=own) as answer:
            if answer.status != 200:
                raise ImageUnavailable(f"{reference}: the token service answered {answer.status}")
            content = await answer.content.read(MAX_TOKEN)
        try:
            said = orjson.loads(content)
            token = str(said.get("token") or said.get("access_token", ""))
        except (ValueError, AttributeError):
            raise ImageUnavailable(f"{reference}: the token service did not answer with a token") from None
        if not token.isascii() or not token.isprintable():
            raise ImageUnavailable(f"{reference}: the token service did not answer with a token")
        return token

    def trusts(self, realm: URL) -> bool:
        """Whether a token service is ours: on our registry's host, or where the account's tokens come from."""
        home = parse_reference(f"{self._home}/any")
        if realm.scheme != _scheme(home) and realm.scheme != "https":
            return False
        return realm.host == parsed(f"http://{self._home}").host or (
            self._account is not None and realm.origin() == self._account.origin
        )

    async def realm_at_home(self) -> URL | None:
        """The token service that our registry sends clients to; None where it cannot be asked or names none of ours."""
        reference = parse_reference(f"{self._home}/any")
        try:
            async with await self._web.get(parsed(f"{_scheme(reference)}://{self._home}/v2/"), {}, own=True) as answer:
                realm, _ = _challenged(reference, answer.headers.get("WWW-Authenticate", ""))
        except (Refused, ImageUnavailable, aiohttp.ClientError, TimeoutError):
            return None
        return realm if self.trusts(realm) else None


def _scheme(reference: Reference) -> str:
    return "http" if reference.local else "https"


def _challenged(reference: Reference, challenge: str) -> tuple[URL, str]:
    """Where a Bearer challenge sends clients, and the service that it names."""
    found = dict(_PARAMETER.findall(challenge))
    if not challenge.lower().startswith("bearer ") or "realm" not in found:
        raise ImageUnavailable(f"{reference}: the registry wants a login of a kind this builder does not speak")
    return parsed(found["realm"]), found.get("service", "")


def _checked(content: bytes, digest: Digest, reference: Reference) -> bytes:
    if Digest.of(content, digest.algorithm) != digest:
        raise ImageUnavailable(f"{reference}: the bytes of {digest} have another digest")
    return content


def _child_for_this_machine(reference: Reference, index: dict[str, Any]) -> str:
    wanted = _MACHINES.get(platform.machine(), platform.machine())
    for child in index.get("manifests", []):
        place = child.get("platform", {})
        if place.get("os") == "linux" and place.get("architecture") == wanted:
            return Digest.parse(str(child.get("digest", "")))
    raise ImageUnavailable(f"{reference} has no image for linux/{wanted}")
