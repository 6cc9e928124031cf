"""The resource that a path names: `/v1/projects/{project}/locations` is about `projects/P`."""

import re
from functools import cache

from aiohttp import web

from shared.http.routes import Resource

_ROOTS = ("projects", "folders", "organizations")
_PLACE = re.compile(r"\{(\w+)(?::((?:[^{}]|\{[^{}]*\})*))?\}")


@cache
def resource_of(path: str) -> Resource | None:
    """How to find the resource that a route's path names; None when it names none."""
    segments = _segments(path)
    if not segments:
        return None
    template = "/".join(segments)
    places = [(found[1], found[2] is not None) for found in _PLACE.finditer(template)]
    pieces = _PLACE.split(template)[::3]

    def named(request: web.Request) -> str:
        found = [pieces[0]]
        for (place, open_ended), piece in zip(places, pieces[1:], strict=True):
            value = request.match_info[place]
            found += (value if open_ended else value.replace("/", "%2F"), piece)
        return "".join(found)

    return named


def _segments(path: str) -> list[str]:
    """The path's part from its root on, without a verb behind a colon and without a collection at its end."""
    segments = _split(path)
    start = next((number for number, segment in enumerate(segments) if segment in _ROOTS), None)
    if start is None:
        return []
    found = segments[start:]
    found[-1] = _without_verb(found[-1])
    return found[: len(found) // 2 * 2]


def _split(path: str) -> list[str]:
    """Segments between slashes; a slash inside a place's pattern divides nothing."""
    found = [""]
    depth = 0
    for letter in path:
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if letter == "/" and not depth:
            found.append("")
        else:
            found[-1] += letter
    return found


def _without_verb(segment: str) -> str:
    place, closing, rest = segment.rpartition("}")
    return place + closing + rest.partition(":")[0]
