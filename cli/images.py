"""`entrepot images`: what lies in a repository of images."""

import click

from cli import account, suite
from cli.output import show


@click.group()
def images() -> None:
    """Images of a repository."""


@images.command("list")
@click.argument("repository")
@suite.data_option
@suite.project_option
@suite.format_option
def list_images(repository: str, data: str, project: str, form: str) -> None:
    """Images of a repository, with tags and sizes."""
    found = suite.of(data)
    path = f"v1/projects/{project}/locations/{found.location}/repositories/{repository}/dockerImages"
    rows = list(account.api(found, "registry").pages(path, "dockerImages"))
    if form == "table":
        rows = [{**row, "image": suite.pullable(str(row["uri"]), found)} for row in rows]
    show(rows, ["image", "tags", "imageSizeBytes", "uploadTime"], form)
