"""Attachments over Artifact Registry's API: made of files, pushed by other clients, found by what they belong to."""

import asyncio
from typing import Any
from urllib.parse import quote

import orjson
import pytest

from shared.digest import Digest
from tests.support.images import MANIFEST, descriptor
from tests.support.registry import NAME, WEB, RegistryClient, artifact, small_image

REPOSITORY = f"/v1/{WEB}"
ATTACHMENTS = f"{REPOSITORY}/attachments"
IMAGE = small_image()
TARGET = f"{WEB}/packages/app/versions/{IMAGE.digest}"
SBOM = b'{"spdxVersion":"SPDX-2.3"}'
FILE = f"{WEB}/files/{Digest.of(SBOM)}"
KIND = "application/vnd.spdx+json"


@pytest.fixture
async def web(oci: RegistryClient) -> RegistryClient:
    """With an image, and a file to attach."""
    await oci.push(IMAGE, "a")
    await oci.blob(SBOM)
    return oci


async def called(oci: RegistryClient, verb: str, path: str, **fields: Any) -> Any:
    answer = await oci.call(verb, path, orjson.dumps(fields) if fields else None)
    assert answer.status == 200, answer
    return answer.json


async def create(oci: RegistryClient, attachment: str = "sbom", **fields: Any) -> Any:
    content = {"target": TARGET, "type": KIND, "files": [FILE], **fields}
    return await oci.call("POST", f"{ATTACHMENTS}?attachmentId={attachment}", orjson.dumps(content))


async def listed(oci: RegistryClient, **chosen: str) -> list[Any]:
    terms = " AND ".join(f'{field}="{value}"' for field, value in chosen.items())
    return (await called(oci, "GET", f"{ATTACHMENTS}?filter={quote(terms)}")).get("attachments", [])


async def refer(oci: RegistryClient, text: str, name: str = NAME, **more: Any) -> str:
    """What cosign and its like do: push a manifest with a subject."""
    await oci.blob(b"{}", name)
    content = artifact(IMAGE.manifest, annotations={"text": text}, **more)
    return (await oci.manifest(content, name=name)).headers["Docker-Content-Digest"]


async def test_an_attachment_is_made_of_files_and_is_a_referrer_of_its_target(web: RegistryClient) -> None:
    name = "artifactregistry.googleapis.com/file_name"
    await called(web, "PATCH", f"/v1/{FILE}?updateMask=annotations", annotations={name: "sbom.json"})
    made = (await create(web, attachmentNamespace="scans", annotations={"by": "hand"})).json
    shown = await called(web, "GET", f"{ATTACHMENTS}/sbom")
    assert made["done"] is True
    assert made["response"] == {"@type": made["response"]["@type"], **shown}
    assert (await called(web, "GET", f"/v1/{made['name']}"))["response"] == made["response"]
    version = shown.pop("ociVersionName")
    assert shown.pop("createTime") == shown.pop("updateTime")
    assert shown == {
        "name": f"{WEB}/attachments/sbom",
        "target": TARGET,
        "type": KIND,
        "attachmentNamespace": "scans",
        "annotations": {"by": "hand"},
        "files": [FILE],
    }
    (referrer,) = (await web.call("GET", f"/v2/{NAME}/referrers/{IMAGE.digest}")).json["manifests"]
    assert (referrer["artifactType"], version.rpartition("/")[2]) == (KIND, referrer["digest"])
    (layer,) = (await web.call("GET", f"/v2/{NAME}/manifests/{referrer['digest']}")).json["layers"]
    assert layer["annotations"] == {"org.opencontainers.image.title": "sbom.json"}
    assert web.parts.announced("image.pushed")[-1].data["subject_digest"] == IMAGE.digest
    entries = [entry["protoPayload"]["methodName"].rpartition(".")[2] for entry in web.parts.audited()]
    assert entries.count("CreateAttachment") == 1


async def test_an_id_is_taken_once(web: RegistryClient) -> None:
    assert (await create(web)).status == 200
    again = await create(web, type="other")
    assert (again.status, again.json["error"]["status"]) == (409, "ALREADY_EXISTS")
    assert (await create(web, "second")).status == 200
    assert len(await listed(web, target=TARGET)) == 2


