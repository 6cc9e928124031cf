"""The builder's wiring: the only file that names its real parts."""

from services.builder.api import Api
from services.builder.handlers import Handlers
from services.builder.settings import Settings
from services.builder.store import Builds
from services.builder.workshop import Tools, Workshop
from shared.events.builds import BuildRequested
from shared.parts import Parts, Service


def build(parts: Parts) -> Service:
    """Put the builder together."""
    settings = parts.own(Settings)
    builds = Builds(parts.state, parts.outbox, parts.keys)
    address = parts.settings.public_url or f"http://{parts.settings.host}:{parts.settings.port}"
    tools = Tools(
        name=f"builder/{parts.settings.replica}",
        folder=(settings.folder or parts.settings.data / "builder" / parts.settings.replica).absolute(),
        address=address,
        builds=builds,
        blobs=parts.blobs,
        journal=parts.journal,
        clock=parts.clock,
        ids=parts.ids,
    )
    workshop = Workshop(settings, tools)
    handlers = Handlers(builds, parts.blobs, parts.clock, workshop)
    api = Api(
        builds, parts.blobs, parts.clock, parts.ids, parts.settings.location, address, settings.source_bytes, workshop
    )
    parts.bus.work(BuildRequested, handlers.run_build, at_once=settings.at_once, long=True)
    return Service(parts.face(api.routes()), on_start=(workshop.open,), on_stop=(workshop.close,))
