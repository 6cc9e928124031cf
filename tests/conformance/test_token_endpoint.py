"""The token endpoint, rule by rule, as docker, podman, skopeo, containerd, gcloud and Google's libraries use it."""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, Awaitable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import jwt
import pytest

from shared.events.states import AccountState, Binding, PolicyState, RoleState
from tests.support.identity import ADMIN, ASSERTION, World, file_for, identity

T = TypeVar("T")
PULL = "repository:demo/web/app:pull"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncGenerator[World]:
    async with identity(tmp_path) as found:
        yield found


def as_key(key: dict[str, str]) -> tuple[str, str]:
    return "_json_key", json.dumps(key)


async def unhurried(world: World, asked: Awaitable[T]) -> T:
    """An answer that no earlier mistake holds up, as the guard forgets them in time."""
    await world.memory.clock.advance(301)
    return await asked


# Assertions (RFC 7523).


async def test_an_assertion_signed_by_a_key_file_gets_an_access_token_of_at_most_an_hour(world: World) -> None:
    status, body = await world.exchange(world.assertion())
    assert status == 200
    assert body["token_type"] == "Bearer"
    assert 3000 < body["expires_in"] <= 3600
    claims = jwt.decode(body["access_token"], options={"verify_signature": False})
    assert claims["sub"] == f"serviceAccount:{ADMIN}"
    assert claims["key"] == world.key["private_key_id"]
    assert claims["exp"] - claims["iat"] <= 3600


@pytest.mark.parametrize(
    "audience",
    [
        "https://oauth2.googleapis.com/token",
        "https://www.googleapis.com/oauth2/v4/token",
        ["https://example.org", "https://oauth2.googleapis.com/token"],
    ],
)
async def test_the_audiences_that_googles_clients_write_are_accepted(world: World, audience: Any) -> None:
    status, _ = await world.exchange(world.assertion(aud=audience))
    assert status == 200


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
async def test_our_own_token_address_is_accepted_as_audience(world: World, name: str) -> None:
    status, _ = await world.exchange(world.assertion(aud=str(world.client.make_url("/token").with_host(name))))
    assert status == 200


async def test_a_host_that_the_caller_makes_up_is_no_address_of_ours(world: World) -> None:
    assertion = world.assertion(aud="http://tokens.example.org/token")
    form = {"grant_type": ASSERTION, "assertion": assertion}
    headers = {"Host": "tokens.example.org", "X-Forwarded-Host": "tokens.example.org"}
    answer = await world.client.post("/token", data=form, headers=headers)
    assert (answer.status, (await answer.json())["error"]) == (400, "invalid_grant")
    told = await (await world.client.get("/.well-known/openid-configuration", headers=headers)).json()
    assert "example.org" not in told["token_endpoint"]


async def test_where_a_public_address_is_set_only_that_is_ours(tmp_path: Path) -> None:
    async with identity(tmp_path, {"ENTREPOT_PUBLIC_URL": "https://id.example.org/"}) as world:
        own = str(world.client.make_url("/token"))
        found = [(await world.exchange(world.assertion(aud=one)))[0] for one in ("https://id.example.org/token", own)]
        assert found == [200, 400]


async def test_nobody_learns_from_the_answer_which_accounts_and_keys_there_are(world: World) -> None:
    ci, off = await world.account("ci"), await world.account("off")
    await world.call("POST", f"/v1/projects/demo/serviceAccounts/{off['client_email']}:disable", {})
    forged = {**ci, "private_key": file_for(ADMIN, name="another")["private_key"]}
    files = [
        {**forged, "client_email": "nobody@demo.iam.entrepot"},
        {**forged, "client_email": "ci@nowhere.iam.entrepot"},
        {**forged, "client_email": "admin@elsewhere.example.org"},
        {**forged, "private_key_id": "f" * 40},
        forged,
        off,
    ]
    assertions = [await unhurried(world, world.exchange(world.assertion(file))) for file in files]
    assert assertions.count(assertions[0]) == len(files), assertions
    assert (assertions[0][0], assertions[0][1]["error"]) == (400, "invalid_grant")
    passwords = [await unhurried(world, world.get(as_key(file))) for file in files]
    assert passwords.count(passwords[0]) == len(files), passwords
    reasons = [event.entry["protoPayload"]["status"]["message"] for event in world.memory.journal.events[-12:-6]]  # type: ignore[attr-defined]
    assert reasons == [
        "account does not exist",
        "account does not exist",
        "account is not of this deployment",
        "not signed by a key of the account that may be used",
        "not signed by a key of the account that may be used",
        "account is disabled",
    ]


