"""The suite from its first process to its last: what is started in which order, and what the terminal is told."""

import http.client
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NoReturn

from infra.embedded import binaries, nats, ports, services, valkey, weed
from infra.embedded.children import Child, Leash
from infra.embedded.launcher import Launcher, preload, to_terminal
from infra.embedded.services import Place
from infra.embedded.signals import Signals, Stopped

_SERVERS_SECONDS = 30.0
_KEYS_SECONDS = 30.0
_READY_SECONDS = 60.0

_BUS_LIBRARIES = ("pydantic", "nats", "infra.nats.__main__")
# What the services themselves import is left to them: they do it beside each other, on all processors.
_LIBRARIES = (
    "aiohttp.web",
    "anyio._backends._asyncio",  # what FastStream has anyio load with the first subscription
    "cryptography.hazmat.primitives.asymmetric.ec",
    "faststream.nats",
    "joserfc.jwt",
    "prometheus_client",
    "redis.asyncio",
    "structlog",
    "uvloop",
    "shared.assembly",
    "shared.bus.jetstream",
    "shared.http.iam",
    "shared.http.pages",
    "shared.process",
)


def live(place: Place, say: Callable[[str], None] = to_terminal) -> int:
    """Start everything, keep it running until somebody stops it, and stop it. Raises CannotStart."""
    began = time.monotonic()
    signals = Signals()
    lock = place.folder.lock()
    launcher = Launcher(signals, leash := Leash(signals, [lock]), say)
    try:
        start_servers(launcher, place)
        # Not before: a server that could not be started has kept nothing.
        place.folder.keep_bytes_in("s3" if place.s3 else "directory")
        _start_services(launcher, place)
        waiting = _wait_until_ready(launcher, place)
        say(greeting(place, time.monotonic() - began, waiting))
        _keep(launcher)
    except Stopped:
        say("stopping")
        return 0
    finally:
        launcher.stop()
        leash.signals.unblock()


def _keep(launcher: Launcher) -> NoReturn:
    while True:
        launcher.watch(3600.0)


def start_servers(launcher: Launcher, place: Place) -> None:
    """Start bus, state server and bucket, and wait until they are what the services need. Raises CannotStart."""
    folder, base = place.folder, place.base
    programs = {program: binaries.find(program) for program in _programs(place)}
    ports.check_free(base, [*ports.SERVICES.values(), *_server_ports(place)])
    valkey.write_users(folder, list(ports.SERVICES))
    run_valkey = partial(valkey.run, programs[binaries.VALKEY], folder, base + ports.VALKEY)
    launcher.start([Child("valkey", _alone(run_valkey), folder.log("valkey"))])
    if place.s3:
        run_weed = partial(weed.run, programs[binaries.WEED], folder, base)
        launcher.start([Child("s3", _alone(run_weed), folder.log("s3"))])
    preload(_BUS_LIBRARIES)
    nats.configure(folder, base)
    launcher.start([Child("nats", _alone(partial(nats.run, programs[binaries.NATS], folder)), folder.log("nats"))])
    services.make_secrets(place)
    launcher.wait_for("nats", lambda: nats.answers(base), _SERVERS_SECONDS)
    provision = partial(nats.provision, folder, base)
    provisioner = Child("provisioner", _alone(provision), folder.log("provisioner"), forgiving=False)
    launcher.start([provisioner])
    preload(_LIBRARIES)
    launcher.wait_for("valkey", lambda: valkey.answers(folder, base + ports.VALKEY), _SERVERS_SECONDS)
    if place.s3:
        launcher.wait_for("s3", lambda: weed.answers(base), _SERVERS_SECONDS)
    launcher.wait_for_end(provisioner, _SERVERS_SECONDS)


def _start_services(launcher: Launcher, place: Place) -> None:
    """Identity makes the accounts' keys at the first start, and others read them when they begin."""
    describe(place)
    children = {service: _children(place, service) for service in ports.SERVICES}
    launcher.start(children.pop("identity"))
    launcher.wait_for(
        "identity", lambda: all(path.exists() for path in services.made_by_identity(place)), _KEYS_SECONDS
    )
    launcher.start([child for of_service in children.values() for child in of_service])


