"""Quotas: whether a team's request may come in, at which priority it runs, and exactly what it then used."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from routing.core.bounds import Bound, bucket_of
from routing.core.buckets import GRAIN, Bucket, milliseconds
from routing.core.snapshot import TeamPolicy
from routing.core.usage import NONE, NOTHING, Counts, Day, DayUse, Diary, Level, Taken, Unsaved, Use


@dataclass(slots=True, eq=False)
class Reservation:
    """What a request that came in may use: it runs at `priority`; `demoted` tells what lowered that, in short ASCII.

    It ends once, with `settle` or `cancel`; either does nothing after that. It counts for the day and month in which it
    was made, whenever it ends.
    """

    priority: int
    unsaved: Unsaved
    day: Day | None = None
    demoted: str = ""
    expected: Counts = NONE
    drawn: Sequence[tuple[Bucket, int, Bound]] = ()

    def settle(self, actual: Use, now: float) -> None:
        """What was reserved becomes what was used; `now` in epoch seconds."""
        actual = actual.sound()
        counts = actual.counts()
        day, self.day = self.day, None
        if day is None:
            return
        day.settle(self.priority, self.expected, counts)
        if any(actual):
            self.unsaved.add(day.team_id, day.ordinal, self.priority, actual)
        for bucket, mark, bound in self.drawn:
            bucket.settle(mark, counts[bound.place], milliseconds(now))
            self.unsaved.levels.add(bound.quota.id)

    def cancel(self, now: float) -> None:
        """Give everything back, the request itself included; `now` in epoch seconds."""
        self.settle(NOTHING, now)


@dataclass(slots=True, eq=False)
class Account:
    """One team: what it used, and what bounds that."""

    diary: Diary
    bounds: tuple[Bound, ...] = ()


class Quotas:
    """What all teams used and may use. One event loop owns it; `now` is always wall clock time in epoch seconds.

    Time counts in whole milliseconds, amounts and GPU-seconds in thousandths, and all sums are exact. A clock that is
    set back does no harm: a day and a month are those that it tells, with what was used in them, and buckets refill
    from there on.
    """

    def __init__(self) -> None:
        self.accounts: dict[int, Account] = {}
        self.bounds: dict[int, Bound] = {}
        self.unsaved = Unsaved()

    def apply(self, teams: Mapping[int, TeamPolicy]) -> None:
        """Take the operator's quotas. What was used stays, whatever the amounts are now; teams that are gone go.

        A quota of a day or month counts what was used in it before there was the quota; one of a minute begins empty.
        """
        before, self.bounds = self.bounds, {}
        self.accounts = {team_id: self._account(team_id) for team_id in teams}
        for team_id, policy in teams.items():
            bounds = [Bound(quota, policy, bucket_of(quota, before.get(quota.id))) for quota in policy.quotas]
            self.accounts[team_id].bounds = tuple(bounds)
            self.bounds.update((bound.quota.id, bound) for bound in bounds)

    def admit(self, team_id: int | None, priority: int, expected: Use, now: float) -> Reservation:
        """Reserve what a request is expected to use, and tell the priority at which it may run.

        Raises `QuotaExceeded` if a hard quota has no room, whatever soft ones would say; of several, for the one that
        takes longest. Soft ones lower the priority: a budget to just below it or to the team's default, the lower of
        both, any other to batch. Whether a quota has room does not depend on the priority, so the lowest of these is
        where a chain of budgets ends: those that still hold there have room.

        The expected use counts in all that hold at the final priority, save in a bucket of a minute that had no room
        (it demoted the request, or the request ran at batch already): it goes below empty by true-ups only.
        """
        if team_id is None:
            return Reservation(priority, self.unsaved)
        account = self.accounts.get(team_id) or self._account(team_id)
        day = account.diary.at(now)
        if not account.bounds:
            return Reservation(priority, self.unsaved, day)
        counts, at = expected.sound().counts(), milliseconds(now)
        held = [bound for bound in account.bounds if bound.floor <= priority]
        short = [bound for bound in held if not bound.has_room(counts, day, at)]
        demoted = ""
        if short:
            refuse(short, counts, day, now)
            priority, demoted = lowered(priority, short)
        day.reserve(priority, counts)
        drawn = [
            (bound.bucket, bound.bucket.reserve(counts[bound.place], at), bound)
            for bound in held
            if bound.bucket is not None and bound.floor <= priority and bound not in short
        ]
        return Reservation(priority, self.unsaved, day, demoted, counts, drawn)

    def taken(self) -> Taken:
        """What has been settled since the last call, to be added to the database, and the levels that have changed."""
        levels = []
        for quota_id in sorted(self.unsaved.levels & self.bounds.keys()):
            bucket = self.bounds[quota_id].bucket
            if bucket is not None:
                levels.append(Level(quota_id, bucket.settled() / GRAIN, bucket.at / 1000))
        return Taken(self.unsaved.take(), tuple(levels))

    def give_back(self, taken: Taken) -> None:
        """The database could not take it: the next call of `taken` tells it again, with what came since."""
        self.unsaved.give_back(taken)

    def load(self, days: Iterable[DayUse], levels: Iterable[Level]) -> None:
        """At the start, after `apply`: the database's totals of the current month, and all levels."""
        for row in days:
            self._account(row.team_id).diary.load(row)
        for level in levels:
            bound = self.bounds.get(level.quota_id)
            if bound is not None and bound.bucket is not None:
                bound.bucket.level = round(level.level * GRAIN)
                bound.bucket.at = milliseconds(level.at)

    def used(self, team_id: int, now: float) -> dict[str, Any]:
        """A team's quotas and totals, as JSON has them: `resets_at` in epoch seconds, totals without what is reserved.

        A quota of a minute resets when its bucket will be full again; what is below empty shows as `used` above
        `amount`.
        """
        account = self.accounts.get(team_id) or Account(Diary(team_id))
        day, at = account.diary.at(now), milliseconds(now)
        return {
            "team_id": team_id,
            "quotas": [bound.report(day, at) for bound in account.bounds],
            "today": day.today.total(),
            "month": day.month.total(),
        }

    def _account(self, team_id: int) -> Account:
        account = self.accounts.get(team_id)
        if account is None:
            account = self.accounts[team_id] = Account(Diary(team_id))
        return account


def refuse(short: list[Bound], expected: Counts, day: Day, now: float) -> None:
    """Raises `QuotaExceeded` if one of the quotas without room is hard."""
    hard = [bound for bound in short if bound.hard]
    if hard:
        raise max(hard, key=lambda bound: bound.wait(expected, day, now)).refusal(expected, day, now)


def lowered(priority: int, short: list[Bound]) -> tuple[int, str]:
    """The priority that soft quotas without room leave, and the label of the one that says so; "" if it stays."""
    lowest = min(short, key=lambda bound: bound.target)
    return (lowest.target, lowest.label()) if lowest.target < priority else (priority, "")
