"""Policies from Google's JSON and back: what is kept, what is refused, and what an etag promises."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.cel import ConditionUnknown
from shared.events.states import AccountState, DenyRule, PolicyState
from shared.identity.conditions import Asked, compiled
from shared.identity.directory import Directory
from shared.identity.members import addresses_in
from shared.identity.policies import (
    NO_POLICY_ETAG,
    PolicyInvalid,
    PolicyMoved,
    changed_policy,
    known_member,
    policy_json,
    read_members,
)

NAME = "projects/demo"
ROLES = {"roles/reader", "roles/writer"}


NOBODY = Directory(lambda: 0.0)
CI = "ci@demo.iam.entrepot"


def change(
    policy: Any, current: PolicyState | None = None, mask: str = "", *, known: Directory = NOBODY
) -> PolicyState:
    return changed_policy(current, NAME, {"policy": policy, "updateMask": mask}, ROLES.__contains__, known)


def told(policy: PolicyState | None, known: Directory = NOBODY) -> dict[str, Any]:
    return policy_json(policy, known)


def knowing(*accounts: AccountState) -> Directory:
    found = Directory(lambda: 0.0)
    for number, account in enumerate(accounts):
        found.learn(account, number)
    return found


def account(unique_id: str, **changes: Any) -> AccountState:
    return AccountState(project="demo", email=CI, unique_id=unique_id, **changes)


def bindings(*members: str, role: str = "roles/reader", **more: Any) -> dict[str, Any]:
    return {"bindings": [{"role": role, "members": list(members), **more}]}


def test_a_policy_that_is_read_and_written_back_is_the_same() -> None:
    first = change(bindings("user:ada@example.org", "allUsers"))
    again = change(told(first), first)
    assert again.bindings == first.bindings
    assert told(first)["bindings"] == [{"role": "roles/reader", "members": ["user:ada@example.org", "allUsers"]}]


def test_where_there_is_no_policy_there_is_an_etag_that_can_be_written_back() -> None:
    assert told(None) == {"etag": NO_POLICY_ETAG}
    change({"etag": NO_POLICY_ETAG})


def test_an_etag_changes_with_every_change_even_back_to_what_it_was() -> None:
    first = change(bindings("allUsers"))
    second = change(bindings("allUsers", role="roles/writer"), first)
    third = change(bindings("allUsers"), second)
    assert len({first.etag, second.etag, third.etag}) == 3
    with pytest.raises(PolicyMoved):
        change({**bindings("allUsers"), "etag": first.etag}, third)
    change(bindings("allUsers"), third)  # without an etag the last word counts


def test_an_etag_is_the_same_in_both_alphabets_of_base64() -> None:
    policy = None
    for _ in range(50):
        policy = change(bindings("allUsers"), policy)
        assert policy.etag.isalnum()


def test_bindings_of_one_role_are_joined_and_empty_ones_left_out() -> None:
    policy = change(
        {
            "bindings": [
                {"role": "roles/reader", "members": ["allUsers"]},
                {"role": "roles/reader", "members": ["allUsers", "user:a@b.org"]},
                {"role": "roles/writer", "members": []},
            ]
        }
    )
    assert [(binding.role, binding.members) for binding in policy.bindings] == [
        ("roles/reader", ("allUsers", "user:a@b.org"))
    ]


@pytest.mark.parametrize(
    "policy",
    [
        bindings("allUsers", role="roles/unknown"),
        bindings("ada@example.org"),
        bindings("user:ada"),
        bindings("USER:ada@example.org"),
        bindings("user:a b@example.org"),
        bindings("deleted:serviceAccount:a@b.org?uid=1"),
        bindings("projectOwner:demo"),
        bindings(""),
        bindings("allUsers", color="red"),
        {"bindings": {"role": "roles/reader"}},
        {"bindings": [{"members": ["allUsers"]}]},
        {"version": 2},
        {"shoes": []},
        {"auditConfigs": [{"service": "all", "auditLogConfigs": []}]},
        [],
        None,
        bindings(*(f"user:u{number}@example.org" for number in range(1501))),
    ],
)
def test_what_could_not_be_kept_exactly_is_refused(policy: Any) -> None:
    with pytest.raises(PolicyInvalid):
        change(policy)


def test_a_condition_needs_version_three_and_to_be_understood() -> None:
    condition = {"title": "t", "expression": 'request.time < timestamp("2030-01-01T00:00:00Z")'}
    policy = bindings("allUsers", condition=condition)
    with pytest.raises(PolicyInvalid, match="version 3"):
        change(policy)
    kept = change({**policy, "version": 3})
    assert told(kept)["version"] == 3
    assert told(kept)["bindings"][0]["condition"] == condition
    with pytest.raises(PolicyInvalid, match="not understood"):
        change({**bindings("allUsers", condition={"expression": "[1].all(x, x > 0)"}), "version": 3})


def test_audit_configs_change_only_when_the_mask_names_them_and_deny_rules_never() -> None:
    audit = {"auditConfigs": [{"service": "allServices", "auditLogConfigs": [{"logType": "DATA_READ"}]}]}
    deny = (DenyRule(members=("allUsers",), permissions=("a.b.c",)),)
    current = PolicyState(project="demo", full_name=NAME, etag="x", deny=deny)
    assert change(audit, current).audit_configs == ()
    kept = change(audit, current, "auditConfigs")
    assert told(kept)["auditConfigs"] == audit["auditConfigs"]
    assert change(bindings("allUsers"), kept).audit_configs == kept.audit_configs
    assert change(bindings("allUsers"), kept).deny == deny
    assert change({}, kept, "bindings,auditConfigs").audit_configs == ()
    with pytest.raises(PolicyInvalid, match="updateMask"):
        change({}, kept, "shoes")
    twice = {"auditConfigs": audit["auditConfigs"] * 2}
    with pytest.raises(PolicyInvalid, match="once"):
        change(twice, kept, "auditConfigs")


def test_an_account_that_there_is_not_cannot_be_bound_and_other_houses_accounts_can() -> None:
    known = knowing(account("7"))
    assert change(bindings(f"serviceAccount:{CI}"), known=known).unique_ids == {f"serviceAccount:{CI}": "7"}
    change(bindings("serviceAccount:robot@example.iam.gserviceaccount.com"), known=known)
    for email in ("cl@demo.iam.entrepot", "ci@other.iam.entrepot"):
        with pytest.raises(PolicyInvalid, match=f"Service account {email} does not exist"):
            change(bindings(f"serviceAccount:{email}"), known=known)


def test_a_deleted_account_is_shown_as_such_and_can_be_written_back_or_taken_away() -> None:
    before = change(bindings(f"serviceAccount:{CI}", "allUsers"), known=knowing(account("7")))
    gone = knowing(account("7", deleted=True))
    shown = told(before, gone)
    assert shown["bindings"][0]["members"] == [f"deleted:serviceAccount:{CI}?uid=7", "allUsers"]
    kept = change(
        {**shown, "bindings": [*shown["bindings"], *bindings("user:a@b.org")["bindings"]]}, before, known=gone
    )
    assert told(kept, gone)["bindings"][0]["members"] == [*shown["bindings"][0]["members"], "user:a@b.org"]
    assert change(bindings("allUsers"), kept, known=gone).bindings[0].members == ("allUsers",)
    with pytest.raises(PolicyInvalid, match="does not exist"):
        change(bindings(f"serviceAccount:{CI}"), before, known=gone)
    with pytest.raises(PolicyInvalid, match="Invalid member"):
        change(bindings(f"deleted:serviceAccount:{CI}?uid=8"), before, known=gone)


def test_an_account_made_anew_is_bound_beside_the_one_that_is_gone() -> None:
    before = change(bindings(f"serviceAccount:{CI}"), known=knowing(account("7")))
    known = knowing(account("7"), account("8"))
    shown = told(before, known)
    assert shown["bindings"][0]["members"] == [f"deleted:serviceAccount:{CI}?uid=7"]
    both = change(
        {"bindings": [*shown["bindings"], *bindings(f"serviceAccount:{CI}")["bindings"]]}, before, known=known
    )
    assert told(both, known)["bindings"][0]["members"] == [
        f"deleted:serviceAccount:{CI}?uid=7",
        f"serviceAccount:{CI}",
    ]


def test_a_policy_of_before_these_ids_still_names_its_accounts() -> None:
    old = PolicyState(project="demo", full_name=NAME, bindings=change(bindings(f"serviceAccount:{CI}")).bindings)
    assert told(old, knowing(account("7")))["bindings"][0]["members"] == [f"serviceAccount:{CI}"]
    gone = knowing(account("7", deleted=True))
    assert told(old, gone)["bindings"][0]["members"] == [f"deleted:serviceAccount:{CI}?uid=7"]


def test_addresses_are_kept_in_small_letters() -> None:
    assert read_members(["user:Ada@Example.ORG", "user:ada@example.org"]) == ("user:ada@example.org",)


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
policies = st.fixed_dictionaries(
    {},
    optional={
        "version": json | st.sampled_from([0, 1, 3]),
        "etag": json,
        "bindings": json
        | st.lists(
            st.fixed_dictionaries(
                {"role": st.sampled_from(sorted(ROLES)), "members": st.lists(st.text(max_size=9) | st.just("allUsers"))}
            ),
            max_size=3,
        ),
        "auditConfigs": json,
    },
)


@given(st.fixed_dictionaries({"policy": policies | json}) | json)
def test_any_json_names_accounts_or_none(body: Any) -> None:
    assert all(isinstance(email, str) for email in addresses_in(body))
    assert addresses_in({"policy": bindings(f"serviceAccount:{CI}", "allUsers")}) == {CI}


@given(policies | json, json | st.just("bindings"))
def test_any_json_is_a_policy_or_refused_in_words(policy: Any, mask: Any) -> None:
    try:
        kept = changed_policy(None, NAME, {"policy": policy, "updateMask": mask}, ROLES.__contains__, NOBODY)
    except (PolicyInvalid, PolicyMoved):
        return
    assert change(told(kept), kept).bindings == kept.bindings
    assert all(known_member(member) for binding in kept.bindings for member in binding.members)


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        ("true", True),
        ("!true", False),
        ("true && false || true", True),
        ("true && (false || !true)", False),
        ('resource.name == "projects/demo"', True),
        ("resource.name != 'projects/demo'", False),
        ('resource.name.startsWith("projects/de")', True),
        ('resource.name.endsWith("x")', False),
        ('request.time > timestamp("1970-01-01T00:00:00Z") && request.time <= timestamp("1970-01-01T00:01:40Z")', True),
        ('request.time >= timestamp("1970-01-01T01:00:00+01:00")', True),
    ],
)
def test_a_condition_means_what_it_says(expression: str, *, holds: bool) -> None:
    assert compiled(expression)(Asked(100.0, "projects/demo")) is holds


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "true true",
        "(true",
        "true)",
        "resource.name",
        'resource.name < "a"',
        "resource.name == name",
        'resource.type == "x"',
        'request.time < "2030-01-01"',
        'request.time < timestamp("tomorrow")',
        "request.time < timestamp(1)",
        "[1,2].exists(x, true)",
        'request.time.getHours("Europe/Berlin") < 5',
        "!" * 50 + "true",
        "(" * 50 + "true" + ")" * 50,
        "true || " * 500 + "true",
    ],
)
def test_what_is_not_understood_of_a_condition_is_refused(expression: str) -> None:
    with pytest.raises(ConditionUnknown):
        compiled(expression)


@given(
    st.text() | st.lists(st.sampled_from(["true", "(", ")", "!", "&&", "||", "request.time", "<", "'a'"])).map(" ".join)
)
def test_any_text_is_a_condition_or_refused(text: str) -> None:
    try:
        test = compiled(text)
    except ConditionUnknown:
        return
    assert test(Asked(0.0, "x")) in {True, False}
