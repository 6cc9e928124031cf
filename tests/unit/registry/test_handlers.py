"""What others ask of the registry through the bus; each job runs twice here, because it may."""

from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from shared.bus import Reject
from shared.cleanup_policies import fingerprint
from shared.events.cleanups import CleanupRequested, Doomed
from shared.events.images import ReferrerRequested
from shared.state import Step
from tests.support.images import digest_of
from tests.support.registry import INDEX, NAME, SCANNER, RegistryClient, artifact, index_of, small_image

MANIFESTS = f"/v2/{NAME}/manifests"


def wanted(subject: str, stored: str = "scanner/sbom") -> ReferrerRequested:
    return ReferrerRequested(
        project="demo",
        location="local",
        repository="web",
        image="app",
        subject_digest=subject,
        artifact_type="application/spdx+json",
        media_type="application/spdx+json",
        object=stored,
        annotations={"by": "scanner"},
    )


async def test_an_object_is_attached_once_however_often_it_is_asked_for(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "latest")
    await oci.parts.parts.blobs.put("scanner/sbom", b"packages")
    await oci.hear(wanted(image.digest))
    listed = (await oci.call("GET", f"/v2/{NAME}/referrers/{image.digest}")).json["manifests"]
    assert [(each["artifactType"], each["annotations"]) for each in listed] == [
        ("application/spdx+json", {"by": "scanner"})
    ]
    manifest = (await oci.call("GET", f"{MANIFESTS}/{listed[0]['digest']}")).json
    layer = await oci.call("GET", f"/v2/{NAME}/blobs/{manifest['layers'][0]['digest']}")
    assert layer.content == b"packages"
    (attached,) = oci.parts.announced("referrer.attached")
    assert attached.data["digest"] == listed[0]["digest"]
    assert len(oci.parts.announced("image.pushed")) == 1


async def test_a_subject_that_has_gone_is_passed_over(oci: RegistryClient) -> None:
    await oci.parts.parts.blobs.put("scanner/sbom", b"packages")
    await oci.hear(wanted(digest_of(b"gone")))
    assert oci.parts.announced("referrer.attached") == []


async def test_an_object_that_is_not_there_is_for_the_dead_letters(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "latest")
    with pytest.raises(Reject, match="scanner/none"):
        await oci.hear(wanted(image.digest, "scanner/none"))


async def clean(oci: RegistryClient, versions: Sequence[tuple[str, int]], policies: str = "") -> None:
    known = ("old", "multi")
    doomed = tuple(
        Doomed(image="app", digest=digest, generation=generation, tags=known) for digest, generation in versions
    )
    job = CleanupRequested(
        project="demo",
        location="local",
        owner="registry",
        repository="web",
        run="r",
        policies=policies,
        versions=doomed,
    )
    await oci.hear(job, f"job {versions}")


def generation(oci: RegistryClient, digest: str) -> int:
    return [event.generation for event in oci.parts.announced("image.pushed") if event.data["digest"] == digest][-1]


async def test_what_is_unchanged_and_free_is_deleted_and_said_in_the_name_of_who_asked(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "old")
    await clean(oci, [(image.digest, generation(oci, image.digest))])
    assert (await oci.call("HEAD", f"{MANIFESTS}/{image.digest}")).status == 404
    (deleted,) = oci.parts.announced("image.deleted")
    assert (deleted.data["tags"], deleted.actor) == (["old"], SCANNER)
    (entry,) = oci.parts.announced("audit.system")
    assert entry.data["entry"]["logName"].endswith("system_event")


async def test_what_was_pushed_again_since_the_plan_stays(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "old")
    seen = generation(oci, image.digest)
    await oci.push(image, "new")
    await clean(oci, [(image.digest, seen)])
    assert (await oci.call("HEAD", f"{MANIFESTS}/new")).status == 200
    assert oci.parts.announced("image.deleted") == []


async def test_a_tag_that_whoever_asks_has_not_heard_of_keeps_the_version(oci: RegistryClient) -> None:
    image, other = small_image(), small_image("other")
    for tag in ("late", "old"):
        await oci.push(image, tag)
    await oci.push(other, "old")  # says that the first image lost a tag, by a generation behind that of the late one
    await clean(oci, [(image.digest, generation(oci, other.digest))])
    assert (await oci.call("HEAD", f"{MANIFESTS}/late")).status == 200
    assert oci.parts.announced("image.deleted") == []


