"""Deletion with what belongs to the deleted, by request: what goes, what stays, and what a crash or a race leaves."""

from typing import Any

import pytest

from services.registry.housekeeping import Housekeeping
from shared.names import partition_of
from shared.state import Step
from tests.support.images import digest_of
from tests.support.registry import INDEX, NAME, RegistryClient, artifact, index_of, registry

MANIFESTS = f"/v2/{NAME}/manifests"
VERSIONS = "/v1/projects/demo/locations/local/repositories/web/packages/app/versions"


def kind(number: int) -> bytes:
    """One of many manifests that need no blob but the empty object."""
    return artifact(kind=f"application/vnd.test.{number}")


async def there(oci: RegistryClient, *manifests: bytes) -> list[bool]:
    statuses = [(await oci.call("HEAD", f"{MANIFESTS}/{digest_of(each)}")).status for each in manifests]
    return [status == 200 for status in statuses]


async def put(oci: RegistryClient, *manifests: bytes, tag: str = "") -> None:
    """Push these, children before their indexes; the last one under a tag."""
    await oci.blob(b"{}")
    for each in manifests:
        kind = INDEX if b'"manifests"' in each else ""
        reference = tag if each is manifests[-1] else ""
        answer = await (oci.manifest(each, reference, kind=kind) if kind else oci.manifest(each, reference))
        assert answer.status == 201, answer


async def delete(oci: RegistryClient, manifest: bytes, cascade: str) -> int:
    return (await oci.call("DELETE", f"{MANIFESTS}/{digest_of(manifest)}?cascade={cascade}")).status


async def settled(oci: RegistryClient) -> None:
    """Let whoever finishes what broke off do it, once."""
    house = next(each.__self__ for each in oci.background if isinstance(getattr(each, "__self__", None), Housekeeping))
    await house.finish_deletions_once()


def deleted(oci: RegistryClient) -> list[str]:
    return [event.data["digest"] for event in oci.parts.announced("image.deleted")]


async def test_an_index_takes_its_children_along_and_each_is_announced(oci: RegistryClient) -> None:
    one, two = kind(1), kind(2)
    inner = index_of(two)
    outer = index_of(one, inner)
    await put(oci, one, two, inner, outer, tag="multi")
    assert await delete(oci, outer, "children") == 202
    assert await there(oci, outer, inner, one, two) == [False] * 4
    assert deleted(oci)[0] == digest_of(outer)
    assert sorted(deleted(oci)) == sorted(map(digest_of, (outer, inner, one, two)))
    assert [event.data["tags"] for event in oci.parts.announced("image.deleted") if event.data.get("tags")] == [
        ["multi"]
    ]


async def test_without_being_asked_for_nothing_follows(oci: RegistryClient) -> None:
    child = kind(1)
    index, referrer = index_of(child), artifact(index_of(child))
    await put(oci, child, index, referrer)
    assert (await oci.call("DELETE", f"{MANIFESTS}/{digest_of(index)}")).status == 202
    assert await there(oci, index, child, referrer) == [False, True, True]


async def test_a_child_that_has_a_tag_or_another_index_stays(oci: RegistryClient) -> None:
    tagged, shared, alone = kind(1), kind(2), kind(3)
    index, other = index_of(tagged, shared, alone), index_of(shared)
    await put(oci, tagged, tag="v1")
    await put(oci, shared, alone, index, other)
    assert await delete(oci, index, "children") == 202
    assert await there(oci, index, alone, tagged, shared, other) == [False, False, True, True, True]


async def test_a_subject_takes_its_referrers_along_and_theirs_and_leaves_its_children(oci: RegistryClient) -> None:
    child = kind(1)
    subject = index_of(child)
    bill = artifact(subject)
    signature = artifact(bill)
    kept = artifact(subject, kind="application/vnd.kept")
    await put(oci, child, subject, bill, signature)
    await put(oci, kept, tag="kept")
    assert await delete(oci, subject, "referrers") == 202
    assert await there(oci, subject, bill, signature, child, kept) == [False, False, False, True, True]


async def test_the_list_of_referrers_that_a_client_keeps_by_tag_goes_with_the_subject(oci: RegistryClient) -> None:
    subject = kind(1)
    signature = artifact(subject)
    fallback = index_of(signature)
    await put(oci, subject, signature)
    await put(oci, fallback, tag=digest_of(subject).replace(":", "-"))
    assert await delete(oci, subject, "all") == 202
    assert await there(oci, subject, fallback, signature) == [False] * 3


async def test_artifact_registrys_api_takes_the_same_word(oci: RegistryClient) -> None:
    child = kind(1)
    await put(oci, child, index_of(child), tag="multi")
    version = f"{VERSIONS}/{digest_of(index_of(child))}"
    assert (await oci.call("DELETE", f"{version}?cascade=children")).status == 400
    assert await there(oci, child) == [True]
    assert (await oci.call("DELETE", f"{version}?force=true&cascade=children")).status == 200
    assert await there(oci, index_of(child), child) == [False, False]


