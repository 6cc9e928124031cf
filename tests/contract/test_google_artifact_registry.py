"""Every answer of Artifact Registry's face is what Google's own description of that API says."""

import json
from collections.abc import AsyncIterator
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from jsonschema import Draft202012Validator

from tests.support.images import image_of, layer_of
from tests.support.registry import INDEX, WEB, RegistryClient, artifact, index_of, registry, small_image

LOCATION = "/v1/projects/demo/locations/local"
REPOSITORY = f"/v1/{WEB}"
PACKAGE = f"{REPOSITORY}/packages/app"


@cache
def description() -> dict[str, Any]:
    """The discovery document that Google's Python client brings along."""
    folder = files("googleapiclient.discovery_cache") / "documents" / "artifactregistry.v1.json"
    return json.loads(folder.read_text())


def schema(kind: str) -> dict[str, Any]:
    """A JSON Schema of one message, closed: a field that Google does not have fails."""
    defined: dict[str, Any] = {name: _closed(found) for name, found in description()["schemas"].items()}
    return {"$ref": f"#/$defs/{kind}", "$defs": defined}


def _closed(found: dict[str, Any]) -> dict[str, Any]:
    """Discovery's dialect as JSON Schema: references by name, int64 as text, objects that know their fields."""
    if "$ref" in found:
        return {"$ref": f"#/$defs/{found['$ref']}"}
    kept: dict[str, Any] = {"type": found["type"]} if found.get("type", "any") != "any" else {}
    if "enum" in found:
        kept["enum"] = found["enum"]
    if found.get("type") == "array":
        kept["items"] = _closed(found["items"])
    if found.get("type") == "object":
        kept["properties"] = {name: _closed(each) for name, each in found.get("properties", {}).items()}
        more = found.get("additionalProperties")
        kept["additionalProperties"] = _closed(more) if isinstance(more, dict) else False
    return kept


def message(verb: str, path: str) -> str:
    """The kind of message that Google's method on that path answers with."""
    found = [
        (":" in method["flatPath"], method["response"]["$ref"])
        for resource in _resources(description())
        for method in resource.get("methods", {}).values()
        if method["httpMethod"] == verb and _fits(method["flatPath"], path)
    ]
    assert found, f"Google has no method {verb} {path}"
    return max(found)[1]


def _resources(found: dict[str, Any]) -> Any:
    yield found
    for inner in found.get("resources", {}).values():
        yield from _resources(inner)


def _fits(flat: str, path: str) -> bool:
    """Both have the same fixed parts; a place takes anything up to the next slash or verb."""
    wanted, given = flat.split("/"), path.lstrip("/").partition("?")[0].split("/")
    return len(wanted) == len(given) and all(_same(one, other) for one, other in zip(wanted, given, strict=True))


def _same(wanted: str, given: str) -> bool:
    place, _, verb = wanted.partition(":")
    if not place.startswith("{"):
        return wanted == given
    return given.endswith(f":{verb}") if verb else True


@pytest.fixture
async def oci() -> AsyncIterator[RegistryClient]:
    async with registry() as client:
        yield client


async def called(
    oci: RegistryClient, verb: str, path: str, body: dict[str, Any] | bytes | None = None, upload: str = ""
) -> dict[str, Any]:
    """Call and hold the answer against Google's description; media is uploaded under another path."""
    content = orjson.dumps(body) if isinstance(body, dict) else body
    answer = await oci.call(verb, f"{upload}{path}", content)
    assert answer.status == 200, (path, answer)
    Draft202012Validator(schema(message(verb, path))).validate(answer.json)
    return answer.json


async def test_repositories_answer_as_google_describes(oci: RegistryClient) -> None:
    policy = {"id": "old", "action": "DELETE", "condition": {"tagState": "ANY", "olderThan": "86400s"}}
    made = {"format": "DOCKER", "description": "x", "labels": {"a": "b"}, "cleanupPolicies": {"old": policy}}
    operation = await called(oci, "POST", f"{LOCATION}/repositories?repositoryId=web", made)
    Draft202012Validator(schema("Repository")).validate(_without_type(operation["response"]))
    await called(oci, "GET", f"/v1/{operation['name']}")
    await called(oci, "GET", REPOSITORY)
    await called(oci, "GET", f"{LOCATION}/repositories?orderBy=name")
    await called(oci, "PATCH", f"{REPOSITORY}?updateMask=description", {"description": "y"})
    await called(oci, "GET", f"{REPOSITORY}:getIamPolicy")
    await called(oci, "POST", f"{REPOSITORY}:testIamPermissions", {"permissions": ["artifactregistry.tags.get"]})
    await called(oci, "DELETE", REPOSITORY)


