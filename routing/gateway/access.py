"""Who is calling, from the request's headers and the snapshot alone."""

import hashlib
import ipaddress
import socket
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from routing.core.errors import NotAllowed, NotAuthenticated
from routing.core.snapshot import FleetSnapshot, Key, TeamPolicy
from routing.gateway import passes

KEY_MARK = b"sollol_"
FORWARDED = (
    b"forwarded",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-proto",
    b"x-real-ip",
    b"x-client-ip",
    b"true-client-ip",
    b"cf-connecting-ip",
    b"via",
)
NEARBY = (".localhost", ".local", ".internal")
Anonymous = Literal["loopback", "deny", "allow"]

#: Scopes that include others: who may manage models may use them, and who may manage the fleet may do both.
INCLUDED = {"inference": {"inference", "models", "manage"}, "models": {"models", "manage"}, "manage": {"manage"}}


@dataclass(frozen=True, slots=True)
class Caller:
    """`team` is None for an anonymous caller, who may do what an Ollama server lets anyone do."""

    team: TeamPolicy | None = None
    prefix: str = ""
    scopes: frozenset[str] = frozenset({"inference", "models"})
    anonymous: bool = True

    def require(self, scope: str) -> None:
        """Raise `NotAllowed` unless the caller's key has the scope."""
        if not self.scopes & INCLUDED[scope]:
            if self.anonymous:
                raise NotAuthenticated(f"this needs a key with the scope {scope}")
            raise NotAllowed(f"this key lacks the scope {scope}")


ANYONE = Caller()


class Access:
    """Judges callers against the newest snapshot."""

    def __init__(
        self,
        anonymous: Anonymous,
        wall: Callable[[], float] = time.time,
        hosts: Collection[str] | None = None,
        secret: bytes = b"",
    ) -> None:
        """`hosts` are names that may be asked for beside those of this machine and its network; None: any may.

        `secret` is that of passes; without one none is known.
        """
        self.anonymous, self.wall, self.hosts, self.secret = anonymous, wall, hosts, secret
        self.snapshot = FleetSnapshot()

    def key_of(self, token: bytes) -> Key | None:
        """The key that a token is, if it is in force."""
        key = self.snapshot.keys.get(hashlib.sha256(token).hexdigest())
        return None if key is None or (key.expires_at is not None and key.expires_at <= self.wall()) else key

    def caller_for(self, scope: Any, headers: dict[bytes, bytes]) -> Caller:
        """The caller of a request. Raises `NotAuthenticated` for a wrong key of ours, or for none where one is needed.

        SDKs insist on some key: a bearer that does not look like one of ours counts as none.
        """
        token = bearer(headers)
        if token.startswith(passes.MARK):
            return self._worker(token)
        if token.startswith(KEY_MARK):
            key = self.key_of(token)
            if key is None:
                raise NotAuthenticated("this key is not known, expired or revoked")
            return Caller(self.snapshot.teams.get(key.team_id), key.prefix, key.scopes, anonymous=False)
        if self.anonymous == "allow":
            self._judge_host(host_of(headers.get(b"host", b"").decode("latin-1")))
            return ANYONE
        if self.anonymous == "loopback" and is_local(scope, headers):
            return ANYONE
        raise NotAuthenticated("a key is needed: send Authorization: Bearer sollol_…")

    def _worker(self, token: bytes) -> Caller:
        """A worker of ours, who works for a team and may use models only."""
        shown = passes.read(self.secret, token, self.wall())
        team = self.snapshot.teams.get(shown.team) if shown else None
        if shown is None or (shown.team and team is None):
            raise NotAuthenticated("this pass is not known or has ended")
        return Caller(team, shown.prefix, frozenset({"inference"}), anonymous=False)

    def _judge_host(self, host: str) -> None:
        """Raise `NotAllowed` for a name that leads here from a page of somebody else, as Ollama does on a loopback."""
        if self.hosts is not None and host not in self.hosts and not is_nearby(host):
            raise NotAllowed(f"the Host {host!r} is not known here: add it to SOLLOL_ALLOWED_HOSTS")


def bearer(headers: dict[bytes, bytes]) -> bytes:
    """The key that a request carries, as a bearer or in Anthropic's header; empty where there is none."""
    value = headers.get(b"authorization", b"")
    if value[:7].lower() == b"bearer ":
        return value[7:].strip()
    return headers.get(b"x-api-key", b"").strip()


def is_local(scope: Any, headers: dict[bytes, bytes]) -> bool:
    """Whether the request comes from this machine itself: loopback peer and Host, nothing forwarded.

    Pages that may not ask were refused before, by their Origin.
    """
    peer = scope.get("client")
    if peer is None or not is_loopback(peer[0]) or any(name in headers for name in FORWARDED):
        return False
    return is_loopback(host_of(headers.get(b"host", b"localhost").decode("latin-1")))


def host_of(authority: str) -> str:
    """The host of `host[:port]`, brackets of an IPv6 address removed."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0]


@lru_cache(maxsize=1024)
def is_nearby(host: str) -> bool:
    """Whether a Host is this machine or one of its network: what nobody outside can make a name lead to."""
    name = host.lower()
    if not name or name in {"localhost", socket.gethostname().lower()} or name.endswith(NEARBY):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_private or address.is_unspecified


@lru_cache(maxsize=1024)
def is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
