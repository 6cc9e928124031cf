from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.audit_log.filters import FilterWrong, Node, holds, parse, text_of, time_bounds
from services.audit_log.filters.tree import And, Anywhere, Compare, LogId, Not, Or, Present

ENTRY: dict[str, Any] = {
    "logName": "projects/demo/logs/cloudaudit.googleapis.com%2Factivity",
    "severity": "NOTICE",
    "timestamp": "2026-05-01T12:00:00.000000Z",
    "labels": {"env": "dev", "a.b/c": "X"},
    "protoPayload": {
        "methodName": "google.iam.Create",
        "numResponseItems": "12",
        "status": {"code": 7},
        "authorizationInfo": [{"permission": "p.one", "granted": True}, {"permission": "p.two", "granted": False}],
    },
}


@pytest.mark.parametrize(
    "text",
    [
        "",
        'logName="projects/demo/logs/cloudaudit.googleapis.com%2Factivity"',
        'logName:"cloudaudit.googleapis.com%2Factivity" AND severity>=NOTICE',
        'protoPayload.methodName=("other" OR "GOOGLE.IAM.CREATE")',
        "protoPayload.methodName:(iam create NOT delete)",
        "labels.env=dev -labels.env=prod",
        'labels."a.b/c"=x',
        'NOT labels.missing="y"',
        "severity=NOTICE OR severity=ERROR",
        'timestamp>="2026-05-01" timestamp<"2026-05-02T00:00:00+00:00"',
        "protoPayload.status.code=7",
        "protoPayload.status.code>6",
        "protoPayload.numResponseItems>9",
        "protoPayload.authorizationInfo.permission=p.two",
        "protoPayload.authorizationInfo.granted=false",
        "protoPayload.authorizationInfo:*",
        '"IAM.create"',
        "create",
        'log_id("cloudaudit.googleapis.com/activity")',
        "labels.env!=prod",
        # OR binds tighter than AND: a OR (NOT b) AND c
        "severity=ERROR OR labels.env=dev AND labels.env:d",
    ],
)
def test_what_the_entry_is_meets_the_filter(text: str) -> None:
    assert holds(parse(text), ENTRY)


@pytest.mark.parametrize(
    "text",
    [
        "severity>NOTICE",
        "labels.missing!=x",
        "labels.missing=x",
        "labels.env!=dev",
        "NOT labels.env=dev",
        'timestamp>"2026-05-01T12:00:00Z"',
        "protoPayload.status.code=70",
        "protoPayload.status.code=x",
        "protoPayload.methodName=(a AND b)",
        "labels:*  labels.nothing:*",
        "severity=ERROR OR labels.env=prod AND labels.env:d",
        'log_id("other")',
    ],
)
def test_what_the_entry_is_not_does_not_meet_the_filter(text: str) -> None:
    assert not holds(parse(text), ENTRY)


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("a=b:c", 3),
        ("a=", 2),
        ("a=1 OR", 6),
        ("(a=1", 4),
        ("a=1)", 3),
        ('a="x', 2),
        ("a=~x", 1),
        ("AND a=1", 0),
        ("f(a)", 0),
        ("log_id(a)", 7),
        ("timestamp>yesterday", 10),
        ("severity>=LOUD", 10),
        ("severity>=²", 10),
        (".a=1", 0),
        ("a..b=1", 0),
        ('"x"=1', 0),
        ('labels."a"b=1', 10),
        ("=1", 0),
        ("a=(b OR )", 8),
    ],
)
def test_a_wrong_filter_says_where_it_is_wrong(text: str, position: int) -> None:
    with pytest.raises(FilterWrong) as raised:
        parse(text)
    assert raised.value.position == position
    assert f"character {position + 1}" in str(raised.value)


@pytest.mark.parametrize("text", ["(" * 100, "NOT " * 100 + "a", "a=" + "(" * 100, "a " * 600, "x" * 20_001, "-" * 90])
def test_what_is_too_deep_or_long_is_refused(text: str) -> None:
    with pytest.raises(FilterWrong):
        parse(text)