async def test_what_is_wrong_with_the_assertion_itself_is_told_before_anybody_is_looked_up(world: World) -> None:
    stranger = {**world.key, "client_email": "nobody@demo.iam.entrepot"}
    late = int(world.memory.clock.now()) - 90000
    for changes in ({"aud": "https://example.org"}, {"iat": late, "exp": late + 60}, {"sub": "user:ada@example.org"}):
        asked = [world.exchange(world.assertion(file, **changes)) for file in (world.key, stranger)]
        told = [(await unhurried(world, one))[1] for one in asked]
        assert told[0] == told[1]
        assert told[0]["error_description"].startswith(("Invalid JWT: the aud", "The JWT must", "A service account"))


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "https://example.org/token"},
        {"aud": None},
        {"iat": None},
        {"exp": None},
        {"iss": None},
        {"iss": "nobody@demo.iam.entrepot"},
        {"iss": "admin@elsewhere.example.org"},
        {"iss": "../../etc/passwd"},
        {"sub": "user:ada@example.org"},
        {"exp": "tomorrow"},
    ],
)
async def test_an_assertion_with_wrong_or_missing_claims_is_an_invalid_grant(
    world: World, changes: dict[str, Any]
) -> None:
    status, body = await world.exchange(world.assertion(**changes))
    assert (status, body["error"]) == (400, "invalid_grant")
    assert "token" not in body


@pytest.mark.parametrize(
    ("begins", "ends"), [(-7200, -3600), (600, 1200), (0, 7200), (0, 0), (100, 50), (0, float("inf"))]
)
async def test_an_assertion_counts_only_within_its_hour(world: World, begins: float, ends: float) -> None:
    now = int(world.memory.clock.now())
    status, body = await world.exchange(world.assertion(iat=now + begins, exp=now + ends))
    assert (status, body["error"]) == (400, "invalid_grant")


async def test_an_assertion_signed_by_another_key_is_refused(world: World) -> None:
    forged = {**file_for(ADMIN, name="another"), "private_key_id": world.key["private_key_id"]}
    status, body = await world.exchange(world.assertion(forged))
    assert (status, body["error"]) == (400, "invalid_grant")


@pytest.mark.parametrize("algorithm", ["none", "HS256", "RS512", "PS256"])
async def test_only_the_keys_own_algorithm_counts(world: World, algorithm: str) -> None:
    secret = {"none": "", "HS256": "x" * 64}.get(algorithm, world.key["private_key"])
    assertion = jwt.encode(world.claims(), secret, algorithm, {"kid": world.key["private_key_id"]})
    status, body = await world.exchange(assertion)
    assert (status, body["error"]) == (400, "invalid_grant")


@pytest.mark.parametrize(
    "assertion", ["", "x", "a.b.c", "..", "e30.e30.", "e30.bnVsbA.", "\u00e9.e30.e30", "x" * 20_000]
)
async def test_what_is_no_jwt_is_an_invalid_grant(world: World, assertion: str) -> None:
    status, body = await world.exchange(assertion)
    assert (status, body["error"]) == (400, "invalid_grant")


async def test_a_target_audience_gets_an_id_token_that_no_service_takes(world: World) -> None:
    status, body = await world.exchange(world.assertion(target_audience="https://app.example.org"))
    assert status == 200
    claims = jwt.decode(body["id_token"], options={"verify_signature": False})
    assert (claims["aud"], claims["email"]) == ("https://app.example.org", ADMIN)
    assert (await world.call("GET", "/v1/projects/demo", token=body["id_token"]))[0] == 401


