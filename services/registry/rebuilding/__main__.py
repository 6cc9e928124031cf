"""`python -m services.registry.rebuilding`: what `entrepot rebuild-state registry` becomes.

It is told what the registry is told, but that it reads the bus as the user `operator`: only that one may read streams.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict

import orjson

from services.registry.layout import Layout, counter_of
from services.registry.rebuilding.loading import WrongBucket
from services.registry.rebuilding.rebuild import Rebuild, Refused
from services.registry.rebuilding.report import Report
from services.registry.rebuilding.sources import Sources
from services.registry.store import Store
from services.registry.voice import Voice
from shared.assembly import assembled, bus_address
from shared.blobs import BucketUnavailable
from shared.bus import BusUnavailable
from shared.bus.connection import Address
from shared.bus.history import JetStreamHistory
from shared.http.iam import Policies
from shared.parts import Parts
from shared.settings import Settings, SettingsWrong, read
from shared.state import StateUnavailable
from shared.state.server import UnsafeState
from shared.telemetry.logs import log_to

SERVICE = "registry"
DONE, FAILED, WRONG_USAGE = 0, 1, 2
_SHOWN = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Rebuild; the exit code is 0 when all came back, 1 when it did not or something is missing."""
    parser = argparse.ArgumentParser(prog="entrepot rebuild-state registry", description=__doc__)
    parser.add_argument("--force", action="store_true", help="write over what state holds")
    parser.add_argument("--format", choices=["table", "json"], default="table")
    options = parser.parse_args(arguments)
    try:
        settings = _settings(os.environ)
        log_to(sys.stderr, "error", SERVICE)
        report = asyncio.run(rebuild(settings, os.environ, force=options.force))
    except SettingsWrong as error:
        _say(str(error))
        return WRONG_USAGE
    except (Refused, WrongBucket, UnsafeState, StateUnavailable, BucketUnavailable, BusUnavailable) as error:
        _say(str(error))
        return FAILED
    _show(report, json=options.format == "json")
    return DONE if report.whole else FAILED


async def rebuild(settings: Settings, environment: Mapping[str, str], *, force: bool) -> Report:
    """Do it with the real servers. Raises what `Rebuild.run` raises."""
    # It keeps nothing of its own beside the replicas' journals, and listens to nobody.
    apart = settings.model_copy(update={"replica": "rebuild", "port": 0})
    async with assembled(SERVICE, apart, environment) as real, AsyncExitStack() as open_things:
        for check in real.checks:
            await check()
        history = JetStreamHistory(_operators(bus_address(settings)))
        open_things.push_async_callback(history.close)
        return await Rebuild(sources(real.parts, history)).run(force=force)


def sources(parts: Parts, history: JetStreamHistory) -> Sources:
    """Where this process reads and writes."""
    store = Store(parts.state, Layout(parts.keys))
    policies = Policies(parts.state, parts.keys, parts.outbox, parts.directory, counter_of)
    location = parts.settings.location
    voice = Voice(location, f"{location}-docker.pkg.dev")
    return Sources(parts.state, parts.keys, store, parts.blobs, policies, voice, history, parts.clock, parts.ids, _say)


def _settings(environment: Mapping[str, str]) -> Settings:
    settings = read(Settings, environment)
    if not (settings.state_url and settings.bus_url):
        raise SettingsWrong("ENTREPOT_STATE_URL and ENTREPOT_BUS_URL say where state and bus are")
    return settings


def _operators(address: Address) -> Address:
    if address.user == SERVICE:
        raise SettingsWrong("ENTREPOT_BUS_USER and ENTREPOT_BUS_PASSWORD_FILE must be those of `operator`")
    return address


def _say(line: str) -> None:
    sys.stderr.write(f"rebuild: {line}\n")
    sys.stderr.flush()


def _show(report: Report, *, json: bool) -> None:
    if json:
        found = {**asdict(report), "whole": report.whole}
        sys.stdout.buffer.write(orjson.dumps(found, option=orjson.OPT_INDENT_2) + b"\n")
        return
    lines = [
        f"snapshot    {report.snapshot or 'none'} {report.snapshot_time}".rstrip(),
        f"events      {sum(report.replayed.values())} replayed, {report.known} known to the snapshot",
        f"images      {report.images} with {report.versions} manifests",
        f"audit       numbers {report.audit_numbers}",
    ]
    lines += _missing("manifests that the bucket does not hold", report.missing_manifests)
    lines += _missing("blobs that the bucket does not hold", report.missing_blobs)
    lines += _missing("numbers under which nothing was found", report.gaps)
    if report.unreadable:
        lines.append(f"events that could not be read: {report.unreadable}")
    sys.stdout.write("\n".join(lines) + "\n")


def _missing(what: str, found: Mapping[str, object]) -> list[str]:
    if not found:
        return []
    shown = [f"  {place}  {thing}" for place, thing in list(found.items())[:_SHOWN]]
    more = [f"  and {len(found) - _SHOWN} more: --format json lists all"] if len(found) > _SHOWN else []
    return [f"{what}: {len(found)}", *shown, *more]


if __name__ == "__main__":
    sys.exit(main())
