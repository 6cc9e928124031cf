import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.tag_rules import DELETION, IMMUTABLE, OVERWRITE, TagRules, belongs_to_a_digest, check_labels

HEX = "0123456789abcdef" * 4
REFUSED = {OVERWRITE: "refused"}


def test_without_settings_everything_is_allowed() -> None:
    assert TagRules.of({"team": "web"}, immutable=False) == TagRules()
    assert TagRules().text is None


def test_immutable_tags_are_neither_overwritten_nor_deleted_by_anybody() -> None:
    assert TagRules.of({}, immutable=True) == TagRules(IMMUTABLE, IMMUTABLE, IMMUTABLE)


@pytest.mark.parametrize(
    ("labels", "immutable", "rules"),
    [
        ({OVERWRITE: "refused"}, False, TagRules(f"label {OVERWRITE}=refused")),
        ({DELETION: "refused"}, False, TagRules("", *[f"label {DELETION}=refused"] * 2)),
        ({DELETION: "cleanup"}, False, TagRules("", f"label {DELETION}=cleanup")),
        ({DELETION: "cleanup"}, True, TagRules(IMMUTABLE, f"label {DELETION}=cleanup")),
        ({DELETION: "allowed"}, True, TagRules(IMMUTABLE)),
        ({OVERWRITE: "allowed"}, True, TagRules("", IMMUTABLE, IMMUTABLE)),
    ],
)
def test_a_label_says_more_than_the_switch(labels: dict[str, str], *, immutable: bool, rules: TagRules) -> None:
    assert TagRules.of(labels, immutable=immutable) == rules


@pytest.mark.parametrize(
    "labels", [{"entrepot-tag-move": "x"}, {OVERWRITE: "cleanup"}, {DELETION: ""}, {OVERWRITE: ""}]
)
def test_a_label_that_looks_like_a_rule_and_is_none_is_refused(labels: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="entrepot-"):
        check_labels(labels)


@given(
    labels=st.dictionaries(
        st.sampled_from([OVERWRITE, DELETION]), st.sampled_from(["allowed", "refused", "cleanup", "?"])
    ),
    immutable=st.booleans(),
)
def test_rules_are_read_as_they_were_written(labels: dict[str, str], *, immutable: bool) -> None:
    rules = TagRules.of(labels, immutable=immutable)
    assert TagRules.parse(rules.text) == rules


@pytest.mark.parametrize(
    ("tag", "so"),
    [
        (f"sha256-{HEX}", True),
        (f"sha512-{HEX}", True),
        (f"sha256-{HEX}.sig", True),
        (f"sha256-{HEX[1:]}", False),
        (f"sha256-{HEX}-rc1", False),
        (f"v1-sha256-{HEX}", False),
        ("latest", False),
    ],
)
def test_tags_that_clients_make_for_a_digest_are_known_by_their_form(tag: str, *, so: bool) -> None:
    assert belongs_to_a_digest(tag) is so
