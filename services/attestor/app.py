"""Wiring of the attestor, in the order in which the data flows."""

from services.attestor.admitting import Admitting, Rules
from services.attestor.api.admit import AdmitApi
from services.attestor.api.attestors import AttestorsApi
from services.attestor.api.policies import PoliciesApi
from services.attestor.attesting import AutoAttestor
from services.attestor.client_certificates import ClientCertificates, members_of
from services.attestor.handlers import Handlers
from services.attestor.key_ring import KeyRing
from services.attestor.master_key import BYTES, made_once, master_from
from services.attestor.second_look import SecondLook
from services.attestor.settings import AttestorSettings
from services.attestor.signing import Master
from services.attestor.store import Store
from shared.events.images import ImageDeleted, ImagePushed, ImageUntagged
from shared.events.scans import OccurrenceChanged, ScanCompleted
from shared.http.iam import Policies
from shared.parts import Parts, Service


def build(parts: Parts) -> Service:
    """The attestor from its parts."""
    settings = parts.own(AttestorSettings)
    registries = settings.registries(parts.settings.location)
    store = Store(parts.state, parts.keys, parts.outbox)
    ring = KeyRing(parts.blobs, _master(parts, settings), parts.ids)
    attesting = AutoAttestor(store, parts.blobs, ring, parts.clock, registries)
    handlers = Handlers(store, parts.blobs, attesting, registries)
    parts.bus.work(ImagePushed, handlers.on_pushed)
    parts.bus.work(ImageUntagged, handlers.on_untagged)
    parts.bus.work(ImageDeleted, handlers.on_deleted)
    parts.bus.work(ScanCompleted, handlers.on_scanned)
    parts.bus.work(OccurrenceChanged, handlers.on_occurrence)
    policies = Policies(parts.state, parts.keys, parts.outbox, parts.directory)
    admitting = Admitting(store, registries, Rules(settings.breakglass, settings.breakglass_justified))
    routes = [
        *AttestorsApi(store, ring, policies, parts.clock).routes(),
        *PoliciesApi(store, policies, parts.clock).routes(),
        *AdmitApi(admitting, parts.journal, settings.admit_project, settings.admit_seconds).routes(),
    ]
    members = members_of(settings.client_members)
    certificates = ClientCertificates(members, parts.verifier, parts.directory, parts.clock)
    second_look = SecondLook(store, attesting, parts.keys, parts.clock)
    return Service(
        app=parts.face(routes, authenticate=certificates.authenticate),
        background=[lambda: second_look.run(settings.look_again_seconds)],
    )


def _master(parts: Parts, settings: AttestorSettings) -> Master:
    if settings.master_key_file is not None:
        return master_from(settings.master_key_file)
    if parts.settings.bucket == "memory":  # nothing that it seals outlives the process
        return Master([parts.ids.secret(BYTES)])
    return made_once(parts.settings.data / "attestor-master.key", parts.ids.secret)
