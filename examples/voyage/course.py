"""The course: push an image with known flaws, see it refused, push the mended one, see it let in, look back."""

import json
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli import account, suite
from cli.api import Api
from examples.voyage.image import write_layout
from examples.voyage.log_book import LogBook
from examples.voyage.ship import DENIED, Aground, Lookout, Ship
from examples.voyage.wheels import MENDED, OLD, Release, site_packages

PROJECT, REPOSITORY, IMAGE = "demo", "harbour", "clock"
ATTESTOR = f"projects/{PROJECT}/attestors/no-known-flaws"
ADVISORIES = {
    "seed": Path(__file__).parents[2] / "services" / "scanner" / "seed" / "advisories.json",
    "voyage": Path(__file__).parent / "advisories",
}
"""By source: facts about published libraries, and one about the demo's own application."""

_AUDIT_SECONDS = 30

_POLICIES = {
    "old-versions": {
        "id": "old-versions",
        "action": "DELETE",
        "condition": {"tagState": "ANY", "olderThan": "0s"},
    },
    "the-newest": {"id": "the-newest", "action": "KEEP", "mostRecentVersions": {"keepCount": 1}},
}


@dataclass(frozen=True)
class Voyage:
    """One run against one suite."""

    ship: Ship
    lookout: Lookout
    log: LogBook
    cache: Path

    def sail(self) -> None:
        """All legs. Raises Aground at the first thing that is not as it should be."""
        with self.log.leg("1. What the harbour knows: advisories, an attestor with a threshold, a policy"):
            self._load_advisories()
            self._set_policy()
        with self.log.leg(f"2. Push {IMAGE}:{OLD.tag}, with an old library in it"):
            old = self._push(OLD)
            findings = self._scanned(old)
            self._show_findings(old, findings)
        with self.log.leg("3. Kubernetes asks whether it may run"):
            self._refused(old)
        with self.log.leg(f"4. Push {IMAGE}:{MENDED.tag}, mended"):
            mended = self._push(MENDED)
            self._scanned(mended)
            self._attested(mended)
            self._let_in(mended)
        with self.log.leg("5. What cleanup would delete, keeping the newest"):
            self._planned(old, mended)
        with self.log.leg("6. Who did what"):
            self._audited()

    # 1

    def _load_advisories(self) -> None:
        for source, place in ADVISORIES.items():
            said = self.ship.ask("advisories", "import", str(place), "--source", source)
            self.log.line(f"advisories of {said['source']}: {said['records']}")

    def _set_policy(self) -> None:
        """An attestor that signs what a scan finds clean of MEDIUM and worse, and a policy that wants it."""
        attestor = self._attestor()
        rule = {
            "evaluationMode": "REQUIRE_ATTESTATION",
            "requireAttestationsBy": [ATTESTOR],
            "enforcementMode": "ENFORCED_BLOCK_AND_AUDIT_LOG",
        }
        api = self._api("attestor")
        policy = api.call("PUT", f"v1/projects/{PROJECT}/policy", {"defaultAdmissionRule": rule})
        said = policy["defaultAdmissionRule"]
        self.log.line(f"attestor {attestor['name'].rpartition('/')[2]} signs up to {attestor['autoAttest']}")
        self.log.line(f"policy: {said['evaluationMode']} by {', '.join(said['requireAttestationsBy'])}")

    def _attestor(self) -> dict[str, Any]:
        api = self._api("attestor")
        name = ATTESTOR.rpartition("/")[2]
        for known in api.pages(f"v1/projects/{PROJECT}/attestors", "attestors"):
            if known["name"] == ATTESTOR:
                return known
        threshold = {"maximumFixableSeverity": "LOW", "maximumUnfixableSeverity": "MEDIUM"}
        api.post(f"v1/projects/{PROJECT}/attestors", {"autoAttest": threshold}, attestorId=name)
        return api.get(f"v1/{ATTESTOR}")

    # 2 and 4

    def _push(self, release: Release) -> str:
        site, fetched = site_packages(release, self.cache)
        layout = self.cache / f"layout-{release.tag}"
        made = write_layout(site, layout, release.tag)
        if not fetched:
            self.log.line("(no network: the image holds the demo's own application alone)")
        target = f"{self.ship.registry()}/{PROJECT}/{REPOSITORY}/{IMAGE}:{release.tag}"
        pushed = self.ship.run("copy", f"oci:{layout}:{release.tag}", f"docker://{target}").strip()
        if pushed != made:
            raise Aground(f"the registry has {pushed}, what was made is {made}")
        said = self._heard(release.tag, pushed)
        at = said["data"]
        name = f"{at['project']}/{at['repository']}/{at['image']}:{at['tag']}"
        self.log.line(f"entrepot copy pushed {name}@{at['digest'][:19]}…")
        self._push_by_skopeo(layout, release, pushed)
        self.log.line(f"{said['type']}: {at['size']} bytes, by {said['actor']}")
        return pushed

    def _heard(self, tag: str, digest: str) -> dict[str, Any]:
        """What this voyage's push of a tag was announced as."""

        def fits(data: dict[str, Any]) -> bool:
            return data["digest"] == digest and data.get("tag") == tag

        return self.lookout.until("image.pushed", fits, since=self.log.began)

    def _push_by_skopeo(self, layout: Path, release: Release, digest: str) -> None:
        """The same once more with a client that knows nothing of us, where it is installed."""
        skopeo = shutil.which("skopeo")
        if skopeo is None:
            self.log.line("(skopeo is not installed here: not tried)")
            return
        target = f"{self.ship.registry()}/{PROJECT}/{REPOSITORY}/{IMAGE}:{release.tag}-skopeo"
        token = self.ship.run("token").strip()
        source = f"oci:{layout}:{release.tag}"
        login = ["--dest-creds", f"oauth2accesstoken:{token}"]
        command = [skopeo, "copy", "--insecure-policy", "--dest-tls-verify=false", *login, source, f"docker://{target}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode != 0:
            raise Aground(f"skopeo copy failed: {done.stderr.strip()[-500:]}")
        said = self._heard(f"{release.tag}-skopeo", digest)
        self.log.line(f"skopeo copy pushed the same digest as {said['data']['tag']}")

    def _scanned(self, digest: str) -> dict[str, Any]:
        said = self.lookout.until("scan.completed", lambda data: data["digest"] == digest)["data"]
        counts = ", ".join(f"{count} {severity}" for severity, count in said.get("counts", {}).items()) or "nothing"
        self.log.line(f"scan.completed: {said['packages']} packages, found {counts}")
        return said

    def _show_findings(self, digest: str, scan: dict[str, Any]) -> None:
        image = f"{self.ship.registry()}/{PROJECT}/{REPOSITORY}/{IMAGE}@{digest}"
        found = self.ship.ask("scan", "list", image, "--filter", 'kind="VULNERABILITY"')
        for one in found:
            issue = one["vulnerability"]["packageIssue"][0]
            version = issue["affectedVersion"]["fullName"]
            fixed = issue.get("fixedVersion", {}).get("fullName", "none yet")
            name = one["noteName"].rpartition("/")[2]
            severity = one["vulnerability"].get("effectiveSeverity", "")
            self.log.line(f"{name} {severity}: {issue['affectedPackage']} {version}, fixed in {fixed}")
        if len(found) != sum(scan.get("counts", {}).values()) or not found:
            raise Aground(f"{len(found)} occurrences are listed, scan.completed spoke of {scan.get('counts')}")

    # 3 and 4

    def _refused(self, digest: str) -> None:
        said = self.ship.run("admit", str(self._pod(digest)), "--for-real", expect=DENIED)
        for line in said.strip().splitlines():
            self.log.line(line)
        self._decided(digest, allowed=False)

    def _let_in(self, digest: str) -> None:
        self.log.line(f"admission: {self.ship.run('admit', str(self._pod(digest)), '--for-real').strip()}")
        self._decided(digest, allowed=True)

    def _decided(self, digest: str, *, allowed: bool) -> None:
        def fits(data: dict[str, Any]) -> bool:
            return any(digest in image for image in data.get("images", ()))

        said = self.lookout.until("admission.decided", fits, since=self.log.began)["data"]
        if bool(said.get("allowed")) is not allowed:
            raise Aground(f"admission.decided says allowed={said.get('allowed')}")
        self.log.line(f"admission.decided: {'allowed' if said.get('allowed') else 'denied'}")

    def _pod(self, digest: str) -> Path:
        image = f"{self.ship.registry()}/{PROJECT}/{REPOSITORY}/{IMAGE}@{digest}"
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "clock", "namespace": "default"},
            "spec": {"containers": [{"name": "clock", "image": image}]},
        }
        path = self.cache / "pod.json"
        path.write_text(json.dumps(pod))
        return path

    def _attested(self, digest: str) -> None:
        said = self.lookout.until("attestation.created", lambda data: data["digest"] == digest)["data"]
        self.log.line(f"attestation.created by {said['attestor'].rpartition('/')[2]}, key {said['key_id'][:24]}…")
        self.lookout.until("referrer.attached", lambda data: data["subject_digest"] == digest)
        self.log.line("referrer.attached: the attestation hangs on the image")

    # 5 and 6

    def _planned(self, old: str, mended: str) -> None:
        place = f"projects/{PROJECT}/locations/local/repositories/{REPOSITORY}"
        plan = self._api("cleanup").post(f"v1/{place}:planCleanup", {"cleanupPolicies": _POLICIES})
        doomed = [str(one.get("digest") or one.get("version")) for one in plan["delete"]]
        for one in plan["delete"]:
            self.log.line(f"would delete {', '.join(one.get('tags', [])) or one['digest'][:19]}: {one['reason']}")
        if old not in doomed or mended in doomed:
            raise Aground(f"the plan should name the old image and not the mended one: {plan}")

    def _audited(self) -> None:
        """The log hears of a change a moment after it was answered: all that the pushes changed is waited for."""
        pushed = self.lookout.heard("image.pushed", self.log.began)
        wanted = sum(not data.get("unchanged") for data in pushed)
        until = time.monotonic() + _AUDIT_SECONDS
        while (missing := wanted - sum(map(_is_push, rows := self._entries()))) > 0:
            if time.monotonic() > until:
                raise Aground(f"the audit log does not know who made {missing} of {wanted} pushes")
        seen: dict[tuple[str, str], int] = {}
        for row in rows:
            payload = row["protoPayload"]
            who = payload.get("authenticationInfo", {}).get("principalEmail") or "the suite itself"
            method = payload["methodName"].rpartition(".")[2]
            seen[who, method] = seen.get((who, method), 0) + 1
        for (who, method), count in seen.items():
            self.log.line(f"{method} x{count} by {who}")

    def _entries(self) -> list[dict[str, Any]]:
        since = f'timestamp>="{self.log.began}"'
        rows: list[dict[str, Any]] = self.ship.ask(
            "audit", "read", "--oldest-first", "--limit", "500", "--filter", since
        )
        return rows

    def _api(self, service: str) -> Api:
        return account.api(suite.of(str(self.ship.data)), service)


def _is_push(entry: dict[str, Any]) -> bool:
    return bool(entry["protoPayload"]["methodName"] == "Docker-PutManifest")
