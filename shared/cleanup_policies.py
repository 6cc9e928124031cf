"""Cleanup policies in Artifact Registry's form: what is deleted, and what is kept whatever else is said.

The registry takes and keeps them, cleanup goes by them: both read them here, so that nothing is kept that cannot count.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, model_validator
from pydantic.alias_generators import to_camel

MOST_POLICIES = 10
"""Of one repository, as at Google."""
MOST_PREFIXES = 100

_FORM = re.compile(r"(\d{1,12})(?:\.(\d{1,9}))?([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def seconds_of(text: str) -> float:
    """A duration in seconds, from `30d`, `2592000s` or `2592000.0s`; raises ValueError."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f"not a duration: {text[:40]!r} (as in 30d, 12h or 2592000s)")
    return float(f"{found[1]}.{found[2] or 0}") * _SECONDS[found[3]]


def _seconds(text: str) -> str:
    return f"{seconds_of(text):.9f}".rstrip("0").rstrip(".") + "s"


def _upper(value: object) -> object:
    """What gcloud sends is what stands in its user's file: `Delete`, and `{"type": "Delete"}` for an action."""
    if isinstance(value, dict) and list(value) == ["type"]:  # pyright: ignore[reportUnknownArgumentType]
        value = value["type"]  # pyright: ignore[reportUnknownVariableType]
    return value.upper() if isinstance(value, str) else value  # pyright: ignore[reportUnknownVariableType]


Duration = Annotated[str, AfterValidator(_seconds)]
Prefix = Annotated[str, Field(min_length=1, max_length=512)]
Prefixes = Annotated[tuple[Prefix, ...], Field(max_length=MOST_PREFIXES)]
Action = Annotated[Literal["DELETE", "KEEP"], BeforeValidator(_upper)]
TagState = Annotated[Literal["TAGGED", "UNTAGGED", "ANY", "TAG_STATE_UNSPECIFIED"], BeforeValidator(_upper)]


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class Condition(_Wire):
    """What a version must be; all that is said must hold."""

    tag_state: TagState = "TAG_STATE_UNSPECIFIED"
    """Unspecified means any."""
    tag_prefixes: Prefixes = ()
    version_name_prefixes: Prefixes = ()
    package_name_prefixes: Prefixes = ()
    older_than: Duration | None = None
    newer_than: Duration | None = None

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.tag_prefixes and self.tag_state == "UNTAGGED":
            raise ValueError("what is untagged has no tag with a prefix")
        return self


class MostRecent(_Wire):
    """The newest versions of each package."""

    keep_count: int = Field(ge=1, le=1_000_000)
    package_name_prefixes: Prefixes = ()


class CleanupPolicy(_Wire):
    """One policy."""

    id: str = Field(default="", max_length=128)
    action: Action
    condition: Condition | None = None
    most_recent_versions: MostRecent | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.condition is None) == (self.most_recent_versions is None):
            raise ValueError("a policy has either a condition or mostRecentVersions")
        if self.most_recent_versions is not None and self.action != "KEEP":
            raise ValueError("mostRecentVersions goes with the action KEEP")
        return self

    def json_data(self) -> dict[str, Any]:
        """The policy in Google's own spelling, without what is empty by default."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def _named(policies: dict[str, CleanupPolicy]) -> dict[str, CleanupPolicy]:
    for name, policy in policies.items():
        if policy.id not in {"", name}:
            raise ValueError(f"the policy {name[:128]!r} calls itself {policy.id!r}")
    return {name: policy.model_copy(update={"id": name}) for name, policy in policies.items()}


PolicyId = Annotated[str, Field(min_length=1, max_length=128)]
Policies = Annotated[dict[PolicyId, CleanupPolicy], Field(max_length=MOST_POLICIES), AfterValidator(_named)]
"""By id; each of them knows its own."""

_ADAPTER: TypeAdapter[dict[str, CleanupPolicy]] = TypeAdapter(Policies)


def read_policies(content: Mapping[str, Any]) -> dict[str, CleanupPolicy]:
    """Policies by id; raises pydantic's ValidationError."""
    return _ADAPTER.validate_python(dict(content))


def fingerprint(policies: Mapping[str, Any], *, dry_run: bool) -> str:
    """The same as long as a repository's policies, and whether they are only tried, are the same."""
    return hashlib.sha256(orjson.dumps([policies, dry_run], option=orjson.OPT_SORT_KEYS)).hexdigest()
