"""Perimeters: whom they let in, from where, for which calls; and what cannot be read lets nobody in."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.events.states import AccountState, GroupState, PerimeterState, ProjectState
from shared.identity.caller import ANONYMOUS, Caller
from shared.identity.directory import Directory
from shared.identity.perimeters import Called

POLICY = "accessPolicies/1"
OFFICE = f"{POLICY}/accessLevels/office"
AR, LOGGING = "artifactregistry.googleapis.com", "logging.googleapis.com"
WEB = "projects/demo/locations/local/repositories/web"
ADA, CI = Caller("user:ada@example.org"), Caller("serviceAccount:ci@demo.iam.entrepot")
INSIDE, OUTSIDE = "192.0.2.7", "198.51.100.7"


def level(name: str = "office", combine: str = "AND", **condition: Any) -> dict[str, Any]:
    conditions = [condition or {"ipSubnetworks": ["192.0.2.0/24", "2001:db8::/32"]}]
    return {"name": f"{POLICY}/accessLevels/{name}", "basic": {"conditions": conditions, "combiningFunction": combine}}


def fence(*ingress: dict[str, Any], levels: tuple[str, ...] = (OFFICE,), **more: Any) -> dict[str, Any]:
    config = {"resources": ["projects/7"], "accessLevels": levels, "restrictedServices": [AR]}
    return {"name": f"{POLICY}/servicePerimeters/p", "status": config | {"ingressPolicies": list(ingress)}, **more}


def ingress(
    *identities: str, kind: str = "", source: str = "*", resources: tuple[str, ...] = ("*",), **operation: Any
) -> dict[str, Any]:
    origin: dict[str, Any] = {"sources": [{"accessLevel": source}]}
    origin |= {"identityType": kind} if kind else {"identities": identities}
    return {
        "ingressFrom": origin,
        "ingressTo": {"resources": resources, "operations": [operation or {"serviceName": "*"}]},
    }


def knowing(*perimeters: dict[str, Any], levels: tuple[dict[str, Any], ...] = (), age: float = 0.0) -> Directory:
    found = Directory(lambda: 0.0, lambda: age)
    found.learn(ProjectState(project="demo", number=7))
    found.learn(ProjectState(project="other", number=8))
    found.learn(AccountState(project="demo", email=CI.email, unique_id="1"))
    found.learn(GroupState(project="", email="team@example.org", members=(ADA.member,)))
    state = PerimeterState(
        project="", policy=POLICY, parent="organizations/1", levels=levels or (level(),), perimeters=perimeters
    )
    found.learn(state)
    return found


def lets_in(
    directory: Directory, caller: Caller = ADA, ip: str = OUTSIDE, api: str = AR, *, resource: str = WEB
) -> bool:
    called = Called(ip, api, "artifactregistry.repositories.downloadArtifacts", "Pull")
    return not [caught for caught in directory.caught(caller, resource, called) if not caught.dry_run]


def test_without_a_perimeter_nothing_is_fenced() -> None:
    directory = knowing()
    assert not directory.fenced(WEB)
    assert lets_in(directory)


@pytest.mark.parametrize("ip", [INSIDE, "::ffff:192.0.2.7", "2001:db8::1"])
def test_an_access_level_lets_in_who_calls_from_its_networks_and_nobody_else(ip: str) -> None:
    directory = knowing(fence())
    assert directory.fenced(WEB)
    assert lets_in(directory, ip=ip)
    assert lets_in(directory, ANONYMOUS, ip=ip)
    for stranger in (OUTSIDE, "2001:db9::1", "", "nonsense"):
        assert not lets_in(directory, ip=stranger)
        assert not lets_in(directory, ANONYMOUS, ip=stranger)


def test_only_the_projects_inside_and_the_restricted_services_are_fenced() -> None:
    directory = knowing(fence())
    assert lets_in(directory, api=LOGGING)
    assert lets_in(directory, resource="projects/other/locations/local/repositories/web")
    assert lets_in(directory, resource="organizations/1")
    assert not directory.fenced("projects/other/locations/local/repositories/web")


def test_without_levels_and_rules_nobody_is_let_in_but_our_own_services() -> None:
    directory = knowing(fence(levels=()))
    assert not lets_in(directory, ip=INSIDE)
    assert lets_in(directory, Caller("serviceAccount:scanner@entrepot-system.iam.entrepot"))
    assert not lets_in(directory, Caller("serviceAccount:scanner@entrepot-system.example.org"))
    assert not lets_in(directory, Caller("user:scanner@entrepot-system.iam.entrepot"))


@pytest.mark.parametrize(
    ("conditions", "combine", "lets"),
    [
        ([{"members": [ADA.member]}], "AND", True),
        ([{"members": [CI.member]}], "AND", False),
        ([{"members": [ADA.member], "ipSubnetworks": ["192.0.2.0/24"]}], "AND", False),
        ([{"members": [ADA.member]}, {"ipSubnetworks": ["192.0.2.0/24"]}], "AND", False),
        ([{"members": [ADA.member]}, {"ipSubnetworks": ["192.0.2.0/24"]}], "OR", True),
        ([{"ipSubnetworks": ["192.0.2.0/24"], "negate": True}], "AND", True),
        ([{"ipSubnetworks": ["198.51.100.0/24"], "negate": True}], "AND", False),
    ],
)
def test_conditions_are_combined_and_negated(conditions: list[dict[str, Any]], combine: str, *, lets: bool) -> None:
    one = level(combine=combine)
    one["basic"]["conditions"] = conditions
    assert lets_in(knowing(fence(), levels=(one,))) == lets


@pytest.mark.parametrize(
    ("rule", "caller", "lets"),
    [
        (ingress(ADA.member), ADA, True),
        (ingress(ADA.member), CI, False),
        (ingress("group:team@example.org"), ADA, True),
        (ingress(kind="ANY_USER_ACCOUNT"), ADA, True),
        (ingress(kind="ANY_USER_ACCOUNT"), CI, False),
        (ingress(kind="ANY_SERVICE_ACCOUNT"), CI, True),
        (ingress(kind="ANY_IDENTITY"), ANONYMOUS, True),
        (ingress(ADA.member, source=OFFICE), ADA, False),
        (ingress(ADA.member, resources=("projects/7",)), ADA, True),
        (ingress(ADA.member, resources=("projects/8",)), ADA, False),
        (ingress(ADA.member, serviceName=AR, methodSelectors=[{"method": "*"}]), ADA, True),
        (ingress(ADA.member, serviceName=AR, methodSelectors=[{"method": "Pull"}]), ADA, True),
        (ingress(ADA.member, serviceName=AR, methodSelectors=[{"method": "Push"}]), ADA, False),
        (ingress(ADA.member, serviceName=LOGGING, methodSelectors=[{"method": "*"}]), ADA, False),
        (
            ingress(
                ADA.member,
                serviceName=AR,
                methodSelectors=[{"permission": "artifactregistry.repositories.downloadArtifacts"}],
            ),
            ADA,
            True,
        ),
    ],
)
def test_an_ingress_policy_lets_in_whom_it_names_for_what_it_names(
    rule: dict[str, Any], caller: Caller, *, lets: bool
) -> None:
    assert lets_in(knowing(fence(rule)), caller) == lets


def test_what_is_only_tried_is_told_and_lets_everybody_in() -> None:
    tried = {**fence(), "useExplicitDryRunSpec": True}
    tried["spec"], tried["status"] = tried["status"], {}
    directory = knowing(tried)
    assert lets_in(directory)
    called = Called(OUTSIDE, AR, "", "")
    assert [caught.dry_run for caught in directory.caught(ADA, WEB, called)] == [True]
    assert directory.caught(ADA, WEB, Called(INSIDE, AR, "", "")) == []


def test_a_changed_perimeter_counts_at_once_and_a_late_word_does_not_undo_it() -> None:
    directory = knowing(fence())
    state = PerimeterState(project="", policy=POLICY, parent="organizations/1")
    directory.learn(state, 2)
    assert lets_in(directory)
    directory.learn(state.model_copy(update={"levels": (level(),), "perimeters": (fence(),)}), 1)
    assert lets_in(directory)


def test_an_old_view_keeps_its_fences_up() -> None:
    assert not lets_in(knowing(fence(), age=10_000.0))


@given(
    st.dictionaries(
        st.text(max_size=12) | st.sampled_from(["name", "status", "spec"]), st.text() | st.none() | st.integers()
    )
)
def test_what_cannot_be_read_lets_nobody_in(words: dict[str, Any]) -> None:
    directory = knowing(fence(), words | {"status": {"resources": 7}})
    assert directory.fenced(WEB)
    assert not lets_in(directory, ip=INSIDE)