async def test_an_id_token_for_our_own_audience_is_no_access_token_either(world: World) -> None:
    _, body = await world.exchange(world.assertion(target_audience="entrepot"))
    assert (await world.call("GET", "/v1/projects/demo", token=body["id_token"]))[0] == 401


@pytest.mark.parametrize("grant", ["", "client_credentials", "urn:ietf:params:oauth:grant-type:token-exchange"])
async def test_an_unknown_grant_type_is_named_as_such(world: World, grant: str) -> None:
    status, body = await world.post(grant_type=grant)
    assert (status, body["error"]) == (400, "unsupported_grant_type")


# Docker's token server.


async def test_get_with_basic_gives_a_token_for_the_scope(world: World) -> None:
    status, body = await world.get(
        as_key(world.key), service="r", scope="repository:demo/web/app:pull,push", account="_"
    )
    assert status == 200
    assert world.access(body["token"]) == {"demo/web/app": ["pull", "push"]}


async def test_the_answer_has_both_token_fields_a_time_and_at_least_sixty_seconds(world: World) -> None:
    _, body = await world.get(as_key(world.key), scope=PULL)
    assert body["token"] == body["access_token"]
    assert body["expires_in"] >= 60
    assert datetime.fromisoformat(body["issued_at"]).timestamp() == int(world.memory.clock.now())
    assert len(body["token"]) < 2000


async def test_a_token_of_many_scopes_fits_into_a_header(world: World) -> None:
    scope = " ".join(f"repository:demo/web/a-rather-long-name-of-an-image-{number}:pull,push" for number in range(40))
    _, body = await world.get(as_key(world.key), scope=scope)
    assert len(world.access(body["token"])) == 40
    assert len(body["token"]) < 8000, "what proxies take as a header"


async def test_post_with_a_password_form_gives_the_same(world: World) -> None:
    user, password = as_key(world.key)
    status, body = await world.post(
        grant_type="password", client_id="containerd-client", username=user, password=password, service="r", scope=PULL
    )
    assert status == 200
    assert world.access(body["access_token"]) == {"demo/web/app": ["pull"]}


async def test_without_credentials_public_repositories_can_be_pulled_and_nothing_else(world: World) -> None:
    public = Binding(role="roles/artifactregistry.reader", members=("allUsers",))
    name = "projects/demo/locations/local/repositories/public"
    world.memory.directory.learn(PolicyState(project="demo", full_name=name, bindings=(public,)))
    scopes = ["repository:demo/public/app:pull,push", "repository:demo/web/app:pull", "registry:catalog:*"]
    status, body = await world.get(scope=scopes)
    assert status == 200
    assert world.access(body["token"]) == {"demo/public/app": ["pull"]}


async def test_without_credentials_and_rights_there_is_a_token_for_nothing(world: World) -> None:
    status, body = await world.get(scope=PULL)
    assert status == 200
    assert world.access(body["token"]) == {}


async def test_repeated_scopes_are_all_read(world: World) -> None:
    _, body = await world.get(as_key(world.key), scope=[PULL, "repository:demo/other/x:pull,push"])
    assert world.access(body["token"]) == {"demo/web/app": ["pull"], "demo/other/x": ["pull", "push"]}


async def test_scopes_in_one_field_are_divided_at_spaces_and_merged(world: World) -> None:
    scope = "repository:demo/web/app:pull repository:demo/web/app:pull,push repository:demo/x/y:pull"
    _, body = await world.get(as_key(world.key), scope=scope)
    assert world.access(body["token"]) == {"demo/web/app": ["pull", "push"], "demo/x/y": ["pull"]}
    user, password = as_key(world.key)
    _, body = await world.post(grant_type="password", username=user, password=password, scope=scope)
    assert world.access(body["token"]) == {"demo/web/app": ["pull", "push"], "demo/x/y": ["pull"]}


@pytest.mark.parametrize(
    ("actions", "given"),
    [
        ("push,pull", {"pull", "push"}),
        ("delete,pull,push", {"pull", "push", "delete"}),
        ("*", {"pull", "push", "delete"}),
        ("pull,metadata,pull", {"pull"}),
    ],
)
async def test_actions_come_in_any_order_and_a_star_means_all(world: World, actions: str, given: set[str]) -> None:
    _, body = await world.get(as_key(world.key), scope=f"repository:demo/web/app:{actions}")
    assert set(world.access(body["token"])["demo/web/app"]) == given