async def test_many_who_want_one_id_at_once_have_one_winner(web: RegistryClient) -> None:
    answers = await asyncio.gather(*(create(web, annotations={"number": str(number)}) for number in range(10)))
    assert sorted(answer.status for answer in answers) == [200, *[409] * 9]
    assert {answer.json["error"]["status"] for answer in answers if answer.status == 409} == {"ALREADY_EXISTS"}
    (winner,) = [answer.json["response"] for answer in answers if answer.status == 200]
    assert (await called(web, "GET", f"{ATTACHMENTS}/sbom"))["annotations"] == winner["annotations"]
    assert len((await web.call("GET", f"/v2/{NAME}/referrers/{IMAGE.digest}")).json["manifests"]) == 1


async def test_a_target_that_goes_at_this_moment_gets_no_attachment(
    web: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = web.parts.parts.state.apply

    async def deleted_before(step: Any) -> Any:
        monkeypatch.undo()
        assert (await web.call("DELETE", f"/v2/{NAME}/manifests/{IMAGE.digest}")).status == 202
        return await apply(step)

    await web.blob(b"{}")
    monkeypatch.setattr(web.parts.parts.state, "apply", deleted_before)
    assert (await create(web)).status == 404
    assert await listed(web) == []


async def test_what_other_clients_pushed_is_an_attachment_too(web: RegistryClient) -> None:
    digest = await refer(web, "signed")
    await refer(web, "not of this image", "demo/web/other/image")
    (found,) = await listed(web, target=TARGET)
    assert (found["type"], found["ociVersionName"]) == ("application/vnd.test", f"{TARGET.rpartition('/')[0]}/{digest}")
    assert found["annotations"] == {"text": "signed"}
    assert "files" not in found
    assert await called(web, "GET", f"/v1/{found['name']}") == found
    assert len(await listed(web)) == 2


async def test_the_layers_of_an_attachment_are_its_files(web: RegistryClient) -> None:
    await web.blob(b'{"of":"config"}')
    config = descriptor("application/vnd.test.config", b'{"of":"config"}')
    await refer(web, "with a layer", config=config, layers=[descriptor("text/plain", SBOM)])
    (found,) = await listed(web, target=TARGET)
    assert found["files"] == [FILE]


async def test_attachments_are_found_by_what_they_are(web: RegistryClient) -> None:
    await create(web, "one", attachmentNamespace="scans")
    await create(web, "two", type="application/vnd.cyclonedx+json")
    await refer(web, "three")
    everything = await listed(web)
    names = [found["name"].rpartition("/")[2] for found in everything]
    assert names == sorted(names)
    assert len(names) == 3
    assert [found["name"].rpartition("/")[2] for found in await listed(web, type=KIND)] == ["one"]
    assert len(await listed(web, attachment_namespace="scans")) == 1
    (itself,) = await listed(web, oci_version_name=everything[1]["ociVersionName"])
    assert itself == everything[1]
    assert len(await listed(web, target=TARGET, type=KIND)) == 1
    assert await listed(web, oci_version_name=TARGET) == []
    assert await listed(web, target=f"{WEB}/packages/none/versions/{IMAGE.digest}") == []
    assert await listed(web, target="elsewhere") == []


@pytest.mark.parametrize("chosen", ["", f'target="{TARGET}"'])
async def test_attachments_come_in_pages(web: RegistryClient, chosen: str) -> None:
    for number in range(5):
        await create(web, f"a{number}")
    found: list[str] = []
    token, pages = "", 0
    while pages == 0 or token:
        page = await called(web, "GET", f"{ATTACHMENTS}?pageSize=2&pageToken={token}&filter={quote(chosen)}")
        found += [each["name"].rpartition("/")[2] for each in page["attachments"]]
        token, pages = page.get("nextPageToken", ""), pages + 1
    assert (sorted(found), pages) == ([f"a{number}" for number in range(5)], 3)


async def test_a_deleted_attachment_is_no_referrer_any_more_and_its_id_is_free(web: RegistryClient) -> None:
    await create(web)
    assert (await called(web, "DELETE", f"{ATTACHMENTS}/sbom"))["done"] is True
    assert (await web.call("GET", f"{ATTACHMENTS}/sbom")).status == 404
    assert await listed(web) == []
    assert (await web.call("GET", f"/v2/{NAME}/referrers/{IMAGE.digest}")).json["manifests"] == []
    assert (await called(web, "GET", f"/v1/{FILE}"))["name"] == FILE
    assert web.parts.audited()[-1]["protoPayload"]["methodName"].endswith("DeleteAttachment")
    assert (await create(web)).status == 200


async def test_a_manifest_deleted_over_oci_is_no_attachment_any_more(web: RegistryClient) -> None:
    await create(web)
    digest = await refer(web, "signed")
    for found in await listed(web):
        gone = await web.call("DELETE", f"/v2/{NAME}/manifests/{found['ociVersionName'].rpartition('/')[2]}")
        assert gone.status == 202
    assert await listed(web) == []
    assert (await web.call("GET", f"{ATTACHMENTS}/sbom")).status == 404
    assert await refer(web, "signed") == digest
    assert len(await listed(web)) == 1


async def test_a_manifest_that_was_pushed_before_takes_the_id_that_is_chosen_for_it(web: RegistryClient) -> None:
    made = (await create(web)).json["response"]
    digest = made["ociVersionName"].rpartition("/")[2]
    content = (await web.call("GET", f"/v2/{NAME}/manifests/{digest}")).content
    await called(web, "DELETE", f"{ATTACHMENTS}/sbom")
    await web.manifest(content, kind=MANIFEST)
    (pushed,) = await listed(web)
    assert pushed["name"].rpartition("/")[2].startswith("sha256-")
    assert (await create(web)).status == 200
    assert [found["name"] for found in await listed(web)] == [f"{WEB}/attachments/sbom"]


@pytest.mark.parametrize(
    ("attachment", "fields", "status"),
    [
        ("", {}, 400),
        ("a/b", {}, 400),
        ("a~b", {}, 400),
        ("x" * 129, {}, 400),
        ("a", {"target": f"{WEB}/packages/app/versions/sha256:{'0' * 64}"}, 404),
        ("a", {"target": f"{WEB}/packages/app"}, 400),
        ("a", {"target": WEB}, 400),
        ("a", {"target": TARGET.replace("/web/", "/other/")}, 400),
        ("a", {"files": []}, 400),
        ("a", {"files": [f"{WEB}/files/sha256:{'0' * 64}"]}, 404),
        ("a", {"files": [f"{WEB}/files/sbom.json"]}, 400),
        ("a", {"files": [FILE.replace("/web/", "/other/")]}, 400),
        ("a", {"type": ""}, 400),
        ("a", {"annotations": {"a": 1}}, 400),
        ("a", {"annotations": {"a": "x" * 9000}}, 400),
        ("a", {"annotations": {"artifactregistry.googleapis.com/attachment_id": "b"}}, 400),
        ("a", {"colour": "red"}, 400),
    ],
)
async def test_an_attachment_that_cannot_be_is_refused(
    web: RegistryClient, attachment: str, fields: dict[str, Any], status: int
) -> None:
    answer = await create(web, quote(attachment, safe=""), **fields)
    assert answer.status == status, answer
    assert await listed(web) == []


@pytest.mark.parametrize(
    "attachment", ["none", "sha256-0", f"sha256-{'0' * 64}~app", f"{IMAGE.digest}".replace(":", "-") + "~app"]
)
async def test_what_is_no_attachment_is_not_found(web: RegistryClient, attachment: str) -> None:
    for verb in ("GET", "DELETE"):
        assert (await web.call(verb, f"{ATTACHMENTS}/{attachment}")).status == 404


@pytest.mark.parametrize(
    ("verb", "path"),
    [("GET", ATTACHMENTS), ("POST", f"{ATTACHMENTS}?attachmentId=b"), ("DELETE", f"{ATTACHMENTS}/sbom")],
)
async def test_a_stranger_may_none_of_it(web: RegistryClient, verb: str, path: str) -> None:
    await create(web)
    assert (await web.by("user:stranger@example.org").call(verb, path, b"{}")).status == 403
