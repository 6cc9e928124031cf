"""What an unmodified gcloud shows of scans and attestations beside the images that they are about."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.layouts import LayoutWriter
from tests.support.suite import Suite

pytestmark = pytest.mark.timeout(400)

FLAW = {
    "id": "CVE-2031-0001",
    "modified": "2031-01-01T00:00:00Z",
    "affected": [
        {
            "package": {"ecosystem": "PyPI", "name": "hawser"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.0"}]}],
        }
    ],
    "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
}
METADATA = b"Metadata-Version: 2.1\nName: hawser\nVersion: 1.0\n\n"


def test_findings_are_shown_with_their_image(suite: Suite, tmp_path: Path, gcloud: Any) -> None:
    (tmp_path / "flaws.json").write_text(json.dumps(FLAW))
    suite.entrepot("advisories", "import", str(tmp_path / "flaws.json"), "--source", "flaws")
    layout = LayoutWriter(tmp_path / "layout")
    site = "usr/lib/python3/site-packages/hawser-1.0.dist-info/METADATA"
    digest = layout.name(layout.image([{site: METADATA}]), "v1")
    suite.entrepot("copy", f"oci:{layout.folder}:v1", f"docker://{suite.registry}/demo/analysed/app:v1")
    address = f"local-docker.pkg.dev/demo/analysed/app@{digest}"
    images = ("artifacts", "docker", "images")
    deadline = time.monotonic() + 120
    while True:
        shown = gcloud(*images, "describe", address, "--show-package-vulnerability")
        found = shown.get("package_vulnerability_summary", {})
        if found or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    (flaw,) = found["vulnerabilities"]["CRITICAL"]
    assert flaw["noteName"] == "projects/demo/notes/CVE-2031-0001"
    assert flaw["vulnerability"]["packageIssue"][0]["fixedVersion"]["fullName"] == "2.0"
    assert (found["total_vulnerability_count"], found["not_fixed_vulnerability_count"]) == (1, 0)
    everything = gcloud(*images, "describe", address, "--show-all-metadata")
    assert everything["discovery_summary"]["discovery"][0]["discovery"]["analysisStatus"] == "FINISHED_SUCCESS"
    listed = gcloud(*images, "list", "local-docker.pkg.dev/demo/analysed", "--show-occurrences")
    (image,) = [one for one in listed if one["version"] == str(digest)]
    assert image["vuln_counts"] == {"CRITICAL": 1}
    assert image["DISCOVERY"]


def test_an_attestation_made_by_gcloud_is_listed_also_under_its_note(suite: Suite, tmp_path: Path, gcloud: Any) -> None:
    note = {"attestation": {"hint": {"humanReadableName": "release desk"}}}
    suite.call("scanner", "v1/projects/demo/notes?noteId=releases", note)
    image = f"registry.example.org/demo/analysed/app@sha256:{'7' * 64}"
    (tmp_path / "signature").write_bytes(b"\x00\xffsigned")
    attestations = ("container", "binauthz", "attestations")
    made = gcloud(
        *attestations,
        "create",
        f"--artifact-url={image}",
        "--note=projects/demo/notes/releases",
        f"--signature-file={tmp_path / 'signature'}",
        "--public-key-id=urn:key",
    )
    assert made in gcloud(*attestations, "list", f"--artifact-url={image}")
    found = suite.call("scanner", "v1/projects/demo/notes/releases/occurrences")["occurrences"]
    assert [one["name"] for one in found] == [made["name"]]
    assert found[0]["attestation"]["signatures"][0]["signature"] == "AP9zaWduZWQ="
