"""Who should not get in: tokens that do not count, other projects' content, and paths that are not what they seem."""

import base64
import hashlib
import hmac
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as new_rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from yarl import URL

from services.registry.app import build
from shared.events.states import AccountKey, AccountState
from shared.http.errors import Unauthenticated
from shared.http.gate import verified
from tests.support.images import MANIFEST, digest_of
from tests.support.mint import ACCOUNT_KEY, KEY_ID, PUBLIC_PEM, Mint, minted, token_key
from tests.support.parts import MemoryParts, client_of
from tests.support.registry import ENVIRONMENT, EVERYTHING, NAME, RegistryClient, small_image
from tests.support.wire import wire

SECRET = b"a layer of nobody else's"
THEIRS = "other/private/app"


@dataclass(frozen=True)
class House:
    """A registry behind its real verifier, with an image in each of two projects."""

    oci: RegistryClient
    made: MemoryParts
    mint: Mint
    ada: str
    eve: str
    """She may do everything in project demo and nothing in the other."""

    async def call(
        self, verb: str, path: str, token: str, content: bytes | None = None, **headers: str
    ) -> tuple[int, bytes]:
        written = {name.replace("_", "-"): value for name, value in headers.items()}
        who = {"Authorization": f"Bearer {token}"} if token else {}
        async with self.oci.client.request(
            verb, URL(path, encoded=True), data=content, headers=who | written, allow_redirects=False
        ) as answer:
            return answer.status, await answer.read()

    async def push(self, token: str, name: str, *blobs: bytes) -> None:
        image = small_image(name)
        for blob in (*image.blobs.values(), *blobs):
            path = f"/v2/{name}/blobs/uploads/?digest={digest_of(blob)}"
            assert (await self.call("POST", path, token, blob))[0] == 201
        path = f"/v2/{name}/manifests/v1"
        assert (await self.call("PUT", path, token, image.manifest, Content_Type=MANIFEST))[0] == 201


@pytest.fixture(params=[True, False], ids=["lane", "no lane"])
async def house(request: pytest.FixtureRequest) -> AsyncGenerator[House]:
    made, mint = minted("registry", ENVIRONMENT)
    service = build(made.parts)
    ada, eve = mint.account("ada"), mint.account("eve")
    made.grant("projects/demo", ada, *EVERYTHING)
    made.grant("projects/other", ada, *EVERYTHING)
    made.grant("projects/demo", eve, *EVERYTHING)
    async with client_of(service, made.parts, lane=request.param) as client:
        found = House(RegistryClient(client, made), made, mint, ada, eve)
        token = mint.token(ada)
        await found.push(token, NAME)
        await found.push(token, THEIRS, SECRET)
        for _ in range(2):  # what was read lately is answered in the lane
            assert (await found.call("GET", f"/v2/{NAME}/manifests/v1", token))[0] == 200
            assert (await found.call("GET", f"/v2/{THEIRS}/manifests/v1", token))[0] == 200
        yield found


def part(content: Any) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(content)).rstrip(b"=").decode()