async def test_the_allowed_part_is_granted_and_the_rest_left_out(world: World) -> None:
    reader = await world.account("reader", "roles/artifactregistry.reader")
    scopes = ["repository:demo/web/app:pull,push", "repository:elsewhere/web/app:pull", "plugin:x:y", "nonsense", "::"]
    status, body = await world.get(as_key(reader), scope=scopes)
    assert status == 200
    assert world.access(body["token"]) == {"demo/web/app": ["pull"]}


async def test_a_name_of_two_parts_is_decided_by_the_repository_gcr_io(world: World) -> None:
    reader = await world.account("reader")
    binding = Binding(role="roles/artifactregistry.reader", members=(f"serviceAccount:{reader['client_email']}",))
    name = "projects/demo/locations/local/repositories/gcr.io"
    world.memory.directory.learn(PolicyState(project="demo", full_name=name, bindings=(binding,)))
    _, body = await world.get(as_key(reader), scope=["repository:demo/app:pull", PULL])
    assert world.access(body["token"]) == {"demo/app": ["pull"]}


async def test_a_repository_that_is_not_there_yet_is_decided_by_its_project(world: World) -> None:
    writer = await world.account("writer", "roles/artifactregistry.createOnPushWriter")
    _, body = await world.get(as_key(writer), scope="repository:demo/new/app:push,pull")
    assert set(world.access(body["token"])["demo/new/app"]) == {"pull", "push"}


async def test_the_catalog_may_be_asked_for_by_whoever_has_logged_in(world: World) -> None:
    _, body = await world.get(as_key(world.key), scope="registry:catalog:*")
    assert world.access(body["token"]) == {"catalog": ["*"]}


async def test_a_login_without_scope_gets_a_token(world: World) -> None:
    status, body = await world.get(as_key(world.key), account="_json_key", service="registry")
    assert status == 200
    assert world.access(body["token"]) == {}


async def test_a_login_that_asks_for_offline_use_gets_a_refresh_token_that_works(world: World) -> None:
    _, body = await world.get(as_key(world.key), offline_token="true", client_id="docker")
    refresh = body["refresh_token"]
    status, body = await world.post(grant_type="refresh_token", refresh_token=refresh, service="r", scope=PULL)
    assert status == 200
    assert world.access(body["access_token"]) == {"demo/web/app": ["pull"]}
    assert body["refresh_token"] == refresh


async def test_a_refresh_token_is_kept_as_a_hash_only(world: World) -> None:
    _, body = await world.get(as_key(world.key), offline_token="true")
    assert body["refresh_token"] not in repr(world.memory.store)
    assert body["refresh_token"].rpartition(".")[2] not in repr(world.memory.store)


@pytest.mark.parametrize("refresh", ["", "er1.demo.x", "er1..x", "er1.nowhere.abc", "x" * 4000])
async def test_an_unknown_refresh_token_is_refused(world: World, refresh: str) -> None:
    status, _ = await world.post(grant_type="refresh_token", refresh_token=refresh)
    assert status == 401


async def test_a_refresh_token_ends_with_its_key_and_can_be_given_back(world: World) -> None:
    ci = await world.account("ci")
    _, body = await world.get(as_key(ci), offline_token="true")
    path = f"/v1/projects/demo/serviceAccounts/{ci['client_email']}/keys/{ci['private_key_id']}"
    await world.call("POST", f"{path}:disable", {})
    assert (await world.post(grant_type="refresh_token", refresh_token=body["refresh_token"]))[0] == 401
    await world.call("POST", f"{path}:enable", {})
    assert (await world.post(grant_type="refresh_token", refresh_token=body["refresh_token"]))[0] == 200
    answer = await world.client.post("/revoke", data={"token": body["refresh_token"]})
    assert answer.status == 200
    assert (await world.post(grant_type="refresh_token", refresh_token=body["refresh_token"]))[0] == 401


