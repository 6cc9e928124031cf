from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.cleanup.plan import Plan, plan
from services.cleanup.versions import Name, Version
from shared.cleanup_policies import read_policies, seconds_of
from shared.tag_rules import TagRules

NOW = 1_000_000_000.0
DAY = 86_400.0
OLD = {"old": {"action": "DELETE", "condition": {"olderThan": "30d"}}}
UNTAGGED = {"untagged": {"action": "DELETE", "condition": {"tagState": "UNTAGGED"}}}


def version(name: str, days: float = 40, *tags: str, image: str = "app", **more: Any) -> Version:
    return Version(Name(image, name), generation=1, uploaded=NOW - days * DAY, size=10, tags=tags, **more)


def planned(versions: list[Version], policies: dict[str, Any]) -> Plan:
    return plan(versions, read_policies(policies), NOW)


def gone(versions: list[Version], policies: dict[str, Any]) -> list[str]:
    return [version.name.digest for version, _ in planned(versions, policies).doomed]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30d", 2592000), ("2592000s", 2592000), ("2592000.0s", 2592000), ("12h", 43200), ("1.5h", 5400), ("2w", 1209600)],
)
def test_durations_are_read_in_every_spelling(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("policy", [{"olderThan": "1d"}, {"newerThan": "1d"}])
def test_what_is_exactly_so_old_is_neither_older_nor_newer(policy: dict[str, str]) -> None:
    assert gone([version("a", 1)], {"p": {"action": "DELETE", "condition": policy}}) == []


def test_a_prefix_counts_also_where_the_tag_state_is_any() -> None:
    condition = {"tagState": "ANY", "tagPrefixes": ["nightly"]}
    versions = [version("a", 40, "nightly-1", "v1"), version("b", 40, "v2"), version("c")]
    assert gone(versions, {"p": {"action": "DELETE", "condition": condition}}) == ["a"]


def test_a_keep_count_is_of_each_package_that_its_prefixes_name() -> None:
    keep = {"action": "KEEP", "mostRecentVersions": {"keepCount": 1, "packageNamePrefixes": ["web", "mob"]}}
    versions = [
        version(f"{image}{days}", days, image=image) for image in ("webapp", "mobile", "batch") for days in (40, 50)
    ]
    assert sorted(gone(versions, {**OLD, "keep": keep})) == ["batch40", "batch50", "mobile50", "webapp50"]


def test_keep_policies_alone_delete_nothing() -> None:
    keep = {"action": "KEEP", "condition": {"tagState": "TAGGED"}}
    assert planned([version("a"), version("b", 40, "v1")], {"keep": keep}) == Plan((), (), 2)


@pytest.mark.parametrize(
    "policies",
    [
        {"a": {"action": "DELETE"}},
        {"a": {"action": "DELETE", "mostRecentVersions": {"keepCount": 1}}},
        {"a": {"action": "KEEP", "mostRecentVersions": {"keepCount": 1}, "condition": {}}},
        {"a": {"action": "KEEP", "mostRecentVersions": {"keepCount": 0}}},
        {"a": {"action": "KEEP", "mostRecentVersions": {}}},
        {"a": {"condition": {}}},
        {"a": {"action": "DELETE", "condition": {"tagState": "UNTAGGED", "tagPrefixes": ["v"]}}},
        {"a": {"action": "DELETE", "condition": {"tagState": "SOME"}}},
        {"a": {"action": "DELETE", "condition": {"olderThan": "a month"}}},
        {"a": {"action": "DELETE", "condition": {"olderThan": "-5s"}}},
        {"a": {"action": "DELETE", "condition": {"moreStaleThan": "5s"}}},
        {"a": {"action": "DELETE", "condition": {"tagPrefixes": [""]}}},
        {"a": {"action": "DELETE", "condition": {}, "id": "b"}},
        {"": {"action": "DELETE", "condition": {}}},
        {str(number): {"action": "DELETE", "condition": {}} for number in range(11)},
    ],
)
def test_policies_that_say_nothing_possible_are_refused_whole(policies: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        read_policies(policies)


def test_policies_are_kept_in_one_spelling() -> None:
    given_ = {"a": {"action": {"type": "Delete"}, "condition": {"tagState": "any", "olderThan": "1.5h"}}}
    kept = {"id": "a", "action": "DELETE", "condition": {"tagState": "ANY", "olderThan": "5400s"}}
    assert read_policies(given_)["a"].json_data() == kept
    assert read_policies({"a": kept})["a"].json_data() == kept


@given(st.text(max_size=12))
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    try:
        assert seconds_of(text) >= 0
    except ValueError:
        return


@pytest.mark.parametrize(
    ("condition", "names"),
    [
        ({"olderThan": "30d"}, ["a", "c"]),
        ({"newerThan": "30d"}, ["b"]),
        ({"tagState": "UNTAGGED"}, ["c"]),
        ({"tagState": "tagged"}, ["a", "b"]),
        ({"tagPrefixes": ["v", "x"]}, ["a"]),
        ({"tagState": "TAGGED", "tagPrefixes": ["la"]}, ["b"]),
        ({"versionNamePrefixes": ["c"]}, ["c"]),
        ({"packageNamePrefixes": ["app"], "olderThan": "35d"}, ["a", "c"]),
        ({"packageNamePrefixes": ["other"]}, []),
        ({}, ["a", "b", "c"]),
    ],
)
def test_a_condition_means_all_that_it_says(condition: dict[str, Any], names: list[str]) -> None:
    versions = [version("a", 40, "v1"), version("b", 10, "latest"), version("c", 50)]
    assert gone(versions, {"p": {"action": "DELETE", "condition": condition}}) == names


def test_keep_beats_delete_and_the_plan_says_why() -> None:
    keep = {"releases": {"action": {"type": "Keep"}, "condition": {"tagPrefixes": ["v"]}}}
    found = planned([version("a", 40, "v1"), version("b", 40, "main")], OLD | keep)
    assert [(version.name.digest, reason) for version, reason in found.doomed] == [("b", "policy old")]
    assert [(version.name.digest, reason) for version, reason in found.spared] == [("a", "kept by policy releases")]
    assert (found.size, found.seen) == (10, 2)


def test_the_newest_of_each_package_are_kept() -> None:
    keep = {"keep": {"action": "KEEP", "mostRecentVersions": {"keepCount": 2}}}
    versions = [version(name, days) for name, days in (("a", 40), ("b", 60), ("c", 50), ("d", 70))]
    assert gone([*versions, version("e", 90, image="web")], OLD | keep) == ["b", "d"]
    some = {"keep": {"action": "KEEP", "mostRecentVersions": {"keepCount": 1, "packageNamePrefixes": ["web"]}}}
    assert len(gone([*versions, version("e", 90, image="web")], OLD | some)) == 4


def test_what_belongs_to_a_version_is_not_counted_among_the_newest() -> None:
    keep = {"keep": {"action": "KEEP", "mostRecentVersions": {"keepCount": 1}}}
    index = version("index", 40, "v1", children=("amd", "arm"))
    versions = [index, version("amd", 39), version("arm", 39), version("signature", 38, subject="index")]
    assert gone([*versions, version("before", 50, "v0")], OLD | keep) == ["before"]


def test_children_and_referrers_stay_with_what_stays_and_go_with_what_goes() -> None:
    family = [
        version("index", 40, "v1", children=("amd", "arm")),
        version("amd", 40),
        version("arm", 40),
        version("sbom", 40, subject="amd"),
        version("signature", 40, subject="index"),
    ]
    assert gone(family, UNTAGGED) == []
    assert gone(family, {"all": {"action": "DELETE", "condition": {"tagPrefixes": ["v1"]}}}) == [
        "index",
        "amd",
        "arm",
        "signature",
        "sbom",
    ]


def test_a_child_of_two_indexes_goes_only_with_both() -> None:
    one, two = version("one", 40, "a", children=("child",)), version("two", 40, "b", children=("child",))
    versions = [one, two, version("child", 40)]
    assert gone(versions, {"p": {"action": "DELETE", "condition": {"tagPrefixes": ["a"]}}}) == ["one"]
    assert gone(versions, {"p": {"action": "DELETE", "condition": {"tagState": "TAGGED"}}}) == ["one", "two", "child"]


def test_a_tagged_child_does_not_go_with_its_index() -> None:
    versions = [version("index", 40, "a", children=("child",)), version("child", 40, "mine")]
    assert gone(versions, {"p": {"action": "DELETE", "condition": {"tagPrefixes": ["a"]}}}) == ["index"]


def test_what_runs_stays() -> None:
    found = planned([version("a", running="c1/shop"), version("b")], OLD)
    assert [version.name.digest for version, _ in found.doomed] == ["b"]
    assert found.spared[0][1] == "runs in c1/shop"


@pytest.mark.parametrize(
    "policy",
    [
        {},
        {"action": "DELETE"},
        {"action": "BURN", "condition": {}},
        {"action": "DELETE", "mostRecentVersions": {"keepCount": 1}},
        {"action": "KEEP", "mostRecentVersions": {"keepCount": 1}, "condition": {}},
        {"action": "KEEP", "mostRecentVersions": {"keepCount": 0}},
        {"action": "DELETE", "condition": {"olderThan": "tomorrow"}},
        {"action": "DELETE", "condition": {"tagState": "UNTAGGED", "tagPrefixes": ["v"]}},
        {"action": "DELETE", "condition": {"elderThan": "1d"}},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(policy: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        read_policies({"p": policy})


names = st.sampled_from(["a", "b", "c", "d", "e", "f"])
conditions = st.fixed_dictionaries(
    {},
    optional={
        "olderThan": st.sampled_from(["1d", "20d"]),
        "tagState": st.sampled_from(["TAGGED", "UNTAGGED", "ANY"]),
        "versionNamePrefixes": st.lists(names, min_size=1, max_size=3),
    },
)
policies = st.dictionaries(
    st.sampled_from(["p", "q", "r"]),
    st.builds(
        lambda action, condition: {"action": action, "condition": condition},
        st.sampled_from(["DELETE", "KEEP"]),
        conditions,
    )
    | st.builds(lambda count: {"action": "KEEP", "mostRecentVersions": {"keepCount": count}}, st.integers(1, 3)),
)
versions_drawn = st.dictionaries(
    names,
    st.tuples(
        st.integers(0, 40), st.booleans(), st.sets(names, max_size=2), st.sampled_from(["", "a", "b"]), st.booleans()
    ),
)


@given(versions_drawn, policies)
def test_no_plan_breaks_a_rule(drawn: dict[str, tuple[int, bool, set[str], str, bool]], rules: dict[str, Any]) -> None:
    versions = [
        version(
            name,
            days,
            *(["t"] if tagged else []),
            children=tuple(sorted(children)),
            subject=subject,
            running="c" if runs else "",
        )
        for name, (days, tagged, children, subject, runs) in drawn.items()
    ]
    found = planned(versions, rules)
    doomed = {version.name.digest for version, _ in found.doomed}
    staying = [version for version in versions if version.name.digest not in doomed]
    deletes = [rule for rule in rules.values() if rule["action"] == "DELETE"]
    assert len(doomed) == len(found.doomed)
    assert not doomed or deletes
    for one in staying:
        assert not doomed & (set(one.children) - {one.name.digest}), "an index lost a child"
    by_name = {one.name.digest: one for one in versions}
    for name in doomed:
        one = by_name[name]
        assert not one.running
        assert one.subject in doomed | {"", name} or one.subject not in by_name, "a subject lost its referrer"
    keeping = [rule["condition"] for rule in rules.values() if rule["action"] == "KEEP" and "condition" in rule]
    if {} in keeping:
        assert not doomed


def test_what_has_an_immutable_tag_stays_with_all_that_belongs_to_it() -> None:
    versions = [
        version("a", 40, "v1", children=("c",)),
        version("c"),
        version("s", subject="a"),
        version("b", 40, "sha256-" + "0" * 64),
        version("d"),
    ]
    found = plan(versions, read_policies(OLD), NOW, TagRules.of({}, immutable=True))
    assert [version.name.digest for version, _ in found.doomed] == ["b", "d"]
    assert {version.name.digest: reason for version, reason in found.spared} == {
        "a": "the tag v1 is immutable (dockerConfig.immutableTags)",
        "c": "belongs to a, which stays",
        "s": "belongs to a, which stays",
    }


def test_a_rule_that_lets_cleanup_delete_spares_nothing() -> None:
    rules = TagRules.of({"entrepot-tag-deletion": "cleanup"}, immutable=True)
    assert len(plan([version("a", 40, "v1")], read_policies(OLD), NOW, rules).doomed) == 1


@pytest.mark.parametrize("suffix", ["", ".sig"])
def test_what_older_clients_keep_under_a_tag_of_a_digest_stays_and_goes_with_that_digest(suffix: str) -> None:
    subject, tag = "sha256:" + "5" * 64, f"sha256-{'5' * 64}{suffix}"
    signature = version("s", 40, tag)
    keep = {"keep": {"action": "KEEP", "mostRecentVersions": {"keepCount": 1}}}
    assert gone([version(subject, 50, "v1"), signature], {**OLD, **keep}) == []
    assert gone([version(subject, 50, "v1"), version("n", 45), signature], {**OLD, **keep}) == [subject, "s"]
    assert gone([version(subject, 50), replace(signature, uploaded=NOW)], OLD) == [subject, "s"]
    assert gone([replace(signature, uploaded=NOW, orphaned=True)], OLD) == ["s"]
