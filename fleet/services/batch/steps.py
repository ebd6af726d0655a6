"""One turn of a lane: some seconds in which items are claimed, sent, and what comes back is stored."""

import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import httpx
from django.conf import settings
from django.db import OperationalError
from django.db.models import Count
from django.utils import timezone

from fleet.models import BatchItem, BatchJob, BatchLane, ItemState, JobState
from fleet.models.batch import WORKING
from fleet.selectors.batch import places
from fleet.services.batch import claims, credential, jobs
from fleet.services.batch.calls import Kind, Order, Outcome, send
from fleet.services.batch.claims import Again, Claimed, Done, Failed, Gains
from fleet.services.batch.engine import LONG_S, SHORT_S
from fleet.services.batch.pace import MOST_CALLS, Pace, packed
from fleet.services.batch.pace import work as cost_of

#: Seconds in which a turn sends calls before the next one goes on: of short calls, and of calls that may take minutes.
SEND_S, SEND_LONG_S = 8.0, 60.0
#: Seconds between two looks at the job, and at what is claimed elsewhere.
LOOK_S = 0.5
#: Seconds that a turn waits for items that may be taken soon, and that a lane rests otherwise.
SOON_S, REST_S = 10.0, 60.0
#: How often an item is tried alone, and the seconds until the second try, doubled each time.
MOST_TRIES, PAUSE_S = 5, 1.0
#: Seconds before the end of a turn from which on nothing is sent any more.
LAST_S = 30.0
#: Pieces into which a call is cut that one of its items has spoilt.
PIECES = 8
#: Items of which not one has been done, and so many have failed: the fault is the job's.
HOPELESS = 25
MIB = 1 << 20


class DiskFull(Exception):  # noqa: N818 (what happened, not a category)
    """There is no room for what was to be stored."""


def work(job_id: int, lane: int, number: int, transport: httpx.BaseTransport | None = None) -> str:
    """A lane's turn, if it is still to be taken; the returned line tells what it did."""
    job = BatchJob.objects.filter(pk=job_id).first()
    if job is None or job.state not in WORKING:
        return "the job does not go on"
    if not begin(job, lane, number):
        return "this turn was taken before"
    if job.state == JobState.IN_PROGRESS and not enough_disk():
        pause_full(job)
        return "the disk is nearly full"
    turn = Turn(job, lane, number + 1)
    try:
        turn.run(transport)
    except DiskFull:
        pause_full(job)
        return "the disk is full"
    return f"{turn.calls_made} calls, {turn.stored} items"


def begin(job: BatchJob, lane: int, number: int) -> bool:
    """Take the turn: of two steps that want the same one, one gets it."""
    until = timezone.now() + claims.lease()
    return bool(BatchLane.objects.filter(job=job, number=lane, turn=number).update(turn=number + 1, until=until))


def enough_disk() -> bool:
    return shutil.disk_usage(settings.DATA_DIR).free >= settings.ENV.sollol_batch_free_mb * MIB


def pause_full(job: BatchJob) -> None:
    jobs.pause(job, "the disk is full: make room, then let the job go on")


@contextmanager
def room_on_disk() -> Iterator[None]:
    """Raises `DiskFull` for what databases say of it."""
    try:
        yield
    except OperationalError as error:
        if any(text in str(error).lower() for text in ("disk is full", "no space left", "could not extend")):
            raise DiskFull from error
        raise


