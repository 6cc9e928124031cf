"""Which advisories speak of the packages of an image."""

from collections.abc import Iterable, Iterator, Sequence

from services.scanner.advisories.database import Feed, canonical
from services.scanner.advisories.record import Row, within
from services.scanner.findings import Finding
from services.scanner.inventory.image import Installed, Inventory
from services.scanner.inventory.package import Package
from services.scanner.versions import VersionInvalid, key_of

_LANGUAGES = {"pypi": "PyPI", "npm": "npm"}


def findings_of(inventory: Inventory, feeds: Sequence[Feed]) -> tuple[Finding, ...]:
    """The findings, each advisory once for each package and version, in an order that depends on nothing else."""
    found: dict[tuple[str, str, str, str], Finding] = {}
    for ecosystem, name, version, places in _subjects(inventory):
        for row in (row for feed in feeds for row in feed.about(ecosystem, name)):
            if affects(row, version):
                finding = _finding(row, version, places)
                key = (finding.advisory, ecosystem, name, version)
                found[key] = finding if key not in found else _merged(found[key], finding)
    return tuple(found[key] for key in sorted(found))


def affects(row: Row, version: str) -> bool:
    """Whether an advisory's row speaks of that version; of a malformed one it does only by its exact text."""
    if version in row.versions or within(row.ecosystem, version, row.spans):
        return True
    try:
        key = key_of(row.ecosystem, version)
        return any(key == key_of(row.ecosystem, listed) for listed in row.versions)
    except VersionInvalid:
        return False


def fix_of(row: Row, version: str) -> str:
    """The first version that mends what `version` has; empty where there is none."""
    for span in row.spans:
        if span.end and not span.including and within(row.ecosystem, version, (span,)):
            return span.end
    return ""


def _subjects(inventory: Inventory) -> Iterator[tuple[str, str, str, list[Installed]]]:
    """What advisories are looked up for: ecosystem, name, version. Debian's speak of sources, not of packages."""
    subjects: dict[tuple[str, str, str], list[Installed]] = {}
    for installed in inventory.installed:
        subject = _subject(installed.package, inventory.distribution.ecosystem)
        if subject[0] and not installed.owned:
            subjects.setdefault(subject, []).append(installed)
    return ((*subject, places) for subject, places in subjects.items())


def _subject(package: Package, distribution: str) -> tuple[str, str, str]:
    if package.kind == "deb":
        return distribution, package.source, package.source_version
    return _LANGUAGES[package.kind], package.name, package.version


def _finding(row: Row, version: str, places: Sequence[Installed]) -> Finding:
    first = min(places, key=lambda place: (place.layer_index, place.path))
    return Finding(
        advisory=canonical(row),
        ids=tuple(sorted({row.id, *row.aliases})),
        severity=row.rating.severity,
        score=row.rating.score,
        vector=row.rating.vector,
        ecosystem=row.ecosystem,
        package=row.name,
        version=version,
        binaries=_unique(place.package.name for place in places if place.package.kind == "deb"),
        fixed=fix_of(row, version),
        layer=first.layer,
        layer_index=first.layer_index,
        paths=_unique(place.path for place in places),
    )


def _merged(one: Finding, other: Finding) -> Finding:
    """The same advisory from two databases: the worse rating, and a fix where either knows one."""
    worse = max(one, other, key=lambda finding: (finding.rating.rank, finding.vector))
    fixes = sorted({one.fixed, other.fixed} - {""}, key=lambda version: key_of(one.ecosystem, version))
    return worse.model_copy(update={"ids": tuple(sorted({*one.ids, *other.ids})), "fixed": fixes[-1] if fixes else ""})


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(names)))
