"""What a client says at the token endpoint, in whichever of the forms that clients use."""

import base64
import binascii
from dataclasses import dataclass
from urllib.parse import parse_qsl

from aiohttp import web

from shared.http.bodies import body_of
from shared.http.errors import InvalidArgument
from shared.http.gate import credentials

MAX_FORM = 64 * 1024
_MAX_FIELDS = 200

ASSERTION = "urn:ietf:params:oauth:grant-type:jwt-bearer"


@dataclass(frozen=True)
class TokenRequest:
    """One request for a token. `repr` shows nothing secret."""

    fields: tuple[tuple[str, str], ...]
    basic: tuple[str, str] | None

    def __repr__(self) -> str:
        return f"TokenRequest({self.one('grant_type') or 'GET'})"

    def one(self, name: str) -> str:
        """The first value of a field; empty when there is none."""
        return next((value for field, value in self.fields if field == name), "")

    def every(self, name: str) -> list[str]:
        """All values of a field that may be given several times."""
        return [value for field, value in self.fields if field == name]

    @property
    def offline(self) -> bool:
        """Whether a refresh token is wanted."""
        return self.one("offline_token") == "true" or self.one("access_type") == "offline"


async def read_form(request: web.Request) -> TokenRequest:
    """A POST: the form in its body. Raises InvalidArgument."""
    content = await body_of(request, MAX_FORM)
    try:
        fields = parse_qsl(content.decode(), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except (ValueError, UnicodeDecodeError) as error:
        raise InvalidArgument("The body is not a form.") from error
    return TokenRequest(tuple(fields), _basic(request))


def read_query(request: web.Request) -> TokenRequest:
    """A GET: the query, and perhaps a user name and password in the header. Raises InvalidArgument."""
    if len(request.query) > _MAX_FIELDS:
        raise InvalidArgument("Too many parameters.")
    return TokenRequest(tuple(request.query.items()), _basic(request))


def _basic(request: web.Request) -> tuple[str, str] | None:
    """User name and password of the header; a header that cannot be read is a login that failed, not none."""
    scheme, text = credentials(request)
    if scheme != "basic":
        return None
    try:
        user, _, password = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return ("", "")
    return (user, password)
