"""Manifests: exact bytes in and out, by tag and by digest, of every kind that clients push."""

from collections.abc import Callable

import orjson
import pytest

from tests.support.images import CONFIG, LAYER, MANIFEST, descriptor, digest_of
from tests.support.registry import (
    DOCKER,
    INDEX,
    NAME,
    RegistryClient,
    artifact,
    index_of,
    json_bytes,
    sha512_of,
    small_image,
)

MANIFESTS = f"/v2/{NAME}/manifests"
SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"


async def empty_object(oci: RegistryClient) -> None:
    await oci.blob(b"{}")


async def test_a_manifest_comes_back_byte_for_byte_by_tag_and_by_digest(oci: RegistryClient) -> None:
    image = small_image()
    pushed = await oci.push(image, "latest")
    assert pushed.location == f"{MANIFESTS}/{image.digest}"
    for reference in ("latest", image.digest):
        answer = await oci.call("GET", f"{MANIFESTS}/{reference}")
        assert (answer.status, answer.content) == (200, image.manifest)
        assert answer.headers["Content-Type"] == MANIFEST
        assert answer.headers["Docker-Content-Digest"] == image.digest
        assert answer.headers["ETag"] == f'"{image.digest}"'


async def test_head_has_the_length_of_the_body_and_no_body(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "latest")
    answer = await oci.call("HEAD", f"{MANIFESTS}/latest")
    assert (answer.status, answer.content) == (200, b"")
    assert answer.headers["Content-Length"] == str(len(image.manifest))
    assert answer.headers["Content-Type"] == MANIFEST


async def test_head_of_an_unknown_tag_is_404_without_a_body(oci: RegistryClient) -> None:
    await oci.push(small_image(), "latest")
    answer = await oci.call("HEAD", f"{MANIFESTS}/other")
    assert (answer.status, answer.content) == (404, b"")


@pytest.mark.parametrize("accept", [DOCKER, "text/plain", "*/*", INDEX])
async def test_the_stored_type_is_sent_whatever_is_accepted(oci: RegistryClient, accept: str) -> None:
    image = small_image()
    await oci.push(image, "latest")
    assert (await oci.call("GET", f"{MANIFESTS}/latest", Accept=accept)).content == image.manifest


async def test_an_index_is_sent_as_an_index_to_a_client_that_accepts_images_only(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image)
    index = index_of(image.manifest)
    assert (await oci.manifest(index, "latest", kind=INDEX)).status == 201
    answer = await oci.call("GET", f"{MANIFESTS}/latest", Accept=MANIFEST)
    assert (answer.content, answer.headers["Content-Type"]) == (index, INDEX)


async def test_parameters_of_the_content_type_are_ignored(oci: RegistryClient) -> None:
    await empty_object(oci)
    assert (await oci.manifest(artifact(), "a", kind=f"{MANIFEST}; charset=utf-8")).status == 201


async def test_a_content_type_that_says_nothing_leaves_it_to_the_manifest(oci: RegistryClient) -> None:
    await empty_object(oci)
    pushed = await oci.call("PUT", f"{MANIFESTS}/a", artifact())
    assert pushed.status == 201
    assert (await oci.call("HEAD", f"{MANIFESTS}/a")).headers["Content-Type"] == MANIFEST


async def test_a_manifest_whose_content_type_contradicts_it_is_refused(oci: RegistryClient) -> None:
    await empty_object(oci)
    answer = await oci.manifest(artifact(), "a", kind=DOCKER)
    assert (answer.status, answer.code) == (400, "MANIFEST_INVALID")


async def test_a_manifest_under_the_wrong_digest_is_refused_and_not_kept(oci: RegistryClient) -> None:
    await empty_object(oci)
    wrong = digest_of(b"wrong")
    answer = await oci.manifest(artifact(), wrong)
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    assert (await oci.call("GET", f"{MANIFESTS}/{wrong}")).status == 404


@pytest.mark.parametrize("verb", ["PUT", "GET", "DELETE"])
async def test_a_malformed_digest_is_the_clients_mistake(oci: RegistryClient, verb: str) -> None:
    await empty_object(oci)
    answer = await oci.call(verb, f"{MANIFESTS}/sha256:baddigeststring", b"{}" if verb == "PUT" else None)
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")


async def test_a_sha512_digest_is_answered_in_sha512(oci: RegistryClient) -> None:
    await empty_object(oci)
    digest = sha512_of(artifact())
    pushed = await oci.manifest(artifact(), digest)
    assert (pushed.status, pushed.headers["Docker-Content-Digest"]) == (201, digest)
    answer = await oci.call("GET", f"{MANIFESTS}/{digest}")
    assert (answer.content, answer.headers["Docker-Content-Digest"]) == (artifact(), digest)


