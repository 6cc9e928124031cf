"""Logins that failed, as the audit log hears of them: who it was said to be and why not, and nothing secret."""

from dataclasses import dataclass

from services.identity.logins import LoginRefused
from shared.clock import Clock
from shared.events import caused_id
from shared.events.audit import AuditDenied
from shared.http.call import Call
from shared.http.entries import Asked, Origin, log_entry
from shared.http.routes import Audit
from shared.identity.caller import ANONYMOUS
from shared.identity.directory import Directory
from shared.journal import Journal


@dataclass(frozen=True)
class Denials:
    """Notes failed logins in the journal."""

    journal: Journal
    clock: Clock
    directory: Directory

    def note(self, call: Call, refused: LoginRefused) -> None:
        """Note one."""
        account = self.directory.account(refused.account)
        project = account.project if account else ""
        resource = f"projects/{project or '-'}/serviceAccounts/{refused.account or '-'}"
        asked = Asked(
            method="google.identity.sts.v1.SecurityTokenService.ExchangeToken",
            resource=resource,
            permission="iam.serviceAccounts.getAccessToken",
            kind=Audit.ADMIN_READ,
            granted=False,
            status={"code": 16, "message": str(refused)[:200]},
        )
        origin = Origin("identity", ANONYMOUS, call.ip, call.user_agent, call.traceparent)
        insert_id = caused_id(call.id, "policy", 0)
        entry = log_entry("policy", project, origin, asked, now=self.clock.now(), insert_id=insert_id)
        self.journal.note([AuditDenied(project=project, producer="identity", entry=entry)], call.cause)
