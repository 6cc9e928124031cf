"""Rules for downloads as Artifact Registry's v1 API shows and takes them."""

import re
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from services.registry.api.google.listing import Kind, Row, listed
from services.registry.api.google.places import REPOSITORY, Places, read, write
from services.registry.download_rules import condition
from services.registry.names import is_image
from services.registry.rules import Rules, Told, one
from shared.cel import MAX_LENGTH, ConditionUnknown
from shared.http.bodies import json_body, validated
from shared.http.errors import InvalidArgument
from shared.http.masks import apply_mask, check_paths, field_mask
from shared.http.routes import Route
from shared.http.translation import json_answer

_KIND = Kind("rules")
_RULE = f"{REPOSITORY}/rules/{{rule:[^/]+}}"
_ID = re.compile(r"[A-Za-z0-9._~:@+^-]{1,256}")
_FIELDS = ("action", "operation", "condition", "packageId")


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class _Expr(_Wire):
    """A google.type.Expr."""

    expression: str = Field(default="", max_length=MAX_LENGTH)
    title: str = Field(default="", max_length=256)
    description: str = Field(default="", max_length=256)
    location: str = Field(default="", max_length=256)

    def told(self) -> dict[str, str]:
        """What is said in it. Raises InvalidArgument for an expression that is not understood here."""
        if self.expression:
            try:
                condition(self.expression)
            except ConditionUnknown as error:
                raise InvalidArgument(f"condition.expression: {error}.") from error
        return {name: text for name, text in self.model_dump().items() if text}


class RuleBody(_Wire):
    """A rule as clients write it."""

    name: str = ""
    action: Literal["", "ACTION_UNSPECIFIED", "ALLOW", "DENY"] = ""
    operation: Literal["", "OPERATION_UNSPECIFIED", "DOWNLOAD"] = ""
    condition: _Expr | None = None
    package_id: str = Field(default="", alias="packageId", max_length=256)

    def told(self) -> Told:
        """The rule as it is kept. Raises InvalidArgument."""
        if self.action not in ("ALLOW", "DENY"):
            raise InvalidArgument("action is ALLOW or DENY.")
        package, told = unquote(self.package_id), self.condition.told() if self.condition else {}
        if package and not is_image(package):
            raise InvalidArgument("packageId is the name of no package.")
        if told and "expression" not in told:
            raise InvalidArgument("condition has no expression.")
        rest: Told = {"condition": told, "packageId": package}
        return {"action": self.action, "operation": "DOWNLOAD"} | {name: given for name, given in rest.items() if given}


@dataclass(frozen=True)
class RuleFace:
    """Answers for `rules`."""

    places: Places
    rules: Rules

    def routes(self) -> list[Route]:
        """Its paths."""
        return [
            read(f"{REPOSITORY}/rules", self.page, "rules.list", "ListRules"),
            write("POST", f"{REPOSITORY}/rules", self.create, "rules.create", "CreateRule"),
            read(_RULE, self.get, "rules.get", "GetRule"),
            write("PATCH", _RULE, self.patch, "rules.update", "UpdateRule"),
            write("DELETE", _RULE, self.delete, "rules.delete", "DeleteRule"),
        ]

    async def page(self, request: web.Request) -> web.Response:
        """A page of a repository's rules."""
        record = await self.places.repository(request)
        rules = record.settings.download_rules

        async def rows(after: str, limit: int) -> list[Row]:
            found = [rule for rule in sorted(rules) if rule > after][:limit]
            return [(rule, self._json(request, rule, rules[rule])) for rule in found]

        return await listed(request, _KIND, rows)

    async def create(self, request: web.Request) -> web.Response:
        """Make a rule."""
        record, rule = await self.places.repository(request), _id(request)
        told = (await json_body(request, RuleBody)).told()
        act = self.places.act(request, "CreateRule", "rules.create")
        await self.rules.create(record.project, record.repository, rule, told, act)
        return json_answer(self._json(request, rule, told))

    async def get(self, request: web.Request) -> web.Response:
        """One rule."""
        record, rule = await self.places.repository(request), request.match_info["rule"]
        return json_answer(self._json(request, rule, one(record.settings.download_rules, rule)))

    async def patch(self, request: web.Request) -> web.Response:
        """Change the fields that the mask names, or all that there are."""
        record, rule = await self.places.repository(request), request.match_info["rule"]
        body, paths = await json_body(request), field_mask(request)
        if not paths:
            paths = tuple(name for name in body if name != "name")
        check_paths(paths, (*_FIELDS, "name"))
        named = [path for path in paths if path != "name"]

        def patched(present: Told) -> Told:
            return validated(RuleBody, apply_mask(present, body, named) if named else present).told()

        act = self.places.act(request, "UpdateRule", "rules.update")
        told = await self.rules.update(record.project, record.repository, rule, patched, act)
        return json_answer(self._json(request, rule, told))

    async def delete(self, request: web.Request) -> web.Response:
        """Take a rule away."""
        record, rule = await self.places.repository(request), request.match_info["rule"]
        act = self.places.act(request, "DeleteRule", "rules.delete")
        await self.rules.delete(record.project, record.repository, rule, act)
        return json_answer({})

    def _json(self, request: web.Request, rule: str, told: Told) -> dict[str, Any]:
        resource = self.places.registry.voice.resource(request.match_info["project"], request.match_info["repository"])
        return {"name": f"{resource}/rules/{rule}", **told}


def _id(request: web.Request) -> str:
    rule = request.query.get("ruleId", request.query.get("rule_id", ""))
    if not _ID.fullmatch(rule):
        raise InvalidArgument("ruleId is written in letters, digits and -._~:@+^, at most 256.")
    return rule
