"""Field masks: which fields of a thing a PATCH is about."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from aiohttp import web

from shared.http.errors import InvalidArgument

MAX_PATHS = 64
_PATH = re.compile(r"[A-Za-z][\w-]{0,127}(\.[\w-]{1,128}|\.`[^`]{1,256}`){0,9}")
_SEGMENT = re.compile(r"`([^`]*)`|([^.`]+)")


def field_mask(request: web.Request) -> tuple[str, ...]:
    """The paths that `updateMask` (or `update_mask`) names; empty when there is none. Raises InvalidArgument."""
    text = request.query.get("updateMask", request.query.get("update_mask", ""))
    return paths_of(text)


def paths_of(text: str) -> tuple[str, ...]:
    """The paths of a mask's text form, `a,b.c`, in camelCase; `*` stays alone."""
    if not text.strip():
        return ()
    paths = tuple(dict.fromkeys(_camel(path.strip()) for path in _divided(text)))
    if len(paths) > MAX_PATHS:
        raise InvalidArgument(f"updateMask names more than {MAX_PATHS} fields.")
    for path in paths:
        if path != "*" and not _PATH.fullmatch(path):
            raise InvalidArgument(f"updateMask names no field: {path[:80]!r}")
    if "*" in paths and len(paths) > 1:
        raise InvalidArgument("updateMask names fields beside '*'.")
    return paths


def apply_mask(current: Mapping[str, Any], patch: Mapping[str, Any], paths: Sequence[str]) -> dict[str, Any]:
    """`current` with the named fields as `patch` has them; a field that `patch` lacks is removed.

    Without paths every field that `patch` has is meant; `*` replaces the whole thing.
    """
    if tuple(paths) == ("*",):
        return dict(patch)
    changed = dict(current)
    for path in paths or tuple(_quoted(name) for name in patch):
        _copy(changed, patch, _segments(path))
    return changed


def check_paths(paths: Sequence[str], allowed: Sequence[str]) -> None:
    """Raise InvalidArgument for a path that is not, and lies not in, one of the `allowed` fields."""
    for path in paths:
        if path != "*" and _segments(path)[0] not in allowed:
            raise InvalidArgument(f"{path[:80]} cannot be changed.")


def _copy(into: dict[str, Any], source: Mapping[str, Any], segments: list[str]) -> None:
    name, *rest = segments
    if not rest:
        if name in source:
            into[name] = source[name]
        else:
            into.pop(name, None)
        return
    inner = dict(_object(into.get(name)))
    _copy(inner, _object(source.get(name)), rest)
    into[name] = inner


def _object(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _segments(path: str) -> list[str]:
    return [found[1] if found[1] is not None else found[2] for found in _SEGMENT.finditer(path)]


def _quoted(name: str) -> str:
    return f"`{name}`"


def _divided(text: str) -> list[str]:
    """Split at commas outside backquotes."""
    return re.findall(r"(?:`[^`]*`|[^,`])+|`", text)


def _camel(path: str) -> str:
    """`display_name` as JSON writes it; what stands in backquotes is a map's key and stays."""
    return "".join(
        piece if piece.startswith("`") else re.sub(r"_([a-z0-9])", lambda found: found[1].upper(), piece)
        for piece in re.split(r"(`[^`]*`)", path)
    )
