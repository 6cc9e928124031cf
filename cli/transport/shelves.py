"""What a registry has: its names, the tags and the untagged manifests of each, and what refers to a manifest."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from urllib.parse import quote, urljoin, urlsplit

import urllib3

from cli.exits import Failed
from cli.transport.content import Descriptor
from cli.transport.door import Door
from cli.transport.registry import refuse
from shared.digest import Digest

T = TypeVar("T")

_NEXT = re.compile(r'<([^>]*)>\s*;\s*rel="?next"?')
_RECORD = cast("type[dict[str, Any]]", dict)
_PAGE = 1000
_CATALOG = "registry:catalog:*"
_LARGEST_PAGE = 64 * 1024 * 1024


@dataclass(frozen=True)
class Contents:
    """What lies under one name."""

    tags: tuple[str, ...]
    untagged: tuple[Digest, ...] = ()
    """Known only where the registry lists manifests in Container Registry's form."""
    below: tuple[str, ...] = ()
    """Names one step further down, in that form."""
    in_that_form: bool = False


class Shelves:
    """The contents of the registry behind a door. Safe to use from several threads."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._tells_referrers = True

    def names(self, prefix: str) -> Iterator[str]:
        """All names below a prefix and the prefix itself, or all where it is empty.

        A registry with Container Registry's lists is walked by them; any other is asked for its catalog.
        """
        top = self._asked(prefix) if prefix else None
        if top and top.in_that_form:
            yield from self._walked(prefix, top)
            return
        for page in self._pages(f"/v2/_catalog?n={_PAGE}", _CATALOG, "the catalog"):
            for name in _items(page, "repositories", str):
                if not prefix or name == prefix or name.startswith(f"{prefix}/"):
                    yield name

    def contents(self, name: str) -> Contents:
        """The tags of a name, and more where the registry tells more. Raises Missing, NotAllowed or Failed."""
        found = self._asked(name)
        if found is None:
            raise Failed(f"{name}: the registry does not know it")
        return found

    def referrers(self, name: str, digest: Digest) -> list[Descriptor]:
        """What refers to a manifest; nothing where the registry has no such list."""
        if not self._tells_referrers:
            return []
        path = f"/v2/{name}/referrers/{digest}"
        scope = f"repository:{name}:pull"
        first = self._door.ask("GET", path, scope)
        if first.status == 404:
            self._tells_referrers = False
            return []
        pages = self._pages(path, scope, f"referrers of {digest}", first)
        return [Descriptor.parse(entry) for page in pages for entry in _items(page, "manifests", _RECORD)]

    def _walked(self, name: str, found: Contents) -> Iterator[str]:
        if found.tags or found.untagged:
            yield name
        for step in found.below:
            child = f"{name}/{step}"
            yield from self._walked(child, self.contents(child))

    def _asked(self, name: str) -> Contents | None:
        """The list of tags, page after page; None where the name is not known."""
        path, scope = f"/v2/{name}/tags/list?n={_PAGE}", f"repository:{name}:pull"
        first = self._door.ask("GET", path, scope)
        if first.status == 404:
            return None
        tags: list[str] = []
        below: list[str] = []
        manifests: dict[str, Any] = {}
        in_that_form = False
        for page in self._pages(path, scope, f"tags of {name}", first):
            tags += _items(page, "tags", str)
            below += _items(page, "child", str)
            manifests |= cast("dict[str, Any]", page.get("manifest") or {})
            in_that_form = in_that_form or "child" in page or "manifest" in page
        return Contents(tuple(tags), tuple(_untagged(manifests)), tuple(below), in_that_form)

    def _pages(
        self, path: str, scope: str, what: str, first: urllib3.BaseHTTPResponse | None = None
    ) -> Iterator[dict[str, Any]]:
        seen: set[str] = set()
        while path and path not in seen:
            seen.add(path)
            answer = first or self._door.ask("GET", path, scope)
            first = None
            if answer.status != 200:
                refuse(answer, what)
            yield _document(answer, what)
            path = self._following(answer, path)

    def _following(self, answer: urllib3.BaseHTTPResponse, path: str) -> str:
        """The next page's path, which must be at the same registry: the token is for it alone."""
        link = _NEXT.search(answer.headers.get("Link", ""))
        if not link:
            return ""
        address = urljoin(f"{self._door.address}{path}", link[1])
        if not address.startswith(f"{self._door.address}/"):
            raise Failed(f"{self._door.address} sends the reader of its lists to another registry")
        parts = urlsplit(address)
        return f"{parts.path}?{quote(parts.query, safe='=&%')}"


def _document(answer: urllib3.BaseHTTPResponse, what: str) -> dict[str, Any]:
    try:
        if len(answer.data) > _LARGEST_PAGE:
            raise Failed(f"{what}: the registry's list is too large")
        found = json.loads(answer.data)
    except ValueError:
        raise Failed(f"{what}: the registry answered no JSON") from None
    if not isinstance(found, dict):
        raise Failed(f"{what}: the registry answered no JSON object")
    return cast("dict[str, Any]", found)


def _items(page: dict[str, Any], field: str, kind: type[T]) -> list[T]:
    """A list in an answer, which a registry may leave out or call null; raises Failed."""
    found: Any = page.get(field) or []
    if not isinstance(found, list) or not all(isinstance(item, kind) for item in cast("list[Any]", found)):
        raise Failed(f"the registry's `{field}` is not a list of what it should be")
    return cast("list[T]", found)


def _untagged(manifests: dict[str, Any]) -> Iterator[Digest]:
    for digest, about in manifests.items():
        if isinstance(about, dict) and not cast("dict[str, Any]", about).get("tag"):
            try:
                yield Digest.parse(digest)
            except ValueError:
                raise Failed(f"the registry lists a manifest {digest[:80]!r}, which is no digest") from None
