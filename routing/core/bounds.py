"""A bound is one quota of one team, in grains: whether a request has room in it, and if not, when it will have."""

from typing import Any

from routing.core.buckets import THOUSANDTH, Bucket, milliseconds
from routing.core.errors import QuotaExceeded
from routing.core.snapshot import Breach, Measure, Quota, TeamPolicy, Window
from routing.core.usage import PLACES, Counts, Day, moment, told

MEASURES = {Measure.REQUESTS: "requests", Measure.TOKENS: "tokens", Measure.GPU_SECONDS: "GPU-seconds"}
LOWEST = 1


class Bound:
    """One quota of a team; those of a minute have a bucket, the others are read off the team's ledgers.

    Only requests at priority `floor` or above count; `target` is the highest priority of those that it demotes.
    """

    __slots__ = ("amount", "bucket", "floor", "hard", "place", "quota", "target")

    def __init__(self, quota: Quota, policy: TeamPolicy, bucket: Bucket | None) -> None:
        self.quota, self.bucket = quota, bucket
        thousandths = max(1, round(quota.amount * 1000))
        self.amount, self.place = thousandths * THOUSANDTH, PLACES[quota.measure]
        self.hard = quota.breach is Breach.REFUSE
        if bucket is not None:
            bucket.rate = thousandths
        if quota.from_priority is None:
            self.floor, self.target = 0, policy.batch_priority
        else:
            self.floor = quota.from_priority
            self.target = max(LOWEST, min(quota.from_priority - 1, policy.default_priority))

    def taken(self, day: Day, at: int) -> int:
        """What is used and reserved; `at` in epoch milliseconds."""
        if self.bucket is not None:
            return self.bucket.refill(at)
        ledger = day.ledger(self.quota.window)
        return sum(ledger.used[self.place][self.floor :]) + sum(ledger.reserved[self.place][self.floor :])

    def reserved(self, day: Day) -> int:
        if self.bucket is not None:
            return self.bucket.reserved
        return sum(day.ledger(self.quota.window).reserved[self.place][self.floor :])

    def has_room(self, expected: Counts, day: Day, at: int) -> bool:
        """Whether the request fits. One above the whole amount does when nothing else is taken: else it never would."""
        taken = self.taken(day, at)
        return not taken or taken + expected[self.place] <= self.amount

    def wait(self, expected: Counts, day: Day, now: float) -> int:
        """Whole seconds until a request that has no room will have, if nothing else is taken until then.

        Of a minute: deficit / rate. Of a day or a month: its end.
        """
        if self.bucket is None:
            return -int((now - day.ends(self.quota.window)) // 1)
        deficit = self.bucket.refill(milliseconds(now)) - max(0, self.amount - expected[self.place])
        return -(-deficit // (1000 * self.bucket.rate))

    def resets_at(self, day: Day, at: int) -> float:
        """When nothing of it will be taken, in epoch seconds, if nothing else is taken until then."""
        if self.bucket is None:
            return day.ends(self.quota.window)
        return (at + -(-self.bucket.refill(at) // self.bucket.rate)) / 1000

    def label(self) -> str:
        """What it bounds, in short: "tokens per day from priority 7"."""
        quota = self.quota
        budget = "" if quota.from_priority is None else f" from priority {quota.from_priority}"
        return f"{MEASURES[quota.measure]} per {quota.window.value}{budget}"

    def refusal(self, expected: Counts, day: Day, now: float) -> QuotaExceeded:
        report, wait = self.report(day, milliseconds(now)), self.wait(expected, day, now)
        return QuotaExceeded(
            f"the team's quota of {report['amount']:,} {self.label()} has no room: {report['used']:,} used, "
            f"{report['reserved']:,} reserved by requests under way, {told(expected[self.place]):,} expected of this "
            f"one; there will be room in {wait} s, at {moment(now + wait)}",
            wait,
        )

    def report(self, day: Day, at: int) -> dict[str, Any]:
        taken = self.taken(day, at)
        reserved = min(taken, self.reserved(day))
        return {
            "quota_id": self.quota.id,
            "measure": self.quota.measure.value,
            "window": self.quota.window.value,
            "from_priority": self.quota.from_priority,
            "breach": self.quota.breach.value,
            "amount": told(self.amount),
            "used": told(taken - reserved),
            "reserved": told(reserved),
            "left": told(max(0, self.amount - taken)),
            "resets_at": self.resets_at(day, at),
        }


def bucket_of(quota: Quota, before: Bound | None) -> Bucket | None:
    """A minute's bucket: the one that the quota had, as long as it counts the same."""
    if quota.window is not Window.MINUTE:
        return None
    if before is not None and before.bucket is not None and before.quota.measure is quota.measure:
        return before.bucket
    return Bucket()
