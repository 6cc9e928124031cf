"""Access: who is asked for a token, which, and what nobody may learn."""

import pytest

from shared.identity.caller import ALL_USERS, Caller, Grant
from tests.support.images import digest_of
from tests.support.perimeters import fence_of
from tests.support.registry import ADA, BEN, NAME, WEB, RegistryClient, small_image

READ = "artifactregistry.repositories.downloadArtifacts"
WRITE = "artifactregistry.repositories.uploadArtifacts"
EVERY_ENDPOINT = [
    ("GET", "tags/list"),
    ("GET", "manifests/latest"),
    ("HEAD", "manifests/latest"),
    ("PUT", "manifests/latest"),
    ("DELETE", "manifests/latest"),
    ("GET", f"blobs/{digest_of(b'x')}"),
    ("HEAD", f"blobs/{digest_of(b'x')}"),
    ("DELETE", f"blobs/{digest_of(b'x')}"),
    ("POST", "blobs/uploads/"),
    ("GET", f"referrers/{digest_of(b'x')}"),
]


def limited(oci: RegistryClient, *access: Grant, member: str = ADA) -> dict[str, str]:
    """Headers with a token that reaches only so far."""
    oci.parts.tokens.known["limited"] = Caller(member, expires=4e9, access=access)
    return {"Authorization": "Bearer limited"}


async def test_the_ping_asks_for_a_token_and_welcomes_a_good_one(oci: RegistryClient) -> None:
    refused = await oci.by("").call("GET", "/v2/")
    assert (refused.status, refused.code) == (401, "UNAUTHORIZED")
    challenge = refused.headers["WWW-Authenticate"]
    assert challenge.startswith('Bearer realm="http://')
    assert '/token",service="entrepot"' in challenge
    assert "scope" not in challenge
    assert refused.headers["Docker-Distribution-Api-Version"] == "registry/2.0"
    for path in ("/v2/", "/v2"):
        answer = await oci.call("GET", path)
        assert (answer.status, answer.json) == (200, {})


async def test_a_bad_token_is_told_from_a_missing_one(oci: RegistryClient) -> None:
    answer = await oci.call("GET", "/v2/", Authorization="Bearer nonsense")
    assert (answer.status, 'error="invalid_token"' in answer.headers["WWW-Authenticate"]) == (401, True)


@pytest.mark.parametrize(("verb", "path"), EVERY_ENDPOINT)
@pytest.mark.parametrize("name", [NAME, "demo/none/app", "nobody/none/app"])
async def test_whoever_shows_no_token_is_asked_for_one_whether_the_thing_exists_or_not(
    oci: RegistryClient, verb: str, path: str, name: str
) -> None:
    if name == NAME:
        await oci.push(small_image(), "latest")
    answer = await oci.by("").call(verb, f"/v2/{name}/{path}")
    actions = {"GET": "pull", "HEAD": "pull", "DELETE": "delete"}.get(verb, "pull,push")
    if (verb, path.partition("/")[0]) == ("HEAD", "blobs"):
        actions = "pull,push"  # what a client looks for before it pushes
    assert answer.status == 401
    assert f'scope="repository:{name}:{actions}"' in answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize(("verb", "path"), EVERY_ENDPOINT)
async def test_whoever_may_not_learns_nothing_of_what_exists(oci: RegistryClient, verb: str, path: str) -> None:
    await oci.push(small_image(), "latest")
    known = await oci.by(BEN).call(verb, f"/v2/{NAME}/{path}")
    unknown = await oci.by(BEN).call(verb, f"/v2/demo/none/app/{path}")
    assert (known.status, unknown.status) == (403, 403)
    assert known.content == unknown.content.replace(b"/none", b"/web")


async def test_a_token_of_too_little_scope_is_told_to_fetch_a_wider_one(oci: RegistryClient) -> None:
    await oci.push(small_image(), "latest")
    pull = limited(oci, Grant("repository", NAME, ("pull",)))
    assert (await oci.call("GET", f"/v2/{NAME}/manifests/latest", **pull)).status == 200
    refused = await oci.call("POST", f"/v2/{NAME}/blobs/uploads/", **pull)
    assert (refused.status, refused.code) == (401, "UNAUTHORIZED")
    challenge = refused.headers["WWW-Authenticate"]
    assert 'error="insufficient_scope"' in challenge
    assert f'scope="repository:{NAME}:pull,push"' in challenge


async def test_a_token_for_one_image_does_not_reach_its_neighbour(oci: RegistryClient) -> None:
    await oci.push(small_image(), "latest")
    other = limited(oci, Grant("repository", "demo/web/other", ("pull", "push", "delete")))
    for verb, path in EVERY_ENDPOINT:
        assert (await oci.call(verb, f"/v2/{NAME}/{path}", **other)).status == 401