async def test_what_is_in_a_repository_answers_as_google_describes(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "a")
    await oci.manifest(index_of(image.manifest), "multi", kind=INDEX)
    await oci.blob(b"{}")
    assert (await oci.manifest(artifact(image.manifest))).status == 201
    version = f"{WEB}/packages/app/versions/{image.digest}"
    images = (await called(oci, "GET", f"{REPOSITORY}/dockerImages"))["dockerImages"]
    assert len(images) == 3
    for shown in images:
        await called(oci, "GET", f"/v1/{shown['name']}")
    await called(oci, "GET", f"{REPOSITORY}/packages")
    await called(oci, "PATCH", f"{PACKAGE}?updateMask=annotations", {"annotations": {"a": "b"}})
    await called(oci, "GET", f"{PACKAGE}/versions?view=FULL")
    await called(oci, "PATCH", f"/v1/{version}?updateMask=annotations", {"annotations": {"a": "b"}})
    await called(oci, "GET", f"/v1/{version}?view=FULL")
    await called(oci, "POST", f"{PACKAGE}/tags?tagId=b", {"version": version})
    await called(oci, "PATCH", f"{PACKAGE}/tags/b", {"version": version})
    await called(oci, "GET", f"{PACKAGE}/tags")
    await called(oci, "DELETE", f"{PACKAGE}/tags/b")
    files = (await called(oci, "GET", f"{REPOSITORY}/files"))["files"]
    await called(oci, "GET", f"{REPOSITORY}/files/{quote(files[0]['name'].rpartition('/')[2])}")
    await called(oci, "DELETE", f"{PACKAGE}")


async def test_an_image_of_many_platforms_answers_as_google_describes(oci: RegistryClient) -> None:
    image = image_of([layer_of({"a": b"b"})], created="2024-01-02T03:04:05Z")
    await oci.push(image)
    top = (await oci.manifest(index_of(image.manifest), "multi", kind=INDEX)).headers["Docker-Content-Digest"]
    one = await called(oci, "GET", f"{REPOSITORY}/dockerImages/app@{image.digest}")
    assert one["buildTime"] == "2024-01-02T03:04:05Z"
    several = await called(oci, "GET", f"{REPOSITORY}/dockerImages/app@{top}")
    (child,) = several["imageManifests"]
    assert (child["digest"], child["os"], child["architecture"]) == (image.digest, "linux", "cpu0")
    version = await called(oci, "GET", f"{PACKAGE}/versions/{top}")
    assert version["metadata"]["imageManifests"] == several["imageManifests"]


async def test_files_and_attachments_answer_as_google_describes(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "a")
    await oci.blob(b"{}")
    assert (await oci.manifest(artifact(image.manifest))).status == 201
    taken = await called(oci, "POST", f"{REPOSITORY}/files:upload?uploadType=media", b"a file", upload="/upload")
    file = taken["operation"]["response"]
    Draft202012Validator(schema("GoogleDevtoolsArtifactregistryV1File")).validate(_without_type(file))
    await called(oci, "GET", f"/v1/{taken['operation']['name']}")
    await called(oci, "PATCH", f"/v1/{file['name']}?updateMask=annotations", {"annotations": {"a": "b"}})
    target = f"{WEB}/packages/app/versions/{image.digest}"
    asked = {"target": target, "type": "text/plain", "attachmentNamespace": "x", "files": [file["name"]]}
    made = await called(oci, "POST", f"{REPOSITORY}/attachments?attachmentId=one", asked)
    Draft202012Validator(schema("Attachment")).validate(_without_type(made["response"]))
    await called(oci, "GET", f"/v1/{made['name']}")
    listed = await called(oci, "GET", f"{REPOSITORY}/attachments?orderBy=name")
    assert len(listed["attachments"]) == 2
    for attachment in listed["attachments"]:
        await called(oci, "GET", f"/v1/{attachment['name']}")
    await called(oci, "DELETE", f"{REPOSITORY}/attachments/one")
    await called(oci, "DELETE", f"/v1/{file['name']}")


async def test_rules_answer_as_google_describes(oci: RegistryClient) -> None:
    await oci.push(small_image(), "a")
    condition = {"expression": "pkg.version.id < '2.0'", "title": "old", "description": "out of support"}
    rule = {"action": "DENY", "operation": "DOWNLOAD", "condition": condition, "packageId": "app"}
    made = await called(oci, "POST", f"{REPOSITORY}/rules?ruleId=old", rule)
    await called(oci, "GET", f"/v1/{made['name']}")
    assert len((await called(oci, "GET", f"{REPOSITORY}/rules?pageSize=1"))["rules"]) == 1
    await called(oci, "PATCH", f"/v1/{made['name']}?updateMask=action", {"action": "ALLOW"})
    await called(oci, "DELETE", f"/v1/{made['name']}")


async def test_what_belongs_to_a_project_answers_as_google_describes(oci: RegistryClient) -> None:
    await called(oci, "GET", "/v1/projects/demo/locations")
    await called(oci, "GET", LOCATION)
    await called(oci, "GET", "/v1/projects/demo/projectSettings")
    await called(oci, "GET", f"{LOCATION}/vpcscConfig")
    await called(oci, "PATCH", f"{LOCATION}/vpcscConfig", {"vpcscPolicy": "DENY"})


def test_a_field_that_google_does_not_have_would_be_seen() -> None:
    problems = list(Draft202012Validator(schema("Tag")).iter_errors({"name": "x", "digest": "y"}))
    assert len(problems) == 1


def _without_type(response: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in response.items() if name != "@type"}
