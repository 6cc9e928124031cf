"""Rules for downloads: whatever is asked for in whichever way is judged by them; what is allowed comes whole."""

from typing import Any

import orjson
import pytest

from shared.events.audit import AuditDenied
from shared.events.images import ImagePulled
from tests.support.images import Image, digest_of, image_of, layer_of
from tests.support.registry import BEN, INDEX, NAME, WEB, Answer, RegistryClient, artifact, index_of, small_image

READ = "artifactregistry.repositories.downloadArtifacts"
OTHER = "projects/demo/locations/local/repositories/other"


async def rule(oci: RegistryClient, rule: str, action: str, expression: str = "", package: str = "") -> None:
    condition = {"condition": {"expression": expression}} if expression else {}
    body = {"action": action, "operation": "DOWNLOAD", "packageId": package, **condition}
    made = await oci.call("POST", f"/v1/{WEB}/rules?ruleId={rule}", orjson.dumps(body))
    assert made.status == 200, made.content


async def manifest(oci: RegistryClient, reference: str, verb: str = "GET", name: str = NAME) -> Answer:
    return await oci.call(verb, f"/v2/{name}/manifests/{reference}")


async def blob(oci: RegistryClient, digest: str, verb: str = "GET", name: str = NAME) -> Answer:
    return await oci.call(verb, f"/v2/{name}/blobs/{digest}")


def denied_by(answer: Answer, name: str) -> bool:
    """Whether it was refused as OCI clients read it, with the rule's name."""
    (error,) = answer.json["errors"]
    return (answer.status, error["code"]) == (403, "DENIED") and f"{WEB}/rules/{name}" in error["message"]


def other_image(text: str) -> Image:
    """It shares the first layer with `small_image`, as images of one base do."""
    return image_of([layer_of({"greeting": b"hello"}), layer_of({"more": text.encode()})])


async def test_a_denied_manifest_is_not_handed_out_by_tag_nor_by_digest(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "1.0")
    assert (await manifest(oci, "1.0")).status == 200  # so that it is known to the quick way, too
    await rule(oci, "old", "DENY", "pkg.version.id < '2.0'")
    for reference in ("1.0", image.digest, "1.0"):
        assert denied_by(await manifest(oci, reference), "old")
    assert (await oci.call("DELETE", f"/v1/{WEB}/rules/old")).status == 200
    for reference in ("1.0", image.digest):
        assert (await manifest(oci, reference)).status == 200


async def test_asking_whether_something_is_there_is_no_download(oci: RegistryClient) -> None:
    """Clients ask so before they push; a repository from which nothing may be downloaded still takes pushes."""
    await oci.push(small_image(), "1.0")
    await rule(oci, "all", "DENY")
    image = small_image("again")
    await oci.push(image, "2.0")
    for reference in ("1.0", "2.0", image.digest):
        assert (await manifest(oci, reference, "HEAD")).status == 200
    for digest in image.blobs:
        assert (await blob(oci, digest, "HEAD")).status == 200
    assert denied_by(await manifest(oci, "2.0"), "all")
    assert (await oci.call("GET", f"/v2/{NAME}/tags/list")).json["tags"] == ["1.0", "2.0"]


async def test_blobs_go_with_the_manifests_that_refer_to_them(oci: RegistryClient) -> None:
    old, new = small_image(), other_image("new")
    await oci.push(old, "1.0")
    await oci.push(new, "2.0")
    await rule(oci, "old", "DENY", "pkg.version.id < '2.0'")
    shared = set(old.blobs) & set(new.blobs)
    assert shared
    for digest in new.blobs:
        assert (await blob(oci, digest)).status == 200
    for digest in set(old.blobs) - shared:
        assert denied_by(await blob(oci, digest), "old")
        assert (await blob(oci, digest, "HEAD")).status == 200
    assert (await oci.call("DELETE", f"/v2/{NAME}/manifests/{new.digest}")).status == 202
    for digest in shared:
        assert denied_by(await blob(oci, digest), "old")


