"""What the scanner does about events: one scan for each image, findings kept, changes said."""

import orjson
import pytest

from services.scanner.findings import Findings
from services.scanner.layers.limits import MIB, LayerRefused, Limits
from services.scanner.layers.reading import Reader
from shared.events.images import ImagePushed
from shared.events.scans import NO_ADVISORIES, ScanRequested
from tests.support.events import said
from tests.support.images import MANIFEST, Image, image_of, layer_of
from tests.support.scans import CRITICAL, ScannerAtWork, osv, python_image, scanner_at_work

INDEX = "application/vnd.oci.image.index.v1+json"
OLD = ("jinja2", "2.10")
ADVISORY = osv(
    "PYSEC-1", "PyPI", "Jinja2", {"introduced": "0"}, {"fixed": "2.10.1"}, vector=CRITICAL, aliases=["CVE-2019-10906"]
)


async def test_a_pushed_image_is_scanned_and_its_findings_are_said() -> None:
    async with scanner_at_work() as scanner:
        await scanner.take_in(ADVISORY)
        await scanner.push(python_image(OLD, ("flask", "3.0")))
        (completed,) = scanner.said("scan.completed")
        assert completed["counts"] == {"CRITICAL": 1}
        assert completed["fixable"] == {"CRITICAL": 1}
        assert completed["highest_cvss"] == 9.8
        assert completed["packages"] == 2
        findings = Findings.read(await scanner.memory.parts.blobs.content(completed["findings"]))
        assert [(one.advisory, one.package, one.version, one.fixed) for one in findings.findings] == [
            ("CVE-2019-10906", "jinja2", "2.10", "2.10.1")
        ]


async def test_an_image_is_scanned_also_before_there_are_advisories_and_matched_when_they_come() -> None:
    async with scanner_at_work() as scanner:
        await scanner.push(python_image(OLD))
        assert "counts" not in scanner.said("scan.completed")[0]
        await scanner.take_in(ADVISORY)
        assert [one.get("counts") for one in scanner.said("scan.completed")] == [None, {"CRITICAL": 1}]
        (opened,) = scanner.said("vulnerability.opened")
        assert (opened["advisory"], opened["package"], opened["version"]) == ("CVE-2019-10906", "jinja2", "2.10")


async def test_a_first_scan_opens_nothing_and_later_changes_of_advisories_open_and_close() -> None:
    async with scanner_at_work() as scanner:
        await scanner.take_in(ADVISORY)
        await scanner.push(python_image(OLD))
        assert scanner.said("vulnerability.opened") == []
        await scanner.take_in({**ADVISORY, "withdrawn": "2026-02-01T00:00:00Z"})
        assert [one["advisory"] for one in scanner.said("vulnerability.closed")] == ["CVE-2019-10906"]
        assert "counts" not in scanner.said("scan.completed")[-1]
        await scanner.take_in(ADVISORY)
        assert len(scanner.said("vulnerability.opened")) == 1


async def test_an_import_that_changes_nothing_for_an_image_says_nothing_about_it() -> None:
    async with scanner_at_work() as scanner:
        await scanner.take_in(osv("PYSEC-3", "PyPI", "celery", {"introduced": "0"}), source="other")
        await scanner.push(python_image(OLD))
        await scanner.take_in(osv("PYSEC-2", "PyPI", "django", {"introduced": "0"}))
        await scanner.take_in(osv("PYSEC-2", "PyPI", "django", {"introduced": "0"}))
        assert len(scanner.said("scan.completed")) == 1
        assert len(scanner.said("advisory.updated")) == 2


async def test_an_event_that_is_heard_twice_is_one_scan() -> None:
    async with scanner_at_work() as scanner:
        await scanner.take_in(ADVISORY)
        pushed = await scanner.push(python_image(OLD))
        await scanner.hear(pushed, generation=1, cause="again")
        await scanner.hear(pushed, generation=1, cause="and again")
        assert len(scanner.said("scan.completed")) == 1


async def test_scans_are_counted_so_that_whoever_hears_of_two_knows_the_later_one() -> None:
    async with scanner_at_work() as scanner:
        await scanner.push(python_image(("jinja2", "2.4.1")))
        await scanner.take_in(osv("PYSEC-1", "PyPI", "jinja2", {"introduced": "0"}, {"fixed": "3.0"}, vector=CRITICAL))
        first, second = scanner.memory.announced("scan.completed")
        assert 0 < first.generation < second.generation


