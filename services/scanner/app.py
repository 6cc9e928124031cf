"""Wiring of the scanner, in the order in which the data flows."""

from collections.abc import Callable, Coroutine
from typing import Any

from services.scanner.advisories.fetching import Fetching, Pace
from services.scanner.advisories.importing import Importer
from services.scanner.advisories.knowledge import Knowledge
from services.scanner.advisories.web import HttpWeb
from services.scanner.api.advisories import AdvisoriesApi
from services.scanner.api.notes import NotesApi
from services.scanner.api.occurrences import OccurrencesApi
from services.scanner.catalog import Catalog
from services.scanner.clearing import Clearing, ClearingLoop
from services.scanner.handlers import Handlers
from services.scanner.layers.reading import Reader
from services.scanner.listing import Listing
from services.scanner.scanning import Scanner
from services.scanner.settings import ScannerSettings
from services.scanner.store import Store
from services.scanner.written.desk import Desk
from services.scanner.written.shelf import Shelf
from shared.events.attestations import AttestationCreated
from shared.events.images import ImageDeleted, ImagePushed
from shared.events.scans import AdvisoryUpdated, ScanRequested
from shared.http.iam import Policies
from shared.parts import Parts, Service


def build(parts: Parts) -> Service:
    """The scanner from its parts."""
    settings = parts.own(ScannerSettings)
    store = Store(parts.state, parts.keys, parts.outbox)
    knowledge = Knowledge(store, parts.blobs, parts.cpu, settings.shared_advisories)
    reader = Reader(parts.blobs, parts.cpu, settings.limits())
    scanner = Scanner(store, knowledge, reader, parts.blobs, parts.clock, parts.cpu, parts.elsewhere)
    handlers = Handlers(scanner, store, knowledge)
    parts.bus.work(ImagePushed, handlers.on_pushed, at_once=settings.at_once, long=True)
    parts.bus.work(ScanRequested, handlers.on_requested, at_once=settings.at_once, long=True)
    parts.bus.work(AdvisoryUpdated, handlers.on_updated, at_once=1, long=True)
    parts.bus.work(ImageDeleted, handlers.on_deleted)
    parts.bus.work(AttestationCreated, handlers.on_attested)
    importer = Importer(knowledge, parts, settings.import_bytes)
    locations = tuple(parts.settings.hosts) or (parts.settings.location,)
    listing = Listing(store, knowledge, parts.blobs, parts.cpu, settings.registry_host, locations)
    notes, occurrences = (
        Shelf(kind, parts.state, parts.keys, parts.outbox, parts.blobs) for kind in ("notes", "occurrences")
    )
    catalog = Catalog(listing, notes, occurrences)
    policies = Policies(parts.state, parts.keys, parts.outbox, parts.directory)
    desk = Desk(catalog, notes, occurrences, policies, parts.clock, parts.ids)
    routes = [
        *AdvisoriesApi(store, knowledge, importer).routes(),
        *NotesApi(catalog, desk, policies).routes(),
        *OccurrencesApi(catalog, listing, desk, policies).routes(),
    ]
    clearing = Clearing(store, parts.blobs, parts.clock, parts.ids, settings.clear_unused_seconds)
    loop = ClearingLoop(clearing, parts.state, parts.keys, parts.clock, parts.ids)
    background: list[Callable[[], Coroutine[Any, Any, None]]] = [lambda: loop.run(settings.clear_seconds)]
    if subscriptions := settings.subscriptions():
        fetching = Fetching(parts, store, importer, HttpWeb(), Pace(settings.feed_seconds, settings.feed_visit_seconds))
        background.append(lambda: fetching.run(subscriptions))
    return Service(app=parts.face(routes), background=background)
