"""Keeping to a repository's rules for tags: what they refuse, in words that name the rule.

Whoever changes a tag reads the rules, asks here, and lets its step check that they are still the same: so a rule that
was answered with success is never broken by a change that was decided before.
"""

from collections.abc import Iterable

from services.registry.errors import TagDeletionRefused, TagOverwriteRefused
from services.registry.names import ImageName
from services.registry.records import Pointer
from shared.digest import Digest
from shared.tag_rules import TagRules, belongs_to_a_digest


def refuse_overwrite(rules: TagRules, name: ImageName, tag: str, before: Pointer | None, after: Digest) -> None:
    """Raise TagOverwriteRefused where a tag would come to point at something else; the same once more is nothing."""
    if rules.overwrite and before and before.digest != after and not belongs_to_a_digest(tag):
        raise TagOverwriteRefused(
            f"the tag {tag} of {name.path} is immutable and points at {before.digest}: "
            f"{rules.overwrite} of the repository refuses to overwrite it"
        )


def refuse_deletion(rules: TagRules, name: ImageName, tags: Iterable[str]) -> None:
    """Raise TagDeletionRefused where one of these tags may not go."""
    fixed = fixed_by(rules.deletion, tags)
    if fixed:
        raise TagDeletionRefused(
            f"the tag {fixed} of {name.path} is immutable: {rules.deletion} of the repository refuses to delete it"
        )


def fixed_by(rule: str, tags: Iterable[str]) -> str:
    """The first of these tags that a rule is about; empty where there is no rule, or no such tag."""
    return next((tag for tag in tags if not belongs_to_a_digest(tag)), "") if rule else ""
