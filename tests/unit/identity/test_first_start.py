"""What the first start makes, that a second one changes nothing, and that keys to sign with come and go in time."""

import asyncio
import dataclasses
import json
import stat
import time
from pathlib import Path

import jwt
import pytest

from services.identity.app import build
from services.identity.roles import PERMISSIONS, PREDEFINED
from shared.events.states import AccountState, KeyState
from shared.identity.root import RootKeys
from shared.identity.root_file import make_root, root_key
from shared.identity.tokens import InvalidToken
from shared.parts import Service
from shared.settings import SettingsWrong
from tests.support.identity import ADMIN, file_for, identity
from tests.support.parts import MemoryParts, memory_parts


async def begun(service: Service) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(loop()) for loop in service.background]
    deadline = time.monotonic() + 20
    while service.ready():
        assert time.monotonic() < deadline, service.ready()
        await asyncio.sleep(0)
    return tasks


def names_in(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


async def ended(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def parts(data: Path, shared: MemoryParts | None = None, **settings: str) -> MemoryParts:
    environment = {"ENTREPOT_DATA": str(data), "ENTREPOT_IDENTITY_ROOT_KEY_FILE": str(data / "root.pem"), **settings}
    return memory_parts("identity", projects=(), environment=environment, shared=shared)


async def test_the_first_start_writes_one_key_file_that_nobody_else_can_read(tmp_path: Path) -> None:
    memory = parts(tmp_path)
    tasks = await begun(build(memory.parts))
    path = tmp_path / "admin-key.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    file = json.loads(path.read_text())
    assert (file["client_email"], file["type"]) == (ADMIN, "service_account")
    account = memory.directory.account(ADMIN)
    assert account is not None
    assert list(account.keys) == [file["private_key_id"]]
    assert file["private_key"][40:200] not in repr(memory.store)
    assert names_in(tmp_path) == ["admin-key.json", "root.pem"]
    await ended(tasks)


async def test_everything_that_the_first_start_makes_is_said(tmp_path: Path) -> None:
    memory = parts(tmp_path)
    tasks = await begun(build(memory.parts))
    said = {
        topic: len(memory.announced(topic)) for topic in ("state.project", "state.account", "state.role", "state.key")
    }
    assert said == {"state.project": 1, "state.account": 1, "state.role": len(PREDEFINED), "state.key": 1}
    policies = [envelope.data["full_name"] for envelope in memory.announced("state.policy")]
    assert sorted(policies) == ["organizations/1", "projects/demo"]
    await ended(tasks)


async def test_the_first_start_is_on_record(tmp_path: Path) -> None:
    memory = parts(tmp_path)
    await ended(await begun(build(memory.parts)))
    told = {
        (entry["protoPayload"]["methodName"].rpartition(".")[2], entry["protoPayload"]["resourceName"]): entry
        for entry in memory.audited()
    }
    account = f"projects/demo/serviceAccounts/{ADMIN}"
    key = json.loads((tmp_path / "admin-key.json").read_text())["private_key_id"]
    assert set(told) == {
        ("CreateProject", "projects/demo"),
        ("SetIamPolicy", "projects/demo"),
        ("CreateServiceAccount", account),
        ("CreateServiceAccountKey", f"{account}/keys/{key}"),
        ("SetIamPolicy", "organizations/1"),
    }
    bound = told["SetIamPolicy", "projects/demo"]
    assert bound["logName"] == "projects/demo/logs/cloudaudit.googleapis.com%2Factivity"
    assert bound["protoPayload"]["response"]["bindings"] == [
        {"role": "roles/owner", "members": [f"serviceAccount:{ADMIN}"]}
    ]
    assert bound["protoPayload"]["authenticationInfo"]["principalSubject"] == "system:identity"
    assert "PRIVATE" not in repr(told)
    assert len({entry["insertId"] for entry in told.values()}) == len(told)


async def test_a_second_start_changes_nothing(tmp_path: Path) -> None:
    memory = parts(tmp_path)
    await ended(await begun(build(memory.parts)))
    before, file = len(memory.announced()), (tmp_path / "admin-key.json").read_bytes()
    again = parts(tmp_path, memory)
    await ended(await begun(build(again.parts)))
    assert len(memory.announced()) == before
    assert (tmp_path / "admin-key.json").read_bytes() == file


async def test_a_first_start_that_was_broken_off_is_gone_on_with_using_the_same_key_file(tmp_path: Path) -> None:
    path = tmp_path / "admin-key.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps(file_for(ADMIN)))
    memory = parts(tmp_path)
    await ended(await begun(build(memory.parts)))
    account = memory.directory.account(ADMIN)
    assert account is not None
    assert list(account.keys) == ["a" * 40]


@pytest.mark.parametrize("mode", [0o644, 0o640])
async def test_a_key_file_that_others_can_read_is_not_taken(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "admin-key.json"
    path.write_text(json.dumps(file_for(ADMIN)))
    path.chmod(mode)
    service = build(parts(tmp_path).parts)
    with pytest.raises(SettingsWrong, match="read by others"):
        await service.background[0]()


async def test_two_replicas_that_start_together_make_one_administrator_with_the_key_in_the_file(tmp_path: Path) -> None:
    first = parts(tmp_path)
    second = parts(tmp_path, first)
    services = [build(first.parts), build(second.parts)]
    tasks = [asyncio.create_task(loop()) for service in services for loop in service.background]
    for _ in range(400):
        await asyncio.sleep(0)
        await first.clock.advance(0.5)
    assert [service.ready() for service in services] == [[], []]
    said = first.announced("state.account")
    assert len(said) == 1
    file = json.loads((tmp_path / "admin-key.json").read_text())
    assert list(said[0].data["keys"]) == [file["private_key_id"]]
    await ended(tasks)


async def test_accounts_for_services_are_made_where_they_are_wished_for(tmp_path: Path) -> None:
    memory = parts(tmp_path, ENTREPOT_IDENTITY_AGENTS="builder")
    await ended(await begun(build(memory.parts)))
    email = json.loads((tmp_path / "keys" / "builder.json").read_text())["client_email"]
    assert email == "builder@entrepot-system.iam.entrepot"
    policy = memory.directory.policy("organizations/1")
    assert policy is not None
    assert ("roles/cloudbuild.builds.builder", (f"serviceAccount:{email}",)) in [
        (binding.role, binding.members) for binding in policy.bindings
    ]


# Signing keys.


async def test_the_private_token_key_lies_sealed_in_the_state(tmp_path: Path) -> None:
    async with identity(tmp_path) as world:
        assert "PRIVATE KEY" not in repr(world.memory.store)
        assert len(list(world.memory.directory.every(KeyState))) == 1


async def test_a_new_token_key_is_announced_before_it_signs_and_the_old_one_counts_to_its_end(tmp_path: Path) -> None:
    async with identity(tmp_path, {"ENTREPOT_IDENTITY_SIGNING_DAYS": "1"}) as world:
        directory, clock = world.memory.directory, world.memory.clock
        (old,) = [fact.key_id for fact in directory.every(KeyState)]
        await clock.advance(86400 * 0.76)
        keys = {fact.key_id for fact in directory.every(KeyState)}
        assert len(keys) == 2
        assert kid(await world.token()) == old, "the new key is not known everywhere yet"
        await clock.advance(130)
        token = await world.token()
        assert kid(token) in keys - {old}
        await clock.advance(86400 * 0.25)
        await clock.advance(3600)
        assert old not in {fact.key_id for fact in directory.every(KeyState)}
        assert (await world.call("GET", "/v1/projects/demo"))[0] == 200


def kid(token: str) -> str:
    return jwt.get_unverified_header(token)["kid"]


async def test_another_root_key_means_another_token_key_and_the_old_ones_count_no_more_without_their_root(
    tmp_path: Path,
) -> None:
    first = tmp_path / "first"
    first.mkdir()
    memory = parts(first)
    await ended(await begun(build(memory.parts)))
    second = tmp_path / "second"
    second.mkdir()
    again = parts(second, memory)
    again.ids.secret(1000)  # another process draws other ids
    await ended(await begun(build(again.parts)))
    assert len(list(memory.announced("state.key"))) == 2


async def test_keys_of_before_and_after_a_change_of_the_root_are_vouched_for(tmp_path: Path) -> None:
    async with identity(tmp_path) as world:
        await world.account("ci")
        memory = world.memory
        again = memory_parts("identity", projects=(), environment=memory.parts.environment, shared=memory)
        for fact, generation in memory.directory.facts():
            again.directory.learn(fact, generation)
        root = tmp_path / "another.pem"
        make_root(root, tmp_path / "another.pub")
        environment = {**memory.parts.environment, "ENTREPOT_IDENTITY_ROOT_KEY_FILE": str(root)}
        parts = dataclasses.replace(again.parts, environment=environment)
        again.ids.secret(1000)  # another process draws other ids
        tasks = await begun(build(parts))
        for _ in range(100):
            await asyncio.sleep(0)
        await ended(tasks)
        roots = RootKeys.parse((tmp_path / "another.pub").read_bytes())
        accounts = list(again.directory.every(AccountState))
        assert len(accounts) == 2
        assert all(roots.vouch_for_account(fact, key) for fact in accounts for key in fact.keys)


def test_a_root_key_is_made_once_with_its_public_half_beside_it(tmp_path: Path) -> None:
    private, public = tmp_path / "root.pem", tmp_path / "root.pub"
    make_root(private, public)
    before = private.read_bytes(), public.read_bytes()
    make_root(private, public)
    assert (private.read_bytes(), public.read_bytes()) == before
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert b"PUBLIC KEY" in before[1]
    root_key(private)
    private.chmod(0o644)
    with pytest.raises(SettingsWrong):
        root_key(private)


# Roles.


def test_owners_may_all_that_editors_may_and_these_all_that_viewers_may() -> None:
    owner, editor, viewer = (set(PREDEFINED[f"roles/{name}"].permissions) for name in ("owner", "editor", "viewer"))
    assert viewer < editor < owner
    assert not any(name.endswith(("setIamPolicy", "versions.access")) for name in editor)
    assert not any(name.endswith((".create", ".delete", ".update", "uploadArtifacts")) for name in viewer)


def test_readers_read_and_writers_write_and_only_administrators_delete_repositories() -> None:
    kinds = {
        name: set(PREDEFINED[f"roles/artifactregistry.{name}"].permissions)
        for name in ("reader", "writer", "repoAdmin", "admin")
    }
    assert kinds["reader"] < kinds["writer"] < kinds["repoAdmin"] < kinds["admin"]
    deleting = "artifactregistry.repositories.delete"
    assert [name for name, permissions in kinds.items() if deleting in permissions] == ["admin"]


def test_every_role_fits_into_an_event_and_every_permission_has_a_service_a_thing_and_a_verb() -> None:
    assert all(len(role.fact().model_dump_json()) < 32_000 for role in PREDEFINED.values())
    assert all(len(permission.split(".")) == 3 for permission in PERMISSIONS)


async def test_a_token_of_yesterday_is_refused(tmp_path: Path) -> None:
    async with identity(tmp_path) as world:
        token = await world.token()
        await world.memory.clock.advance(3601)
        assert (await world.call("GET", "/v1/projects/demo", token=token))[0] == 401
    assert issubclass(InvalidToken, ValueError)
