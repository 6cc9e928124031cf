"""Wiring of cleanup, in the order in which the data flows."""

from services.cleanup.api import CleanupApi
from services.cleanup.handlers import Handlers
from services.cleanup.repositories import Repositories
from services.cleanup.settings import CleanupSettings
from services.cleanup.store import Store
from services.cleanup.sweep import Habits, Sweeper, SweepLoop
from shared.events.attestations import AdmissionDecided
from shared.events.images import (
    ImageDeleted,
    ImagePulled,
    ImagePushed,
    ImageUntagged,
    ReferrerAttached,
    RepositoryState,
)
from shared.parts import Parts, Service


def build(parts: Parts) -> Service:
    """Cleanup from its parts."""
    settings = parts.own(CleanupSettings)
    habits = Habits(settings.running_days * 86_400)
    repositories = Repositories()
    view = parts.bus.view([RepositoryState], repositories.heard)
    store = Store(parts.state, parts.keys, parts.outbox)
    handlers = Handlers(store, parts.buckets)
    parts.bus.work(ImagePushed, handlers.on_pushed)
    parts.bus.work(ReferrerAttached, handlers.on_attached)
    parts.bus.work(ImageUntagged, handlers.on_untagged)
    parts.bus.work(ImageDeleted, handlers.on_deleted)
    parts.bus.work(ImagePulled, handlers.on_pulled)
    parts.bus.work(AdmissionDecided, handlers.on_admitted)
    sweeper = Sweeper(store, parts.blobs, repositories, parts.clock, parts.cpu, habits)
    loop = SweepLoop(sweeper, store, repositories, parts.clock, parts.ids, settings.interval_seconds)
    return Service(
        app=parts.face(CleanupApi(sweeper, store, repositories).routes()),
        background=[lambda: loop.run(settings.check_seconds)],
        ready=lambda: [] if view.caught_up else ["the repositories are not all heard of yet"],
    )
