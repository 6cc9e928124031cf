"""Proof over HTTP: how long the log is and its hash, whether it is whole, and what never arrived."""

import asyncio

from aiohttp import web

from services.audit_log.log import AuditLog
from services.audit_log.verification import verified
from shared.blobs import Blobs
from shared.http.errors import ResourceExhausted
from shared.http.routes import Audit, Route
from shared.http.translation import json_answer

SERVICE = "entrepot.audit_log.v1"
MOST_GAPS = 100


class ProofApi:
    """Three questions about the log itself."""

    def __init__(self, log: AuditLog, blobs: Blobs) -> None:
        self._log = log
        self._blobs = blobs
        self._verifying = asyncio.Lock()

    def routes(self) -> list[Route]:
        """All routes about proof."""
        return [
            Route(
                "GET",
                "/v1/auditLog/checkpoint",
                self.checkpoint,
                "",
                audit=Audit.NONE,
                open_because="a length and two hashes, for anybody to keep; they say nothing of what is inside",
            ),
            Route(
                "GET",
                "/v1/projects/{project}/auditLog:completeness",
                self.completeness,
                "logging.logs.list",
                None,
                f"{SERVICE}.GetCompleteness",
            ),
            Route(
                "POST",
                "/v1/projects/{project}/auditLog:verify",
                self.verify,
                "logging.logs.list",
                None,
                f"{SERVICE}.Verify",
                seconds=600,
            ),
        ]

    async def checkpoint(self, request: web.Request) -> web.Response:
        """Size, Merkle root and chain hash at the end of the log."""
        del request
        await self._log.follow()
        head = self._log.head
        return json_answer(
            {
                "size": head.sequence,
                "rootHash": head.frontier.root().hex(),
                "segments": head.segment,
                "segmentHash": head.hash,
            }
        )

    async def completeness(self, request: web.Request) -> web.Response:
        """Entries that were numbered by their producers and have not come: late, or lost."""
        await self._log.follow()
        found = self._log.completeness.incomplete(request.match_info["project"])
        sources = [
            {
                "producer": producer,
                "topic": topic,
                "missing": numbers.missing(),
                "gaps": [{"first": first, "last": last} for first, last in numbers.gaps[:MOST_GAPS]],
            }
            for (producer, topic, _), numbers in found.items()
        ]
        return json_answer({"complete": not sources, "incompleteSources": sources})

    async def verify(self, request: web.Request) -> web.Response:
        """Read the whole log again and check every hash; one at a time, for it reads everything."""
        del request
        if self._verifying.locked():
            raise ResourceExhausted("The log is being verified already.", retry_after=30)
        async with self._verifying:
            await self._log.follow()
            found = await verified(self._blobs, self._log.head)
        root = found.head.frontier.root().hex()
        return json_answer(
            {"valid": not found.broken, "size": found.head.sequence, "rootHash": root, "problem": found.broken}
        )