@dataclass(slots=True)
class Turn:
    """What runs: `calls` are under way, `backlog` are claimed items that go next, `next` is the lane's next turn.

    `elsewhere` counts calls of other steps for the same job, and `items_elsewhere` what is in them.
    """

    job: BatchJob
    lane: int
    next: int
    calls: dict["Future[Outcome]", Sequence[Claimed]] = field(default_factory=dict)
    backlog: deque[Sequence[Claimed]] = field(default_factory=deque)
    pace: Pace = field(default_factory=Pace)
    places: int = 1
    elsewhere: int = 0
    items_elsewhere: int = 0
    calls_made: int = 0
    stored: int = 0
    dry: bool = False
    handed_over: bool = False
    hold_until: float = 0.0
    send_until: float = 0.0
    end_at: float = 0.0
    looked_at: float = 0.0
    held_since: float = 0.0

    def run(self, transport: httpx.BaseTransport | None = None) -> None:
        job, now = self.job, time.monotonic()
        self.send_until = now + (SEND_S if job.groups else SEND_LONG_S)
        self.end_at = now + (SHORT_S if job.groups else LONG_S) - 10
        self.held_since = now
        self.pace = Pace(job.characters / max(1, job.total) + cost_of(("",)), dict(job.pace))
        if self.pace.rates:
            self.pace.largest = MOST_CALLS * PIECES
        order = Order.of(job)
        with (
            ThreadPoolExecutor(MOST_CALLS, thread_name_prefix="batch") as pool,
            httpx.Client(
                base_url=credential.gateway_url(),
                headers=credential.headers(job),
                transport=transport,
                trust_env=False,
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=MOST_CALLS),
            ) as client,
        ):

            def start(items: Sequence[Claimed]) -> None:
                self.calls[pool.submit(send, client, order, items, self.end_at)] = items
                self.calls_made += 1

            while self.step(start):
                pass
        self.leave()

    def step(self, start: Callable[[Sequence[Claimed]], None]) -> bool:
        """Send what can be sent, store what has come; False when there is nothing more to do in this turn."""
        self.look()
        now = time.monotonic()
        if self.at_work and now >= self.hold_until and now < self.end_at - LAST_S:
            self.send(start)
        elif self.backlog:
            self.give_back()
        if self.calls:
            ended = wait(self.calls, timeout=LOOK_S, return_when=FIRST_COMPLETED).done
            self.take([(self.calls.pop(one), one.result())[1] for one in ended])
            return True
        if not self.at_work or self.dry or max(now, self.hold_until) >= self.send_until:
            return bool(self.backlog)
        time.sleep(LOOK_S / 2)
        return True

    @property
    def at_work(self) -> bool:
        return self.job.state == JobState.IN_PROGRESS

    def look(self) -> None:
        """See how the job stands, tell that this step lives, and let the next turn begin in time."""
        now = time.monotonic()
        if now - self.looked_at < LOOK_S:
            return
        self.looked_at = now
        self.job.refresh_from_db()
        if not self.handed_over:
            mine = BatchLane.objects.filter(job=self.job, number=self.lane, turn=self.next)
            mine.update(until=timezone.now() + claims.lease())
        if now - self.held_since > settings.ENV.sollol_batch_lease_s / 3:
            self.held_since = now
            claims.renew(self.job, self.mine)
        claims.take_back(self.job)
        self.places = places(self.job)
        held = BatchItem.objects.filter(job=self.job, state=ItemState.CLAIMED).order_by()
        others = [count for token, count in held.values_list("claim").annotate(n=Count("pk")) if token not in self.mine]
        self.elsewhere, self.items_elsewhere = len(others), sum(others)
        if max(now, self.hold_until) >= self.send_until and self.at_work and self.job.open and not self.resting:
            self.hand_over()

    @property
    def mine(self) -> set[str]:
        """The claims that this step holds."""
        return {items[0].claim for items in (*self.calls.values(), *self.backlog)}

    @property
    def resting(self) -> bool:
        """Whether the lane has nothing to do for a while: others have all that is left, or there is no room for it."""
        return self.dry or self.hold_until > time.monotonic() + SOON_S

    def hand_over(self) -> None:
        """The next turn sends while this one waits for its last calls."""
        if not self.handed_over:
            self.handed_over = True
            jobs.wake(self.job, BatchLane.objects.filter(job=self.job, number=self.lane, turn=self.next))

    def send(self, start: Callable[[Sequence[Claimed]], None]) -> None:
        room = self.pace.calls(self.places) - self.elsewhere - len(self.calls)
        while room > 0 and (self.backlog or (time.monotonic() < self.send_until and self.fetch())):
            start(self.backlog.popleft())
            room -= 1

    def fetch(self) -> bool:
        """Claim the items of the next call; where there are none, see whether there will be some soon."""
        job = self.job
        most = self.pace.texts(self.left, self.places) if job.groups else 1
        with room_on_disk():
            items = claims.claim(job, most)
        if not items:
            self.dry_up()
            return False
        costs = [(cost_of((item.body,)), item.attempts > 0 or not job.groups) for item in items]
        limit = round(2 * most * self.pace.each)
        self.backlog.extend([items[n] for n in group] for group in packed(costs, limit))
        return True

    @property
    def left(self) -> int:
        """Items that nobody has sent yet."""
        mine = sum(len(items) for items in (*self.calls.values(), *self.backlog))
        return max(1, self.job.open - mine - self.items_elsewhere)

    def dry_up(self) -> None:
        """Nothing can be claimed now."""
        due = claims.next_due(self.job)
        self.dry = due is None
        if due:
            self.hold_until = time.monotonic() + due

    def give_back(self) -> None:
        """What was claimed and will not be sent in this turn."""
        rest = [item for items in self.backlog for item in items]
        self.backlog.clear()
        self.keep(Gains(again=[Again(item, 0.0, tried=False) for item in rest]))

    def take(self, outcomes: Sequence[Outcome]) -> None:
        """Store what calls have brought, and decide what becomes of what they have not."""
        gains, reason = Gains(), ""
        for outcome in outcomes:
            if outcome.kind is Kind.DONE:
                self.taken(outcome, gains)
            elif outcome.kind in (Kind.UNKNOWN, Kind.BARRED):
                gains.again += [Again(item, 0.0, tried=False) for item in outcome.items]
            elif outcome.kind is Kind.BUSY:
                self.hold_until = max(self.hold_until, time.monotonic() + outcome.pause)
                reason = outcome.reason
                gains.again += [Again(item, outcome.pause, tried=False) for item in outcome.items]
            elif len(outcome.items) > 1:
                self.cut(outcome)
            else:
                self.failed(outcome, gains)
        if gains.again:
            self.dry = False
        if gains:
            self.keep(gains)
            self.tell(reason)
        for outcome in outcomes:
            if outcome.kind is Kind.UNKNOWN:
                jobs.fail(self.job, outcome.reason)
            elif outcome.kind is Kind.BARRED and self.at_work:
                jobs.pause(self.job, f"the gateway does not let it in: {outcome.reason}")
        self.give_up()
        if not self.job.open:
            jobs.settle(self.job)

    def tell(self, reason: str) -> None:
        """Let the job say what it waits for."""
        if self.at_work and self.job.reason != reason[:2000]:
            BatchJob.objects.filter(pk=self.job.pk, state=JobState.IN_PROGRESS).update(reason=reason[:2000])

    def taken(self, outcome: Outcome, gains: Gains) -> None:
        self.pace.told(outcome.node, outcome.cost, len(outcome.items), outcome.seconds)
        status, request_id = outcome.status or 0, outcome.request_id
        gains.done += [
            Done(item, status, result, request_id) for item, result in zip(outcome.items, outcome.packed, strict=True)
        ]
        gains.tokens += outcome.tokens
        gains.width = outcome.width or gains.width

    def cut(self, outcome: Outcome) -> None:
        """One of several items has spoilt the call, or it was too long: smaller ones show which."""
        if outcome.kind is Kind.LATE:
            self.pace.late(len(outcome.items))
        size = -(-len(outcome.items) // PIECES)
        self.backlog.extend(outcome.items[n : n + size] for n in range(0, len(outcome.items), size))

    def failed(self, outcome: Outcome, gains: Gains) -> None:
        """An item alone has failed: it is tried again, later each time, unless that is of no use."""
        [item] = outcome.items
        tries = item.attempts + 1
        if outcome.kind is Kind.REFUSED or tries >= MOST_TRIES:
            result = outcome.packed[0] if outcome.packed else None
            gains.failed.append(Failed(item, outcome.status, outcome.reason, outcome.request_id, result))
        else:
            gains.again.append(Again(item, PAUSE_S * 2.0**item.attempts, tried=True))

    def keep(self, gains: Gains) -> None:
        rates = {node: round(rate, 1) for node, rate in self.pace.rates.items() if node}
        with room_on_disk():
            if claims.store(self.job, gains, rates):
                self.stored += len(gains.done) + len(gains.failed)
        self.job.refresh_from_db()

    def give_up(self) -> None:
        """End a job of which nothing works: what is wrong with its first items is wrong with all of them."""
        job = self.job
        if self.at_work and job.groups and not job.completed and job.failed >= HOPELESS and job.open:
            row = BatchItem.objects.filter(job=job, state=ItemState.FAILED).values_list("reason", flat=True).first()
            jobs.fail(job, f"the first {job.failed} items have all failed: {row}")

    def leave(self) -> None:
        """The turn is over: the lane goes on, or rests until there may be something to do."""
        self.job.refresh_from_db()
        jobs.settle(self.job)
        if self.handed_over or not self.at_work:
            return
        if self.resting:
            rest = max(self.hold_until - time.monotonic(), REST_S * self.dry)
            lane = BatchLane.objects.filter(job=self.job, number=self.lane, turn=self.next)
            lane.update(until=timezone.now() + timedelta(seconds=min(rest, REST_S)))
        else:
            self.hand_over()
