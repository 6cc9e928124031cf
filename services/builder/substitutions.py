"""Substitutions: `$NAME` and `${NAME}` in a build, replaced before it runs; `$$` is a dollar sign.

Names that Cloud Build knows are PROJECT_ID, BUILD_ID, LOCATION and the like; a user's begin with `_`.
Anything else that looks like a shell variable is left alone, for the shell inside the step.
"""

import re
from collections.abc import Mapping
from typing import Any

from services.builder.buildfile import BuildRequest, parse_request
from services.builder.errors import SubstitutionInvalid

_REFERENCE = re.compile(r"\$\$|\$\{(?P<braced>[A-Z_][A-Z0-9_]*)\}|\$(?P<plain>[A-Z_][A-Z0-9_]*)")

BUILT_IN = (
    *("PROJECT_ID", "PROJECT_NUMBER", "BUILD_ID", "LOCATION", "TRIGGER_NAME", "COMMIT_SHA", "REVISION_ID", "SHORT_SHA"),
    *("REPO_NAME", "REPO_FULL_NAME", "BRANCH_NAME", "TAG_NAME", "REF_NAME", "TRIGGER_BUILD_CONFIG_PATH"),
    *("SERVICE_ACCOUNT", "SERVICE_ACCOUNT_EMAIL"),
)

_SUBSTITUTED = ("steps", "images", "artifacts", "tags", "options")


def substituted(request: BuildRequest, known: Mapping[str, str]) -> BuildRequest:
    """The build with every substitution made; `known` are the built-in values. Raises SubstitutionInvalid."""
    values = _resolved({**dict.fromkeys(BUILT_IN, ""), **known, **request.substitutions}, request)
    used: set[str] = set()
    data = request.model_dump(by_alias=True, exclude_defaults=True, mode="json")
    strict = request.options.substitution_option == "MUST_MATCH"
    for part in _SUBSTITUTED:
        if part in data:
            data[part] = _walked(data[part], values, used, strict=strict)
    unused = set(request.substitutions) - used
    if strict and unused and not _automapped(request):
        raise SubstitutionInvalid(f"defined and not used: {', '.join(sorted(unused))}")
    return _with_environment(parse_request(data), values)


def replaced(text: str, values: Mapping[str, str], used: set[str], *, strict: bool) -> str:
    """`text` with its references replaced; the names met are added to `used`."""

    def one(found: re.Match[str]) -> str:
        name = found["braced"] or found["plain"]
        if name is None:
            return "$"
        if name in values:
            used.add(name)
            return values[name]
        if name.startswith("_") and strict:
            raise SubstitutionInvalid(f"used and not defined: {name}")
        return "" if name.startswith("_") else found[0]

    return _REFERENCE.sub(one, text)


def _resolved(values: dict[str, str], request: BuildRequest) -> dict[str, str]:
    """Values that mention others, where the build asks for it; one round, so that a circle cannot grow."""
    if not request.options.dynamic_substitutions:
        return values
    plain = {name: value for name, value in values.items() if "$" not in value}
    return {name: replaced(value, plain, set(), strict=True) for name, value in values.items()}


def _walked(part: Any, values: Mapping[str, str], used: set[str], *, strict: bool) -> Any:
    if isinstance(part, str):
        return replaced(part, values, used, strict=strict)
    if isinstance(part, list):
        return [_walked(item, values, used, strict=strict) for item in part]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(part, dict):
        return {key: _walked(item, values, used, strict=strict) for key, item in part.items()}  # pyright: ignore[reportUnknownVariableType]
    return part


def _automapped(request: BuildRequest) -> bool:
    return request.options.automap_substitutions or any(step.automap_substitutions for step in request.steps)


def _with_environment(request: BuildRequest, values: Mapping[str, str]) -> BuildRequest:
    """Steps that ask for it get every substitution as an environment variable."""
    if not _automapped(request):
        return request
    mapped = [f"{name}={value}" for name, value in sorted(values.items()) if value]
    steps = [
        step.model_copy(update={"env": [*mapped, *step.env]})
        if request.options.automap_substitutions or step.automap_substitutions
        else step
        for step in request.steps
    ]
    return request.model_copy(update={"steps": steps})
