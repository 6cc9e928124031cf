"""Annotations of packages and versions: words of their owners, which mean nothing to the registry."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import orjson

from services.registry.acts import Act, Change, Deed, Steps
from services.registry.errors import NameUnknown
from services.registry.names import ImageName
from services.registry.records import Version
from services.registry.store import Store
from services.registry.voice import Voice
from shared.http.errors import InvalidArgument
from shared.state import FieldIs, PutField

Annotations = dict[str, str]
Changed = Callable[[Annotations], Annotations]
"""Says what becomes of the annotations there are; it may refuse by raising."""

_BYTES = 64 * 1024
_FIELD = "annotations"


@dataclass(frozen=True)
class Annotating:
    """Changes annotations, each in one atomic step."""

    store: Store
    steps: Steps
    voice: Voice

    @staticmethod
    def checked(given: object) -> Annotations:
        """Annotations as a client wrote them; raises InvalidArgument."""
        entries = cast("dict[Any, Any]", given) if isinstance(given, dict) else None
        if entries is None or not all(isinstance(text, str) for pair in entries.items() for text in pair):
            raise InvalidArgument("annotations is an object whose values are texts.")
        found = cast("Annotations", entries)
        if len(orjson.dumps(found)) > _BYTES:
            raise InvalidArgument(f"annotations have more than {_BYTES} bytes.")
        return found

    async def package(self, name: ImageName, changed: Changed, act: Act) -> None:
        """Change a package's annotations; raises NameUnknown where it has gone."""
        thing = _Thing(self.store.layout.image(name), "created", f"packages/{name.image}")
        await self._change(name, thing, changed, act)

    async def version(self, version: Version, changed: Changed, act: Act) -> None:
        """Change a version's annotations; raises NameUnknown where it has gone."""
        name = version.name
        key = self.store.layout.version(name, version.digest)
        thing = _Thing(key, "uploaded", f"packages/{name.image}/versions/{version.digest}")
        await self._change(name, thing, changed, act)

    async def _change(self, name: ImageName, thing: "_Thing", changed: Changed, act: Act) -> None:
        resource = f"{self.voice.resource(name.project, name.repository)}/{thing.path}"

        async def decide() -> Change:
            born, text = await self.store.state.fields(thing.key, (thing.born, _FIELD))
            if born is None:
                raise NameUnknown(f"There is no {resource}.")
            wanted = changed(orjson.loads(text) if text else {})
            written = orjson.dumps(wanted, option=orjson.OPT_SORT_KEYS).decode()
            return Change(
                name.project,
                name.repository,
                checks=(FieldIs(thing.key, thing.born, born), FieldIs(thing.key, _FIELD, text)),
                writes=(PutField(thing.key, _FIELD, written),),
                events=act.witness(Deed("", resource, "", {"annotations": wanted})),
            )

        await self.steps.make(act, decide)


@dataclass(frozen=True)
class _Thing:
    """What is annotated."""

    key: str
    born: str
    """The field of its record that is there as long as it is."""
    path: str
    """Its name inside the repository."""