async def test_an_expired_refresh_token_is_refused(world: World) -> None:
    _, body = await world.get(as_key(world.key), offline_token="true")
    await world.memory.clock.advance(31 * 86400)
    assert (await world.post(grant_type="refresh_token", refresh_token=body["refresh_token"]))[0] == 401


# Users and passwords.


async def test_a_key_file_in_base64_is_a_password_too_with_line_ends_or_without(world: World) -> None:
    text = base64.encodebytes(json.dumps(world.key).encode()).decode()
    assert (await world.get(("_json_key_base64", text)))[0] == 200
    assert (await world.get(("_json_key_base64", text.replace("\n", ""))))[0] == 200


async def test_an_access_token_is_a_password_and_the_new_token_lives_no_longer(world: World) -> None:
    token = await world.token()
    await world.memory.clock.advance(3000)
    status, body = await world.get(("oauth2accesstoken", token), scope=PULL, offline_token="true")
    assert status == 200
    assert body["expires_in"] <= 600
    assert "refresh_token" not in body


async def test_an_accounts_address_is_a_user_with_its_key_file_or_token(world: World) -> None:
    assert (await world.get((ADMIN, json.dumps(world.key))))[0] == 200
    assert (await world.get((ADMIN, await world.token())))[0] == 200


async def test_one_accounts_key_file_or_token_is_no_password_of_another(world: World) -> None:
    ci = await world.account("ci")
    assert (await world.get((ci["client_email"], json.dumps(world.key))))[0] == 401
    assert (await world.get((ci["client_email"], await world.token())))[0] == 401
    assert (await world.get((ci["client_email"], json.dumps(world.key))))[0] == 401


