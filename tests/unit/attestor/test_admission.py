import base64
import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.attestor.admission import (
    Outcome,
    Request,
    Review,
    Unreadable,
    Use,
    answer,
    images_to_check,
    pins,
)
from services.attestor.api.admit import seconds_of

DIGEST = "sha256:" + "a" * 64


def request(content: object, kind: str = "Pod", group: str = "", operation: str = "CREATE", **more: object) -> Request:
    return Request.model_validate(
        {"uid": "1", "kind": {"group": group, "version": "v1", "kind": kind}, "operation": operation, "object": content}
        | more
    )


def spec(*images: str) -> dict[str, Any]:
    return {"containers": [{"name": f"c{number}", "image": image} for number, image in enumerate(images)]}


def nested(path: str, content: object) -> Any:
    for name in reversed(path.split("/")) if path else ():
        content = {name: content}
    return content


BEARING = [
    ("", "Pod", ""),
    ("", "PodTemplate", "template"),
    ("", "ReplicationController", "spec/template"),
    ("apps", "Deployment", "spec/template"),
    ("apps", "ReplicaSet", "spec/template"),
    ("apps", "StatefulSet", "spec/template"),
    ("apps", "DaemonSet", "spec/template"),
    ("extensions", "Deployment", "spec/template"),
    ("extensions", "ReplicaSet", "spec/template"),
    ("extensions", "DaemonSet", "spec/template"),
    ("batch", "Job", "spec/template"),
    ("batch", "CronJob", "spec/jobTemplate/spec/template"),
]
"""Every kind of Kubernetes' own API that brings pods, and where they lie in it."""


@pytest.mark.parametrize(("group", "kind", "path"), BEARING)
@pytest.mark.parametrize("operation", ["CREATE", "UPDATE"])
def test_what_bears_pods_and_is_not_in_the_request_is_unreadable(
    group: str, kind: str, path: str, operation: str
) -> None:
    del path
    with pytest.raises(Unreadable, match=f"the {kind} itself"):
        images_to_check(request(None, kind, group, operation))


@pytest.mark.parametrize(("group", "kind", "path"), BEARING)
def test_every_kind_is_looked_into_for_all_that_it_would_run(group: str, kind: str, path: str) -> None:
    every = {
        "initContainers": [{"image": "init"}],
        "containers": [{"image": "one"}, {"image": "two"}],
        "ephemeralContainers": [{"image": "debug"}],
        "volumes": [{"image": {"reference": "volume"}}],
    }
    created = images_to_check(request(nested(path, {"spec": every}), kind, group))
    before = nested(path, {"spec": {"containers": [{"image": "one"}]}})
    updated = images_to_check(request(nested(path, {"spec": every}), kind, group, operation="UPDATE", oldObject=before))
    assert created is not None
    assert updated is not None
    assert [use.text for use in created.uses] == ["init", "one", "two", "debug", "volume"]
    assert [use.text for use in updated.uses] == ["init", "two", "debug", "volume"]


@pytest.mark.parametrize(
    ("path", "content"),
    [("spec", []), ("spec", "x"), ("spec/template", 7), ("spec/template/spec", True)],
)
def test_what_is_no_object_where_the_pod_should_lie_is_unreadable(path: str, content: object) -> None:
    with pytest.raises(Unreadable):
        images_to_check(request(nested(path, content), "Deployment", "apps"))


@pytest.mark.parametrize("kind", ["EphemeralContainers", ""])
def test_containers_that_are_added_by_anything_but_a_pod_are_unreadable(kind: str) -> None:
    added = {"ephemeralContainers": [{"image": "debug"}]}
    with pytest.raises(Unreadable, match="not by a Pod"):
        images_to_check(request(added, kind, operation="UPDATE", subResource="ephemeralcontainers"))


@pytest.mark.parametrize(("group", "kind", "path"), BEARING)
def test_every_kind_that_bears_pods_is_looked_into(group: str, kind: str, path: str) -> None:
    pods = images_to_check(request(nested(path, {"spec": spec("a/b")}), kind, group))
    assert pods is not None
    prefix = f"/{path}" if path else ""
    assert pods.uses == (Use(f"{prefix}/spec/containers/0/image", "a/b"),)


def test_init_and_ephemeral_containers_and_image_volumes_count() -> None:
    content = {
        **spec("main"),
        "initContainers": [{"image": "init"}],
        "ephemeralContainers": [{"image": "debug"}],
        "volumes": [{"name": "plain"}, {"image": {"reference": "volume"}}],
        "serviceAccountName": "till",
    }
    pods = images_to_check(request({"spec": content}))
    assert pods is not None
    assert [use.text for use in pods.uses] == ["init", "main", "debug", "volume"]
    assert pods.uses[-1].pointer == "/spec/volumes/1/image/reference"
    assert pods.service_account == "till"


@pytest.mark.parametrize(
    "asked",
    [
        request(None, operation="DELETE"),
        request({"spec": spec("a")}, operation="CONNECT"),
        request({"spec": spec("a")}, operation="UPDATE", subResource="status"),
        request({"spec": {}}, kind="Scale", group="autoscaling"),
        request({"spec": {"template": {"spec": spec("a")}}}, kind="Deployment", group="elsewhere.example"),
        request({"spec": {"template": {"spec": spec("a")}}}, kind="Rollout", group="argoproj.io"),
        request({"data": {}}, kind="ConfigMap"),
        request(None, kind="ConfigMap"),
    ],
)
def test_what_brings_no_image_is_not_checked(asked: Request) -> None:
    assert images_to_check(asked) is None


