"""The registry's wiring, in the order in which things are built on each other."""

import hmac
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any

from services.registry.acts import Steps
from services.registry.api.blobs import BlobFace
from services.registry.api.google.routes import google_routes
from services.registry.api.kernel import Kernel
from services.registry.api.lists import ListFace
from services.registry.api.manifests import ManifestFace
from services.registry.api.oci import OciFaces, oci_routes
from services.registry.api.oci_errors import Realm, challenge, spoken_error
from services.registry.api.sending import Sending
from services.registry.api.uploads import UploadFace, sessions_speak_for_themselves
from services.registry.attaching import Attaching
from services.registry.cascading import Cascading
from services.registry.collecting import Collecting
from services.registry.counting import Counting
from services.registry.deletion import Deletion
from services.registry.downloads import Downloads
from services.registry.emptying import Emptying
from services.registry.handlers import Handlers
from services.registry.hashing import Hashes
from services.registry.holdings import Holdings
from services.registry.housekeeping import Housekeeping
from services.registry.layout import Layout, counter_of
from services.registry.ledger import Ledger, Limits
from services.registry.mounts import Mounts
from services.registry.nearing import Nearing
from services.registry.platforms import Platforms
from services.registry.pulls import Families, Pulls
from services.registry.pushing import Pushing
from services.registry.quotas import Quotas
from services.registry.reading import Contents, Reading
from services.registry.rebuilding.loss import Loss
from services.registry.rebuilding.shelf import Shelf
from services.registry.rebuilding.taking import Taking, Walk
from services.registry.redirects import Redirects
from services.registry.registry import Registry
from services.registry.repositories import Repositories
from services.registry.repository import Standard
from services.registry.searching import Searching
from services.registry.settings import RegistrySettings
from services.registry.store import Store
from services.registry.uploads import UploadLimits, Uploads
from services.registry.voice import Voice
from shared.events.cleanups import CleanupRequested
from shared.events.images import ReferrerRequested
from shared.http.gate import bearer
from shared.http.iam import Policies
from shared.parts import Parts, Service
from shared.settings import SettingsWrong, secret


def build(parts: Parts) -> Service:
    """Put the registry together from the parts it is given."""
    settings = parts.own(RegistrySettings)
    location = parts.settings.location
    voice = Voice(location, settings.image_host or f"{location}-docker.pkg.dev", parts.settings.hosts)
    store = Store(parts.state, Layout(parts.keys))
    steps = Steps(parts.state, parts.outbox, parts.clock)
    ledger = Ledger(store.layout, parts.clock, settings.upload_seconds, settings.collect_after_seconds)
    quotas = _quotas(parts, settings, store)
    holdings = Holdings(store, steps, parts.blobs, voice, ledger, quotas, parts.ids)
    pushing = Pushing(store, steps, parts.blobs, voice, Platforms(parts.blobs), ledger, quotas)
    deletion = Deletion(store, steps, voice, ledger)
    cascading = Cascading(store, steps, deletion)
    policies = Policies(parts.state, parts.keys, parts.outbox, parts.directory, counter_of)
    limits = UploadLimits(settings.upload_seconds, settings.blob_bytes)
    registry = Registry(
        store=store,
        repositories=Repositories(store, steps, voice, Emptying(store, deletion), policies, parts.ids, holdings),
        downloads=Downloads(store, voice),
        standard=Standard(Reading(store, Contents(parts.blobs)), pushing, deletion, cascading, holdings),
        uploads=Uploads(parts.blobs, holdings, limits, Hashes(OrderedDict()), parts.clock, parts.ids),
        pulls=Pulls(parts.journal, parts.clock, parts.ids, location, Families(store, parts.clock)),
        voice=voice,
        directory=parts.directory,
        settings=settings,
    )
    attaching = Attaching(store, holdings, pushing, parts.blobs, parts.elsewhere)
    handlers = Handlers(store, attaching, deletion, voice, parts.clock)
    parts.bus.work(ReferrerRequested, handlers.attach)
    parts.bus.work(CleanupRequested, handlers.clean)
    mounts = Mounts(store, holdings, registry.downloads, parts.blobs, voice, settings.mount_copy_bytes)
    return _service(parts, registry, policies, mounts)