async def test_the_same_digest_under_another_name_is_said_for_that_name_from_the_same_facts() -> None:
    async with scanner_at_work() as scanner:
        image = python_image(OLD)
        await scanner.push(image)
        for digest in image.blobs:
            await scanner.memory.parts.blobs.delete(f"blobs/demo/{digest.replace(':', f'/{digest[7:9]}/', 1)}")
        await scanner.push(image, name="other/name")
        assert [one["image"] for one in scanner.said("scan.completed")] == ["app", "other/name"]
        assert [one.get("status") for one in scanner.said("scan.completed")] == [None, None]


async def test_a_deleted_image_is_forgotten_and_its_late_push_is_no_news() -> None:
    async with scanner_at_work() as scanner:
        pushed = await scanner.push(python_image(OLD))
        await scanner.delete(pushed)
        assert (await scanner.get("/v1/projects/demo/occurrences"))["occurrences"] == []
        await scanner.hear(pushed, generation=1, cause="late")
        await scanner.take_in(ADVISORY)
        assert len(scanner.said("scan.completed")) == 1
        await scanner.hear(pushed, generation=9, cause="pushed anew")
        assert len(scanner.said("scan.completed")) == 2


async def test_a_deletion_that_is_older_than_the_push_changes_nothing() -> None:
    async with scanner_at_work() as scanner:
        image = python_image(OLD)
        pushed = await scanner.push(image)
        await scanner.hear(pushed, generation=7, cause="pushed again")
        await scanner.delete(pushed, generation=5)
        assert len((await scanner.get("/v1/projects/demo/occurrences"))["occurrences"]) == 1


async def test_what_refers_to_a_subject_is_not_scanned_and_nothing_is_said_of_it() -> None:
    async with scanner_at_work() as scanner:
        await scanner.push(python_image(OLD), subject_digest=f"sha256:{'0' * 64}")
        assert scanner.said("scan.completed") == []


async def test_an_artifact_that_is_no_image_is_unsupported() -> None:
    async with scanner_at_work() as scanner:
        image = python_image(OLD)
        manifest = orjson.loads(image.manifest)
        manifest["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json"
        await scanner.push(type(image)(orjson.dumps(manifest), image.blobs))
        (completed,) = scanner.said("scan.completed")
        assert completed["status"] == "FINISHED_UNSUPPORTED"
        assert "helm" in completed["reason"]


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (b"this is no archive, and long enough to be looked at" * 20, "no tar"),
        (layer_of({"a": b"x" * 4000})[:60], "cut off"),
        (layer_of({"../../etc/os-release": b"x"}), "out of the image"),
        (layer_of({"a": b"x"})[:12] + b"\xff" * 200, "decompressed"),
    ],
)
async def test_a_broken_layer_fails_the_scan_with_its_reason(layer: bytes, reason: str) -> None:
    async with scanner_at_work() as scanner:
        image = python_image(OLD)
        manifest, blobs = orjson.loads(image.manifest), dict(image.blobs)
        blobs[manifest["layers"][0]["digest"]] = layer
        await scanner.push(type(image)(image.manifest, blobs))
        (completed,) = scanner.said("scan.completed")
        assert completed["status"] == "FINISHED_FAILED"
        assert reason in completed["reason"]
        assert scanner.memory.broker.stream("DEAD").last == 0


async def test_a_manifest_that_cannot_be_read_fails_the_scan() -> None:
    async with scanner_at_work() as scanner:
        image = python_image(OLD)
        await scanner.push(type(image)(b'{"layers": 7}', image.blobs))
        assert scanner.said("scan.completed")[0]["status"] == "FINISHED_FAILED"


