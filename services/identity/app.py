"""Wiring of identity, in the order in which the data flows."""

from dataclasses import replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key

from services.identity.addresses import Addresses
from services.identity.api.account_keys import AccountKeysFace
from services.identity.api.accounts import AccountsFace
from services.identity.api.denials import DenialsFace
from services.identity.api.discovery import DiscoveryFace
from services.identity.api.groups import GroupsFace
from services.identity.api.names import Names
from services.identity.api.organizations import OrganizationsFace
from services.identity.api.perimeters import PerimetersFace
from services.identity.api.projects import ProjectsFace
from services.identity.api.roles import RolesFace
from services.identity.api.services import ServicesFace
from services.identity.api.tokens import TokenFace
from services.identity.denials import Denials
from services.identity.first_start import FirstStart, Wishes
from services.identity.guard import Guard
from services.identity.issuing import Issuer
from services.identity.logins import Logins
from services.identity.settings import IdentitySettings
from services.identity.signing import SigningKeys
from services.identity.store import Store, counter_of
from services.identity.upkeep import Upkeep
from services.identity.vouching import Vouching
from shared.http.iam import Policies
from shared.http.routes import Route
from shared.identity.directory import project_in
from shared.identity.root import RootKeys
from shared.identity.root_file import new_root_key, root_key
from shared.identity.tokens import Terms, TokenVerifier
from shared.parts import Parts, Service
from shared.secret_files import write_once


def build(parts: Parts) -> Service:
    """Identity from its parts."""
    settings = parts.own(IdentitySettings)
    root = _root(settings.root_key_file)
    parts = _trusting(parts, root)
    store = Store(parts.state, parts.keys, parts.outbox, parts.directory)
    signing = SigningKeys(root, store, parts.clock, parts.ids, days=settings.signing_days)
    policies = Policies(
        parts.state, parts.keys, parts.outbox, parts.directory, lambda name: counter_of(project_in(name))
    )
    vouching = Vouching(root, store, parts.directory)
    upkeep = Upkeep(_first_start(parts, settings, store, policies, vouching), signing, vouching, parts.clock)
    app = parts.face(
        [*_login_routes(parts, settings, store, signing), *_admin_routes(parts, settings, store, policies, vouching)]
    )
    return Service(app=app, background=(upkeep.live,), ready=upkeep.reasons)


def _login_routes(parts: Parts, settings: IdentitySettings, store: Store, signing: SigningKeys) -> list[Route]:
    clock, addresses = parts.clock, Addresses(parts.settings)
    logins = Logins(store, parts.verifier, domain=settings.domain, now=clock.now, ids=parts.ids, cpu=parts.cpu)
    terms = Terms.of(parts.settings)
    tokens = TokenFace(
        logins=logins,
        issuer=Issuer(signing, terms, clock.now, parts.ids, settings.token_seconds),
        directory=parts.directory,
        denials=Denials(parts.journal, clock, parts.directory),
        guard=Guard(clock),
        settings=settings,
        location=parts.settings.location,
        locations={host: location for location, host in parts.settings.hosts.items()},
        addresses=addresses,
        now=clock.now,
    )
    discovery = DiscoveryFace(
        directory=parts.directory,
        verifier=parts.verifier,
        logins=logins,
        issuer=parts.settings.issuer,
        base_url=addresses.base,
        now=clock.now,
    )
    return [*tokens.routes(), *discovery.routes()]


def _admin_routes(
    parts: Parts, settings: IdentitySettings, store: Store, policies: Policies, vouching: Vouching
) -> list[Route]:
    clock, ids, names = parts.clock, parts.ids, Names(parts.directory, settings.domain)
    organization = f"organizations/{settings.organization}"
    accounts = AccountsFace(store, policies, names, ids, settings.domain)
    return [
        *accounts.routes(),
        *AccountKeysFace(accounts, vouching, clock, ids, parts.cpu, Addresses(parts.settings).base).routes(),
        *RolesFace(store, names, organization).routes(),
        *GroupsFace(store, organization).routes(),
        *PerimetersFace(store, names, organization).routes(),
        *ProjectsFace(store, policies, names, clock, ids, organization).routes(),
        *OrganizationsFace(policies, organization).routes(),
        *ServicesFace(names).routes(),
        *DenialsFace(store, policies, names, clock).routes(),
    ]


def _first_start(
    parts: Parts, settings: IdentitySettings, store: Store, policies: Policies, vouching: Vouching
) -> FirstStart:
    data = parts.settings.data
    wishes = Wishes(
        organization=f"organizations/{settings.organization}",
        project=settings.first_project,
        domain=settings.domain,
        admin_key=settings.admin_key_file or data / "admin-key.json",
        agents=settings.agents.split(),
        agent_keys=settings.agent_keys or data / "keys",
        base_url=parts.settings.public_url or f"http://{parts.settings.host}:{parts.settings.port}",
    )
    return FirstStart(store, vouching, policies, parts.directory, parts.clock, parts.ids, parts.cpu, wishes)


def _root(path: Path | None) -> EllipticCurvePrivateKey:
    if path is None:
        return generate_private_key(SECP256R1())
    if not path.exists():
        write_once(path, new_root_key())
    return root_key(path)


def _trusting(parts: Parts, root: EllipticCurvePrivateKey) -> Parts:
    """Tried alone, with no root key pinned, identity trusts the one that it has."""
    if parts.settings.root_key_file is not None:
        return parts
    terms = Terms.of(parts.settings)
    verifier = TokenVerifier(parts.directory, RootKeys.of(root), terms, parts.clock.now)
    return replace(parts, verifier=verifier)