@pytest.mark.parametrize("hashed", [digest_of, sha512_of], ids=["sha256", "sha512"])
async def test_digest_and_etag_stand_on_every_answer_in_the_algorithm_that_was_asked_for(
    oci: RegistryClient, hashed: Callable[[bytes], str]
) -> None:
    await empty_object(oci)
    digest = hashed(artifact())
    answers = [await oci.manifest(artifact(), digest)]
    answers += [await oci.call(verb, f"{MANIFESTS}/{digest}") for verb in ("GET", "HEAD")]
    for answer in answers:
        assert answer.headers["Docker-Content-Digest"] == digest
        assert answer.headers["ETag"] == f'"{digest}"'


async def test_missing_blobs_are_refused_and_each_is_named(oci: RegistryClient) -> None:
    image = small_image()
    await empty_object(oci)
    answer = await oci.manifest(image.manifest, "latest")
    assert (answer.status, answer.code) == (404, "MANIFEST_BLOB_UNKNOWN")
    assert {error["detail"]["digest"] for error in answer.json["errors"]} == set(image.blobs)
    assert (await oci.call("GET", f"{MANIFESTS}/latest")).status == 404


async def test_an_index_with_a_missing_child_is_refused(oci: RegistryClient) -> None:
    await empty_object(oci)
    answer = await oci.manifest(index_of(artifact()), kind=INDEX)
    assert (answer.status, answer.code) == (404, "MANIFEST_BLOB_UNKNOWN")


async def test_layers_that_may_not_be_distributed_are_not_required(oci: RegistryClient) -> None:
    await empty_object(oci)
    foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    elsewhere = {**descriptor(foreign, b"windows"), "urls": ["https://example.org/layer"]}
    legal = descriptor("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", b"legal")
    assert (await oci.manifest(artifact(layers=[elsewhere, legal]))).status == 201


@pytest.mark.parametrize(
    "more",
    [
        {"layers": []},
        {"layers": None},
        {"unknown": {"field": [1, 2, 3]}},
        {"annotations": {"large": "x" * (4 * 1024 * 1024 - 2048)}},
        {"config": {**descriptor("application/vnd.oci.empty.v1+json", b"{}"), "data": "e30="}},
    ],
)
async def test_unusual_manifests_are_taken_as_they_are(oci: RegistryClient, more: dict[str, object]) -> None:
    await empty_object(oci)
    content = artifact(**more)
    assert (await oci.manifest(content, "a")).status == 201
    assert (await oci.call("GET", f"{MANIFESTS}/a")).content == content


async def test_indexes_may_be_nested_and_empty(oci: RegistryClient) -> None:
    await empty_object(oci)
    await oci.manifest(artifact())
    assert (await oci.manifest(index_of(), kind=INDEX)).status == 201
    inner = index_of(artifact())
    assert (await oci.manifest(inner, kind=INDEX)).status == 201
    outer = json_bytes({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(INDEX, inner)]})
    assert (await oci.manifest(outer, "nested", kind=INDEX)).status == 201


async def test_a_manifest_over_the_limit_is_too_large(oci: RegistryClient) -> None:
    await empty_object(oci)
    answer = await oci.manifest(artifact(annotations={"a": "x" * (5 * 1024 * 1024)}), "a")
    assert (answer.status, answer.code) == (413, "SIZE_INVALID")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"schemaVersion":2}',
        b'{"schemaVersion":3,"config":{},"layers":[]}',
        json_bytes({"schemaVersion": 2, "mediaType": MANIFEST, "layers": []}),
        json_bytes({"schemaVersion": 2, "mediaType": MANIFEST, "config": {"digest": "x"}, "layers": []}),
        artifact(layers="no list"),
        artifact(layers=[{**descriptor(LAYER, b"x"), "size": -1}]),
        artifact(annotations={"a": 1}),
        artifact(subject=None, manifests=[descriptor(MANIFEST, b"x")]),
    ],
)
async def test_what_is_no_manifest_is_refused_and_nothing_is_kept(oci: RegistryClient, content: bytes) -> None:
    await empty_object(oci)
    answer = await oci.manifest(content, "bad")
    assert (answer.status, answer.code) == (400, "MANIFEST_INVALID")
    assert (await oci.call("GET", f"{MANIFESTS}/bad")).status == 404


