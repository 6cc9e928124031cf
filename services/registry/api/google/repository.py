"""Repositories as Artifact Registry's v1 API shows and takes them."""

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from services.registry.errors import Unsupported
from services.registry.records import RepositoryRecord, Settings
from services.registry.voice import Voice

CHANGEABLE = ("description", "labels", "cleanupPolicies", "cleanupPolicyDryRun", "dockerConfig")

_LABEL = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
_SECONDS = re.compile(r"(\d{1,12})(?:\.0{1,9})?s")


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class _Condition(_Wire):
    tag_state: Literal["TAG_STATE_UNSPECIFIED", "TAGGED", "UNTAGGED", "ANY", ""] = Field("", alias="tagState")
    tag_prefixes: list[str] = Field([], alias="tagPrefixes")
    version_name_prefixes: list[str] = Field([], alias="versionNamePrefixes")
    package_name_prefixes: list[str] = Field([], alias="packageNamePrefixes")
    older_than: str = Field("", alias="olderThan")
    newer_than: str = Field("", alias="newerThan")

    @field_validator("tag_state", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("older_than", "newer_than")
    @classmethod
    def _duration(cls, value: str) -> str:
        found = _SECONDS.fullmatch(value)
        if value and not found:
            raise ValueError("a duration is written in seconds, such as 2592000s")
        return f"{int(found[1])}s" if found else ""


class _MostRecent(_Wire):
    keep_count: int = Field(0, alias="keepCount", ge=0, le=1_000_000)
    package_name_prefixes: list[str] = Field([], alias="packageNamePrefixes")


class CleanupPolicy(_Wire):
    """One cleanup policy; spellings that gcloud passes on from files are made Google's own."""

    id: str = Field(default="", max_length=128)
    action: Literal["DELETE", "KEEP"]
    condition: _Condition | None = None
    most_recent_versions: _MostRecent | None = Field(None, alias="mostRecentVersions")

    @field_validator("action", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value


class _DockerConfig(_Wire):
    immutable_tags: bool = Field(default=False, alias="immutableTags")


class RepositoryBody(_Wire):
    """A repository as clients write it; what only the registry can know is passed over."""

    name: str = ""
    format: str = "DOCKER"
    mode: str = "STANDARD_REPOSITORY"
    description: str = Field(default="", max_length=1024)
    labels: dict[str, str] = Field({}, max_length=64)
    docker_config: _DockerConfig | None = Field(None, alias="dockerConfig")
    cleanup_policies: dict[str, CleanupPolicy] = Field({}, alias="cleanupPolicies", max_length=32)
    cleanup_policy_dry_run: bool = Field(default=False, alias="cleanupPolicyDryRun")
    kms_key_name: str = Field("", alias="kmsKeyName")
    create_time: str = Field("", alias="createTime")
    update_time: str = Field("", alias="updateTime")
    registry_uri: str = Field("", alias="registryUri")
    size_bytes: str = Field("", alias="sizeBytes")

    @field_validator("labels")
    @classmethod
    def _labels(cls, labels: dict[str, str]) -> dict[str, str]:
        for key, value in labels.items():
            if not _LABEL.fullmatch(key) or not _VALUE.fullmatch(value):
                raise ValueError("labels are written in small letters, digits, - and _, at most 63")
        return labels

    def settings(self) -> Settings:
        """What is asked for; raises Unsupported for what this registry cannot keep to."""
        if self.kms_key_name:
            raise Unsupported("kmsKeyName: nothing here is encrypted with keys of a key service.")
        if self.format not in {"DOCKER", "FORMAT_UNSPECIFIED"}:
            raise Unsupported(f"format {self.format[:40]}: only DOCKER repositories are kept.")
        if self.mode not in {"STANDARD_REPOSITORY", "MODE_UNSPECIFIED"}:
            raise Unsupported(f"mode {self.mode[:40]}: only standard repositories are kept.")
        if self.docker_config and self.docker_config.immutable_tags:
            raise Unsupported("dockerConfig.immutableTags: tags cannot be made immutable.")
        policies = {name: _kept(name, policy) for name, policy in self.cleanup_policies.items()}
        return Settings(
            description=self.description,
            labels=self.labels,
            cleanup_policies=policies,
            cleanup_policy_dry_run=self.cleanup_policy_dry_run,
        )


def _kept(name: str, policy: CleanupPolicy) -> dict[str, object]:
    return {**policy.model_dump(by_alias=True, exclude_defaults=True), "id": name}


def repository_json(voice: Voice, record: RepositoryRecord) -> dict[str, Any]:
    """A repository as Google's clients read it."""
    settings = record.settings
    body: dict[str, Any] = {
        "name": voice.resource(record.project, record.repository),
        "format": settings.format,
        "mode": settings.mode,
        "createTime": settings.created,
        "updateTime": settings.updated,
        "registryUri": f"{voice.host}/{record.project}/{record.repository}",
    }
    optional: Mapping[str, Any] = {
        "description": settings.description,
        "labels": settings.labels,
        "cleanupPolicies": settings.cleanup_policies,
        "cleanupPolicyDryRun": settings.cleanup_policy_dry_run,
    }
    return body | {name: value for name, value in optional.items() if value}
