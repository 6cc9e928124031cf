"""`entrepot status`: where each service answers, and whether it is ready."""

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

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
    why = why_it_does_not_run(found)
    services = none_of(found) if why else look(found)
    if form == "json":
        show_json({"services": services, "admin_key": str(found.admin_key or ""), "data": str(found.data or "")})
    else:
        show(list(_rows(services)), ["name", "address", "ready"], form)
    waiting = [name for name, service in services.items() if not service["ready"]]
    if why or waiting:
        raise Failed(why or f"not ready: {', '.join(waiting)}")


def why_it_does_not_run(found: suite.Suite) -> str:
    """Why nothing of this suite can be ready, whatever answers on its ports; empty when its launcher lives."""
    if found.data is None:
        return ""
    process = suite.holder(found.data)
    if not process:
        return f"no suite runs on {found.data}: start one with `entrepot up`"
    if process != found.pid:
        return f"the suite on {found.data} is being started"
    return ""


def none_of(found: suite.Suite) -> dict[str, dict[str, Any]]:
    """Every service, and that it is not ready."""
    return {name: _told(found, name, dict.fromkeys(_asked(found, name), False)) for name in found.addresses}


def look(found: suite.Suite) -> dict[str, dict[str, Any]]:
    """Ask every service at once, and of one with several workers each."""
    runs = {address: _run_of(found, name) for name in found.addresses for address in _asked(found, name)}
    with ThreadPoolExecutor(len(runs)) as together:
        ready = dict(zip(runs, together.map(is_ready, runs, runs.values()), strict=True))
    return {name: _told(found, name, ready) for name in found.addresses}


def _asked(found: suite.Suite, name: str) -> list[str]:
    """Where to ask a service: its own address, unless that is shared by workers of this suite."""
    workers = found.workers.get(name, []) if _run_of(found, name) else []
    return workers or [found.address(name)]


def _told(found: suite.Suite, name: str, ready: Mapping[str, bool]) -> dict[str, Any]:
    """What is said of a service: it is ready when all of it is."""
    address, asked = found.address(name), _asked(found, name)
    workers = [{"address": one, "ready": ready[one]} for one in asked if one != address]
    return {"address": address, "ready": all(ready[one] for one in asked), **({"workers": workers} if workers else {})}


def _rows(services: Mapping[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for name, service in services.items():
        yield {"name": name, **service}
        for number, worker in enumerate(service.get("workers", [])):
            yield {"name": f"{name} worker {number}", **worker}


def is_ready(address: str, run: str = "") -> bool:
    """Whether the service there says that it is ready and, where a run is named, that it belongs to it."""
    try:
        answer = urllib3.request("GET", f"{address}/readyz", timeout=_SECONDS, retries=False)
        told = json.loads(answer.data)
    except (urllib3.exceptions.HTTPError, ValueError):
        return False
    return answer.status == 200 and isinstance(told, dict) and (not run or cast("Any", told).get("suite") == run)


def _run_of(found: suite.Suite, name: str) -> str:
    """The run that a service must belong to; none for one that the environment says is elsewhere."""
    return found.run if found.address(name) == found.addresses[name].rstrip("/") else ""