async def test_another_word_is_refused_and_so_is_a_cascade_from_a_tag(oci: RegistryClient) -> None:
    await put(oci, kind(1), tag="v1")
    assert await delete(oci, kind(1), "everything") == 400
    assert (await oci.call("DELETE", f"{MANIFESTS}/v1?cascade=all")).status == 400
    assert await there(oci, kind(1)) == [True]


async def test_what_an_index_lists_is_not_deleted_with_its_own_belongings_either(oci: RegistryClient) -> None:
    inner = index_of(kind(1))
    await put(oci, kind(1), inner, index_of(inner))
    assert await delete(oci, inner, "all") == 403
    assert await there(oci, inner, kind(1)) == [True, True]


@pytest.mark.parametrize("finisher", ["repetition", "housekeeping"])
@pytest.mark.parametrize("survived", range(10))
async def test_a_cascade_that_breaks_off_between_two_steps_leaves_what_fits_and_is_finished(
    monkeypatch: pytest.MonkeyPatch, survived: int, finisher: str
) -> None:
    async with registry() as oci:
        inner = index_of(kind(1))
        outer = index_of(inner, kind(2))
        signature = artifact(outer)
        everything = (kind(1), kind(2), inner, outer, signature)
        await put(oci, *everything)
        state = oci.parts.parts.state
        apply, steps = state.apply, 0

        async def dying(step: Step) -> Any:
            nonlocal steps
            if steps == survived:
                raise ConnectionError
            steps += 1
            return await apply(step)

        monkeypatch.setattr(state, "apply", dying)
        status = await delete(oci, outer, "all")
        monkeypatch.setattr(state, "apply", apply)
        for index, children in ((outer, (inner, kind(2))), (inner, (kind(1),))):
            if (await there(oci, index))[0]:
                assert all(await there(oci, *children))
        if finisher == "repetition":
            assert await delete(oci, outer, "all") == (404 if status == 202 else 202)
        else:
            await settled(oci)
        if survived or finisher == "repetition":
            assert not any(await there(oci, *everything))
            assert sorted(deleted(oci)) == sorted(map(digest_of, everything))
        await settled(oci)
        assert await state.members(oci.parts.parts.keys.at(partition_of("demo"), "cascades")) == []


async def test_a_child_that_is_pushed_again_meanwhile_stays_for_the_index_that_is_to_come(
    oci: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    child, other = kind(1), kind(2)
    index, coming = index_of(child), index_of(child, other)
    await put(oci, child, other, index)
    state = oci.parts.parts.state
    apply, steps = state.apply, 0

    async def overtaken(step: Step) -> Any:
        nonlocal steps
        steps += 1
        if steps == 2:  # the index has gone, and its child is about to
            await oci.manifest(child)
        return await apply(step)

    monkeypatch.setattr(state, "apply", overtaken)
    assert await delete(oci, index, "children") == 202
    assert await there(oci, index, child) == [False, True]
    assert (await oci.manifest(coming, "multi", kind=INDEX)).status == 201


async def test_referrers_stay_when_their_subject_comes_back_meanwhile(
    oci: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = kind(1)
    signature = artifact(subject)
    await put(oci, subject, signature)
    state = oci.parts.parts.state
    apply, steps = state.apply, 0

    async def overtaken(step: Step) -> Any:
        nonlocal steps
        steps += 1
        if steps == 2:
            await oci.manifest(subject)
        return await apply(step)

    monkeypatch.setattr(state, "apply", overtaken)
    assert await delete(oci, subject, "all") == 202
    assert await there(oci, subject, signature) == [True, True]


async def test_a_blob_that_is_dropped_while_a_manifest_refers_to_it_stays_or_the_manifest_is_refused(
    oci: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have decided that it may be; whoever makes the first step is right."""
    await put(oci, kind(1))
    blob = f"/v2/{NAME}/blobs/{digest_of(b'{}')}"
    assert (await oci.call("DELETE", f"{MANIFESTS}/{digest_of(kind(1))}")).status == 202
    state = oci.parts.parts.state
    apply, late = state.apply, []

    async def overtaken(step: Step) -> Any:
        if not late:
            late.append(step)
            assert (await oci.manifest(kind(2))).status == 201
        return await apply(step)

    monkeypatch.setattr(state, "apply", overtaken)
    assert (await oci.call("DELETE", blob)).status == 403
    assert (await oci.call("HEAD", blob)).status == 200
    monkeypatch.setattr(state, "apply", apply)
    assert (await oci.call("DELETE", f"{MANIFESTS}/{digest_of(kind(2))}")).status == 202
    late.clear()

    async def dropped(step: Step) -> Any:
        if not late:
            late.append(step)
            assert (await oci.call("DELETE", blob)).status == 202
        return await apply(step)

    monkeypatch.setattr(state, "apply", dropped)
    refused = await oci.manifest(kind(3))
    assert (refused.status, refused.code) == (404, "MANIFEST_BLOB_UNKNOWN")
