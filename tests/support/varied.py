"""A registry with something of everything, changed in two strokes: what a rebuild has to bring back."""

from dataclasses import replace

import orjson

from services.registry.app import build
from shared.events.images import ReferrerRequested
from tests.support.images import Image, image_of, layer_of
from tests.support.parts import MemoryParts, memory_parts
from tests.support.registry import ADA, ENVIRONMENT, EVERYTHING, INDEX, RegistryClient, Remembering, artifact, index_of

GOOGLE = "/v1/projects/{}/locations/local/repositories"


def image(text: str) -> Image:
    """An image of its own."""
    return image_of([layer_of({"greeting": text.encode()})])


async def first_stroke(oci: RegistryClient) -> None:
    """Two projects, tags, indexes, referrers, annotations, policies, settings."""
    for project in ("demo", "acme"):
        made = await oci.call("POST", f"{GOOGLE.format(project)}?repositoryId=kept", orjson.dumps({"format": "DOCKER"}))
        assert made.status == 200, made.content
    for number in range(4):
        await oci.push(image(f"app {number}"), f"v{number}", "demo/web/app")
    await oci.push(image("app 3"), "latest", "demo/web/app")
    await oci.push(image("other"), "v1", "acme/kept/tools/deep")
    await platforms(oci, "one", "multi")
    await oci.blob(b"{}", "demo/web/app")
    subject = image("app 1").manifest
    assert (await oci.manifest(artifact(subject), name="demo/web/app")).status == 201
    await annotate(oci, "packages/app/versions/" + digest_of("app 1"), "one")
    await annotate(oci, "packages/app", "package")
    await allow(oci, "kept", "user:ben@example.org")
    await rule(oci, "kept", "old", "pkg.version.id < '2.0'")
    await rule(oci, "web", "rc", "pkg.version.id.startsWith('rc-')")


async def second_stroke(oci: RegistryClient) -> None:
    """Everything moves on: tags move and go, versions go and come back, repositories come and go."""
    await oci.push(image("app 9"), "latest", "demo/web/app")
    await oci.push(image("app 2"), "v2", "demo/web/app")
    assert (await oci.call("DELETE", "/v2/demo/web/app/manifests/v0")).status == 202
    for text in ("app 3", "other"):
        place = "demo/web/app" if text == "app 3" else "acme/kept/tools/deep"
        assert (await oci.call("DELETE", f"/v2/{place}/manifests/{digest_of(text)}")).status == 202
    await oci.push(image("app 3"), "again", "demo/web/app")
    await platforms(oci, "two", "multi")
    await oci.push(image("fresh"), "v1", "acme/fresh/app")
    await oci.push(image("gone"), "v1", "acme/brief/app")
    assert (await oci.call("DELETE", f"{GOOGLE.format('acme')}/brief")).status == 200
    patch = orjson.dumps({"description": "changed", "labels": {"a": "b"}})
    where = f"{GOOGLE.format('demo')}/kept?updateMask=description,labels"
    assert (await oci.call("PATCH", where, patch)).status == 200
    await allow(oci, "kept", "user:cleo@example.org")
    await rule(oci, "kept", "app", "pkg.version.id == 'v1'", "app")
    assert (await oci.call("DELETE", f"{GOOGLE.format('demo')}/web/rules/rc")).status == 200
    subject = image("app 2").manifest
    assert (await oci.manifest(artifact(subject, "application/vnd.more"), name="demo/web/app")).status == 201


async def rule(oci: RegistryClient, repository: str, rule: str, expression: str, package: str = "") -> None:
    """A rule for downloads."""
    body = {"action": "DENY", "condition": {"expression": expression}, "packageId": package}
    where = f"{GOOGLE.format('demo')}/{repository}/rules?ruleId={rule}"
    assert (await oci.call("POST", where, orjson.dumps(body))).status == 200


async def referrer(oci: RegistryClient, text: str = "app 2", identity: str = "attach") -> None:
    """What another service asks to have attached."""
    await oci.parts.parts.blobs.put("attestor/thing", b"attested")
    asked = ReferrerRequested(
        project="demo",
        location="local",
        repository="web",
        image="app",
        subject_digest=digest_of(text),
        artifact_type="application/vnd.attestation",
        media_type="application/json",
        object="attestor/thing",
    )
    await oci.hear(asked, identity)


async def platforms(oci: RegistryClient, text: str, tag: str) -> None:
    """An index over two images."""
    children = [image(f"{text} {cpu}") for cpu in ("amd64", "arm64")]
    for child in children:
        await oci.push(child, name="demo/web/app")
    listed = index_of(*(child.manifest for child in children))
    assert (await oci.manifest(listed, tag, "demo/web/app", INDEX)).status == 201


async def annotate(oci: RegistryClient, path: str, text: str) -> None:
    """Words of an owner."""
    where = f"{GOOGLE.format('demo')}/web/{path}?updateMask=annotations"
    answer = await oci.call("PATCH", where, orjson.dumps({"annotations": {"note": text}}))
    assert answer.status == 200, answer.content


async def allow(oci: RegistryClient, repository: str, member: str) -> None:
    """A policy."""
    bindings = [{"role": "roles/test.1", "members": [member]}]
    body = orjson.dumps({"policy": {"bindings": bindings}})
    answer = await oci.call("POST", f"{GOOGLE.format('demo')}/{repository}:setIamPolicy", body)
    assert answer.status == 200, answer.content


def digest_of(text: str) -> str:
    """The digest of an image's manifest."""
    return image(text).digest


def parts_of_two_projects() -> MemoryParts:
    """Ada may do everything in both."""
    made = memory_parts("registry", environment=ENVIRONMENT, projects=("demo", "acme"))
    for project in ("demo", "acme"):
        made.grant(f"projects/{project}", ADA, *EVERYTHING)
    return replace(made, parts=replace(made.parts, bus=Remembering(made.parts.bus)))


__all__ = ["build"]