async def test_a_mount_asks_for_a_token_that_reads_the_source(oci: RegistryClient) -> None:
    answer = await oci.by("").call("POST", f"/v2/{NAME}/blobs/uploads/?mount={digest_of(b'x')}&from=demo/base/os")
    assert f'scope="repository:{NAME}:pull,push repository:demo/base/os:pull"' in answer.headers["WWW-Authenticate"]


async def test_what_is_everybodys_needs_no_token(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "latest")
    oci.parts.grant(WEB, ALL_USERS, READ)
    assert (await oci.by("").call("GET", f"/v2/{NAME}/manifests/latest")).content == image.manifest
    assert (await oci.by("").call("PUT", f"/v2/{NAME}/manifests/latest", image.manifest)).status == 401


async def test_the_catalog_wants_a_token_that_is_for_it(oci: RegistryClient) -> None:
    answer = await oci.by("").call("GET", "/v2/_catalog")
    assert (answer.status, 'scope="registry:catalog:*"' in answer.headers["WWW-Authenticate"]) == (401, True)
    assert (await oci.call("GET", "/v2/_catalog", **limited(oci))).status == 401
    assert (await oci.call("GET", "/v2/_catalog", **limited(oci, Grant("registry", "catalog", ("*",))))).status == 200


async def test_a_repository_is_made_by_the_first_push_of_somebody_who_may(oci: RegistryClient) -> None:
    oci.parts.grant("projects/demo", BEN, READ, WRITE)
    refused = await oci.by(BEN).call("POST", f"/v2/{NAME}/blobs/uploads/")
    assert (refused.status, refused.code) == (403, "DENIED")
    await oci.begin()
    assert (await oci.by(BEN).call("POST", f"/v2/{NAME}/blobs/uploads/")).status == 202


async def test_nothing_is_made_in_a_project_that_does_not_exist(oci: RegistryClient) -> None:
    oci.parts.grant("projects/nowhere", ADA, WRITE, "artifactregistry.repositories.createOnPush")
    answer = await oci.call("POST", "/v2/nowhere/web/app/blobs/uploads/")
    assert (answer.status, answer.code) == (404, "NAME_UNKNOWN")


@pytest.mark.parametrize("name", ["Demo/web/app", "demo/Web/app", "demo/web/app..x", "demo/web/-app"])
async def test_a_name_that_breaks_the_grammar_is_refused(oci: RegistryClient, name: str) -> None:
    answer = await oci.call("GET", f"/v2/{name}/manifests/latest")
    assert (answer.status, answer.code) == (400, "NAME_INVALID")
    assert (await oci.by("").call("GET", f"/v2/{name}/manifests/latest")).status == 401


@pytest.mark.parametrize("name", ["web", "d/web", "demo_1/web/app", "9/web/app"])
async def test_a_name_that_can_be_no_image_here_is_unknown_and_its_form_is_told(oci: RegistryClient, name: str) -> None:
    for verb, path in (("GET", "manifests/latest"), ("POST", "blobs/uploads/")):
        answer = await oci.call(verb, f"/v2/{name}/{path}")
        assert (answer.status, answer.code) == (404, "NAME_UNKNOWN")
        assert "PROJECT/REPOSITORY/IMAGE" in answer.json["errors"][0]["message"]


@pytest.mark.parametrize("path", ["/v2/nothing", "/v2/demo/web/app/what/ever", "/v2//"])
async def test_other_addresses_are_not_found_in_the_protocols_own_words(oci: RegistryClient, path: str) -> None:
    answer = await oci.call("GET", path)
    assert answer.status in {404, 405}
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.json["errors"][0]["code"]


async def test_errors_are_json_and_connections_live_on_after_an_early_refusal(oci: RegistryClient) -> None:
    refused = await oci.by(BEN).call("PUT", f"/v2/{NAME}/manifests/latest", b"x" * 100_000)
    assert (refused.status, refused.headers["Content-Type"]) == (403, "application/json; charset=utf-8")
    assert (await oci.call("GET", "/v2/")).status == 200


async def test_a_perimeter_keeps_out_who_calls_from_elsewhere_in_the_protocols_own_words(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "latest")
    project = oci.parts.directory.project("demo")
    assert project is not None
    oci.parts.learn(fence_of(project.number))
    for verb, path in (("GET", "manifests/latest"), ("GET", "tags/list"), ("POST", "blobs/uploads/")):
        answer = await oci.call(verb, f"/v2/{NAME}/{path}")
        assert (answer.status, answer.code) == (403, "DENIED"), path
        assert "prohibited by organization's policy" in answer.json["errors"][0]["message"]
        assert (await oci.by("").call(verb, f"/v2/{NAME}/{path}")).status == 401
    assert (await oci.call("HEAD", f"/v2/{NAME}/manifests/latest")).status == 403
    assert NAME not in (await oci.call("GET", "/v2/_catalog")).json["repositories"]
    oci.parts.learn(fence_of(project.number, "127.0.0.0/8", "::1/128"))
    assert (await oci.call("GET", f"/v2/{NAME}/manifests/latest")).status == 200
    assert NAME in (await oci.call("GET", "/v2/_catalog")).json["repositories"]
