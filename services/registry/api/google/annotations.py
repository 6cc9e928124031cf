"""Annotations as a PATCH changes them, the same for packages, versions and files."""

from aiohttp import web

from services.registry.annotating import Annotating, Annotations, Changed
from shared.http.bodies import json_body
from shared.http.masks import apply_mask, check_paths, field_mask


async def annotated(request: web.Request) -> Changed:
    """What a PATCH makes of the annotations there are. Raises InvalidArgument where it is about anything else."""
    body, paths = await json_body(request), field_mask(request)
    check_paths(paths or tuple(body), ("annotations", "name"))

    def changed(before: Annotations) -> Annotations:
        wanted = apply_mask({"annotations": before}, body, [path for path in paths if path != "name"])
        return Annotating.checked(wanted.get("annotations", {}))

    return changed
