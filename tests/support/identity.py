"""Identity in memory behind a client, with an administrator who has logged in, and what clients of it do."""

import asyncio
import base64
import functools
import json
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from joserfc import jws

from services.identity.app import build
from services.identity.key_files import Pair, new_pair
from tests.support.parts import Client, MemoryParts, client_of, json_of, memory_parts

ASSERTION = "urn:ietf:params:oauth:grant-type:jwt-bearer"
GOOGLE = "https://oauth2.googleapis.com/token"
ADMIN = "admin@demo.iam.entrepot"


@functools.cache
def pair(name: str = "admin") -> Pair:
    """A key pair that is made once for all tests, as making one is slow."""
    del name
    return new_pair()


def file_for(email: str, key_id: str = "a" * 40, name: str = "admin") -> dict[str, str]:
    """A key file."""
    return {
        "type": "service_account",
        "project_id": "demo",
        "private_key_id": key_id,
        "private_key": pair(name).private,
        "client_email": email,
        "client_id": "1" * 21,
        "token_uri": "http://127.0.0.1/token",
    }


@functools.cache
def _opened(private: str) -> rsa.RSAPrivateKey:
    """A private key; opening one checks it, which is as slow."""
    opened = load_pem_private_key(private.encode(), None)
    assert isinstance(opened, rsa.RSAPrivateKey)
    return opened


@dataclass
class World:
    """A running identity."""

    memory: MemoryParts
    client: Client
    key: dict[str, str]
    data: Path

    def claims(self, **changes: Any) -> dict[str, Any]:
        """The claims of a good assertion, with changes; None takes one away."""
        now = int(self.memory.clock.now())
        email = self.key["client_email"]
        found = {"iss": email, "sub": email, "aud": GOOGLE, "iat": now, "exp": now + 3600, **changes}
        return {name: value for name, value in found.items() if value is not None}

    def assertion(self, key: Mapping[str, str] | None = None, **changes: Any) -> str:
        """An assertion signed by a key file, the administrator's where none is given."""
        key = key or self.key
        changes = {"iss": key["client_email"], "sub": key["client_email"], **changes}
        signer = _opened(key["private_key"])
        return jwt.encode(self.claims(**changes), signer, "RS256", {"kid": key["private_key_id"]})

    async def post(self, **fields: str) -> tuple[int, Any]:
        """POST a form to the token endpoint."""
        answer = await self.client.post("/token", data=fields)
        return answer.status, await json_of(answer)

    async def exchange(self, assertion: str) -> tuple[int, Any]:
        """An assertion for a token."""
        return await self.post(grant_type=ASSERTION, assertion=assertion)

    async def token(self, key: Mapping[str, str] | None = None) -> str:
        """An access token for a key file."""
        status, body = await self.exchange(self.assertion(key))
        assert status == 200, body
        return body["access_token"]

    async def get(self, basic: tuple[str, str] | None = None, **query: str | list[str]) -> tuple[int, Any]:
        """GET the token endpoint as docker does."""
        pairs = [
            (name, one) for name, value in query.items() for one in (value if isinstance(value, list) else [value])
        ]
        headers = {}
        if basic is not None:
            headers["Authorization"] = "Basic " + base64.b64encode(":".join(basic).encode()).decode()
        answer = await self.client.get("/token", params=pairs, headers=headers)
        return answer.status, await json_of(answer)

    async def call(self, verb: str, path: str, body: Any = None, token: str | None = None) -> tuple[int, Any]:
        """A call of the administrator, or of whoever's token is given; an empty one: nobody's."""
        token = await self.token() if token is None else token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = await self.client.request(verb, path, json=body, headers=headers)
        return answer.status, await json_of(answer)

    async def account(self, name: str, *roles: str, project: str = "demo") -> dict[str, str]:
        """A new service account with these roles on its project; its key file."""
        path = f"/v1/projects/{project}/serviceAccounts"
        status, account = await self.call("POST", path, {"accountId": name})
        assert status == 200, account
        email = account["email"]
        status, made = await self.call("POST", f"{path}/{email}/keys", {})
        assert status == 200, made
        for role in roles:
            await self.bind(f"/v1/projects/{project}", role, f"serviceAccount:{email}")
        return json.loads(base64.b64decode(made["privateKeyData"]))

    async def bind(self, path: str, role: str, member: str) -> None:
        """Add a binding to a policy, as clients do: read, change, write."""
        _, policy = await self.call("POST", f"{path}:getIamPolicy", {})
        bindings = [*policy.get("bindings", []), {"role": role, "members": [member]}]
        status, answer = await self.call("POST", f"{path}:setIamPolicy", {"policy": {**policy, "bindings": bindings}})
        assert status == 200, answer

    def access(self, token: str) -> dict[str, list[str]]:
        """What a registry token may: actions by name."""
        claims = json.loads(jws.extract_compact(token.encode()).payload)
        return {grant["name"]: grant["actions"] for grant in claims["access"]}


@asynccontextmanager
async def identity(data: Path, environment: Mapping[str, str] | None = None) -> AsyncGenerator[World]:
    """Identity after its first start."""
    path = data / "admin-key.json"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(json.dumps(file_for(ADMIN)))
    memory = memory_parts("identity", projects=(), environment={"ENTREPOT_DATA": str(data), **(environment or {})})
    service = build(memory.parts)
    async with client_of(service) as client:
        tasks = [asyncio.create_task(loop()) for loop in service.background]
        deadline = time.monotonic() + 20
        while service.ready():
            assert time.monotonic() < deadline, service.ready()
            await asyncio.sleep(0)
        try:
            yield World(memory, client, json.loads(path.read_text()), data)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