@pytest.mark.parametrize(
    ("user", "password"),
    [
        ("_json_key", "wrong"),
        ("_json_key", "{}"),
        ("_json_key", '{"type": "service_account"}'),
        ("_json_key", "[" * 4_000),
        ("_json_key_base64", "%%%"),
        ("oauth2accesstoken", "wrong"),
        ("oauth2accesstoken", ""),
        ("admin", "admin"),
        ("", ""),
        (ADMIN, "password"),
        ("nobody@demo.iam.entrepot", "{}"),
    ],
)
async def test_a_wrong_password_is_401_also_at_login_with_a_challenge(world: World, user: str, password: str) -> None:
    answer = await world.client.get(
        "/token", headers={"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
    )
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    assert (await answer.json())["errors"][0]["code"] == "UNAUTHORIZED"
    assert (await world.post(grant_type="password", username=user, password=password))[0] == 401


async def test_a_basic_header_that_cannot_be_read_is_a_failed_login_not_an_anonymous_one(world: World) -> None:
    answer = await world.client.get("/token", headers={"Authorization": "Basic ###"})
    assert answer.status == 401


async def test_a_key_file_with_the_right_public_numbers_and_no_private_ones_is_refused(world: World) -> None:
    mixed = {**file_for(ADMIN, name="another"), "private_key_id": world.key["private_key_id"]}
    assert (await world.get(as_key(mixed)))[0] == 401


async def test_a_registry_token_is_no_password_and_no_access_token_for_other_things(world: World) -> None:
    _, body = await world.get(as_key(world.key), scope=PULL)
    assert (await world.get(("oauth2accesstoken", body["token"])))[0] == 401
    assert (await world.call("GET", "/v1/projects/demo", token=body["token"]))[0] in {401, 403}


async def test_a_disabled_account_and_a_deleted_key_log_in_no_more(world: World) -> None:
    ci = await world.account("ci")
    token = await world.token(ci)
    assert (await world.get(as_key(ci)))[0] == 200
    path = f"/v1/projects/demo/serviceAccounts/{ci['client_email']}"
    await world.call("POST", f"{path}:disable", {})
    assert (await world.get(as_key(ci)))[0] == 401
    assert (await world.call("GET", "/v1/projects/demo", token=token))[0] == 401
    assert (await world.exchange(world.assertion(ci)))[1]["error"] == "invalid_grant"
    await world.call("POST", f"{path}:enable", {})
    assert (await world.get(as_key(ci)))[0] == 200
    await world.call("DELETE", f"{path}/keys/{ci['private_key_id']}")
    assert (await world.get(as_key(ci)))[0] == 401


# Harm.


async def test_a_failed_login_is_noted_without_its_secret(world: World) -> None:
    await world.get(("_json_key", json.dumps({**world.key, "private_key": "s3cret"})))
    noted = repr(world.memory.journal.events)
    assert "ExchangeToken" in noted
    assert ADMIN in noted
    assert "s3cret" not in noted
    assert world.memory.journal.events[-1].project == "demo"


async def test_failures_are_answered_later_and_the_right_password_at_once(world: World) -> None:
    for _ in range(3):
        await world.get(("x", "y"))
    slow = asyncio.create_task(world.get(("x", "y")))
    assert (await asyncio.wait_for(world.get(as_key(world.key)), 10))[0] == 200
    assert not slow.done()
    await world.memory.clock.advance(3.0)
    assert (await asyncio.wait_for(slow, 10))[0] == 401


async def test_too_large_a_form_and_too_many_fields_are_refused(world: World) -> None:
    assert (await world.post(grant_type="password", password="x" * 70_000))[0] == 413
    fields = {f"f{number}": "x" for number in range(300)}
    assert (await world.post(grant_type="password", **fields))[0] == 400
    assert (await world.get(scope=[f"repository:demo/r{number}/x:pull" for number in range(100)]))[0] == 400


async def test_tokens_are_not_to_be_stored_on_the_way(world: World) -> None:
    answer = await world.client.get("/token")
    assert answer.headers["Cache-Control"] == "no-store"


async def test_a_token_of_an_account_that_was_made_anew_under_the_same_name_is_refused(world: World) -> None:
    ci = await world.account("ci", "roles/viewer")
    token = await world.token(ci)
    assert (await world.call("GET", "/v1/projects/demo", token=token))[0] == 200
    fact = world.memory.directory.account(ci["client_email"])
    assert isinstance(fact, AccountState)
    world.memory.learn(fact.model_copy(update={"unique_id": "2" * 21}))
    assert (await world.call("GET", "/v1/projects/demo", token=token))[0] == 401


async def test_tokeninfo_tells_whose_token_it_is(world: World) -> None:
    answer = await world.client.get("/tokeninfo", params={"access_token": await world.token()})
    assert (await answer.json())["email"] == ADMIN
    answer = await world.client.post("/tokeninfo", data={"access_token": "x"})
    assert (answer.status, (await answer.json())["error"]) == (400, "invalid_token")


async def test_outsiders_can_check_an_id_token_with_the_published_keys(world: World) -> None:
    _, body = await world.exchange(world.assertion(target_audience="https://app.example.org"))
    keys = await (await world.client.get("/.well-known/jwks.json")).json()
    claims = jwt.decode(
        body["id_token"],
        jwt.PyJWKSet.from_dict(keys)[jwt.get_unverified_header(body["id_token"])["kid"]],
        ["ES256"],
        audience="https://app.example.org",
        options={"verify_exp": False, "verify_iat": False, "verify_nbf": False},
    )
    assert claims["email"] == ADMIN
    assert (await (await world.client.get("/.well-known/openid-configuration")).json())["jwks_uri"].endswith(
        "jwks.json"
    )


async def test_a_token_is_granted_by_the_policies_of_the_location_whose_registry_it_is_for(tmp_path: Path) -> None:
    hosts = {"ENTREPOT_LOCATION": "east", "ENTREPOT_LOCATIONS": "east=east.example.test west=west.example.test"}
    async with identity(tmp_path, hosts) as world:
        world.memory.learn(
            RoleState(project="", role="roles/pulls", permissions=("artifactregistry.repositories.downloadArtifacts",))
        )
        west = "projects/demo/locations/west/repositories/web"
        binding = Binding(role="roles/pulls", members=("allUsers",))
        world.memory.learn(PolicyState(project="demo", location="west", full_name=west, bindings=(binding,)))
        for service, granted in (("west.example.test", [PULL]), ("east.example.test", []), ("entrepot", [])):
            _, body = await world.get(scope=PULL, service=service)
            assert body["scope"].split() == granted, service
