"""`entrepot repositories`: where artifacts of one format lie."""

import click

from cli import account, suite
from cli.output import show


@click.group()
def repositories() -> None:
    """Repositories of artifacts."""


@repositories.command("list")
@suite.data_option
@suite.project_option
@suite.format_option
def list_repositories(data: str, project: str, form: str) -> None:
    """Repositories of a project."""
    found = suite.of(data)
    rows = account.api(found, "registry").pages(_parent(found, project), "repositories")
    show(list(rows), ["name", "format", "mode", "createTime"], form)


@repositories.command()
@click.argument("repository")
@suite.data_option
@suite.project_option
@click.option("--repository-format", default="DOCKER", show_default=True)
@click.option("--description", default="")
def create(
    repository: str,
    data: str,
    project: str,
    repository_format: str,
    description: str,
) -> None:
    """Make a repository; prints its name."""
    found = suite.of(data)
    body: dict[str, object] = {"format": repository_format.upper()}
    if description:
        body["description"] = description
    account.api(found, "registry").post(_parent(found, project), body, repositoryId=repository)
    click.echo(f"{_parent(found, project).removeprefix('v1/')}/{repository}")


@repositories.command()
@click.argument("repository")
@suite.data_option
@suite.project_option
def delete(repository: str, data: str, project: str) -> None:
    """Delete a repository with everything in it."""
    found = suite.of(data)
    account.api(found, "registry").delete(f"{_parent(found, project)}/{repository}")


def _parent(found: suite.Suite, project: str) -> str:
    return f"v1/projects/{project}/locations/{found.location}/repositories"
