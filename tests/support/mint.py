"""Access tokens as identity makes them, and as nobody should: for services in memory behind their real verifier."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from joserfc import jwt
from joserfc.jwk import ECKey

from shared.clock import rfc3339
from shared.events.states import AccountKey, AccountState, KeyState
from shared.identity.root import RootKeys, vouched
from shared.identity.tokens import Terms, TokenVerifier
from tests.support.parts import MemoryParts, memory_parts

ROOT: Final = generate_private_key(SECP256R1())
SIGNING: Final = generate_private_key(SECP256R1())
KEY_ID: Final = "token-key"
ACCOUNT_KEY: Final = "account-key"
PUBLIC_PEM: Final = SIGNING.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
PRIVATE_PEM: Final = SIGNING.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@dataclass(frozen=True)
class Mint:
    """Makes tokens for accounts that it lets the service know."""

    made: MemoryParts

    def account(self, name: str, **changes: Any) -> str:
        """A service account of project demo; its member."""
        email = f"{name}@demo.iam.entrepot"
        keys = {ACCOUNT_KEY: AccountKey(public_key="-")}
        fact = AccountState(project="demo", email=email, unique_id=f"id-{name}", keys=keys)
        self.made.learn(fact.model_copy(update=changes))
        return f"serviceAccount:{email}"

    def claims(self, member: str, **changes: Any) -> dict[str, Any]:
        """What a good token of this member says, with changes; None takes a claim away."""
        now = int(self.made.clock.now())
        name = member.partition(":")[2].partition("@")[0]
        claims = {
            "iss": "https://entrepot.local",
            "aud": "entrepot",
            "sub": member,
            "uid": f"id-{name}",
            "key": ACCOUNT_KEY,
            "iat": now,
            "nbf": now,
            "exp": now + 3600,
            "jti": "1",
            "use": "access",
            **changes,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, member: str, *, header: Mapping[str, Any] | None = None, key: Any = None, **changes: Any) -> str:
        """A token, good as long as nothing is changed."""
        head = {"alg": "ES256", "kid": KEY_ID, **(header or {})}
        key = key or ECKey.import_key(PRIVATE_PEM)
        return jwt.encode(head, self.claims(member, **changes), key, algorithms=[head["alg"]])

    def headers(self, member: str, **changes: Any) -> dict[str, str]:
        """Headers of a call by this member; of nobody's for an empty one."""
        return {"Authorization": f"Bearer {self.token(member, **changes)}"} if member else {}


def minted(service: str, environment: Mapping[str, str] | None = None) -> tuple[MemoryParts, Mint]:
    """Parts of a service in memory that believe nothing but tokens of this mint."""
    pinned = {"ENTREPOT_ROOT_KEY_FILE": "/dev/null", **(environment or {})}  # so that identity keeps to the verifier
    made = memory_parts(service, projects=("demo", "other"), environment=pinned)
    terms = Terms("https://entrepot.local", "entrepot")
    verifier = TokenVerifier(made.directory, RootKeys.of(ROOT), terms, made.clock.now)
    made = replace(made, parts=replace(made.parts, verifier=verifier))
    made.learn(token_key(made))
    return made, Mint(made)


def token_key(made: MemoryParts, key_id: str = KEY_ID, *, public: bytes = PUBLIC_PEM, root: Any = ROOT) -> KeyState:
    """The public half of a token key, vouched for."""
    now = made.clock.now()
    fact = KeyState(
        project="",
        key_id=key_id,
        public_key=public.decode(),
        not_before=rfc3339(now - 100),
        not_after=rfc3339(now + 86_400),
        signature="",
    )
    return vouched(fact, root)