def _service(parts: Parts, registry: Registry, policies: Policies, mounts: Mounts) -> Service:
    settings = registry.settings
    key = _upload_key(parts, settings)
    redirects = Redirects(registry.store, parts.blobs, settings.redirect, settings.redirect_seconds)
    sending = Sending(parts.blobs, Kernel(parts.clock.monotonic))
    faces = OciFaces(
        ManifestFace(registry),
        BlobFace(registry, sending, redirects),
        UploadFace(registry, mounts, key),
        ListFace(registry),
    )
    app = parts.face(
        [
            *google_routes(registry, policies, sending, hmac.digest(key, b"operations", "sha256")),
            *oci_routes(registry, faces),
        ],
        error_body=spoken_error,
        challenge=challenge(Realm(settings.token_realm, settings.token_service or _ours(parts))),
        authenticate=sessions_speak_for_themselves(bearer(parts.verifier), key),
    )
    house = _housekeeping(parts, registry)
    snapshots = _snapshots(parts, registry, policies)
    return Service(
        app,
        # Kept in memory, state begins anew with each process, and nothing was lost.
        on_start=[Loss(parts.state, registry.store.layout, parts.blobs).refuse] if parts.settings.state_url else [],
        background=(
            registry.pulls.keep_telling,
            house.clear_uploads,
            house.finish_deletions,
            snapshots.keep_taking,
            *_collecting(registry, house),
        ),
        on_stop=[sending.close],
    )


def _housekeeping(parts: Parts, registry: Registry) -> Housekeeping:
    settings, store, holdings = registry.settings, registry.store, registry.uploads.holdings
    collecting = Collecting(
        store,
        holdings.steps,
        holdings,
        Counting(store, holdings.ledger, parts.ids),
        parts.blobs,
        registry.voice,
        parts.ids,
        replica=parts.ids.new(),
        stands=settings.collect_mark_seconds,
        dry=settings.collect == "dry-run",
    )
    tally, watch = collecting.tally, parts.metrics.watch
    watch(
        "registry_forgotten_blobs",
        "Blobs that repositories forgot, as nothing referred to them.",
        lambda: tally.forgotten,
    )
    watch("registry_forgotten_bytes", "Bytes of these.", lambda: tally.freed)
    watch("registry_cleared_objects", "Objects that went from the bucket, as nothing held them.", lambda: tally.cleared)
    watch("registry_would_clear", "What would have gone in the last turn of a dry run.", lambda: tally.would)
    watch("registry_searched_objects", "Objects that searches of the bucket looked at.", lambda: tally.searched)
    searching = Searching(collecting, parts.clock, settings.search_every_seconds, settings.upload_seconds)
    return Housekeeping(
        registry.uploads,
        registry.repositories,
        registry.standard.cascading,
        parts.keys.all_partitions(),
        parts.clock,
        parts.ids,
        searching,
        settings.collect_every_seconds,
    )


def _collecting(registry: Registry, house: Housekeeping) -> list[Callable[[], Coroutine[Any, Any, None]]]:
    return [] if registry.settings.collect == "off" else [house.collect]


def _quotas(parts: Parts, settings: RegistrySettings, store: Store) -> Quotas:
    defaults = Limits(settings.repository_quota_bytes, settings.project_quota_bytes)
    quotas = Quotas(store, parts.directory, parts.clock, defaults, Nearing(store, parts.settings.location))
    watch = parts.metrics.watch
    watch("registry_quota_refusals", "What was refused for a quota.", lambda: quotas.seen.refused)
    watch(
        "registry_quotas_nearly_full",
        "Quotas of which nine tenths are used, of those asked for lately.",
        quotas.nearly_full,
    )
    return quotas


def _snapshots(parts: Parts, registry: Registry, policies: Policies) -> Taking:
    walk = Walk(registry.store, parts.keys, policies, registry.voice)
    shelf = Shelf(parts.blobs, registry.voice.location)
    return Taking(walk, shelf, parts.clock, parts.ids, registry.settings.snapshot_seconds)


def _ours(parts: Parts) -> str:
    """Where there are several locations, the service that a token is asked for tells which of them it is about."""
    settings = parts.settings
    if settings.hosts and settings.location not in settings.hosts:
        raise SettingsWrong(f"ENTREPOT_LOCATIONS names no host of this registry's location, {settings.location}")
    return settings.hosts.get(settings.location, settings.audience)


def _upload_key(parts: Parts, settings: RegistrySettings) -> bytes:
    if settings.upload_key_file is None:
        return parts.ids.secret(32)
    return secret(settings.upload_key_file).encode()
