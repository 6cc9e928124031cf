"""The resource that a path names."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.http.paths import resource_of


class _Request:
    def __init__(self, **places: str) -> None:
        self.match_info = places


@pytest.mark.parametrize(
    ("path", "resource"),
    [
        ("/v1/projects/{p}", "projects/acme"),
        ("/v1/projects/{p}:getIamPolicy", "projects/acme"),
        ("/v1/projects/{p}/locations/{l}/repositories", "projects/acme/locations/here"),
        (
            "/v1/projects/{p}/locations/{l}/repositories/{r}:setIamPolicy",
            "projects/acme/locations/here/repositories/a%2Fb",
        ),
        ("/v1/projects/{p}/notes/{r:.+}", "projects/acme/notes/a/b"),
        ("/v1/projects/{p:[a-z]{1,30}}/x/{l}/y", "projects/acme/x/here"),
        ("/v3/folders/{p}/policies", "folders/acme"),
    ],
)
def test_a_path_is_about_what_it_names(path: str, resource: str) -> None:
    named = resource_of(path)
    request: Any = _Request(p="acme", l="here", r="a/b")
    assert named is not None
    assert named(request) == resource


@pytest.mark.parametrize("path", ["/v2/{name:.+}/manifests/{reference}", "/v1/projects", "/token", ""])
def test_other_paths_name_none(path: str) -> None:
    assert resource_of(path) is None


@given(st.text(max_size=40))
def test_a_place_cannot_reach_into_another_resource(project: str) -> None:
    named = resource_of("/v1/projects/{p}/repositories/{r}")
    request: Any = _Request(p=project, r="web")
    assert named is not None
    assert named(request).count("/") == 3
