"""The keys that sign our tokens: made on the first need, kept sealed in the store, one set for all nodes."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from Crypto.Cipher import AES
from joserfc.jwk import ECKey, RSAKey

from config.sections import RegisteredSite
from errors import StoreUnavailable
from flows.context import Context
from oidc import keys, tokens
from oidc.keys import Key, Turn
from storage.base import Transaction
from storage.records import SigningKey

LOOK_SECONDS = (
    60.0  # that the keys are good for before the store is asked again: another node may have added one
)
KEY_ID_BYTES = 12
NONCE_BYTES = 12
TAG_BYTES = 16

log = logging.getLogger("saoma.oidc")


class Signer:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._keys: tuple[Key, ...] = ()
        self._looked_at = float("-inf")
        self._looking = asyncio.Lock()
        self._unreadable: set[str] = set()

    async def ready(self) -> None:
        """Raises StoreUnavailable now rather than when something that happens once has happened."""
        await self._current()

    async def public_set(self) -> dict[str, Any]:
        return keys.public_set(await self._current(), self._context.now())

    async def id_token(self, site: RegisteredSite, claims: Mapping[str, Any]) -> str:
        return await self._signed(site, claims, "JWT")

    async def logout_token(self, site: RegisteredSite, sub: str, sid: str, jti: str) -> str:
        context = self._context
        claims = tokens.logout_claims(
            issuer=context.base_url, site=site.id, sub=sub, sid=sid, jti=jti, now=context.now()
        )
        return await self._signed(site, claims, "logout+jwt")

    async def verified(self, token: str) -> dict[str, Any] | None:
        """The claims of a token of ours, whether or not it is over; None for anything else."""
        claims = keys.verified(await self._current(), token)
        return claims if claims and claims.get("iss") == self._context.base_url else None

    async def reseal(self) -> None:
        """Seals anew what another key than the current one has sealed, so that the other one can go.

        Raises StoreUnavailable.
        """
        context = self._context

        async def work(transaction: Transaction) -> None:
            for kept in await transaction.signing_keys.all(now=context.now()):
                text, by_current = self._unsealed(kept.sealed)
                if text is not None and not by_current:
                    await transaction.signing_keys.reseal(replace(kept, sealed=self._sealed(text)))

        await context.storage.transact(work)

    async def _signed(self, site: RegisteredSite, claims: Mapping[str, Any], kind: str) -> str:
        key = keys.signing_key(await self._current(), site.id_token_alg, self._context.now())
        assert key is not None, "there is one of each algorithm"
        return keys.sign(key, claims, kind)

    async def _current(self) -> tuple[Key, ...]:
        """Raises StoreUnavailable where there are none yet."""
        if abs(self._context.now() - self._looked_at) >= LOOK_SECONDS:
            async with self._looking:
                if abs(self._context.now() - self._looked_at) >= LOOK_SECONDS:
                    try:
                        await self._look()
                    except StoreUnavailable:
                        if not self._keys:
                            raise
                        self._looked_at = self._context.now()  # those known are good for longer than that
        return self._keys

    async def _look(self) -> None:
        context = self._context
        now = context.now()
        stored = await context.storage.transact(lambda transaction: transaction.signing_keys.all(now=now))
        known = self._opened(stored)
        missing = []
        for algorithm in keys.ALGORITHMS:
            turns = [key.turn for key in known if key.algorithm == algorithm]
            taken = [_number(key.slot) for key in stored if key.algorithm == algorithm]
            turn = keys.next_turn(turns, context.settings.oidc.key_lifetime, now)
            if turn is not None:
                number = max(taken, default=0) + 1  # beyond one that cannot be opened, too
                missing.append((algorithm, Turn(number, turn.signs_from, turn.signs_until)))
        if missing:
            made = [await self._made(algorithm, turn, now) for algorithm, turn in missing]

            async def work(transaction: Transaction) -> list[SigningKey]:
                for key in made:
                    await transaction.signing_keys.add(key)
                return list(await transaction.signing_keys.all(now=now))

            known = self._opened(await context.storage.transact(work))
        self._keys, self._looked_at = known, now

    async def _made(self, algorithm: str, turn: Turn, now: float) -> SigningKey:
        key_id = self._context.token(KEY_ID_BYTES)
        private = await asyncio.to_thread(keys.new_key, algorithm, key_id)
        return SigningKey(
            slot=f"{algorithm}/{turn.number}",
            id=key_id,
            algorithm=algorithm,
            sealed=self._sealed(json.dumps(private.as_dict(private=True))),
            created_at=now,
            signs_from=turn.signs_from,
            signs_until=turn.signs_until,
            expires_at=turn.expires_at,
        )

    def _opened(self, stored: Iterable[SigningKey]) -> tuple[Key, ...]:
        opened = []
        for kept in stored:
            text, _ = self._unsealed(kept.sealed)
            if text is None:
                if kept.slot not in self._unreadable:
                    self._unreadable.add(kept.slot)
                    log.error("signing key %s was sealed under another server.secret_key", kept.slot)
                continue
            kind = RSAKey if kept.algorithm == "RS256" else ECKey
            turn = Turn(_number(kept.slot), kept.signs_from, kept.signs_until)
            opened.append(Key(kind.import_key(json.loads(text)), kept.algorithm, turn))
        return tuple(opened)

    # A copy of the database alone must not be able to sign (AES-256-GCM under a key from the secret key).

    def _sealed(self, text: str) -> str:
        nonce = self._context.random(NONCE_BYTES)
        content, tag = _cipher(self._seals()[0], nonce).encrypt_and_digest(text.encode("utf-8"))
        return bytes(nonce + tag + content).hex()

    def _unsealed(self, sealed: str) -> tuple[str | None, bool]:
        """The text, None where no key of ours fits; and whether it was the current one."""
        for number, key in enumerate(self._seals()):
            with suppress(ValueError):
                raw = bytes.fromhex(sealed)
                nonce, rest = raw[:NONCE_BYTES], raw[NONCE_BYTES:]
                content = _cipher(key, nonce).decrypt_and_verify(rest[TAG_BYTES:], rest[:TAG_BYTES])
                return bytes(content).decode("utf-8"), number == 0
        return None, False

    def _seals(self) -> tuple[str, ...]:
        """The keys to seal with, in hex; the current one first."""
        return self._context.macs("seal", "signing keys")


def _cipher(key: str, nonce: bytes) -> Any:
    return AES.new(bytes.fromhex(key), AES.MODE_GCM, nonce=nonce, mac_len=TAG_BYTES)


def _number(slot: str) -> int:
    return int(slot.partition("/")[2])
