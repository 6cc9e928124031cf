"""A build as Cloud Build describes it: what `cloudbuild.yaml` and `builds.create` may say, checked strictly.

Fields of Cloud Build's that mean something this builder cannot do are refused by name, never ignored:
a build that runs differently from what its file says is worse than one that does not run.
"""

from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from services.builder.durations import seconds
from services.builder.errors import BuildfileInvalid

MAX_STEPS = 300
MAX_BYTES = 1024 * 1024
DEFAULT_TIMEOUT = "3600s"


def _checked_duration(text: str) -> str:
    seconds(text)
    return text


def _checked_environment(variables: list[str]) -> list[str]:
    for variable in variables:
        if "=" not in variable or variable.startswith("="):
            raise ValueError(f"not of the form NAME=value: {variable[:80]!r}")
    return variables


Duration = Annotated[str, AfterValidator(_checked_duration)]
Environment = Annotated[list[str], AfterValidator(_checked_environment)]
StepId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.\- ]{1,100}$")]


class _Model(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True, hide_input_in_errors=True
    )


class Volume(_Model):
    """A directory that steps of one build share besides the workspace."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
    path: Annotated[str, Field(pattern=r"^/[A-Za-z0-9/_.\-]{1,255}$")]


class BuildStep(_Model):
    """One container that runs to its end."""

    name: Annotated[str, Field(min_length=1, max_length=512)]
    id: StepId | None = None
    args: list[str] = []
    env: Environment = []
    dir: str = ""
    entrypoint: str = ""
    script: str = ""
    wait_for: list[str] = []
    timeout: Duration | None = None
    volumes: list[Volume] = []
    allow_failure: bool = False
    allow_exit_codes: list[int] = []
    automap_substitutions: bool = False


class StorageSource(_Model):
    """A source archive that was uploaded to this builder; `object` names it by its digest."""

    bucket: str = ""
    object: str
    generation: str = ""


class Source(_Model):
    """Where the workspace's first content comes from."""

    storage_source: StorageSource


class Options(_Model):
    """How the build is run."""

    env: Environment = []
    volumes: list[Volume] = []
    substitution_option: Annotated[str, Field(pattern="^(MUST_MATCH|ALLOW_LOOSE)$")] = "MUST_MATCH"
    dynamic_substitutions: bool = False
    automap_substitutions: bool = False
    logging: Annotated[str, Field(pattern="^(LEGACY|GCS_ONLY|CLOUD_LOGGING_ONLY|STACKDRIVER_ONLY|NONE)$")] = "LEGACY"
    log_streaming_option: Annotated[str, Field(pattern="^STREAM_(DEFAULT|ON|OFF)$")] = "STREAM_DEFAULT"
    machine_type: str = ""
    """Taken and not acted on: every build runs on the worker that takes it."""
    requested_verify_option: Annotated[str, Field(pattern="^(NOT_VERIFIED|VERIFIED)$")] = "NOT_VERIFIED"


class Artifacts(_Model):
    """What the build leaves behind."""

    images: list[str] = []


class BuildRequest(_Model):
    """A build as it is asked for."""

    steps: Annotated[list[BuildStep], Field(min_length=1, max_length=MAX_STEPS)]
    source: Source | None = None
    images: list[str] = []
    artifacts: Artifacts = Artifacts()
    timeout: Duration = DEFAULT_TIMEOUT
    queue_ttl: Duration = DEFAULT_TIMEOUT
    substitutions: dict[Annotated[str, Field(pattern=r"^_[A-Z0-9_]{1,100}$")], str] = {}
    tags: Annotated[list[Annotated[str, Field(pattern=r"^[\w][\w.-]{0,127}$")]], Field(max_length=64)] = []
    options: Options = Options()
    service_account: str = ""
    logs_bucket: str = ""

    def all_images(self) -> list[str]:
        """Every image to be pushed, each once, in the order named."""
        return list(dict.fromkeys([*self.images, *self.artifacts.images]))


def parse_request(data: Any) -> BuildRequest:
    """Check a build from JSON-ready data; raises BuildfileInvalid that names every wrong field."""
    try:
        return BuildRequest.model_validate(data)
    except ValidationError as invalid:
        raise BuildfileInvalid("; ".join(_sentence(error) for error in invalid.errors()[:10])) from None


def parse_file(content: bytes) -> BuildRequest:
    """Read a cloudbuild.yaml or cloudbuild.json; raises BuildfileInvalid."""
    if len(content) > MAX_BYTES:
        raise BuildfileInvalid(f"the build file is over {MAX_BYTES} bytes")
    try:
        data: Any = yaml.load(content, Loader=_PlainLoader)  # noqa: S506 - a subclass of SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as broken:
        raise BuildfileInvalid(f"not YAML: {str(broken)[:300]}") from None
    return parse_request(data)


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases: a few of them can stand for gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):  # pyright: ignore[reportUnknownMemberType] - untyped there
            raise yaml.YAMLError("aliases are not allowed in a build file")
        return super().compose_node(parent, index)


def _sentence(error: Any) -> str:
    place = ".".join(map(str, error["loc"])) or "build"
    return f"{place}: {error['msg']}"