@pytest.mark.parametrize(
    ("since", "spared"),
    [
        ({"description": "others"}, False),
        ({"cleanupPolicies": {}}, True),
        ({"cleanupPolicies": {"old": {"action": "DELETE", "condition": {"olderThan": "60d"}}}}, True),
        ({"cleanupPolicyDryRun": True}, True),
    ],
)
async def test_nothing_is_deleted_by_policies_that_a_repository_has_no_more(
    oci: RegistryClient, since: dict[str, Any], *, spared: bool
) -> None:
    image, repository = small_image(), "/v1/projects/demo/locations/local/repositories/web"
    await oci.push(image, "old")
    own = {"old": {"action": "DELETE", "condition": {"olderThan": "30d"}}}
    await oci.call("PATCH", repository, orjson.dumps({"cleanupPolicies": own}))
    (known,) = [event.data for event in oci.parts.announced("state.repository") if "cleanup_policies" in event.data]
    mask = "?updateMask=" + ",".join(since)
    assert (await oci.call("PATCH", f"{repository}{mask}", orjson.dumps(since))).status == 200
    bound = fingerprint(known["cleanup_policies"], dry_run=False)
    await clean(oci, [(image.digest, generation(oci, image.digest))], bound)
    assert (await oci.call("HEAD", f"{MANIFESTS}/old")).status == (200 if spared else 404)
    assert bool(oci.parts.announced("image.deleted")) != spared


@pytest.mark.parametrize(
    ("settings", "spared"),
    [
        ({"dockerConfig": {"immutableTags": True}}, True),
        ({"labels": {"entrepot-tag-deletion": "refused"}}, True),
        ({"labels": {"entrepot-tag-deletion": "cleanup"}}, False),
        ({"labels": {"entrepot-tag-overwrite": "refused"}}, False),
    ],
)
async def test_a_rule_for_tags_that_was_made_since_the_plan_keeps_the_version(
    oci: RegistryClient, settings: dict[str, Any], *, spared: bool
) -> None:
    image = small_image()
    await oci.push(image, "old")
    seen = generation(oci, image.digest)
    await oci.call("PATCH", "/v1/projects/demo/locations/local/repositories/web", orjson.dumps(settings))
    await clean(oci, [(image.digest, seen)])
    assert (await oci.call("HEAD", f"{MANIFESTS}/old")).status == (200 if spared else 404)


async def test_a_rule_for_tags_that_is_made_in_the_moment_of_a_cleanup_keeps_the_version(
    oci: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = small_image()
    await oci.push(image, "old")
    state = oci.parts.parts.state
    apply = state.apply

    async def overtaken(step: Step) -> Any:
        monkeypatch.setattr(state, "apply", apply)
        settings = orjson.dumps({"dockerConfig": {"immutableTags": True}})
        await oci.call("PATCH", "/v1/projects/demo/locations/local/repositories/web", settings)
        return await apply(step)

    monkeypatch.setattr(state, "apply", overtaken)
    await clean(oci, [(image.digest, generation(oci, image.digest))])
    assert state.apply == apply
    assert (await oci.call("HEAD", f"{MANIFESTS}/old")).status == 200


async def test_what_an_index_lists_stays_unless_the_index_goes_too(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image)
    index = index_of(image.manifest)
    await oci.manifest(index, "multi", kind=INDEX)
    child = (image.digest, generation(oci, image.digest))
    await clean(oci, [child])
    assert (await oci.call("HEAD", f"{MANIFESTS}/{image.digest}")).status == 200
    await clean(oci, [child, (digest_of(index), generation(oci, digest_of(index)))])
    assert (await oci.call("HEAD", f"{MANIFESTS}/{image.digest}")).status == 404


async def test_a_referrer_stays_as_long_as_its_subject(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image)
    await oci.blob(b"{}")
    referrer = artifact(image.manifest)
    await oci.manifest(referrer)
    both = [(digest, generation(oci, digest)) for digest in (digest_of(referrer), image.digest)]
    await clean(oci, both[:1])
    assert (await oci.call("HEAD", f"{MANIFESTS}/{digest_of(referrer)}")).status == 200
    await clean(oci, both)
    assert (await oci.call("HEAD", f"{MANIFESTS}/{digest_of(referrer)}")).status == 404


async def test_a_referrer_stays_whose_subject_is_pushed_again_in_the_moment_of_its_deletion(
    oci: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, other = small_image(), small_image("other")
    await oci.push(image)
    await oci.push(other)
    await oci.blob(b"{}")
    referrer = artifact(image.manifest)
    await oci.manifest(referrer)
    assert (await oci.call("DELETE", f"{MANIFESTS}/{image.digest}")).status == 202
    state = oci.parts.parts.state
    apply = state.apply

    async def overtaken(step: Step) -> Any:
        monkeypatch.setattr(state, "apply", apply)
        await oci.push(image)
        await oci.call("DELETE", f"{MANIFESTS}/{other.digest}")  # there are as many versions as before
        return await apply(step)

    monkeypatch.setattr(state, "apply", overtaken)
    await clean(oci, [(digest_of(referrer), generation(oci, digest_of(referrer)))])
    assert state.apply == apply
    assert (await oci.call("HEAD", f"{MANIFESTS}/{digest_of(referrer)}")).status == 200


async def test_a_job_that_makes_no_sense_is_for_the_dead_letters(oci: RegistryClient) -> None:
    with pytest.raises(Reject):
        await clean(oci, [("sha256:x", 1)])
