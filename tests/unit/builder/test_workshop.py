"""A builder that can run nothing says so, and what to do, to whoever wants a build or sends its source."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cli.doctor import examine
from services.builder.workshop import in_a_container, refusal
from tests.support.parts import bearer
from tests.support.workbench import ADA, Workbench, opened


@pytest.fixture
async def idle(tmp_path: Path) -> AsyncIterator[Workbench]:
    async with opened(tmp_path, {}, runtimes="no-such-runtime") as bench:
        yield bench


@pytest.mark.parametrize("path", ["builds", "locations/local/builds", "sources"])
async def test_a_builder_that_can_run_nothing_refuses_builds_and_their_sources_with_the_reason(
    idle: Workbench, path: str
) -> None:
    asked = {"steps": [{"name": idle.image, "script": "true"}]}
    answer = await idle.client.post(f"/v1/projects/demo/{path}", json=asked, headers=bearer(ADA))
    error = (await answer.json())["error"]
    assert (answer.status, error["status"]) == (400, "FAILED_PRECONDITION")
    assert error["message"].startswith("No build runs on this builder: ")


async def test_what_it_did_before_can_be_read_all_the_same(idle: Workbench) -> None:
    answer = await idle.client.get("/v1/projects/demo/builds", headers=bearer(ADA))
    assert (answer.status, await answer.json()) == (200, {"builds": []})


async def test_a_filter_that_is_not_understood_is_refused_as_such(idle: Workbench) -> None:
    answer = await idle.client.get("/v1/projects/demo/builds?filter=sample", headers=bearer(ADA))
    error = (await answer.json())["error"]
    assert (answer.status, error["status"]) == (400, "INVALID_ARGUMENT")
    assert "status=" in error["message"]


def test_the_doctor_names_what_the_refusal_names() -> None:
    advised = {finding.name: finding.install for finding in examine()}
    assert advised["crun or runc"].endswith("crun")
    assert {"unshare", "slirp4netns", "buildah"} <= advised.keys()


def test_in_a_container_the_way_out_of_it_is_told(tmp_path: Path) -> None:
    assert not in_a_container(tmp_path)
    assert refusal("crun is not installed", confined=False) == "No build runs on this builder: crun is not installed"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".containerenv").touch()
    assert in_a_container(tmp_path)
    assert "docs/operate/compose.md" in refusal("crun is not installed", confined=True)