@pytest.mark.parametrize("reference", ["about", ""], ids=["by tag", "by digest"])
async def test_a_subject_need_not_be_there_and_is_named_in_the_answer(oci: RegistryClient, reference: str) -> None:
    await empty_object(oci)
    answer = await oci.manifest(artifact(b"a subject that nobody pushed"), reference)
    assert (answer.status, answer.headers["OCI-Subject"]) == (201, digest_of(b"a subject that nobody pushed"))


async def test_a_refusal_says_its_reason_also_to_clients_that_then_fall_back_to_schema_1(oci: RegistryClient) -> None:
    image = small_image()
    first = await oci.manifest(image.manifest, "latest")
    assert next(iter(image.blobs)) in first.content.decode()
    then = await oci.manifest(b'{"schemaVersion":1,"fsLayers":[]}', "latest", kind=SCHEMA_1)
    assert "the reason is in the answer before" in then.json["errors"][0]["message"]


async def test_schema_1_is_refused_with_a_sentence_that_helps(oci: RegistryClient) -> None:
    await empty_object(oci)
    answer = await oci.manifest(b'{"schemaVersion":1,"fsLayers":[]}', "old", kind=SCHEMA_1)
    assert (answer.status, answer.code) == (400, "MANIFEST_INVALID")
    assert "schema 2" in answer.json["errors"][0]["message"]


async def test_docker_and_oci_manifests_live_side_by_side(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "oci")
    docker = orjson.loads(image.manifest) | {"mediaType": DOCKER}
    assert (await oci.manifest(json_bytes(docker), "docker", kind=DOCKER)).status == 201
    assert (await oci.call("HEAD", f"{MANIFESTS}/docker")).headers["Content-Type"] == DOCKER
    assert (await oci.call("HEAD", f"{MANIFESTS}/oci")).headers["Content-Type"] == MANIFEST


async def test_zstd_layers_in_a_docker_manifest_are_taken_with_a_warning(oci: RegistryClient) -> None:
    await oci.blob(b"{}")
    await oci.blob(b"layer")
    layer = descriptor("application/vnd.docker.image.rootfs.diff.tar+zstd", b"layer")
    body = {"schemaVersion": 2, "mediaType": DOCKER, "config": descriptor(CONFIG, b"{}"), "layers": [layer]}
    answer = await oci.manifest(json_bytes(body), "zstd", kind=DOCKER)
    assert answer.status == 201
    assert answer.headers["Warning"].startswith('299 - "zstd')


async def test_tags_beside_a_digest_are_all_set_and_named(oci: RegistryClient) -> None:
    await empty_object(oci)
    digest = digest_of(artifact())
    answer = await oci.manifest(artifact(), f"{digest}?tag=1.2.3&tag=1.2&tag=latest")
    assert (answer.status, answer.headers["OCI-Tag"]) == (201, "1.2.3, 1.2, latest")
    for tag in ("1.2.3", "1.2", "latest"):
        head = await oci.call("HEAD", f"{MANIFESTS}/{tag}")
        assert head.headers["Docker-Content-Digest"] == digest


@pytest.mark.parametrize("tag", ["a" * 128, "_", "A-b.c_d", "0"])
async def test_a_tag_has_up_to_128_characters(oci: RegistryClient, tag: str) -> None:
    await empty_object(oci)
    assert (await oci.manifest(artifact(), tag)).status == 201
    assert (await oci.call("HEAD", f"{MANIFESTS}/{tag}")).status == 200


@pytest.mark.parametrize("tag", ["a" * 129, ".a", "-a", "a+b", "a%20b"])
async def test_a_tag_that_breaks_the_grammar_is_refused_and_cannot_exist(oci: RegistryClient, tag: str) -> None:
    await empty_object(oci)
    answer = await oci.manifest(artifact(), tag)
    assert (answer.status, answer.code) == (400, "TAG_INVALID")
    assert (await oci.call("GET", f"{MANIFESTS}/{tag}")).status == 404


async def test_the_same_content_pushed_again_is_welcome(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "latest")
    assert (await oci.manifest(image.manifest, "latest")).status == 201


async def test_a_tag_moves_to_what_was_pushed_last(oci: RegistryClient) -> None:
    first, second = small_image("one"), small_image("two")
    await oci.push(first, "latest")
    await oci.push(second, "latest")
    assert (await oci.call("GET", f"{MANIFESTS}/latest")).content == second.manifest
    assert (await oci.call("GET", f"{MANIFESTS}/{first.digest}")).content == first.manifest


async def test_a_client_that_has_the_manifest_is_told_so(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "latest")
    answer = await oci.call("GET", f"{MANIFESTS}/latest", If_None_Match=f'"{image.digest}"')
    assert (answer.status, answer.content) == (304, b"")