def _children(place: Place, service: str) -> list[Child]:
    """The process of a service; where it has several workers, one for each, with a number and a log of its own."""
    children: list[Child] = []
    for worker in range(max(1, len(place.worker_ports(service)))):
        name = f"{service}-{worker}" if worker else service
        settings = services.environment(place, service, worker)
        children.append(Child(name, partial(services.run, service, settings), place.folder.log(name)))
    return children


def _wait_until_ready(launcher: Launcher, place: Place) -> list[str]:
    """Those that are still not ready when patience ends: the rest is of use without them."""
    until = time.monotonic() + _READY_SECONDS
    waiting = list(ports.SERVICES)
    while waiting and time.monotonic() < until:
        waiting = [service for service in waiting if not all(map(is_ready, _asked(place, service)))]
        launcher.watch(0.05 if waiting else 0)
    return waiting


def _asked(place: Place, service: str) -> list[int]:
    """The ports of all processes of a service."""
    return place.worker_ports(service) or [place.base + ports.SERVICES[service]]


def is_ready(port: int) -> bool:
    """Whether the service there says that it is ready."""
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        line.request("GET", "/readyz")
        return line.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        line.close()


def describe(place: Place) -> None:
    """Write what the command line needs in order to find this suite."""
    place.folder.describe(
        {
            "pid": os.getpid(),
            "run": place.run,
            "services": {service: place.address(service) for service in ports.SERVICES},
            "workers": {
                service: [f"http://127.0.0.1:{port}" for port in alone]
                for service in ports.SERVICES
                if (alone := place.worker_ports(service))
            },
            "admin_key": str(place.admin_key),
            "location": services.LOCATION,
            "bus": {
                "address": nats.address(place.base),
                "user": "operator",
                "password_file": str(nats.passwords(place.folder) / "operator.password"),
            },
        }
    )


def greeting(place: Place, seconds: float, waiting: list[str]) -> str:
    """What a person wants to know first."""
    lines = [f"Entrepot is {'up' if waiting else 'ready'} after {seconds:.1f} s. Ctrl-C stops it.", ""]
    for service in ports.SERVICES:
        log = f"   not ready yet; see {place.folder.log(service)}" if service in waiting else ""
        workers = f"   {place.workers} workers" if place.worker_ports(service) else ""
        lines.append(f"  {service.replace('_', '-'):<11}{place.address(service)}{workers}{log}")
    entrepot, data = _shell_path(Path(sys.executable).with_name("entrepot")), _shell_path(place.folder.root)
    where = "" if data == "./.entrepot" else f" --data {data}"
    lines += [
        f"  {'data':<11}{place.folder.root}",
        f"  {'admin key':<11}{place.admin_key}",
        "",
        "Try, in another terminal:",
    ]
    host = place.address("registry").removeprefix("http://")
    lines += [
        f"  {entrepot} events tail{where}",
        f"  {entrepot} copy{where} oci:FOLDER docker://{host}/{services.PROJECT}/web/app:1",
        f'  eval "$({entrepot} env docker{where})" && docker push {host}/{services.PROJECT}/web/app:1',
        f'  eval "$({entrepot} env gcloud{where})" && gcloud artifacts repositories list --location=local',
    ]
    return "\n".join(lines)


def _shell_path(path: Path) -> str:
    with suppress(ValueError):
        return f"./{path.relative_to(Path.cwd())}"
    return str(path)


def _programs(place: Place) -> list[binaries.Program]:
    return [binaries.VALKEY, binaries.NATS, *([binaries.WEED] if place.s3 else [])]


def _server_ports(place: Place) -> list[int]:
    inside = [ports.S3, *ports.S3_INSIDE] if place.s3 else []
    alone = [port - place.base for service in ports.SERVICES for port in place.worker_ports(service)]
    return [ports.NATS, ports.NATS_MONITOR, ports.VALKEY, *inside, *alone]


def _alone(run: Callable[[], object]) -> Callable[[int], object]:
    """A child that does not watch the leash itself: the kernel ends it with the launcher."""
    return lambda _: run()
