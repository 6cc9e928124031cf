"""The root key vouches for accounts' keys, so that services may believe what is signed with them."""

import hashlib
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from services.identity.accounts import Account, Key
from services.identity.store import Change, Store
from shared.events import Cause
from shared.events.states import AccountState
from shared.identity.directory import Directory
from shared.identity.root import RootKeys, account_signature


@dataclass
class Vouching:
    """Signs keys as they are made, and those of before: keys without a signature, or with another root key's."""

    root: EllipticCurvePrivateKey
    store: Store
    directory: Directory
    _sound: dict[str, AccountState] = field(default_factory=dict[str, AccountState], init=False)

    def added(self, account: Account, key: Key) -> Account:
        """The account with one more key, vouched for."""
        with_key = account.model_copy(update={"keys": {**account.keys, key.id: key}})
        signed = key.model_copy(update={"signature": account_signature(with_key.fact(), key.id, self.root)})
        return account.model_copy(update={"keys": {**account.keys, key.id: signed}})

    async def look(self) -> None:
        """Vouch for what has none to vouch for it. Raises Moved where the account changed meanwhile: look again."""
        for fact in list(self.directory.every(AccountState)):
            if self._sound.get(fact.email) is fact:
                continue
            if self._lacking(fact):
                await self._sign(fact)
            else:
                self._sound[fact.email] = fact

    def _lacking(self, fact: AccountState) -> list[str]:
        roots = RootKeys.of(self.root)
        return [key_id for key_id in fact.keys if not roots.vouch_for_account(fact, key_id)]

    async def _sign(self, fact: AccountState) -> None:
        account, found = await self.store.account(fact.project, fact.email)
        if account is None or not self._lacking(account.fact()):
            return  # deleted or signed elsewhere: that will be heard
        after = account
        for key_id in self._lacking(account.fact()):
            after = self.added(after, account.keys[key_id])
        mark = hashlib.sha256((found.stored or "").encode()).hexdigest()[:16]
        change = Change(
            project=account.project,
            request=f"vouch {account.email} {mark}",
            checks=(self.store.account_is(account.project, account.email, found),),
            writes=(self.store.keep_account(after),),
            events=(after.fact(),),
        )
        await self.store.apply(change, Cause(id=change.request))
