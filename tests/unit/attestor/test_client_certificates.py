"""The webhook asked by a client that shows a certificate, as an API server does by its admission configuration."""

import ssl
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientConnectionError, ClientSession
from hypothesis import given
from hypothesis import strategies as st

from services.attestor.app import build
from services.attestor.client_certificates import common_name, members_of
from shared.events.states import AccountState
from shared.http.serve import Place, Server
from shared.settings import Settings, SettingsWrong, read
from tests.support.certificates import of_client, self_signed
from tests.support.parts import MemoryParts, bearer, json_of, memory_parts

CLUSTER = "cluster@demo.iam.entrepot"
REVIEW = {
    "apiVersion": "admission.k8s.io/v1",
    "kind": "AdmissionReview",
    "request": {
        "uid": "u1",
        "kind": {"kind": "Pod", "version": "v1"},
        "operation": "CREATE",
        "object": {"spec": {"containers": [{"image": "nginx"}]}},
    },
}


@dataclass
class House:
    """An attestor behind TLS."""

    memory: MemoryParts
    server: Server
    folder: Path

    async def ask(self, *certificate: Path, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """Send a review, with a certificate or without one."""
        tls = ssl.create_default_context(cafile=str(self.folder / "server" / "certificate.pem"))
        if certificate:
            tls.load_cert_chain(*certificate)
        async with ClientSession() as session:
            url = f"https://127.0.0.1:{self.server.port}/validate"
            async with session.post(url, json=REVIEW, headers=headers, ssl=tls) as response:
                return response.status, await json_of(response)

    def client(self, name: str, authority: str = "clients") -> tuple[Path, Path]:
        files = (self.folder / authority / "certificate.pem", self.folder / authority / "key.pem")
        return of_client(self.folder / "client", files, name)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncGenerator[House]:
    members = f"kube-apiserver=serviceAccount:{CLUSTER}, nobody=serviceAccount:nobody@demo.iam.entrepot"
    memory = memory_parts("attestor", environment={"ENTREPOT_ATTESTOR_CLIENT_MEMBERS": members})
    memory.learn(AccountState(project="demo", email=CLUSTER))
    memory.grant("projects/demo", f"serviceAccount:{CLUSTER}", "binaryauthorization.policy.evaluatePolicy")
    for authority in ("server", "clients", "strangers"):
        (tmp_path / authority).mkdir()
        self_signed(tmp_path / authority)
    place = Place(
        certificate=tmp_path / "server" / "certificate.pem",
        key=tmp_path / "server" / "key.pem",
        client_authority=tmp_path / "clients" / "certificate.pem",
        stop_seconds=1.0,
    )
    server = Server(build(memory.parts).app, place, memory.clock.monotonic)
    await server.start()
    yield House(memory, server, tmp_path)
    await server.stop()


async def test_a_certificate_stands_for_the_member_of_its_common_name(house: House) -> None:
    status, answer = await house.ask(*house.client("kube-apiserver"))
    assert (status, answer["response"]["allowed"]) == (200, True)


async def test_a_token_is_taken_with_and_without_a_certificate_and_goes_first(house: House) -> None:
    token = bearer(f"serviceAccount:{CLUSTER}")
    assert (await house.ask(headers=token))[0] == 200
    assert (await house.ask(*house.client("nobody"), headers=token))[0] == 200
    assert (await house.ask(*house.client("kube-apiserver"), headers=bearer("user:eve@x.example")))[0] == 403
    assert (await house.ask(*house.client("kube-apiserver"), headers={"Authorization": "Basic eDp5"}))[0] == 401


@pytest.mark.parametrize("name", ["nobody", "somebody", ""])
async def test_a_certificate_of_nobody_known_lets_nobody_in(house: House, name: str) -> None:
    assert (await house.ask(*house.client(name or "x")))[0] == 401
    assert (await house.ask())[0] == 401


async def test_an_account_that_is_disabled_is_not_let_in_by_its_certificate(house: House) -> None:
    house.memory.learn(AccountState(project="demo", email=CLUSTER, disabled=True))
    assert (await house.ask(*house.client("kube-apiserver")))[0] == 401


async def test_a_certificate_of_another_authority_ends_the_connection(house: House) -> None:
    with pytest.raises(ClientConnectionError):
        await house.ask(*house.client("kube-apiserver", "strangers"))


async def test_a_certificate_that_expires_while_the_connection_lives_lets_nobody_in_any_more(house: House) -> None:
    await house.memory.clock.advance(10 * 365 * 86_400)
    assert (await house.ask(*house.client("kube-apiserver")))[0] == 401


@pytest.mark.parametrize(
    "text", ["x", "=user:a@b", "x=group:a@b", "x=user:a", "x=allUsers", "x=user:a@b,x=user:c@d", "x=user:a@b,y"]
)
def test_what_names_no_member_stops_the_start(text: str) -> None:
    with pytest.raises(SettingsWrong, match="CLIENT_MEMBERS"):
        build(memory_parts("attestor", environment={"ENTREPOT_ATTESTOR_CLIENT_MEMBERS": text}).parts)


@given(st.text(max_size=60))
def test_any_text_is_members_or_a_value_error(text: str) -> None:
    try:
        assert all("@" in member for member in members_of(text).values())
    except ValueError:
        return


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        ((), ""),
        (((("commonName", "a"),),), "a"),
        (((("organizationName", "o"),), (("commonName", "a"),)), "a"),
        (((("commonName", "a"),), (("commonName", "b"),)), ""),
    ],
)
def test_the_common_name_is_the_only_one_of_the_subject(subject: Sequence[Any], name: str) -> None:
    assert common_name({"subject": subject}) == name


def test_certificates_of_clients_need_tls() -> None:
    with pytest.raises(SettingsWrong, match="tls_client_ca"):
        read(Settings, {"ENTREPOT_TLS_CLIENT_CA": "ca.pem"})
