"""A perimeter around one project, for tests of who is let in."""

from shared.events.states import PerimeterState

_POLICY = "accessPolicies/1"
_OFFICE = f"{_POLICY}/accessLevels/office"


def fence_of(number: int, *networks: str) -> PerimeterState:
    """Artifact Registry fenced for the project of that number; who calls from `networks` is let in."""
    conditions = [{"ipSubnetworks": list(networks or ("192.0.2.0/24",))}]
    config = {
        "resources": [f"projects/{number}"],
        "accessLevels": [_OFFICE],
        "restrictedServices": ["artifactregistry.googleapis.com"],
    }
    return PerimeterState(
        project="",
        policy=_POLICY,
        parent="organizations/1",
        levels=({"name": _OFFICE, "basic": {"conditions": conditions}},),
        perimeters=({"name": f"{_POLICY}/servicePerimeters/p", "status": config},),
    )
