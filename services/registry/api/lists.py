"""Lists over HTTP: tags, referrers, the catalog; each a page from an index."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from urllib.parse import quote, urlencode

import orjson
from aiohttp import hdrs, web

from services.registry import media_types, names
from services.registry.api.asked import image, require_scope, written
from services.registry.api.oci_errors import VERSION
from services.registry.errors import PageInvalid
from services.registry.registry import Registry
from shared.events.states import ProjectState
from shared.http.call import Call, call_of
from shared.http.errors import InsufficientScope, Unauthenticated
from shared.http.translation import json_answer
from shared.identity.scopes import CATALOG

LIST = "artifactregistry.dockerimages.list"
MOST = 10_000
REFERRERS = 100
_LONGEST_LAST = 512


@dataclass(frozen=True)
class ListFace:
    """Answers for lists."""

    registry: Registry

    async def ping(self, request: web.Request) -> web.Response:
        """Whether this is a registry, and the token good."""
        if call_of(request).caller.anonymous:
            raise Unauthenticated("authentication required")
        return json_answer({}, headers=VERSION)

    async def tags(self, request: web.Request) -> web.Response:
        """A page of tags in byte order; `last` need not exist."""
        name = image(request)
        require_scope(call_of(request), name, "pull")
        size = _size(request, self.registry.settings.tags_page)
        found = await self.registry.repository(name).tags(name, _last(request), size + 1)
        headers = dict(VERSION)
        if size and len(found) > size:
            headers[hdrs.LINK] = _link(request, {"n": str(size), "last": found[size - 1]})
        return json_answer({"name": written(request), "tags": found[:size]}, headers=headers)

    async def referrers(self, request: web.Request) -> web.Response:
        """An index of what refers to a digest; empty for one that nobody knows."""
        name = image(request)
        require_scope(call_of(request), name, "pull")
        subject, kind = names.digest(request.match_info["digest"]), request.query.get("artifactType", "")
        page = await self.registry.repository(name).referrers(name, subject, kind, _last(request), REFERRERS)
        body = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": page.descriptors}
        headers = {**VERSION, hdrs.CONTENT_TYPE: media_types.OCI_INDEX}
        if kind:
            headers["OCI-Filters-Applied"] = "artifactType"
        if page.last:
            filtered = {"artifactType": kind} if kind else {}
            headers[hdrs.LINK] = _link(request, {**filtered, "last": page.last})
        return web.Response(body=orjson.dumps(body), headers=headers)

    async def catalog(self, request: web.Request) -> web.Response:
        """A page of the images that the caller may list."""
        call = _unlimited(call_of(request))
        size = _size(request, REFERRERS)
        found: list[str] = []
        async for name in self._images(call, _last(request)):
            if len(found) == size:
                break
            found.append(name)
        else:
            return json_answer({"repositories": found}, headers=VERSION)
        headers = dict(VERSION)
        if found:
            headers[hdrs.LINK] = _link(request, {"n": str(size), "last": found[-1]})
        return json_answer({"repositories": found}, headers=headers)

    async def _images(self, call: Call, after: str) -> AsyncIterator[str]:
        """Names behind `after`: by project, then repository, then image, each in byte order."""
        project, _, rest = after.partition("/")
        repository, _, last = rest.partition("/")
        for known in sorted(fact.project for fact in self.registry.directory.every(ProjectState)):
            if known < project:
                continue
            async for found in self._repositories(known, repository if known == project else ""):
                if not await self._may_list(call, known, found):
                    continue
                begin = last if (known, found) == (project, repository) else ""
                async for one in self._in_repository(known, found, begin):
                    yield f"{known}/{found}/{one}"

    async def _repositories(self, project: str, first: str) -> AsyncIterator[str]:
        store = self.registry.store
        if first and await store.repository(project, first) is not None:
            yield first
        while page := await store.repositories(project, first, 100):
            for repository in page:
                yield repository
            first = page[-1]

    async def _in_repository(self, project: str, repository: str, after: str) -> AsyncIterator[str]:
        while page := await self.registry.store.images(project, repository, after, 100):
            for one in page:
                yield one
            after = page[-1]

    async def _may_list(self, call: Call, project: str, repository: str) -> bool:
        caller, resource = replace(call.caller, access=None), self.registry.voice.resource(project, repository)
        return self.registry.directory.allowed(caller, LIST, resource) and not call.fenced_off(LIST, resource)


def _unlimited(call: Call) -> Call:
    """Raises Unauthenticated, InsufficientScope for a token that is not for the catalog."""
    if call.caller.anonymous:
        raise Unauthenticated("authentication required")
    if call.caller.access is not None and CATALOG not in call.caller.access:
        raise InsufficientScope("The access token is not for the catalog.")
    return call


def _size(request: web.Request, default: int) -> int:
    text = request.query.get("n", "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise PageInvalid("n is a number of 0 or more")
    return min(int(text), MOST)


def _last(request: web.Request) -> str:
    last = request.query.get("last", "")
    if len(last) > _LONGEST_LAST:
        raise PageInvalid("last is too long")
    return last


def _link(request: web.Request, query: dict[str, str]) -> str:
    return f'<{quote(request.path)}?{urlencode(query)}>; rel="next"'