async def test_an_index_has_the_findings_of_all_its_images() -> None:
    async with scanner_at_work() as scanner:
        await scanner.take_in(ADVISORY, osv("PYSEC-3", "PyPI", "flask", {"introduced": "0"}))
        amd, arm = python_image(OLD), python_image(("flask", "0.1"))
        manifests = [
            {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": image.digest, "size": 1}
            for image in (amd, arm)
        ]
        unknown = {
            **manifests[0],
            "digest": f"sha256:{'1' * 64}",
            "platform": {"os": "unknown", "architecture": "unknown"},
        }
        for image in (amd, arm):
            await scanner.put_image(image)
        media_type = "application/vnd.oci.image.index.v1+json"
        index = orjson.dumps({"mediaType": media_type, "manifests": [*manifests, unknown]})
        await scanner.push(type(amd)(index, {}), media_type=media_type)
        (completed,) = scanner.said("scan.completed")
        assert completed["counts"] == {"CRITICAL": 1, "SEVERITY_UNSPECIFIED": 1}


async def test_a_requested_scan_is_said_though_nothing_changed() -> None:
    async with scanner_at_work() as scanner:
        image = python_image(OLD)
        await scanner.push(image)
        asked = ScanRequested(project="demo", location="local", repository="web", image="app", digest=image.digest)
        await scanner.hear(asked)
        assert len(scanner.said("scan.completed")) == 2


async def test_a_requested_scan_of_nothing_goes_to_the_dead_letters() -> None:
    async with scanner_at_work() as scanner:
        digest = f"sha256:{'0' * 64}"
        await scanner.hear(
            ScanRequested(project="demo", location="local", repository="web", image="app", digest=digest)
        )
        assert scanner.memory.broker.stream("DEAD").last == 1


async def test_advisories_of_one_project_say_nothing_of_anothers_images() -> None:
    async with scanner_at_work() as scanner:
        await scanner.take_in(ADVISORY, project="other")
        await scanner.push(python_image(OLD))
        assert "counts" not in scanner.said("scan.completed")[0]


async def test_advisories_of_the_sharing_project_hold_for_all_projects() -> None:
    async with scanner_at_work({"ENTREPOT_SCANNER_SHARED_ADVISORIES": "other"}) as scanner:
        await scanner.push(python_image(OLD))
        await scanner.take_in(ADVISORY, project="other")
        assert scanner.said("scan.completed")[-1]["counts"] == {"CRITICAL": 1}


async def test_a_layer_that_two_images_have_is_read_once() -> None:
    async with scanner_at_work() as scanner:
        base = layer_of({"opt/node_modules/left-pad/package.json": b'{"name":"left-pad","version":"1.0.0"}'})
        await scanner.push(image_of([base]))
        facts = [found.name async for found in scanner.memory.parts.blobs.names("scanner/layers/")]
        for name in list(scanner.memory.bucket.objects):
            if name.startswith("blobs/"):
                await scanner.memory.parts.blobs.delete(name)
        upper = layer_of({"app/x": b"1"})
        image = image_of([base, upper])
        await scanner.push(type(image)(image.manifest, {d: c for d, c in image.blobs.items() if c != base}), name="two")
        assert scanner.said("scan.completed")[-1]["packages"] == 1
        assert len(facts) == 1


@pytest.mark.parametrize(
    "named",
    [
        {"mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"},
        {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "urls": ["https://elsewhere.example/layer"]},
    ],
)
async def test_what_is_known_of_a_layer_is_told_only_where_its_repository_holds_it(named: dict[str, object]) -> None:
    async with scanner_at_work() as scanner:
        secret = python_image(OLD)
        pushed = await scanner.push(secret, repository="secret")
        manifest = orjson.loads(secret.manifest)
        manifest["layers"] = [{**layer, **named} for layer in manifest["layers"]]
        spy = type(secret)(orjson.dumps(manifest), {})
        await scanner.push(spy, repository="secrets-of-none")
        completed = scanner.said("scan.completed")[-1]
        assert completed["status"] == "FINISHED_FAILED"
        assert "is not there" in completed["reason"]
        await scanner.push(spy, repository="secret", name="other")
        assert scanner.said("scan.completed")[-1]["packages"] == 1
        await scanner.delete(pushed)
        await scanner.push(spy, repository="secret", name="third")
        assert scanner.said("scan.completed")[-1]["status"] == "FINISHED_FAILED"


async def holds_nothing(layer: str) -> bool:
    del layer
    return False


def reader_of(scanner: ScannerAtWork, limits: Limits) -> Reader:
    return Reader(scanner.memory.parts.blobs, scanner.memory.parts.cpu, limits)


def bombs(count: int, files: int = 1, size: int = 1024 * 1024) -> Image:
    """An image whose layers are small each, and unpack to much together."""
    return image_of([layer_of({f"{one}/{file}": bytes(size) for file in range(files)}) for one in range(count)])


@pytest.mark.parametrize(
    ("settings", "image", "reason"),
    [
        (
            {"IMAGE_UNPACKED": str(5 * MIB)},
            bombs(8),
            f"image together unpack to more than {5 * MIB} bytes",
        ),
        ({"IMAGE_UNPACKED": str(5 * MIB)}, bombs(1, 8), f"image together unpack to more than {5 * MIB} bytes"),
        ({"LAYER_UNPACKED": str(5 * MIB)}, bombs(1, 8), f"the layer unpacks to more than {5 * MIB} bytes"),
        ({"IMAGE_MEMBERS": "20"}, bombs(8, 3, 0), "layers of the image together have more than 20 members"),
        ({"IMAGE_LAYERS": "7"}, bombs(8, 1, 1), "the image has more than 7 layers"),
    ],
)
async def test_a_bomb_of_many_layers_ends_as_a_scan_that_says_the_limit(
    settings: dict[str, str], image: Image, reason: str
) -> None:
    async with scanner_at_work({f"ENTREPOT_SCANNER_{name}": text for name, text in settings.items()}) as scanner:
        await scanner.push(image)
        await scanner.take_in(ADVISORY)
        await scanner.push(image)
        (completed,) = scanner.said("scan.completed")
        assert completed["status"] == "FINISHED_FAILED"
        assert reason in completed["reason"]
        assert scanner.memory.broker.stream("DEAD").last == 0


async def test_a_bomb_spread_over_the_images_of_an_index_is_stopped_too() -> None:
    async with scanner_at_work() as scanner:
        images = [image_of([layer_of({f"{one}/{n}": bytes(MIB) for n in range(2)})]) for one in range(4)]
        for image in images:
            await scanner.put_image(image)
        listed = [{"mediaType": MANIFEST, "digest": image.digest, "size": 1} for image in images]
        index = Image(orjson.dumps({"mediaType": INDEX, "manifests": listed}), {})
        await scanner.put_image(index)
        for _ in range(2):  # from the layers, then from what is known of the first images
            with pytest.raises(LayerRefused, match="together unpack to more"):
                await reader_of(scanner, Limits(image_unpacked=5 * MIB)).contents("demo", index.digest, holds_nothing)
        read = await reader_of(scanner, Limits(image_unpacked=9 * MIB)).contents("demo", index.digest, holds_nothing)
        assert read.unpacked > 8 * MIB
        with pytest.raises(LayerRefused, match="more than 3 layers"):
            await reader_of(scanner, Limits(image_layers=3)).contents("demo", index.digest, holds_nothing)


async def test_layers_of_one_image_together_say_no_more_than_one_may() -> None:
    async with scanner_at_work() as scanner:
        image = image_of([layer_of({f"d{number}/.wh.x": b"", f"d{number}/.wh.y": b""}) for number in range(2)])
        await scanner.put_image(image)
        with pytest.raises(LayerRefused, match="the image says more than 3"):
            await reader_of(scanner, Limits(facts=3)).contents("demo", image.digest, holds_nothing)


async def test_findings_are_the_same_object_for_the_same_digest_and_advisories() -> None:
    names = []
    for _ in range(2):
        async with scanner_at_work() as scanner:
            await scanner.take_in(ADVISORY)
            await scanner.push(python_image(OLD))
            names.append(scanner.said("scan.completed")[0]["findings"])
    assert names[0] == names[1]


async def test_a_push_whose_manifest_is_gone_is_given_up_without_a_dead_letter() -> None:
    async with scanner_at_work() as scanner:
        image = python_image(OLD)
        event = ImagePushed(
            project="demo", location="local", repository="web", image="app", digest=image.digest,
            media_type="x", size=1, uploaded="2026-01-01T00:00:00Z",
        )  # fmt: skip
        scanner.publish(said(event))
        for _ in range(10):
            await scanner.settle()
            await scanner.memory.clock.advance(10)
        assert scanner.said("scan.completed") == []
        assert scanner.memory.broker.stream("DEAD").last == 0


async def test_a_scan_without_any_advisories_says_so_and_the_first_import_is_news() -> None:
    async with scanner_at_work() as scanner:
        await scanner.push(python_image(("flask", "3.0")))
        assert [one["advisories"] for one in scanner.said("scan.completed")] == [NO_ADVISORIES]
        await scanner.take_in(ADVISORY)
        await scanner.settle()
        assert len(scanner.said("scan.completed")) == 2
