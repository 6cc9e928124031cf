"""`entrepot status`: where each service answers, and whether it is ready."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import click
import urllib3

from cli import suite
from cli.exits import Failed
from cli.output import show, show_json

_SECONDS = 3.0


@click.command()
@suite.data_option
@suite.format_option
def status(data: str, form: str) -> None:
    """What runs, and whether it is ready; the exit code is 0 only when all are."""
    found = suite.of(data)
    services = look(found)
    if form == "json":
        show_json({"services": services, "admin_key": str(found.admin_key or ""), "data": str(found.data or "")})
    else:
        show([{"name": name, **service} for name, service in services.items()], ["name", "address", "ready"], form)
    waiting = [name for name, service in services.items() if not service["ready"]]
    if waiting:
        raise Failed(f"not ready: {', '.join(waiting)}")


def look(found: suite.Suite) -> dict[str, dict[str, Any]]:
    """Ask every service at once."""
    names = list(found.addresses)
    with ThreadPoolExecutor(len(names)) as together:
        ready = together.map(is_ready, map(found.address, names))
        return {name: {"address": found.address(name), "ready": yes} for name, yes in zip(names, ready, strict=True)}


def is_ready(address: str) -> bool:
    """Whether the service there says that it is ready."""
    try:
        return urllib3.request("GET", f"{address}/readyz", timeout=_SECONDS, retries=False).status == 200
    except urllib3.exceptions.HTTPError:
        return False