def by_hand(house: House, header: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
    """A JWT that no library would make."""
    signed = f"{part(header)}.{part(house.mint.claims(house.ada))}"
    return f"{signed}.{base64.urlsafe_b64encode(sign(signed.encode())).rstrip(b'=').decode()}"


def with_hmac(secret: bytes) -> Callable[[bytes], bytes]:
    return lambda content: hmac.digest(secret, content, hashlib.sha256)


def rsa_signed(house: House) -> str:
    key = RSAKey.import_key(RSA)
    return jwt.encode({"alg": "RS256", "kid": KEY_ID}, house.mint.claims(house.ada), key, algorithms=["RS256"])


def self_signed(house: House) -> str:
    """As an account may sign one itself, but with a key that the root key does not vouch for."""
    public = RSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    email = house.ada.partition(":")[2]
    keys = {ACCOUNT_KEY: AccountKey(public_key=public)}
    house.made.learn(AccountState(project="demo", email=email, unique_id="id-ada", keys=keys))
    scope = "https://www.googleapis.com/auth/cloud-platform"
    claims = house.mint.claims(house.ada, iss=email, sub=email, aud=None, scope=scope)
    head = {"alg": "RS256", "kid": ACCOUNT_KEY}
    return jwt.encode(head, claims, RSAKey.import_key(RSA), algorithms=["RS256"])


def of_an_unvouched_key(house: House) -> str:
    other = generate_private_key(SECP256R1())
    public = other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    house.made.learn(token_key(house.made, "planted", public=public, root=other))
    return house.mint.token(house.ada, header={"kid": "planted"}, key=private(other))


def private(key: Any) -> ECKey:
    return ECKey.import_key(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def disabled(house: House) -> str:
    token = house.mint.token(house.ada)
    house.mint.account("ada", disabled=True)
    return token


def of_a_disabled_key(house: House) -> str:
    token = house.mint.token(house.ada)
    house.mint.account("ada", keys={ACCOUNT_KEY: AccountKey(public_key="-", disabled=True)})
    return token


RSA_KEY = new_rsa(65537, 2048)
RSA = RSA_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
NOW = 1_790_000_000
TOKENS: dict[str, Callable[[House], str]] = {
    "for another audience": lambda house: house.mint.token(house.ada, aud="another"),
    "of another issuer": lambda house: house.mint.token(house.ada, iss="https://another"),
    "expired": lambda house: house.mint.token(house.ada, iat=NOW - 100, nbf=NOW - 100, exp=NOW),
    "not valid yet": lambda house: house.mint.token(house.ada, nbf=NOW + 60),
    "longer than may be": lambda house: house.mint.token(house.ada, exp=NOW + 86_400),
    "an id token": lambda house: house.mint.token(house.ada, use="id"),
    "of no algorithm": lambda house: by_hand(house, {"alg": "none", "kid": KEY_ID}, lambda _: b""),
    "of no algorithm, spelt otherwise": lambda house: by_hand(house, {"alg": "nOnE", "kid": KEY_ID}, lambda _: b""),
    "without a signature": lambda house: by_hand(house, {"alg": "ES256", "kid": KEY_ID}, lambda _: b""),
    "a signature of zeros": lambda house: by_hand(house, {"alg": "ES256", "kid": KEY_ID}, lambda _: bytes(64)),
    "HS256 with the public key": lambda house: by_hand(house, {"alg": "HS256", "kid": KEY_ID}, with_hmac(PUBLIC_PEM)),
    "HS256 in the place of ES256": lambda house: by_hand(house, {"alg": "ES256", "kid": KEY_ID}, with_hmac(PUBLIC_PEM)),
    "RS256 under the key's name": rsa_signed,
    "RS256 by a key nobody vouches for": self_signed,
    "ES256 by another key": lambda house: house.mint.token(house.ada, key=private(generate_private_key(SECP256R1()))),
    "by an unknown key": lambda house: house.mint.token(house.ada, header={"kid": "unknown"}),
    "by a key that is a path": lambda house: house.mint.token(house.ada, header={"kid": "../../dev/null"}),
    "by no key": lambda house: by_hand(house, {"alg": "ES256"}, lambda _: bytes(64)),
    "by a key that it brings": lambda house: house.mint.token(
        house.ada,
        header={"kid": "mine", "jwk": private(OTHER).as_dict(private=False)},
        key=private(OTHER),
    ),
    "by a key that the root does not vouch for": of_an_unvouched_key,
    "of a disabled account": disabled,
    "of a disabled key": of_a_disabled_key,
    "of another account's id": lambda house: house.mint.token(house.ada, uid="id-eve"),
    "with something behind it": lambda house: house.mint.token(house.ada) + ".x",
    "two in one": lambda house: f"{house.mint.token(house.ada)} {house.mint.token(house.ada)}",
    "two with a comma": lambda house: f"{house.mint.token(house.ada)},{house.mint.token(house.ada)}",
    "none": lambda _: "none",
}
OTHER = generate_private_key(SECP256R1())


@pytest.mark.parametrize("kind", TOKENS)
async def test_a_token_that_does_not_count_is_told_from_none_and_nothing_else_is_told(kind: str, house: House) -> None:
    token = TOKENS[kind](house)
    for _ in range(2):
        for verb, path in (("GET", "manifests/v1"), ("HEAD", "manifests/v1"), ("POST", "blobs/uploads/")):
            status, content = await house.call(verb, f"/v2/{NAME}/{path}", token)
            assert status == 401, (verb, status)
            if verb != "HEAD":
                assert orjson.loads(content)["errors"][0]["code"] == "UNAUTHORIZED"
                assert token not in content.decode()
                assert "expired or revoked" in content.decode() or "form" in content.decode()


async def test_an_oversized_token_is_not_even_looked_at(house: House) -> None:
    for size in (5000, 6000, 9000, 100_000):
        token = house.mint.token(house.ada, jti="x" * size)
        status, _ = await house.call("GET", f"/v2/{NAME}/manifests/v1", token)
        assert status == (200 if len(token) < 8000 else 400), len(token)
    with pytest.raises(Unauthenticated):
        verified(house.made.parts.verifier, house.mint.token(house.ada, jti="x" * 6000) + "A" * 8192)


async def test_two_authorization_headers_are_nobodys_whatever_stands_in_them(house: House) -> None:
    good = f"Authorization: Bearer {house.mint.token(house.ada)}"
    line = f"GET /v2/{NAME}/manifests/v1"
    async with wire(house.oci) as place:
        for pair in ((good, good), (good, "authorization: Bearer x"), ("AUTHORIZATION: Basic YTpi", good)):
            for _ in range(2):
                assert (await place.ask(line, *pair, authorised=False)).status == 401
                assert (await place.ask(line, good, authorised=False)).status == 200


async def test_another_projects_content_is_neither_read_nor_told_from_what_is_not_there(house: House) -> None:
    eve = house.mint.token(house.eve)
    for path in ("manifests/v1", "tags/list", f"blobs/{digest_of(SECRET)}", f"referrers/{digest_of(SECRET)}"):
        theirs = await house.call("GET", f"/v2/{THEIRS}/{path}", eve)
        nothing = await house.call("GET", f"/v2/other/nothing/app/{path}", eve)
        assert theirs[0] == nothing[0] == 403
        assert theirs[1].replace(b"private", b"nothing") == nothing[1]
    assert (await house.call("GET", f"/v2/{NAME}/blobs/{digest_of(SECRET)}", eve))[0] == 404


async def test_what_is_held_elsewhere_comes_neither_by_mount_nor_by_reference_nor_by_name(house: House) -> None:
    eve, ada = house.mint.token(house.eve), house.mint.token(house.ada)
    digest = digest_of(SECRET)
    uploads = f"/v2/{NAME}/blobs/uploads/"
    for source in (THEIRS, "", "other/private/another", "demo/web/../../other/private/app", "other%2Fprivate%2Fapp"):
        path = f"{uploads}?mount={digest}" + (f"&from={source}" if source else "")
        assert (await house.call("POST", path, eve))[0] == 202, source
        limited = house.mint.token(
            house.ada, access=[{"type": "repository", "name": NAME, "actions": ["pull", "push"]}]
        )
        if "%" not in source and ".." not in source:
            assert (await house.call("POST", path, limited))[0] == 202, source
    manifest = orjson.dumps({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest, "size": len(SECRET)},
        "layers": [],
    })  # fmt: skip
    status, content = await house.call("PUT", f"/v2/{NAME}/manifests/v2", eve, manifest, Content_Type=MANIFEST)
    assert (status, orjson.loads(content)["errors"][0]["code"]) == (404, "MANIFEST_BLOB_UNKNOWN")
    assert (await house.call("POST", f"{uploads}?digest={digest}", eve, b"another body"))[0] == 400
    assert (await house.call("GET", f"/v2/{NAME}/blobs/{digest}", eve))[0] == 404
    assert (await house.call("POST", f"{uploads}?mount={digest}&from={THEIRS}", ada))[0] == 201


PATHS = [
    "/v2/demo/web/../../other/private/app/manifests/v1",
    "/v2/demo/web/%2e%2e/%2e%2e/other/private/app/manifests/v1",
    "/v2/demo/web/..%2f..%2fother/private/app/manifests/v1",
    "/v2/demo/web/..%5c..%5cother/private/app/manifests/v1",
    "/v2/demo%2f..%2fother/private/app/manifests/v1",
    "/v2/demo/%2e%2e/other/private/app/manifests/v1",
    "/v2//other/private/app/manifests/v1",
    "/v2/./other/private/app/manifests/v1",
    "/V2/other/private/app/manifests/v1",
    "/v2/other%2fprivate%2fapp/manifests/v1",
    "/v2/other/private%2fapp/manifests/v1",
    "/v2/%6fther/private/app/manifests/v1",
    "/v2/other/private/app%00/manifests/v1",
    "/v2/other/private/app%20/manifests/v1",
    "/v2/other/private/app;x=y/manifests/v1",
    "/v2/other/private/app/manifests/v1%00",
    "/v2/other/private/app/manifests/v1%0d%0aX-Evil:%20yes",
    "/v2/other/private/app/manifests%2fv1",
    "/v2/other/private/app/%6danifests/v1",
    "/v2/other/private/app/manifests/%76%31",
    "/v2/other/private/app/manifests/..%2f..%2fapp%2fmanifests%2fv1",
    "/v2/other%252fprivate%252fapp/manifests/v1",
    "/v2/demo/web/app/manifests/../../../../other/private/app/manifests/v1",
    "/v2/demo/web/app/blobs/..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
    "/v2/demo/web/app/blobs/sha256:..%2f..%2fother",
    "/v2/demo/web/app/blobs/sha256%3a" + digest_of(SECRET).partition(":")[2],
    "/v2/%ff%fe/web/app/manifests/v1",
    "/v2/" + "a/" * 2000 + "manifests/v1",
    "/v2/other/private/app/manifests/v1?ns=demo/web",
    "/v1/projects/demo/locations/local/repositories/web%2f..%2f..%2f..%2f..%2fother/dockerImages",
    "/v1/projects/other%2flocations%2flocal%2frepositories%2fprivate/locations/local/repositories/private",
    "/v1/projects/demo%2f..%2fother/locations/local/repositories/private/dockerImages",
    "/v1/projects/demo/locations/local/repositories/web/files/..%2f..%2fprivate:download",
    "/v1/projects/demo/locations/local/repositories/web/files/" + digest_of(SECRET) + ":download",
    "/v1/projects/demo/locations/local/repositories/web/dockerImages/..%2f..%2fprivate",
    "/v1/projects/demo/locations/..%2f..%2f..%2fother/repositories",
]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path[:60])
async def test_no_way_of_writing_a_path_leads_to_another_projects_content(path: str, house: House) -> None:
    eve = house.mint.token(house.eve)
    expected = small_image(THEIRS).manifest
    for verb in ("GET", "HEAD", "DELETE", "PUT", "POST"):
        for token in (eve, ""):
            status, content = await house.call(verb, path, token)
            assert 400 <= status < 500, (verb, status)
            assert expected not in content
            assert SECRET not in content
    ada = house.mint.token(house.ada)
    assert (await house.call("GET", f"/v2/{THEIRS}/manifests/v1", ada)) == (200, expected)
