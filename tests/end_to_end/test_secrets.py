"""What a running suite writes down, searched for secrets that went through it: logs, bus, state, bucket, processes."""

import base64
import hashlib
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import jwt
import pytest

from tests.support.suite import SERVICES, Suite, running

pytestmark = pytest.mark.timeout(300)

ASSERTION = "urn:ietf:params:oauth:grant-type:jwt-bearer"
BLOB = b"what is uploaded"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    with running(tmp_path_factory.mktemp("secrets")) as started:
        yield started


def asked(
    suite: Suite, service: str, path: str, content: bytes | None = None, verb: str = "", **headers: str
) -> tuple[int, Mapping[str, str], bytes]:
    """One request, whatever is answered."""
    written = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(
        f"{suite.address(service)}{path}", data=content, headers=written, method=verb or ("POST" if content else "GET")
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def form(**fields: str) -> bytes:
    return urllib.parse.urlencode(fields).encode()


def test_secrets_that_went_through_a_suite_are_written_down_nowhere(house: Suite) -> None:
    secrets, answers = plant(house)
    time.sleep(3)  # what goes to the bus and the audit log by itself is there by then

    assert len(secrets) > 12
    places = dict(written(house))
    assert sum("log" in place for place in places) >= len(SERVICES)
    found = [
        f"{name} in {place}"
        for name, secret in secrets.items()
        for place, content in {**places, **answers}.items()
        if secret.encode() in content
    ]
    assert found == []
    everything = b"".join(places.values())
    assert b"GetManifest" in everything or b"google.iam.admin.v1" in everything, "nothing of the calls was found at all"
    assert b"planted-agent" in everything


def written(suite: Suite) -> Iterator[tuple[str, bytes]]:
    """Everything on disk but the keys' own folder, and what everybody on the machine may see of the processes."""
    for path in suite.data.rglob("*"):
        if path.is_file() and suite.data / "keys" not in path.parents:
            yield str(path.relative_to(suite.data)), path.read_bytes()
    yield "what the launcher said", suite.said().encode()
    for pid in suite.processes():
        for kind in ("cmdline", "environ"):
            yield f"{kind} of {pid}", Path(f"/proc/{pid}/{kind}").read_bytes()
    for service in SERVICES:
        yield f"metrics of {service}", asked(suite, service, "/metrics")[2]


def plant(suite: Suite) -> tuple[dict[str, str], dict[str, bytes]]:
    """Use secrets rightly and wrongly wherever one can come in; the secrets, and the errors that were answered."""
    made = suite.call("identity", "/v1/projects/demo/serviceAccounts", {"accountId": "planted"})
    path = f"/v1/projects/demo/serviceAccounts/{made['email']}/keys"
    key = json.loads(base64.b64decode(suite.call("identity", path, {})["privateKeyData"]))
    now, address = int(time.time()), suite.address("identity")
    claims = {"iss": made["email"], "sub": made["email"], "aud": f"{address}/token", "iat": now, "exp": now + 3000}
    assertion = jwt.encode(claims, key["private_key"], "RS256", {"kid": key["private_key_id"]})
    granted = asked(suite, "identity", "/token", form(grant_type=ASSERTION, assertion=assertion))
    token = json.loads(granted[2])["access_token"]
    password = "planted-password-4711"
    basic = base64.b64encode(f"ada:{password}".encode()).decode()
    login = base64.b64encode(f"_json_key:{json.dumps(key)}".encode()).decode()
    offline = "/token?service=entrepot&offline_token=true&scope=repository:demo/web/app:pull"
    refresh = json.loads(asked(suite, "identity", offline, Authorization=f"Basic {login}")[2])["refresh_token"]
    location, upload = uploaded(suite)
    everywhere = {
        "Authorization": f"Bearer {token}",
        "User-Agent": f"planted-agent Bearer {token}",
        "X-Request-Id": token[:60],
        "Cookie": f"session={password}",
        "Referer": f"http://x/?token={token}",
    }
    account = {"accountId": "No Id", "password": password, "privateKey": key["private_key"], "token": token}
    half = f'{{"password": "{password}", "token": "{token}"'.encode()
    tries: list[tuple[str, str, bytes | None, str, dict[str, str]]] = [
        ("identity", "/token", form(grant_type=ASSERTION, assertion=assertion[:-8] + "AAAAAAAA"), "", {}),
        ("identity", "/token", form(grant_type="password", username="ada", password=password), "", {}),
        ("identity", "/token", form(grant_type="refresh_token", refresh_token=refresh + "x"), "", {}),
        ("identity", "/token?service=entrepot", None, "", {"Authorization": f"Basic {basic}"}),
        ("identity", f"/tokeninfo?access_token={token}x", None, "", {}),
        *(
            (each, f"/v1/projects/demo/no?access_token={token}&token={token}", None, "", everywhere)
            for each in SERVICES
        ),
        ("registry", "/v2/demo/web/app/tags/list", None, "", everywhere),
        ("registry", location.replace("/app/", "/other/"), b"", "PUT", {}),
        ("registry", location, b"x", "PUT", {"Content-Range": "9-5"}),
        ("builder", "/v1/projects/demo/builds", half, "", everywhere),
        ("identity", "/v1/projects/demo/serviceAccounts", json.dumps(account).encode(), "", everywhere),
        (
            "identity",
            "/v1/projects/demo/serviceAccounts",
            json.dumps(account).encode(),
            "",
            {"Authorization": f"Bearer {suite.token()}"},
        ),
    ]
    errors: dict[str, bytes] = {}
    for number, (service, where, content, verb, headers) in enumerate(tries):
        status, _, answer = asked(suite, service, where, content, verb, **headers)
        assert 400 <= status < 500, (number, status)
        errors[f"answer {number}"] = answer
    lines = key["private_key"].split("\n")
    return {
        "the key's beginning": lines[1],
        "the key's middle": lines[12],
        "the key file in base64": base64.b64encode(lines[12].encode()).decode()[4:60],
        "the assertion": assertion.rpartition(".")[2],
        "the assertion's claims": assertion.rpartition(".")[0],
        "the access token": token.rpartition(".")[2],
        "the access token's claims": token.split(".")[1],
        "the password": password,
        "the password in base64": basic[6:],
        "the login": login[200:260],
        "the refresh token": refresh,
        "the upload's address": upload,
        **kept_keys(suite),
    }, errors


def uploaded(suite: Suite) -> tuple[str, str]:
    """Push a blob in two requests; the address of the second, and what it is signed with."""
    repository = "/v1/projects/demo/locations/local/repositories?repositoryId=web"
    suite.call("registry", repository, {"format": "DOCKER"})
    bearer = f"Bearer {suite.token()}"
    begun = asked(suite, "registry", "/v2/demo/web/app/blobs/uploads/", b"", "POST", Authorization=bearer)
    location = begun[1]["Location"]
    digest = hashlib.sha256(BLOB).hexdigest()
    done = asked(suite, "registry", f"{location}&digest=sha256:{digest}", BLOB, "PUT")
    assert done[0] == 201, done
    return location, location.partition("_state=")[2][:43]


def kept_keys(suite: Suite) -> dict[str, str]:
    """The suite's own keys and passwords, which lie in their folder and nowhere else."""
    found: dict[str, str] = {}
    for path in (suite.data / "keys").rglob("*"):
        if path.is_file() and path.suffix != ".pub" and path.name != "access":
            text = path.read_text().strip()
            found[f"the suite's {path.name}"] = (
                text.split("\n")[1] if "BEGIN" in text and "{" not in text else text[-40:]
            )
    return found
