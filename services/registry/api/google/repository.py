"""Repositories as Artifact Registry's v1 API shows and takes them."""

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from services.registry.errors import Unsupported
from services.registry.quotas import LABEL as QUOTA
from services.registry.quotas import NO_QUOTA, check_quota
from services.registry.records import RepositoryRecord, Settings
from services.registry.redirects import LABEL, SWITCH
from services.registry.voice import Voice
from shared.cleanup_policies import Policies
from shared.tag_rules import check_labels

CHANGEABLE = ("description", "labels", "cleanupPolicies", "cleanupPolicyDryRun", "dockerConfig")
TOLD = ("name", "format", "mode", "createTime", "updateTime", "registryUri", "sizeBytes")
"""What is never changed, and is passed over where a whole repository is sent back."""

_LABEL = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_VALUE = re.compile(r"[a-z0-9_-]{0,63}")


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)


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
    cleanup_policies: Policies = Field({}, alias="cleanupPolicies")
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
        if labels.get(LABEL, "on") not in SWITCH:
            raise ValueError(f"{LABEL} is on or off")
        check_quota(labels.get(QUOTA, NO_QUOTA))
        check_labels({name: value for name, value in labels.items() if name not in (LABEL, QUOTA)})
        return labels

    def settings(self) -> Settings:
        """What is asked for; raises Unsupported for what this registry cannot keep to."""
        if self.kms_key_name:
            raise Unsupported("kmsKeyName: nothing here is encrypted with keys of a key service.")
        if self.format not in {"DOCKER", "FORMAT_UNSPECIFIED"}:
            raise Unsupported(f"format {self.format[:40]}: only DOCKER repositories are kept.")
        if self.mode not in {"STANDARD_REPOSITORY", "MODE_UNSPECIFIED"}:
            raise Unsupported(f"mode {self.mode[:40]}: only standard repositories are kept.")
        policies = {name: policy.json_data() for name, policy in self.cleanup_policies.items()}
        return Settings(
            description=self.description,
            labels=self.labels,
            immutable_tags=self.docker_config is not None and self.docker_config.immutable_tags,
            cleanup_policies=policies,
            cleanup_policy_dry_run=self.cleanup_policy_dry_run,
        )


def repository_json(voice: Voice, record: RepositoryRecord, size: int) -> dict[str, Any]:
    """A repository as Google's clients read it."""
    settings = record.settings
    body: dict[str, Any] = {
        "name": voice.resource(record.project, record.repository),
        "format": settings.format,
        "mode": settings.mode,
        "createTime": settings.created,
        "updateTime": settings.updated,
        "registryUri": f"{voice.host}/{record.project}/{record.repository}",
        "sizeBytes": str(size),
    }
    optional: Mapping[str, Any] = {
        "description": settings.description,
        "labels": settings.labels,
        "dockerConfig": {"immutableTags": True} if settings.immutable_tags else {},
        "cleanupPolicies": settings.cleanup_policies,
        "cleanupPolicyDryRun": settings.cleanup_policy_dry_run,
    }
    return body | {name: value for name, value in optional.items() if value}
