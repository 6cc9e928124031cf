"""Scopes of registry tokens and the names in them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.identity.caller import Grant
from shared.identity.scopes import ScopesTooMany, covers, image_name, read_scopes, wanted_actions

WEB = "projects/demo/locations/local/repositories/web"


@pytest.mark.parametrize(
    ("name", "repository", "image"),
    [
        ("demo/web/app", "web", "app"),
        ("demo/web/team/app", "web", "team/app"),
        ("demo/app", "gcr.io", "app"),
        ("demo/gcr.io/app", "gcr.io", "app"),
        ("my-project1/a/b__c-d.e", "a", "b__c-d.e"),
    ],
)
def test_a_name_is_a_projects_repository_and_an_image(name: str, repository: str, image: str) -> None:
    found = image_name(name)
    assert found is not None
    assert (found.repository, found.image) == (repository, image)


def test_in_container_registry_style_all_behind_the_project_is_the_image() -> None:
    found = image_name("demo/web/app", container_registry=True)
    assert found is not None
    assert (found.project, found.repository, found.image) == ("demo", "gcr.io", "web/app")


@pytest.mark.parametrize(
    "name",
    ["", "demo", "/", "demo/", "demo//app", "Demo/web/app", "demo/../app", "demo/we_b/app", "1demo/web/app", "a" * 300],
)
def test_other_names_are_nobodys(name: str) -> None:
    assert image_name(name) is None


def test_scopes_are_merged_and_what_cannot_be_read_is_left_out() -> None:
    texts = [
        "repository:a/b:pull repository:a/b:push,pull",
        "repository(plugin):c/d:*",
        "x",
        "a:b",
        "::",
        "repository::pull",
    ]
    assert read_scopes(texts) == (
        Grant("repository", "a/b", ("pull", "push")),
        Grant("repository", "c/d", ("*",)),
    )


def test_a_name_with_a_port_in_it_keeps_its_colons() -> None:
    assert read_scopes(["repository:host:5000/a/b:pull"]) == (Grant("repository", "host:5000/a/b", ("pull",)),)


def test_more_scopes_than_anybody_needs_are_refused() -> None:
    with pytest.raises(ScopesTooMany):
        read_scopes(f"repository:a/b{number}:pull" for number in range(65))


def test_a_star_is_every_action() -> None:
    assert wanted_actions(["*"]) == ("pull", "push", "delete")
    assert wanted_actions(["push", "x", "push"]) == ("push",)


@pytest.mark.parametrize(
    ("actions", "permission", "reached"),
    [
        (("pull",), "artifactregistry.repositories.downloadArtifacts", True),
        (("pull",), "artifactregistry.tags.list", False),
        (("pull",), "artifactregistry.dockerimages.list", False),
        (("push",), "artifactregistry.repositories.createOnPush", True),
        (("delete",), "artifactregistry.versions.delete", False),
        (("pull",), "artifactregistry.repositories.uploadArtifacts", False),
        (("push",), "artifactregistry.repositories.uploadArtifacts", True),
        (("push",), "artifactregistry.repositories.delete", False),
        (("push",), "artifactregistry.repositories.setIamPolicy", False),
        (("delete",), "artifactregistry.repositories.deleteArtifacts", True),
        (("delete",), "artifactregistry.repositories.delete", False),
        (("*",), "artifactregistry.repositories.downloadArtifacts", False),
    ],
)
def test_an_action_reaches_its_permissions_only(actions: tuple[str, ...], permission: str, *, reached: bool) -> None:
    assert covers([Grant("repository", "demo/web/app", actions)], permission, WEB) is reached
    assert not covers([Grant("repository", "demo/web/app", actions)], permission, "projects/demo")
    assert not covers([Grant("repository", "other/web/app", actions)], permission, WEB)


@given(st.lists(st.text(max_size=80), max_size=20))
def test_any_texts_are_scopes_or_too_many(texts: list[str]) -> None:
    for grant in read_scopes(texts):
        assert grant.kind
        assert grant.name
        assert grant.actions
        image_name(grant.name)
