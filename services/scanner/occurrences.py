"""Occurrences and notes in the JSON of Container Analysis v1 (Grafeas), made from what is stored."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, cast

import orjson

from services.scanner.advisories.record import Row
from services.scanner.advisories.severity import UNRATED
from services.scanner.findings import Finding, Findings
from services.scanner.places import Place
from services.scanner.records import SUCCESS, Record

Json = dict[str, Any]

DISCOVERY_NOTE = "PACKAGE_VULNERABILITY"
_PACKAGE_TYPES = {"PyPI": "PYPI", "npm": "NPM"}
_CVSS = (("CVSS:4", "CVSS_VERSION_4"), ("CVSS:3", "CVSS_VERSION_3"))


def vulnerabilities(place: Place, host: str, record: Record, findings: Findings) -> list[Json]:
    """An occurrence for each finding."""
    return [_vulnerability(place, host, record, finding) for finding in findings.findings]


def _vulnerability(place: Place, host: str, record: Record, finding: Finding) -> Json:
    key = f"{finding.advisory}\n{finding.ecosystem}\n{finding.package}\n{finding.version}"
    return {
        **_head(place, host, record, hashlib.sha256(key.encode()).hexdigest()[:24]),
        "noteName": f"projects/{place.project}/notes/{finding.advisory}",
        "kind": "VULNERABILITY",
        "vulnerability": {
            "type": _package_type(finding.ecosystem),
            "severity": finding.severity,
            "effectiveSeverity": finding.severity,
            "cvssScore": finding.score,
            "cvssVersion": _cvss_version(finding.vector),
            "fixAvailable": bool(finding.fixed),
            "packageIssue": [_issue(finding)],
            "relatedUrls": [],
            "shortDescription": ", ".join(finding.ids),
            "longDescription": finding.vector,
        },
    }


def _issue(finding: Finding) -> Json:
    fixed = {"kind": "NORMAL", "fullName": finding.fixed} if finding.fixed else {"kind": "MAXIMUM"}
    return {
        "affectedPackage": finding.package,
        "affectedVersion": {"kind": "NORMAL", "fullName": finding.version},
        "fixedPackage": finding.package if finding.fixed else "",
        "fixedVersion": fixed,
        "fixAvailable": bool(finding.fixed),
        "packageType": _package_type(finding.ecosystem),
        "effectiveSeverity": finding.severity,
        "fileLocation": [
            {"filePath": path, "layerDetails": {"index": finding.layer_index, "diffId": "", "layer": finding.layer}}
            for path in finding.paths
        ],
        "binaryPackages": list(finding.binaries),
    }


def discovery(place: Place, host: str, record: Record, kinds: Sequence[str]) -> Json:
    """The occurrence that says that an image was analysed, and with what result."""
    result = record.result
    found: Json = {
        "continuousAnalysis": "ACTIVE" if result.status == SUCCESS else "INACTIVE",
        "analysisStatus": result.status,
        "lastScanTime": record.scanned,
        "analysisCompleted": {"analysisType": [kind.upper() for kind in kinds]},
    }
    if result.reason:
        found["analysisStatusError"] = {"code": 9, "message": result.reason}
    note = f"projects/{place.project}/notes/{DISCOVERY_NOTE}"
    return {**_head(place, host, record, "discovery"), "noteName": note, "kind": "DISCOVERY", "discovery": found}


def attestation(place: Place, host: str, name: str, known: Mapping[str, str], content: bytes | None) -> Json:
    """The occurrence of an attestation; `content` is the object that the attestor signed, None when it is gone."""
    own = hashlib.sha256(name.encode()).hexdigest()[:24]
    return {
        "name": f"projects/{place.project}/occurrences/{place.id}-{own}",
        "resourceUri": place.address(host),
        "createTime": known.get("time", ""),
        "updateTime": known.get("time", ""),
        "noteName": known.get("note", ""),
        "kind": "ATTESTATION",
        "attestation": _signed(content, known),
    }


def _signed(content: bytes | None, known: Mapping[str, str]) -> Json:
    """The payload and its signatures, from an occurrence or a DSSE envelope."""
    try:
        found: Any = orjson.loads(content or b"{}")
    except orjson.JSONDecodeError:
        found = {}
    envelope = cast("Json", found) if isinstance(found, dict) else {}
    inner = envelope.get("attestation", envelope)
    if "serializedPayload" in inner:
        return {"serializedPayload": inner["serializedPayload"], "signatures": inner.get("signatures", [])}
    signatures = [
        {"signature": one.get("sig", ""), "publicKeyId": one.get("keyid") or known.get("key_id", "")}
        for one in envelope.get("signatures", [])
    ]
    return {"serializedPayload": envelope.get("payload", ""), "signatures": signatures}


def note(project: str, name: str, rows: Sequence[Row]) -> Json:
    """The note of an advisory, from all that is known of it."""
    worst = max(rows, key=lambda row: (row.rating.rank, row.id)).rating
    first = rows[0]
    return {
        "name": f"projects/{project}/notes/{name}",
        "kind": "VULNERABILITY",
        "shortDescription": name,
        "longDescription": ", ".join(sorted({alias for row in rows for alias in (row.id, *row.aliases)})),
        "createTime": first.published,
        "updateTime": first.modified,
        "vulnerability": {
            "severity": worst.severity,
            "cvssScore": worst.score,
            "cvssVersion": _cvss_version(worst.vector),
            "details": [_detail(row) for row in rows],
        },
    }


def _detail(row: Row) -> Json:
    start, end = (row.spans[0].start, row.spans[0].end) if row.spans else ("", "")
    return {
        "affectedPackage": row.name,
        "affectedVersionStart": {"kind": "NORMAL", "fullName": start} if start else {"kind": "MINIMUM"},
        "affectedVersionEnd": {"kind": "NORMAL", "fullName": end} if end else {"kind": "MAXIMUM"},
        "packageType": _package_type(row.ecosystem),
        "severityName": row.rating.severity,
        "description": row.rating.vector,
        "source": row.id,
    }


def counts(place: Place, host: str, record: Record) -> list[Json]:
    """The lines of a vulnerability summary about one image.

    As at Google, the line without a severity counts all findings; so those that nobody rated have none of their own.
    """
    found, fixable = record.result.counts, record.result.fixable
    totals = {severity: (count, fixable.get(severity, 0)) for severity, count in found.items() if severity != UNRATED}
    if found:
        totals[UNRATED] = (sum(found.values()), sum(fixable.values()))
    return [
        {
            "resourceUri": place.address(host),
            "severity": severity,
            "totalCount": str(total),
            "fixableCount": str(mendable),
        }
        for severity, (total, mendable) in sorted(totals.items())
    ]


def _head(place: Place, host: str, record: Record, own: str) -> Json:
    return {
        "name": f"projects/{place.project}/occurrences/{place.id}-{own}",
        "resourceUri": place.address(host),
        "createTime": record.created,
        "updateTime": record.scanned,
    }


def _package_type(ecosystem: str) -> str:
    return _PACKAGE_TYPES.get(ecosystem, "OS")


def _cvss_version(vector: str) -> str:
    known = next((version for start, version in _CVSS if vector.startswith(start)), "")
    return known or ("CVSS_VERSION_2" if vector else "CVSS_VERSION_UNSPECIFIED")