name = st.sampled_from(["a", "b", "severity", "weird name", 'qu"ote', "dots.in", "back\\slash"])
path = st.tuples(st.sampled_from(["a", "b", "@type", "labels"]), name) | st.tuples(st.sampled_from(["a", "b"]))
value = st.text(max_size=6)
leaf = (
    st.builds(Compare, path, st.sampled_from(["=", "!=", "<", "<=", ">", ">=", ":"]), value)
    | st.builds(Present, path)
    | st.builds(Anywhere, value)
    | st.builds(LogId, value)
    | st.builds(Compare, st.just(("severity",)), st.sampled_from(["=", ">="]), st.sampled_from(["INFO", "ERROR"]))
)
nodes: st.SearchStrategy[Node] = st.recursive(
    leaf,
    lambda inner: (
        st.builds(Not, inner)
        | st.builds(And, st.lists(inner, min_size=2, max_size=3).map(tuple))
        | st.builds(Or, st.lists(inner, min_size=2, max_size=3).map(tuple))
    ),
    max_leaves=12,
)


@given(nodes)
def test_a_tree_written_and_read_again_is_the_same(node: Node) -> None:
    assert parse(text_of(node)) == node


@given(st.text(alphabet='ab=<>!:()"\\ -.ANDORTlog_id*', max_size=60))
def test_any_text_is_a_filter_or_wrong_somewhere_inside(text: str) -> None:
    node, place = And(()), 0
    try:
        node = parse(text)
    except FilterWrong as error:
        place = error.position
    assert 0 <= place <= len(text)
    assert node == And(()) or parse(text_of(node)) == node


small = st.sampled_from(["x", "xy", "z", "1", "2", ""])
entries = st.fixed_dictionaries(
    {}, optional={"a": small | st.integers(0, 3) | st.lists(small, max_size=2), "b": st.dictionaries(small, small)}
)
simple: st.SearchStrategy[Node] = st.recursive(
    st.builds(Compare, st.sampled_from([("a",), ("b", "x")]), st.sampled_from(["=", "!=", ":"]), small)
    | st.builds(Present, st.sampled_from([("a",), ("b", "x")])),
    lambda inner: (
        st.builds(Not, inner)
        | st.builds(And, st.lists(inner, min_size=2, max_size=3).map(tuple))
        | st.builds(Or, st.lists(inner, min_size=2, max_size=3).map(tuple))
    ),
    max_leaves=8,
)


def found_at(entry: Any, path: tuple[str, ...]) -> list[Any]:
    at: list[Any] = [entry]
    for part in path:
        at = [one[part] for one in at if isinstance(one, dict) and part in one]
        at = [inner for one in at for inner in (one if isinstance(one, list) else [one])]
    return at


def by_brute_force(node: Node, entry: dict[str, Any]) -> bool:
    """The meaning of a filter, spelled out for the few kinds of value in `entries`."""
    match node:
        case And(parts):
            return not [part for part in parts if not by_brute_force(part, entry)]
        case Or(parts):
            return [by_brute_force(part, entry) for part in parts].count(True) > 0
        case Not(part):
            return by_brute_force(part, entry) is False
        case Present(path):
            return len(found_at(entry, path)) > 0
        case Compare(path, operator, wanted):
            texts = [str(one) for one in found_at(entry, path)]
            if operator == ":":
                return any(wanted in text for text in texts)
            return wanted in texts if operator == "=" else bool(texts) and wanted not in texts
        case _:
            raise AssertionError(node)


@given(simple, entries)
def test_the_evaluator_agrees_with_brute_force(node: Node, entry: dict[str, Any]) -> None:
    assert holds(node, entry) is by_brute_force(node, entry)


def test_the_span_of_time_is_read_from_what_must_hold() -> None:
    low, high = time_bounds(parse('a=1 AND (timestamp>"2026-01-01" AND timestamp<="2026-02-01") AND b=2'))
    assert (low[:10], high[:10]) == ("2026-01-01", "2026-02-01")
    assert time_bounds(parse('timestamp>"2026-01-01" OR a=1')) == time_bounds(parse(""))
