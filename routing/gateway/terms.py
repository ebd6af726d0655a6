"""On what terms a request comes in: the operator's rules, its priority, its team's quotas."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from routing.core.dispatcher import Dispatcher
from routing.core.errors import BadRequest
from routing.core.quotas import Quotas, Reservation
from routing.core.requests import NATIVE_ROUTES, Profile
from routing.core.resuming import OnBreak
from routing.core.snapshot import Breach, FleetSnapshot, RoutingRule, TeamPolicy
from routing.core.usage import Use
from routing.gateway.access import Caller

NOBODY = TeamPolicy(0, "")
#: The longest deadline that is taken, in seconds.
LONGEST_DEADLINE = 86_400.0

Headers = Mapping[bytes, bytes]


@dataclass(slots=True)
class Terms:
    """What holds for one request beside its profile.

    `demoted` tells in short ASCII what lowered its priority, `pinned` the context size that a rule gives it, `on_break`
    what becomes of its stream if that breaks off, `hedge` whether a second copy of it may be sent.
    """

    demoted: str = ""
    pinned: int | None = None
    on_break: OnBreak = OnBreak.CONTINUE
    hedge: bool = False


@dataclass(slots=True)
class Desk:
    """Settles terms from the newest snapshot; `wall` gives epoch seconds."""

    dispatcher: Dispatcher
    quotas: Quotas = field(default_factory=Quotas)
    wall: Callable[[], float] = time.time
    rules: dict[tuple[int | None, str], RoutingRule] = field(default_factory=dict)

    def apply(self, snapshot: FleetSnapshot) -> None:
        self.quotas.apply(snapshot.teams)
        self.rules = {(rule.team_id, rule.model): rule for rule in reversed(snapshot.rules)}

    def prepare(self, profile: Profile, headers: Headers, caller: Caller, arrived: float) -> Terms:
        """Write into the profile what holds for it. Raises `BadRequest` for a header that cannot be read."""
        policy = caller.team or NOBODY
        profile.team_id = caller.team.id if caller.team else None
        pinned = self.rule(profile, headers)
        profile.deadline = deadline_of(headers, arrived)
        profile.priority, demoted = priority_of(headers, profile.priority, policy)
        if b"x-sollol-bulk" in headers:
            profile.bulk = is_bulk(headers[b"x-sollol-bulk"])
            profile.priority = min(profile.priority, policy.batch_priority) if profile.bulk else profile.priority
        return Terms(demoted, pinned, on_break(headers, policy), policy.hedge)

    def admit(self, profile: Profile, terms: Terms, caller: Caller, now: float) -> Reservation:
        """Reserve what the request will use. Raises `QuotaExceeded` where a hard quota has no room."""
        policy = caller.team or NOBODY
        if (
            policy.max_concurrent is not None
            and policy.concurrent_breach is Breach.DEMOTE
            and profile.priority > policy.batch_priority
            and self.dispatcher.shares.of(profile.team_id).running >= policy.max_concurrent
        ):
            profile.priority, terms.demoted = policy.batch_priority, "concurrent requests"
        reservation = self.quotas.admit(profile.team_id, profile.priority, self.expected(profile, now), self.wall())
        profile.priority = reservation.priority
        terms.demoted = reservation.demoted or terms.demoted
        return reservation

    def expected(self, profile: Profile, now: float) -> Use:
        """What a request will probably use; nothing is worked out for who has no team and so no quota."""
        if profile.team_id is None:
            return Use(1)
        tokens = self.dispatcher.learner.expectation(profile)
        return Use(1, round(tokens.prompt), round(tokens.output), self.dispatcher.work_of(profile, tokens, now))

    def rule(self, profile: Profile, headers: Headers) -> int | None:
        """Apply the rules for the team and the model; the context size that they pin, where there is one."""
        asked = headers.get(b"x-sollol-strategy")
        if asked is not None:
            profile.strategy = self.known_strategy(asked)
        if not self.rules:
            return None
        pinned = None
        for key in ((profile.team_id, profile.key), (profile.team_id, ""), (None, profile.key), (None, "")):
            rule = self.rules.get(key)
            if rule is None:
                continue
            profile.strategy = profile.strategy or rule.strategy
            profile.labels = profile.labels or tuple(sorted(rule.labels.items()))
            pinned = pinned or rule.num_ctx
        if pinned is not None and profile.route in NATIVE_ROUTES:
            profile.num_ctx = pinned
            return pinned
        return None

    def known_strategy(self, asked: bytes) -> str:
        name = asked.decode("latin-1").strip()
        if name not in self.dispatcher.strategies:
            known = ", ".join(sorted(self.dispatcher.strategies))
            raise BadRequest(f"X-Sollol-Strategy: there is no strategy {name!r}; there are {known}")
        return name


def priority_of(headers: Headers, asked: int, policy: TeamPolicy) -> tuple[int, str]:
    """The request's priority, and what lowered it.

    Header, else body, else the team's default; one above the team's highest becomes its default. Raises `BadRequest`
    for a header that is no priority; a body member that is none is not ours to judge.
    """
    header = headers.get(b"x-sollol-priority")
    if header is not None:
        if len(header) > 2 or not header.isdigit() or not 1 <= int(header) <= 10:  # noqa: PLR2004
            raise BadRequest("X-Sollol-Priority must be a whole number from 1 (batch) to 10 (critical)")
        asked = int(header)
    elif not 1 <= asked <= 10:  # noqa: PLR2004
        asked = policy.default_priority
    return (policy.default_priority, "highest priority") if asked > policy.highest_priority else (asked, "")


def is_bulk(header: bytes) -> bool:
    """Whether a request is a part of a batch job, which keeps out of the way of all others. Raises `BadRequest`."""
    word = header.decode("latin-1").strip().lower()
    if word not in {"1", "true", "0", "false"}:
        raise BadRequest("X-Sollol-Bulk must be true or false")
    return word in {"1", "true"}


def on_break(headers: Headers, policy: TeamPolicy) -> OnBreak:
    """What becomes of a stream that breaks off: header, else the team's policy.

    Raises `BadRequest` for any other word.
    """
    header = headers.get(b"x-sollol-on-break")
    if header is None:
        return policy.on_break
    try:
        return OnBreak(header.decode("latin-1").strip().lower())
    except ValueError:
        raise BadRequest(f"X-Sollol-On-Break must be {' or '.join(OnBreak)}") from None


def deadline_of(headers: Headers, arrived: float) -> float | None:
    """When the answer is worth nothing any more, on the gateway's clock. Raises `BadRequest` for what is no number."""
    header = headers.get(b"x-sollol-deadline")
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        seconds = math.nan
    if not 0.0 < seconds <= LONGEST_DEADLINE:
        raise BadRequest("X-Sollol-Deadline must be the seconds from now in which the answer must be complete")
    return arrived + seconds
