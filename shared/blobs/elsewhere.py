"""The buckets of several locations: each registry keeps its bytes in its own, others read them there."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError, model_validator

from shared.blobs.face import BlobMissing, Blobs
from shared.blobs.open import BucketPlace
from shared.names import LOCATION
from shared.settings import SettingsWrong, secret_or_nothing


@dataclass(frozen=True)
class Buckets:
    """Our own bucket, and those of other locations."""

    here: Blobs
    elsewhere: Mapping[str, Blobs] = field(default_factory=dict[str, Blobs])

    def of(self, location: str) -> Blobs:
        """The bucket in which the registry of that location keeps its bytes."""
        return self.elsewhere.get(location, self.here)

    async def having(self, name: str) -> Blobs:
        """The bucket that has an object: our own, or the first that has it. Raises BlobMissing where none has."""
        if not self.elsewhere:
            return self.here
        for blobs in (self.here, *self.elsewhere.values()):
            try:
                await blobs.stat(name)
            except BlobMissing:
                continue
            return blobs
        raise BlobMissing(name)


class _Place(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["directory", "s3"]
    directory: Path | None = None
    endpoint: str = ""
    bucket: str = Field("", alias="name")
    access_key: str = ""
    secret_key_file: Path | None = None
    region: str = "us-east-1"
    secure: bool = True

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.kind == "directory" and self.directory is None:
            raise ValueError("a bucket of kind directory needs its directory")
        if self.kind == "s3" and not (self.endpoint and self.bucket):
            raise ValueError("a bucket of kind s3 needs endpoint and name")
        return self

    def place(self) -> BucketPlace:
        return BucketPlace(
            kind=self.kind,
            directory=self.directory,
            endpoint=self.endpoint,
            bucket=self.bucket,
            access_key=self.access_key,
            secret_key=secret_or_nothing(self.secret_key_file),
            region=self.region,
            secure=self.secure,
        )


class _Places(RootModel[dict[str, _Place]]):
    @model_validator(mode="after")
    def _locations(self) -> Self:
        if not all(map(LOCATION.fullmatch, self.root)):
            raise ValueError("buckets are listed by location")
        return self


def places_in(file: Path | None) -> dict[str, BucketPlace]:
    """The buckets that a file lists, by location; none without a file. Raises SettingsWrong."""
    if file is None:
        return {}
    try:
        found = _Places.model_validate_json(file.read_bytes())
    except OSError as error:
        raise SettingsWrong(f"the list of buckets {file} cannot be read: {type(error).__name__}") from error
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors(include_input=False))
        raise SettingsWrong(f"the list of buckets {file}: {told}") from None
    return {location: place.place() for location, place in found.root.items()}