async def test_a_blob_that_another_image_may_hand_out_is_handed_out(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "v1")
    await rule(oci, "app", "DENY", package="app")
    (config, *_) = image.blobs
    assert denied_by(await blob(oci, config), "app")
    await oci.push(image, "v1", "demo/web/site")
    assert (await blob(oci, config, name="demo/web/site")).status == 200
    assert (await blob(oci, config)).status == 200


async def test_a_blob_of_no_manifest_falls_under_what_is_said_of_all(oci: RegistryClient) -> None:
    digest = await oci.blob(b"loose")
    await rule(oci, "old", "DENY", "pkg.version.id < '2.0'", "app")
    assert (await blob(oci, digest)).status == 200
    await rule(oci, "all", "DENY")
    assert denied_by(await blob(oci, digest), "all")


async def test_files_are_judged_as_blobs_are(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "1.0")
    loose = await oci.blob(b"loose")
    await rule(oci, "old", "DENY", "pkg.version.id == '1.0'", "app")
    for digest in image.blobs:
        refused = await oci.call("GET", f"/v1/{WEB}/files/{digest}:download?alt=media")
        assert (refused.status, refused.json["error"]["status"]) == (403, "PERMISSION_DENIED")
        assert f"{WEB}/rules/old" in refused.json["error"]["message"]
        assert (await oci.call("GET", f"/v1/{WEB}/files/{digest}")).status == 200
    assert (await oci.call("GET", f"/v1/{WEB}/files/{loose}:download?alt=media")).status == 200


async def test_only_what_is_allowed_comes_where_all_else_is_denied(oci: RegistryClient) -> None:
    image, other = small_image(), small_image("other")
    await oci.push(image, "v1")
    await oci.push(other, "v2")
    await rule(oci, "all", "DENY")
    await rule(oci, "some", "ALLOW", "pkg.version.id.startsWith('release-')", "app")
    assert denied_by(await manifest(oci, "v1"), "all")
    assert (await oci.manifest(image.manifest, "release-1")).status == 201
    for reference in ("release-1", "v1", image.digest):
        assert (await manifest(oci, reference)).status == 200
    for digest in image.blobs:
        assert (await blob(oci, digest)).status == 200
    assert denied_by(await manifest(oci, other.digest), "all")
    assert (await oci.call("DELETE", f"/v2/{NAME}/manifests/release-1")).status == 202
    assert denied_by(await manifest(oci, "v1"), "all")


async def test_a_digest_is_denied_whatever_points_at_it(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "v1")
    await oci.manifest(index_of(image.manifest), "multi", kind=INDEX)
    await rule(oci, "bad", "DENY", f"pkg.version.id == '{image.digest}'")
    assert (await manifest(oci, "multi")).status == 200
    for reference in ("v1", image.digest):
        assert denied_by(await manifest(oci, reference), "bad")


async def pushed_index(oci: RegistryClient, tag: str, *images: Image) -> bytes:
    for image in images:
        await oci.push(image)
    content = index_of(*(image.manifest for image in images))
    assert (await oci.manifest(content, tag, kind=INDEX)).status == 201
    return content


async def test_what_an_index_lists_goes_with_the_index(oci: RegistryClient) -> None:
    one, both, two = small_image("one"), small_image("both"), small_image("two")
    await pushed_index(oci, "1.0", one, both)
    await pushed_index(oci, "2.0", both, two)
    await rule(oci, "old", "DENY", "pkg.version.id < '2.0'")
    assert denied_by(await manifest(oci, "1.0"), "old")
    assert denied_by(await manifest(oci, one.digest), "old")
    for digest in set(one.blobs) - set(both.blobs):
        assert denied_by(await blob(oci, digest), "old")
    for reference in ("2.0", both.digest, two.digest):
        assert (await manifest(oci, reference)).status == 200
    for digest in {**both.blobs, **two.blobs}:
        assert (await blob(oci, digest)).status == 200


async def test_an_index_in_an_allowed_index_is_allowed_with_all_that_it_lists(oci: RegistryClient) -> None:
    image = small_image()
    inner = await pushed_index(oci, "", image)
    outer = index_of(inner).replace(b"image.manifest.v1", b"image.index.v1")
    assert (await oci.manifest(outer, "release-1", kind=INDEX)).status == 201
    await oci.manifest(image.manifest, "cpu0-1")
    await rule(oci, "all", "DENY")
    await rule(oci, "some", "ALLOW", "pkg.version.id.startsWith('release-')", "app")
    for reference in ("release-1", digest_of(inner), image.digest, "cpu0-1"):
        assert (await manifest(oci, reference)).status == 200
    for digest in image.blobs:
        assert (await blob(oci, digest)).status == 200


