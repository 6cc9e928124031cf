"""Cleanup policies in Artifact Registry's form: what is deleted, and what is kept whatever else is said."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, model_validator
from pydantic.alias_generators import to_camel

from services.cleanup.durations import seconds_of

MOST_POLICIES = 100
MOST_PREFIXES = 100


def _checked(text: str) -> str:
    seconds_of(text)
    return text


def _upper(value: object) -> object:
    """What gcloud sends is what stands in its user's file: `Delete`, and `{"type": "Delete"}` for an action."""
    if isinstance(value, dict) and list(value) == ["type"]:  # pyright: ignore[reportUnknownArgumentType]
        value = value["type"]  # pyright: ignore[reportUnknownVariableType]
    return value.upper() if isinstance(value, str) else value  # pyright: ignore[reportUnknownVariableType]


Duration = Annotated[str, AfterValidator(_checked)]
Prefixes = Annotated[tuple[str, ...], Field(max_length=MOST_PREFIXES)]
Action = Annotated[Literal["DELETE", "KEEP"], BeforeValidator(_upper)]
TagState = Annotated[Literal["TAGGED", "UNTAGGED", "ANY", "TAG_STATE_UNSPECIFIED"], BeforeValidator(_upper)]


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class Condition(_Wire):
    """What a version must be; all that is said must hold."""

    tag_state: TagState = "ANY"
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

    id: str = ""
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


Policies = Annotated[dict[str, CleanupPolicy], Field(max_length=MOST_POLICIES)]
_ADAPTER: TypeAdapter[dict[str, CleanupPolicy]] = TypeAdapter(Policies)


def read_policies(content: Mapping[str, Any]) -> dict[str, CleanupPolicy]:
    """Policies by id; raises pydantic's ValidationError."""
    found = _ADAPTER.validate_python(dict(content))
    return {name: policy.model_copy(update={"id": name}) for name, policy in found.items()}
