"""Passes: what the project's own workers show at the gateway, so that work of a team is done as that team's.

A pass names team and key and ends after a while; that it was signed with the installation's secret is all there is to
know, so nothing has to be stored, and another machine with the same secret can make one.
"""

import hashlib
import hmac
from typing import NamedTuple

MARK = b"sollol_job_"


class Pass(NamedTuple):
    """`team` 0: nobody's; `prefix` is that of the key for which the work is done; `until` in epoch seconds."""

    team: int
    prefix: str
    until: int


def issue(secret: bytes, one: Pass) -> str:
    """The pass as a bearer token."""
    told = f"{one.team}.{one.prefix}.{one.until}"
    return f"{MARK.decode()}{told}.{signature(secret, told.encode())}"


def read(secret: bytes, token: bytes, now: float) -> Pass | None:
    """The pass that a token is; None for one that is not ours or has ended, and where there is no secret."""
    told, _, signed = token.removeprefix(MARK).rpartition(b".")
    if not secret or not hmac.compare_digest(signature(secret, told).encode(), signed):
        return None
    team, prefix, until = told.decode().split(".")
    return Pass(int(team), prefix, int(until)) if int(until) > now else None


def signature(secret: bytes, told: bytes) -> str:
    return hmac.new(secret, told, hashlib.sha256).hexdigest()
