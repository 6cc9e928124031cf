"""A small API server: enough of Kubernetes for kubectl to create objects, with one mutating webhook in front."""

import base64
import itertools
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
from aiohttp import web

GROUPS = {"apps": ["Deployment", "StatefulSet"], "batch": ["Job", "CronJob"]}


@dataclass
class ApiServer:
    """Calls the webhook as kube-apiserver does, and keeps what it lets in."""

    webhook: str
    headers: dict[str, str]
    stored: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    reviews: int = 0

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/{path:.*}", self._discover)
        app.router.add_post("/{path:.*}", self._create)
        return app

    async def _discover(self, request: web.Request) -> web.Response:
        path = request.match_info["path"]
        if path == "api":
            return web.json_response({"kind": "APIVersions", "versions": ["v1"]})
        if path == "apis":
            return web.json_response(
                {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(n) for n in GROUPS]}
            )
        if path in {"api/v1", *(f"apis/{name}/v1" for name in GROUPS)}:
            return web.json_response(_resources(path.split("/")[1] if path != "api/v1" else ""))
        return _status(404, "NotFound", "there is no such thing")

    async def _create(self, request: web.Request) -> web.Response:
        parts = request.match_info["path"].split("/")
        content = orjson.loads(await request.read())
        version, group = content["apiVersion"].rpartition("/")[2], content["apiVersion"].rpartition("/")[0]
        self.reviews += 1
        asked = {
            "uid": f"review-{self.reviews}",
            "kind": {"group": group, "version": version, "kind": content["kind"]},
            "resource": {"group": group, "version": version, "resource": parts[-1]},
            "name": content["metadata"]["name"],
            "namespace": "default",
            "operation": "CREATE",
            "userInfo": {"username": "kubernetes-admin"},
            "object": content,
        }
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": asked}
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.webhook, json=review, headers=self.headers) as answered,
        ):
            response = orjson.loads(await answered.read())["response"]
        assert response["uid"] == asked["uid"]
        if not response["allowed"]:
            message = f'admission webhook "attest.entrepot" denied the request: {response["status"]["message"]}'
            return _status(response["status"]["code"], response["status"]["reason"], message)
        for change in orjson.loads(base64.b64decode(response.get("patch", "") or base64.b64encode(b"[]"))):
            _apply(content, change)
        self.stored.append(content)
        return web.json_response(content, status=201)


def _apply(content: Any, change: dict[str, Any]) -> None:
    assert change["op"] == "replace"
    *path, last = change["path"].split("/")[1:]
    for name in path:
        content = content[int(name)] if isinstance(content, list) else content[name]
    content[last] = change["value"]


def _group(name: str) -> dict[str, Any]:
    version = {"groupVersion": f"{name}/v1", "version": "v1"}
    return {"name": name, "versions": [version], "preferredVersion": version}


def _resources(group: str) -> dict[str, Any]:
    kinds = GROUPS.get(group, ["Pod"])
    resources = [
        {
            "name": f"{kind.lower()}s",
            "singularName": kind.lower(),
            "namespaced": True,
            "kind": kind,
            "verbs": ["create"],
        }
        for kind in kinds
    ]
    version = f"{group}/v1" if group else "v1"
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}


def _status(code: int, reason: str, message: str) -> web.Response:
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": reason,
        "code": code,
        "message": message,
    }
    return web.json_response(body, status=code)


def manifests(images: dict[str, str]) -> bytes:
    """A Pod, a Deployment and a CronJob for each name, one JSON list that kubectl takes."""
    items = itertools.chain.from_iterable(_objects(name, image) for name, image in images.items())
    return orjson.dumps({"apiVersion": "v1", "kind": "List", "items": list(items)})


def _objects(name: str, image: str) -> list[dict[str, Any]]:
    spec = {"containers": [{"name": "main", "image": image}]}
    template = {"metadata": {"labels": {"app": name}}, "spec": spec}
    job = {"spec": {"template": {"spec": {**spec, "restartPolicy": "Never"}}}}
    return [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {"selector": {"matchLabels": {"app": name}}, "template": template},
        },
        {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": {"name": name},
            "spec": {"schedule": "* * * * *", "jobTemplate": job},
        },
    ]
