"""`entrepot projects`: what everything else lies in."""

import click

from cli import account, suite
from cli.output import show


@click.group()
def projects() -> None:
    """Projects."""


@projects.command("list")
@suite.data_option
@suite.format_option
def list_projects(data: str, form: str) -> None:
    """All projects that the account may see."""
    found = account.api(suite.of(data), "identity").pages("v1/projects", "projects")
    show(list(found), ["projectId", "name", "lifecycleState", "createTime"], form)


@projects.command()
@click.argument("project")
@click.option("--name", default="", help="Display name.")
@suite.data_option
def create(project: str, name: str, data: str) -> None:
    """Make a project; prints its id."""
    account.api(suite.of(data), "identity").post("v1/projects", {"projectId": project, "name": name or project})
    click.echo(project)