def test_an_update_is_checked_for_what_it_brings() -> None:
    changed = request({"spec": spec("old", "new")}, operation="UPDATE", oldObject={"spec": spec("old")})
    pods = images_to_check(changed)
    assert pods is not None
    assert [use.text for use in pods.uses] == ["new"]
    debug = request(
        {"spec": {**spec("old"), "ephemeralContainers": [{"image": "debug"}]}},
        operation="UPDATE",
        subResource="ephemeralcontainers",
        oldObject={"spec": spec("old")},
    )
    found = images_to_check(debug)
    assert found is not None
    assert [use.text for use in found.uses] == ["debug"]


@pytest.mark.parametrize(
    "content",
    [
        {"spec": {"containers": "x"}},
        {"spec": {"containers": [{"image": 1}]}},
        {"spec": []},
        {"spec": {"volumes": [{"image": "x"}]}},
        {"metadata": {"labels": {"a": 1}}, "spec": {}},
        {"spec": spec(*["a"] * 501)},
    ],
)
def test_what_kubernetes_could_not_run_is_unreadable(content: object) -> None:
    with pytest.raises(Unreadable):
        images_to_check(request(content))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["spec", "template", "containers", "image", "metadata", "volumes", "initContainers", "labels"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(json_values, st.sampled_from([("", "Pod"), ("apps", "Deployment"), ("batch", "CronJob"), ("x", "Y")]))
def test_any_object_is_checked_or_unreadable(content: Any, kind: tuple[str, str]) -> None:
    try:
        asked = request(content, kind[1], kind[0])
        found = images_to_check(asked)
    except (ValidationError, Unreadable):
        return
    for use in found.uses if found else ():
        at: Any = content
        for name in use.pointer.split("/")[1:]:
            at = at[int(name)] if isinstance(at, list) else at[name]
        assert (at or "") == use.text


@given(st.dictionaries(st.sampled_from(["apiVersion", "kind", "request", "response"]), json_values))
def test_any_json_is_a_review_or_a_validation_error(content: dict[str, Any]) -> None:
    try:
        found = Review.model_validate(content)
    except ValidationError:
        return
    assert found.request.uid


def test_breakglass_is_read_from_the_pod_and_not_from_what_wraps_it() -> None:
    label = {"labels": {"image-policy.k8s.io/break-glass": "true"}}
    reason = {"annotations": {"attestor.entrepot/break-glass-justification": " fire "}}
    wrapped = {"metadata": label, "spec": {"template": {"spec": spec("a")}}}
    outer = images_to_check(request(wrapped, "Deployment", "apps"))
    inner = images_to_check(request({"metadata": label | reason, "spec": spec("a")}))
    assert outer is not None
    assert inner is not None
    assert (outer.breakglass, inner.breakglass, inner.justification) == (False, True, "fire")


def test_only_tags_with_a_known_digest_are_pinned() -> None:
    pods = images_to_check(request({"spec": spec("h:1/p/r/a:1", "h:1/p/r/b", f"h:1/p/r/c@{DIGEST}", "BAD")}))
    assert pods is not None
    found = pins(pods, {"h:1/p/r/a:1": DIGEST, "h:1/p/r/b": "", f"h:1/p/r/c@{DIGEST}": DIGEST})
    assert found == ((Use("/spec/containers/0/image", "h:1/p/r/a:1"), f"h:1/p/r/a@{DIGEST}"),)


def test_an_allowed_answer_carries_the_patch_and_a_denied_one_the_reasons() -> None:
    pinned = ((Use("/spec/containers/0/image", "a"), "a@x"),)
    allowed = answer("7", Outcome(allowed=True, pins=pinned, notes=(("policy", "e"),), warnings=("w" * 400,)))
    assert allowed["response"]["uid"] == "7"
    patch = orjson.loads(base64.b64decode(allowed["response"]["patch"]))
    assert patch == [{"op": "replace", "path": "/spec/containers/0/image", "value": "a@x"}]
    assert allowed["response"]["auditAnnotations"] == {"policy": "e"}
    assert len(allowed["response"]["warnings"][0]) == 250
    denied = answer("7", Outcome(allowed=False, reasons=("one", "two"), pins=pinned))
    assert denied["response"]["status"] == {"code": 403, "reason": "Forbidden", "message": "one\ntwo"}
    assert "patch" not in denied["response"]
    assert json.loads(json.dumps(denied)) == denied


@pytest.mark.parametrize(
    ("timeout", "seconds"),
    [("10s", 5.0), ("2s", 1.6), ("500ms", 0.4), ("3", 2.4), ("", 5.0), ("x", 5.0), ("0s", 0.01), ("-1s", 5.0)],
)
def test_the_time_that_the_caller_waits_is_the_limit(timeout: str, seconds: float) -> None:
    assert seconds_of(timeout, 5.0) == pytest.approx(seconds)
