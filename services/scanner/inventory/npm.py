"""Node.js packages: package.json of what is installed below node_modules, and of the application itself."""

import re
from typing import Any, cast

import orjson

from services.scanner.inventory.package import NotReadable, Package, sane

INSTALLED = re.compile(r"(?:.*/)?node_modules/(?:@[^/]+/)?[^/@.][^/]*/package\.json")
APPLICATION = re.compile(r"(?:[^/]+/){0,3}package\.json")
"""An application lies near the root; deeper ones belong to something that another package manager installed."""


def package(content: bytes) -> Package:
    """The package that a package.json describes. Raises NotReadable, also for one that was never published."""
    try:
        described: Any = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise NotReadable("package.json is no JSON") from error
    if not isinstance(described, dict):
        raise NotReadable("package.json is no object")
    fields = cast("dict[str, Any]", described)
    name, version = fields.get("name"), fields.get("version")
    if fields.get("private") is True or not isinstance(name, str) or not isinstance(version, str):
        raise NotReadable("package.json names no published package")
    return Package(kind="npm", name=sane(name), version=sane(version))
