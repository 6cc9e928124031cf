"""What the one middleware does for every call."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from aiohttp import ClientError, web
from aiohttp.test_utils import TestClient, TestServer
from pydantic import BaseModel
from structlog.testing import capture_logs

from shared.blobs import BucketUnavailable
from shared.bus import BusUnavailable, StreamFull
from shared.events import EventTooLarge
from shared.http.bodies import json_body
from shared.http.call import call_of
from shared.http.errors import InvalidArgument, NotFound, Unauthenticated
from shared.http.face import FaceMistake, face
from shared.http.health import READY, Readiness
from shared.http.limits import Limits
from shared.http.routes import Audit, Route
from shared.http.translation import json_answer
from shared.identity.caller import Caller
from shared.identity.directory import Directory
from shared.journal import JournalFull
from shared.names import partition_of
from shared.parts import Service
from shared.state.face import LaneFull, Moved, StateUnavailable
from shared.state.step import Put, Step
from tests.support.parts import Client, MemoryParts, bearer, client_of, json_of, memory_parts

THING = "/v1/projects/demo/locations/local/things/a"
ADA, EVE = "user:ada@example.org", "user:eve@example.org"
THINGS = "/v1/projects/{project}/locations/{location}/things"


async def _slow(request: web.Request) -> web.Response:
    await asyncio.sleep(30)
    return json_answer({"path": request.path})


async def _stops_midway(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"begun")
    raise RuntimeError("then lost")


async def _elsewhere(request: web.Request) -> web.Response:
    raise web.HTTPTemporaryRedirect("https://elsewhere.example/" + request.path)


class Things:
    """A small face of the usual kind."""

    def __init__(self, made: MemoryParts) -> None:
        self._parts = made.parts

    async def get(self, request: web.Request) -> web.Response:
        name = request.match_info["thing"]
        if name == "missing":
            raise NotFound("There is no such thing.")
        if name == "broken":
            raise RuntimeError("the password is hunter2")
        return json_answer({"name": name})

    async def create(self, request: web.Request) -> web.Response:
        call, body = call_of(request), await json_body(request)
        project = request.match_info["project"]
        events = [call.activity(project=project, request=body, response={"name": "new"})]
        key = self._parts.keys.of(project, "thing", "new")
        step = Step(
            partition=partition_of(project),
            request=f"{call.id}:1",
            writes=(Put(key, "here"),),
            drafts=self._parts.outbox.drafts(events, call.cause),
        )
        await self._parts.state.apply(step)
        return json_answer({"name": "new"})

    async def create_in_secret(self, request: web.Request) -> web.Response:
        await json_body(request)
        return json_answer({})

    async def open(self, request: web.Request) -> web.Response:
        return json_answer({"caller": call_of(request).caller.member})

    def routes(self) -> list[Route]:
        return [
            Route("GET", THINGS + "/{thing}", self.get, "things.get", method="t.Get", audit=Audit.DATA_READ),
            Route("POST", THINGS, self.create, "things.create", method="t.Create", audit=Audit.ADMIN_WRITE),
            Route(
                "POST", THINGS + ":hide", self.create_in_secret, "things.create", method="t.H", audit=Audit.DATA_WRITE
            ),
            Route("GET", "/slow", _slow, "", open_because="a test", audit=Audit.NONE, seconds=0.05),
            Route("GET", "/midway", _stops_midway, "", open_because="a test", audit=Audit.NONE),
            Route("GET", "/elsewhere", _elsewhere, "", open_because="a test", audit=Audit.NONE),
            Route("PUT", "/upload", self.open, "", open_because="a test", audit=Audit.NONE, body=10),
            Route("GET", "/open", self.open, "", open_because="a test of open routes", audit=Audit.NONE),
        ]


@pytest.fixture
def made() -> MemoryParts:
    grants = {"projects/demo": {ADA: ["things.get", "things.create"]}}
    return memory_parts("cleanup", grants=grants)


@pytest.fixture
async def client(made: MemoryParts) -> AsyncGenerator[Client]:
    async with client_of(Service(made.parts.face(Things(made).routes()))) as client:
        yield client


async def test_who_has_the_permission_is_served(client: Client) -> None:
    answer = await client.get("/v1/projects/demo/locations/local/things/a", headers=bearer(ADA))
    assert (answer.status, await json_of(answer)) == (200, {"name": "a"})


async def test_who_has_it_not_is_refused_with_the_permissions_name(client: Client) -> None:
    answer = await client.get("/v1/projects/demo/locations/local/things/a", headers=bearer(EVE))
    body: dict[str, Any] = await json_of(answer)
    assert answer.status == 403
    assert body["error"]["details"][0]["metadata"] == {
        "permission": "things.get",
        "resource": "projects/demo/locations/local/things/a",
    }


async def test_a_change_puts_its_entry_into_the_step(client: Client, made: MemoryParts) -> None:
    answer = await client.post(
        "/v1/projects/demo/locations/local/things", json={"password": "hunter2"}, headers=bearer(ADA)
    )
    assert answer.status == 200
    (entry,) = made.audited()
    assert entry["protoPayload"]["methodName"] == "t.Create"
    assert "hunter2" not in str(entry)


async def test_a_change_without_an_entry_is_a_defect_that_tests_see(client: Client) -> None:
    answer = await client.post("/v1/projects/demo/locations/local/things:hide", json={}, headers=bearer(ADA))
    assert answer.status == 500


async def test_an_anonymous_caller_without_rights_is_asked_to_authenticate(client: Client) -> None:
    answer = await client.get(THING)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="entrepot"'
    assert (await json_of(answer))["error"]["status"] == "UNAUTHENTICATED"


async def test_an_anonymous_caller_is_not_told_what_exists(client: Client) -> None:
    answers = [await client.get(THING), await client.get(THING[:-1] + "missing")]
    assert [answer.status for answer in answers] == [401, 401]
    assert await json_of(answers[0]) == await json_of(answers[1])


async def test_everybody_may_read_what_all_users_may(client: Client, made: MemoryParts) -> None:
    made.grant("projects/demo", "allUsers", "things.get")
    assert (await client.get(THING)).status == 200


@pytest.mark.parametrize(
    "authorization",
    ["Bearer nonsense", "Bearer", "Bearer ", "Basic YTpi", "as:user:ada@example.org", "Bearer " + "a" * 8000],
)
async def test_credentials_that_do_not_hold_are_refused_and_not_repeated(client: Client, authorization: str) -> None:
    answer = await client.get(THING, headers={"Authorization": authorization})
    assert answer.status == 401
    assert "invalid_token" in answer.headers["WWW-Authenticate"]
    said = authorization.partition(" ")[2]
    assert not said.strip() or said not in await answer.text()


async def test_two_authorization_headers_are_refused(client: Client) -> None:
    headers = [("Authorization", f"Bearer as:{ADA}"), ("Authorization", f"Bearer as:{EVE}")]
    assert (await client.get(THING, headers=headers)).status == 401


async def test_an_open_route_refuses_a_wrong_token_and_leaves_the_rest_to_its_handler(
    client: Client,
) -> None:
    assert (await client.get("/open", headers={"Authorization": "Bearer nonsense"})).status == 401
    answer = await client.get("/open", headers={"Authorization": "Basic YTpi"})
    assert await json_of(answer) == {"caller": "allUsers"}
    assert await json_of(await client.get("/open", headers=bearer(ADA))) == {"caller": ADA}


async def test_a_denial_is_noted_with_who_and_what(client: Client, made: MemoryParts) -> None:
    await client.get(THING, headers=bearer(EVE))
    (denied,) = made.journal.events
    assert (denied.topic, denied.project) == ("audit.denied", "demo")
    payload = denied.model_dump()["entry"]["protoPayload"]
    assert payload["authorizationInfo"][0] == {
        "resource": "projects/demo/locations/local/things/a",
        "permission": "things.get",
        "granted": False,
        "permissionType": "DATA_READ",
    }
    assert payload["status"]["code"] == 7


async def test_reads_are_noted_where_the_audit_config_says_so(client: Client, made: MemoryParts) -> None:
    await client.get(THING, headers=bearer(ADA))
    assert made.journal.events == []
    policy = made.directory.policy("projects/demo")
    assert policy is not None
    config = {
        "service": "things.googleapis.com",
        "auditLogConfigs": [{"logType": "DATA_READ", "exemptedMembers": [EVE]}],
    }
    made.learn(policy.model_copy(update={"audit_configs": (config,)}))
    made.grant("projects/demo", EVE, "things.get")
    await client.get(THING, headers=bearer(ADA))
    await client.get(THING, headers=bearer(EVE))
    await client.get(THING[:-1] + "missing", headers=bearer(ADA))
    assert [event.topic for event in made.journal.events] == ["audit.access"]
    entry = made.journal.events[0].model_dump()["entry"]
    assert entry["logName"] == "projects/demo/logs/cloudaudit.googleapis.com%2Fdata_access"
    assert entry["protoPayload"]["authenticationInfo"]["principalEmail"] == "ada@example.org"


async def test_a_change_without_an_entry_is_counted_and_logged_in_a_real_process(made: MemoryParts) -> None:
    app = made.parts.face(Things(made).routes())
    async with TestClient(TestServer(app)) as client:
        with capture_logs() as logs:
            answer = await client.post("/v1/projects/demo/locations/local/things:hide", json={}, headers=bearer(ADA))
        assert answer.status == 200
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["change without audit entry"]
    assert b"entrepot_http_unaudited_total" in made.parts.metrics.text()


async def test_a_sane_request_id_is_answered_and_another_replaced(client: Client) -> None:
    answer = await client.get("/open", headers={"X-Request-Id": "build-4711"})
    assert answer.headers["X-Request-Id"] == "build-4711"
    answer = await client.get("/nowhere", headers={"X-Request-Id": "a b"})
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["X-Request-Id"])


async def test_a_request_id_that_is_sent_twice_does_not_make_two_changes_one(client: Client, made: MemoryParts) -> None:
    for _ in range(2):
        headers = {**bearer(ADA), "X-Request-Id": "always-the-same"}
        await client.post("/v1/projects/demo/locations/local/things", json={}, headers=headers)
    assert len(made.audited()) == 2


async def test_a_trace_goes_on_through_the_call_into_the_event(client: Client, made: MemoryParts) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {**bearer(ADA), "traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    await client.post("/v1/projects/demo/locations/local/things", json={}, headers=headers)
    (envelope,) = made.announced("audit.activity")
    assert envelope.traceparent.startswith(f"00-{trace}-")
    assert "b7ad6b7169203331" not in envelope.traceparent
    assert envelope.actor == ADA


async def test_an_unknown_path_and_verb_are_answered_in_the_services_form(client: Client) -> None:
    unknown = await client.get("/v1/nothing")
    assert (unknown.status, (await json_of(unknown))["error"]["status"]) == (404, "NOT_FOUND")
    other = await client.delete("/open")
    assert (other.status, other.headers["Allow"]) == (405, "GET")
    assert (await json_of(other))["error"]["code"] == 405


async def test_a_defect_is_logged_and_its_text_not_answered(client: Client) -> None:
    with capture_logs() as logs:
        answer = await client.get(THING[:-1] + "broken", headers=bearer(ADA))
    assert answer.status == 500
    assert "hunter2" not in await answer.text()
    (failed,) = [line for line in logs if line["log_level"] == "error"]
    assert (failed["event"], failed["method"]) == ("call failed", "t.Get")


async def test_a_call_that_takes_too_long_is_ended(client: Client) -> None:
    answer = await client.get("/slow")
    assert (answer.status, (await json_of(answer))["error"]["status"]) == (504, "DEADLINE_EXCEEDED")


async def test_an_answer_that_breaks_off_is_not_followed_by_another(client: Client) -> None:
    with pytest.raises(ClientError):
        await (await client.get("/midway")).read()
    assert (await client.get("/open")).status == 200


async def test_a_redirection_is_no_error(client: Client) -> None:
    answer = await client.get("/elsewhere", allow_redirects=False)
    assert (answer.status, answer.headers["Location"]) == (307, "https://elsewhere.example//elsewhere")


async def test_a_body_over_the_routes_limit_is_refused_before_it_is_read(client: Client) -> None:
    answer = await client.put("/upload", data=b"x" * 11)
    assert answer.status == 413
    assert (await client.put("/upload", data=b"x" * 10)).status == 200


class _Model(BaseModel):
    count: int


@pytest.mark.parametrize(
    ("make", "status", "retried"),
    [
        (Moved, 409, True),
        (StateUnavailable, 503, True),
        (LaneFull, 503, True),
        (BusUnavailable, 503, True),
        (StreamFull, 503, True),
        (BucketUnavailable, 503, True),
        (JournalFull, 503, True),
        (lambda: EventTooLarge("x"), 400, False),
        (TimeoutError, 504, False),
        (lambda: Unauthenticated("who?"), 401, False),
        (lambda: web.HTTPRequestEntityTooLarge(1, 2), 413, False),
        (web.HTTPTooManyRequests, 429, False),
        (lambda: _Model.model_validate({"count": "hunter2"}), 400, False),
        (lambda: 1 / 0, 500, False),
    ],
)
async def test_each_error_has_its_answer(
    made: MemoryParts,
    make: Callable[[], Any],
    status: int,
    retried: bool,  # noqa: FBT001 - a column of the table above
) -> None:
    async def fail(request: web.Request) -> web.Response:
        assert request
        raise make()

    route = Route("GET", "/fail", fail, "", open_because="a test", audit=Audit.NONE)
    async with client_of(Service(made.parts.face([route]))) as client:
        answer = await client.get("/fail")
        text = await answer.text()
    assert (answer.status, "Retry-After" in answer.headers) == (status, retried)
    assert "hunter2" not in text


async def test_a_replica_that_has_not_heard_everything_answers_nothing_but_its_health(made: MemoryParts) -> None:
    app = made.parts.face(Things(made).routes())
    app[READY] = Readiness(lambda: ["has not heard everything yet"], lambda: False)
    async with client_of(Service(app)) as client:
        assert (await client.get("/open")).status == 503
        assert (await client.get("/healthz")).status == 200
        ready = await client.get("/readyz")
        assert (ready.status, (await json_of(ready))["reasons"]) == (503, ["has not heard everything yet"])


async def test_one_callers_calls_wait_for_each_other(made: MemoryParts) -> None:
    running, most = 0, 0

    async def count(request: web.Request) -> web.Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return json_answer({"path": request.path})

    route = Route("GET", "/count", count, "", open_because="a test", audit=Audit.NONE)
    app = made.parts.face([route], limits=Limits(at_once=2, waiting=100))
    async with client_of(Service(app)) as client:
        answers = await asyncio.gather(*(client.get("/count", headers=bearer(ADA)) for _ in range(12)))
    assert {answer.status for answer in answers} == {200}
    assert most == 2


async def test_what_does_not_fit_into_a_callers_line_is_told_to_come_back_and_others_are_not(made: MemoryParts) -> None:
    go_on = asyncio.Event()

    async def hold(request: web.Request) -> web.Response:
        await go_on.wait()
        return json_answer({"path": request.path})

    routes = [
        Route("GET", "/hold", hold, "", open_because="a test", audit=Audit.NONE),
        Route("GET", "/stream", hold, "", open_because="a test", audit=Audit.NONE, seconds=0),
    ]
    app = made.parts.face(routes, limits=Limits(at_once=1, waiting=1, streams_at_once=3))
    async with client_of(Service(app)) as client:
        first = [asyncio.create_task(client.get("/hold", headers=bearer(ADA))) for _ in range(3)]
        done, _ = await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        (refused,) = [await each for each in done]
        assert (refused.status, refused.headers["Retry-After"]) == (429, "5")
        assert (await json_of(refused))["error"]["status"] == "RESOURCE_EXHAUSTED"
        others = [
            *(asyncio.create_task(client.get("/stream", headers=bearer(ADA))) for _ in range(3)),
            asyncio.create_task(client.get("/hold", headers=bearer(EVE))),
        ]
        await asyncio.sleep(0.05)
        waiting = made.parts.metrics.text().decode()
        go_on.set()
        assert {(await each).status for each in (*first, *others)} == {200, 429}
        assert {(await each).status for each in others} == {200}
    assert 'entrepot_http_waiting{service="cleanup"} 1.0' in waiting
    assert 'entrepot_http_waited_total{outcome="full",service="cleanup"} 1.0' in waiting


async def test_calls_are_counted_by_the_template_of_their_path(client: Client, made: MemoryParts) -> None:
    await client.get(THING, headers=bearer(ADA))
    text = made.parts.metrics.text().decode()
    assert (
        'entrepot_http_seconds_count{code="200",route="/v1/projects/{project}/locations/{location}/things/{thing}"'
        in text
    )
    assert "things/a" not in text
    assert 'entrepot_http_in_flight{service="cleanup"} 0.0' in text


@pytest.mark.parametrize(
    ("route", "sentence"),
    [
        (Route("GET", "/x", _slow, "", audit=Audit.NONE), "open_because"),
        (Route("GET", "/x", _slow, "things.get", audit=Audit.NONE), "on which resource"),
        (Route("GET", "/v1/projects/{p}", _slow, "things.get"), "method name"),
    ],
)
def test_a_face_refuses_a_route_that_leaves_something_open(made: MemoryParts, route: Route, sentence: str) -> None:
    with pytest.raises(FaceMistake, match=sentence):
        made.parts.face([route])


async def test_a_view_that_is_too_old_refuses_changes_as_retryable(made: MemoryParts) -> None:
    directory = Directory(made.clock.now, age=lambda: 3600.0)
    app = face(
        "cleanup",
        Things(made).routes(),
        directory=directory,
        verifier=made.tokens,
        journal=made.journal,
        clock=made.clock,
        ids=made.ids,
    )
    async with client_of(Service(app)) as client:
        answer = await client.post("/v1/projects/demo/locations/local/things", json={}, headers=bearer(ADA))
        assert (answer.status, answer.headers["Retry-After"]) == (503, "10")


async def test_a_token_of_too_little_scope_may_be_exchanged_for_a_wider_one(client: Client, made: MemoryParts) -> None:
    made.tokens.known["narrow"] = Caller(ADA, access=())
    answer = await client.get(THING, headers={"Authorization": "Bearer narrow"})
    assert answer.status == 401


async def test_a_resource_that_cannot_be_named_is_an_error_in_the_services_form(made: MemoryParts) -> None:
    def unnamed(request: web.Request) -> str:
        raise InvalidArgument(f"{request.match_info['name']} is no name")

    route = Route("GET", "/v2/{name}/x", _slow, "things.get", unnamed, method="t.Get")
    async with client_of(Service(made.parts.face([route]))) as client:
        answer = await client.get("/v2/_/x", headers=bearer(ADA))
        assert (answer.status, (await json_of(answer))["error"]["message"]) == (400, "_ is no name")