async def test_what_a_condition_says_of_a_tagged_manifest_itself_goes_before_its_index(oci: RegistryClient) -> None:
    image = small_image()
    await pushed_index(oci, "2.0", image)
    await oci.manifest(image.manifest, "1.0")
    await rule(oci, "old", "DENY", "pkg.version.id < '2.0'")
    assert (await manifest(oci, "2.0")).status == 200
    for reference in ("1.0", image.digest):
        assert denied_by(await manifest(oci, reference), "old")


async def test_where_too_many_manifests_would_have_to_be_looked_at_the_download_is_denied(
    oci: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.registry.downloads.MOST_JUDGED", 3)
    image = small_image()
    for number in range(5):
        content = artifact(config=orjson.loads(image.manifest)["config"], annotations={"number": str(number)})
        for each, of in image.blobs.items():
            assert each == digest_of(of)
            await oci.blob(of)
        assert (await oci.manifest(content, f"1.{number}")).status == 201
    await rule(oci, "old", "DENY", "pkg.version.id < '2.0'")
    config = orjson.loads(image.manifest)["config"]["digest"]
    assert denied_by(await blob(oci, config), "old")


async def test_a_blob_is_not_mounted_from_where_it_may_not_be_downloaded(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "1.0")
    assert (await oci.blob(b"x", "demo/other/app")) != ""
    await rule(oci, "old", "DENY", "pkg.version.id < '2.0'")
    (digest, *_) = image.blobs
    for source in (f"&from={NAME}", ""):
        answer = await oci.call("POST", f"/v2/demo/other/app/blobs/uploads/?mount={digest}{source}")
        assert answer.status == 202
    assert (await blob(oci, digest, name="demo/other/app")).status == 404
    assert (await oci.call("DELETE", f"/v1/{WEB}/rules/old")).status == 200
    answer = await oci.call("POST", f"/v2/demo/other/app/blobs/uploads/?mount={digest}&from={NAME}")
    assert answer.status == 201


async def test_a_denied_download_is_in_the_audit_log_and_is_no_pull(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "1.0")
    await rule(oci, "old", "DENY", "pkg.version.id < '2.0'")
    oci.parts.grant(WEB, BEN, READ)
    oci.parts.journal.events.clear()
    (digest, *_) = image.blobs
    for answer in (await manifest(oci.by(BEN), "1.0"), await blob(oci.by(BEN), digest)):
        assert denied_by(answer, "old")
    entries = [event.entry["protoPayload"] for event in oci.parts.journal.events if isinstance(event, AuditDenied)]
    assert [entry["authenticationInfo"]["principalEmail"] for entry in entries] == [BEN.partition(":")[2]] * 2
    assert all(f"{WEB}/rules/old" in entry["status"]["message"] for entry in entries)
    assert [entry["methodName"] for entry in entries] == ["Docker-GetManifest", "Docker-GetBlob"]
    assert not [event for event in oci.parts.journal.events if isinstance(event, ImagePulled)]


async def test_whoever_may_not_read_is_told_nothing_of_rules(oci: RegistryClient) -> None:
    await oci.push(small_image(), "1.0")
    await rule(oci, "old", "DENY")
    refused = await manifest(oci.by(BEN), "1.0")
    assert (refused.status, b"/rules/" in refused.content) == (403, False)


async def test_what_is_shown_of_a_version_is_no_download(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "1.0")
    await rule(oci, "all", "DENY")
    found: Any = (await oci.call("GET", f"/v1/{WEB}/dockerImages")).json
    assert [each["tags"] for each in found["dockerImages"]] == [["1.0"]]
    tagged = await oci.call(
        "POST",
        f"/v1/{WEB}/packages/app/tags?tagId=2.0",
        orjson.dumps({"version": f"{WEB}/packages/app/versions/{image.digest}"}),
    )
    assert tagged.status == 200
