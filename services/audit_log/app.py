"""Wiring of the audit log, in the order in which the data flows."""

from services.audit_log.api.entries import EntriesApi
from services.audit_log.api.proof import ProofApi
from services.audit_log.api.sinks import SinksApi
from services.audit_log.export import Exporter, ExportLoop
from services.audit_log.handlers import Handlers
from services.audit_log.log import AuditLog
from services.audit_log.query import Reader
from services.audit_log.sequencer import Sequencer
from services.audit_log.settings import AuditLogSettings
from services.audit_log.store import Store
from shared.events.audit import AuditAccess, AuditActivity, AuditDenied, AuditSystem
from shared.parts import Parts, Service


def build(parts: Parts) -> Service:
    """The audit log from its parts."""
    settings = parts.own(AuditLogSettings)
    log = AuditLog(parts.blobs, parts.clock)
    parts.metrics.watch("audit_log_entries", "Entries in the log.", lambda: log.head.sequence)
    parts.metrics.watch(
        "audit_log_missing", "Entries that their producers numbered and that have not come.", log.completeness_missing
    )
    sequencer = Sequencer(log, parts.clock, settings.linger_seconds)
    handlers = Handlers(sequencer, parts.clock)
    for topic in (AuditActivity, AuditAccess, AuditSystem, AuditDenied):
        parts.bus.work(topic, handlers.on_entry, at_once=settings.at_once)
    store = Store(parts.state, parts.keys, parts.outbox)
    exports = ExportLoop(Exporter(log, store, parts.blobs), parts.state, parts.keys, parts.clock, parts.ids)
    routes = [
        *EntriesApi(Reader(log)).routes(),
        *SinksApi(store, log, parts.clock).routes(),
        *ProofApi(log, parts.blobs).routes(),
    ]
    return Service(
        app=parts.face(routes),
        background=[lambda: exports.run(settings.export_seconds)],
        on_stop=[sequencer.stop],
        ready=lambda: [log.problem] if log.problem else [],
    )
