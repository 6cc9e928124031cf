"""Decisions from facts: inheritance, groups, deny, conditions, disabled accounts, age, late words."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.bus import Heard
from shared.events import Event, Fact
from shared.events.states import (
    AccountState,
    Binding,
    Condition,
    DenyRule,
    GroupState,
    PolicyState,
    ProjectState,
    RoleState,
)
from shared.identity.caller import ANONYMOUS, Caller, Grant
from shared.identity.directory import Directory

ADA = Caller("user:ada@example.org")
CI = Caller("serviceAccount:ci@demo.iam.entrepot")
REPOSITORY = "projects/demo/locations/local/repositories/web"
PULL = "artifactregistry.repositories.downloadArtifacts"
PUSH = "artifactregistry.repositories.uploadArtifacts"


def policy(full_name: str, *bindings: Binding, deny: tuple[DenyRule, ...] = ()) -> PolicyState:
    project = full_name.split("/")[1] if full_name.startswith("projects/") else ""
    return PolicyState(project=project, full_name=full_name, bindings=bindings, deny=deny)


def bind(role: str, *members: str, condition: str = "") -> Binding:
    return Binding(role=role, members=members, condition=Condition(expression=condition) if condition else None)


def directory(*facts: Fact, now: float = 1_000_000.0, age: float = 0.0) -> Directory:
    found = Directory(lambda: now, lambda: age)
    roles = RoleState(project="", role="roles/reader", permissions=(PULL,))
    found.learn(roles)
    found.learn(RoleState(project="", role="roles/writer", permissions=(PULL, PUSH)))
    found.learn(ProjectState(project="demo", parent="organizations/1"))
    for fact in facts:
        found.learn(fact)
    return found


def test_nobody_may_anything_where_no_policy_says_so() -> None:
    assert directory().decide(ADA, PULL, REPOSITORY).reason == "no grant"


@pytest.mark.parametrize("place", [REPOSITORY, "projects/demo", "organizations/1"])
def test_a_grant_counts_on_the_resource_and_on_all_below(place: str) -> None:
    found = directory(policy(place, bind("roles/reader", ADA.member)))
    decision = found.decide(ADA, PULL, REPOSITORY)
    assert decision
    assert (decision.at, decision.principal) == (place, ADA.member)
    assert found.allowed(ADA, PULL, f"{REPOSITORY}/packages/app/tags/latest")
    assert not found.allowed(ADA, PUSH, REPOSITORY)
    assert not found.allowed(CI, PULL, REPOSITORY)


def test_a_grant_on_a_repository_says_nothing_of_its_neighbours() -> None:
    found = directory(policy(REPOSITORY, bind("roles/reader", ADA.member)))
    assert not found.allowed(ADA, PULL, f"{REPOSITORY}-2")
    assert not found.allowed(ADA, PULL, "projects/demo")
    assert not found.allowed(ADA, PULL, "projects/other/locations/local/repositories/web")


def test_a_project_that_was_never_heard_of_inherits_from_no_organisation() -> None:
    found = directory(policy("organizations/1", bind("roles/reader", ADA.member)))
    assert not found.allowed(ADA, PULL, "projects/unknown")


def test_groups_count_through_groups_and_end_when_a_member_leaves() -> None:
    found = directory(
        policy(REPOSITORY, bind("roles/reader", "group:all@example.org")),
        GroupState(project="", email="all@example.org", members=("group:dev@example.org", "group:all@example.org")),
        GroupState(project="", email="dev@example.org", members=(ADA.member,)),
    )
    assert found.decide(ADA, PULL, REPOSITORY).principal == "group:all@example.org"
    found.learn(GroupState(project="", email="dev@example.org"))
    assert not found.allowed(ADA, PULL, REPOSITORY)


def test_a_deleted_group_has_no_members() -> None:
    found = directory(
        policy(REPOSITORY, bind("roles/reader", "group:dev@example.org")),
        GroupState(project="", email="dev@example.org", members=(ADA.member,)),
        GroupState(project="", email="dev@example.org", members=(ADA.member,), deleted=True),
    )
    assert not found.allowed(ADA, PULL, REPOSITORY)


def test_all_users_means_anonymous_callers_too_and_all_authenticated_users_does_not() -> None:
    found = directory(
        policy(REPOSITORY, bind("roles/reader", "allUsers"), bind("roles/writer", "allAuthenticatedUsers"))
    )
    assert found.allowed(ANONYMOUS, PULL, REPOSITORY)
    assert not found.allowed(ANONYMOUS, PUSH, REPOSITORY)
    assert found.allowed(ADA, PUSH, REPOSITORY)


def test_a_domain_means_its_users() -> None:
    found = directory(policy(REPOSITORY, bind("roles/reader", "domain:example.org")))
    assert found.allowed(ADA, PULL, REPOSITORY)
    assert not found.allowed(Caller("user:eve@evil.example.org"), PULL, REPOSITORY)


def test_a_deny_rule_above_beats_every_grant_below_but_for_its_exceptions() -> None:
    rule = DenyRule(
        members=("allUsers",), permissions=("artifactregistry.repositories.*",), except_members=(CI.member,)
    )
    found = directory(
        policy(REPOSITORY, bind("roles/writer", ADA.member, CI.member)), policy("organizations/1", deny=(rule,))
    )
    decision = found.decide(ADA, PUSH, REPOSITORY)
    assert not decision
    assert (decision.reason, decision.at) == ("denied by rule", "organizations/1")
    assert found.allowed(CI, PUSH, REPOSITORY)


@pytest.mark.parametrize("fact", [{"disabled": True}, {"deleted": True}])
def test_a_disabled_or_deleted_account_may_not_even_do_what_all_users_may(fact: dict[str, bool]) -> None:
    found = directory(policy(REPOSITORY, bind("roles/reader", "allUsers")))
    assert found.allowed(CI, PULL, REPOSITORY)
    found.learn(AccountState(project="demo", email=CI.email, **fact))
    assert not found.allowed(CI, PULL, REPOSITORY)


def test_an_account_made_anew_inherits_nothing_of_its_namesake() -> None:
    account = AccountState(project="demo", email=CI.email, unique_id="7")
    bound = policy("projects/demo", bind("roles/reader", CI.member)).model_copy(update={"unique_ids": {CI.member: "7"}})
    found = directory(account, bound)
    assert found.allowed(CI, PULL, REPOSITORY)
    found.learn(account.model_copy(update={"deleted": True}))
    assert not found.allowed(CI, PULL, REPOSITORY)
    found.learn(account.model_copy(update={"unique_id": "8"}))
    assert not found.allowed(CI, PULL, REPOSITORY)
    found.learn(bound.model_copy(update={"unique_ids": {CI.member: "8"}}))
    assert found.allowed(CI, PULL, REPOSITORY)


def test_a_condition_counts_while_it_holds() -> None:
    until = f'request.time < timestamp("{datetime.fromtimestamp(2_000_000, UTC).isoformat()}")'
    bound = policy("projects/demo", bind("roles/reader", ADA.member, condition=until))
    assert directory(bound, now=1_999_999).decide(ADA, PULL, REPOSITORY).reason == "granted on condition"
    assert not directory(bound, now=2_000_000).allowed(ADA, PULL, REPOSITORY)


def test_a_condition_that_is_not_understood_grants_nothing() -> None:
    bound = policy("projects/demo", bind("roles/reader", ADA.member, condition="api.getAttribute('x', []) == 1"))
    assert not directory(bound).allowed(ADA, PULL, REPOSITORY)


def test_a_changed_role_counts_at_once() -> None:
    found = directory(policy(REPOSITORY, bind("roles/reader", ADA.member)))
    assert not found.allowed(ADA, PUSH, REPOSITORY)
    found.learn(RoleState(project="", role="roles/reader", permissions=(PUSH,)))
    assert found.allowed(ADA, PUSH, REPOSITORY)
    assert not found.allowed(ADA, PULL, REPOSITORY)
    found.learn(RoleState(project="", role="roles/reader", deleted=True))
    assert not found.allowed(ADA, PUSH, REPOSITORY)


def test_an_old_view_allows_reads_and_refuses_writes() -> None:
    bound = policy(REPOSITORY, bind("roles/writer", ADA.member))
    assert directory(bound, age=599).allowed(ADA, PUSH, REPOSITORY)
    old = directory(bound, age=601)
    assert old.stale
    assert old.allowed(ADA, PULL, REPOSITORY)
    assert old.decide(ADA, PUSH, REPOSITORY).reason == "stale"


def heard(event: Event, generation: int) -> Heard[Event]:
    return Heard(event=event, id="a", generation=generation, sequence=1, time="")


def test_a_late_word_does_not_undo_a_newer_one_nor_a_tombstone() -> None:
    found = directory()
    found.heard(heard(policy(REPOSITORY, bind("roles/reader", ADA.member)), 5))
    found.heard(heard(policy(REPOSITORY, bind("roles/writer", ADA.member)), 4))
    assert not found.allowed(ADA, PUSH, REPOSITORY)
    found.heard(heard(PolicyState(project="demo", full_name=REPOSITORY, deleted=True), 6))
    found.heard(heard(policy(REPOSITORY, bind("roles/reader", ADA.member)), 5))
    assert not found.allowed(ADA, PULL, REPOSITORY)
    assert found.policy(REPOSITORY) is None


def test_hearing_the_same_again_does_not_count_up_the_version() -> None:
    found = directory()
    version = found.version
    found.heard(heard(ProjectState(project="demo", parent="organizations/1"), 1))
    assert found.version == version


def test_another_directory_that_learns_all_facts_decides_the_same() -> None:
    found = directory(policy(REPOSITORY, bind("roles/reader", "group:dev@example.org")))
    found.learn(GroupState(project="", email="dev@example.org", members=(ADA.member,)), 3)
    other = Directory(lambda: 0.0)
    for fact, generation in found.facts():
        other.learn(fact, generation)
    assert other.allowed(ADA, PULL, REPOSITORY)
    assert list(other.facts()) == list(found.facts())


def test_nothing_in_a_project_that_is_being_deleted_can_be_used_but_the_project_can_be_brought_back() -> None:
    found = directory(policy("projects/demo", bind("roles/writer", ADA.member)))
    found.learn(RoleState(project="", role="roles/writer", permissions=(PUSH, "resourcemanager.projects.undelete")))
    found.learn(ProjectState(project="demo", state="DELETE_REQUESTED"))
    assert found.decide(ADA, PUSH, REPOSITORY).reason == "project is being deleted"
    assert found.allowed(ADA, "resourcemanager.projects.undelete", "projects/demo")
    found.learn(ProjectState(project="demo"))
    assert found.allowed(ADA, PUSH, REPOSITORY)


def test_a_registry_token_reaches_no_further_than_its_scope() -> None:
    found = directory(policy("projects/demo", bind("roles/writer", ADA.member)))
    narrow = Caller(ADA.member, access=(Grant("repository", "demo/web/app", ("pull",)),))
    assert found.allowed(narrow, PULL, REPOSITORY)
    assert found.decide(narrow, PUSH, REPOSITORY).reason == "outside the token's scope"
    assert not found.allowed(narrow, PULL, f"{REPOSITORY}-2")
    assert not found.allowed(narrow, PULL, "projects/demo")
    assert not found.allowed(Caller(ADA.member, access=()), PULL, REPOSITORY)


def test_reads_are_audited_as_the_configs_of_all_ancestors_say_together() -> None:
    wanted = {"service": "allServices", "auditLogConfigs": [{"logType": "DATA_READ", "exemptedMembers": [CI.member]}]}
    found = directory(PolicyState(project="demo", full_name="projects/demo", audit_configs=(wanted,)))
    assert found.audits("artifactregistry.googleapis.com", "DATA_READ", REPOSITORY, ADA.member)
    assert not found.audits("artifactregistry.googleapis.com", "DATA_READ", REPOSITORY, CI.member)
    assert not found.audits("artifactregistry.googleapis.com", "DATA_WRITE", REPOSITORY, ADA.member)


members = st.sampled_from([ADA.member, CI.member, "group:dev@example.org", "allUsers", "allAuthenticatedUsers"])
made_bindings = st.builds(
    bind, st.sampled_from(["roles/reader", "roles/writer"]), members, condition=st.sampled_from(["", "true", "false"])
)
made_rules = st.builds(DenyRule, members=st.tuples(members), permissions=st.just((PULL,)))


@given(
    st.dictionaries(
        st.sampled_from([REPOSITORY, "projects/demo", "organizations/1"]),
        st.tuples(st.lists(made_bindings, max_size=3), st.lists(made_rules, max_size=1)),
    ),
    st.sampled_from([ADA, CI, ANONYMOUS]),
    st.sampled_from([PULL, PUSH]),
)
def test_the_quick_answer_is_the_one_with_the_reason_and_deny_wins(
    policies: dict[str, tuple[list[Binding], list[DenyRule]]], caller: Caller, permission: str
) -> None:
    found = directory(GroupState(project="", email="dev@example.org", members=(ADA.member,)))
    for name, (bindings, rules) in policies.items():
        found.learn(policy(name, *bindings, deny=tuple(rules)))
    decision = found.decide(caller, permission, REPOSITORY)
    assert found.allowed(caller, permission, REPOSITORY) is decision.allowed
    denied = [member for _, rules in policies.values() for rule in rules for member in rule.members]
    if caller is ADA and permission == PULL and denied and CI.member not in denied:
        assert not decision


def test_what_is_remembered_stays_bounded() -> None:
    found = directory(policy("projects/demo", bind("roles/reader", ADA.member)))
    for number in range(45_000):
        found.allowed(
            Caller(f"user:u{number}@example.org"), PULL, f"projects/demo/locations/local/repositories/r{number}"
        )
    assert len(found._worked_out.chains) <= 20_000
    assert len(found._worked_out.principals) <= 20_000
    assert found.allowed(ADA, PULL, REPOSITORY)
