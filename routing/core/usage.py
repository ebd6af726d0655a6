"""What teams use, added up by UTC day and month, and what of it the database does not have yet."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from routing.core.buckets import GRAIN, THOUSANDTH
from routing.core.snapshot import Measure, Window

DAY_S = 86_400
#: The ordinal (`date.toordinal`) of the day with which epoch seconds begin.
EPOCH = date(1970, 1, 1).toordinal()
#: Priorities go from 1 to 10.
PRIORITIES = 11
#: Days and months of a team that are remembered beside the newest one: what a clock that is set back returns to.
KEPT = 3

#: Grains: requests, tokens in and out, GPU-seconds, tokens in.
Counts = tuple[int, int, int, int]
PLACES = {Measure.REQUESTS: 0, Measure.TOKENS: 1, Measure.GPU_SECONDS: 2}
TOKENS_IN = 3
NONE: Counts = (0, 0, 0, 0)


class Use(NamedTuple):
    """An amount used; `gpu_seconds` are seconds in which requests held their slots, counted in whole milliseconds.

    All are finite; one below 0 counts as 0.
    """

    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    gpu_seconds: float = 0.0

    def sound(self) -> "Use":
        if min(self) >= 0:
            return self
        requests, tokens_in, tokens_out, gpu_seconds = self
        return Use(max(0, requests), max(0, tokens_in), max(0, tokens_out), max(0.0, gpu_seconds))

    def counts(self) -> Counts:
        requests, tokens_in, tokens_out, gpu_seconds = self
        seconds = round(gpu_seconds * 1000) * THOUSANDTH
        return requests * GRAIN, (tokens_in + tokens_out) * GRAIN, seconds, tokens_in * GRAIN


NOTHING = Use()


class DayUse(NamedTuple):
    """What a team used on a UTC day (`date.toordinal`) at one priority: in all, or what is to be added to that."""

    team_id: int
    day: int
    priority: int
    use: Use


class Level(NamedTuple):
    """What is taken of a quota of a minute, in units of its measure, at a moment in epoch seconds."""

    quota_id: int
    level: float
    at: float


class Taken(NamedTuple):
    """What the database does not have yet."""

    days: tuple[DayUse, ...] = ()
    levels: tuple[Level, ...] = ()


class Ledger:
    """What a team used of one day or month, and what is reserved, in grains by measure and priority."""

    __slots__ = ("reserved", "used")

    def __init__(self) -> None:
        self.used = tuple([0] * PRIORITIES for _ in NONE)
        self.reserved = tuple([0] * PRIORITIES for _ in NONE)

    def use(self, priority: int, actual: Counts) -> None:
        for used, grains in zip(self.used, actual):  # noqa: B905 (as many; checking that costs as much as adding)
            used[priority] += grains

    def reserve(self, priority: int, expected: Counts) -> None:
        for reserved, grains in zip(self.reserved, expected):  # noqa: B905
            reserved[priority] += grains

    def release(self, priority: int, expected: Counts) -> None:
        for reserved, grains in zip(self.reserved, expected):  # noqa: B905
            reserved[priority] -= grains

    def total(self) -> dict[str, int | float]:
        """Settled use, as JSON has it."""
        requests, tokens, gpu_seconds, tokens_in = map(sum, self.used)
        return {
            "requests": told(requests),
            "tokens_in": told(tokens_in),
            "tokens_out": told(tokens - tokens_in),
            "gpu_seconds": told(gpu_seconds),
        }


@dataclass(slots=True, eq=False)
class Day:
    """One team's UTC day (`date.toordinal`) and the month around it."""

    team_id: int
    ordinal: int
    today: Ledger
    month: Ledger

    def ledger(self, window: Window) -> Ledger:
        return self.today if window is Window.DAY else self.month

    def ends(self, window: Window) -> int:
        """Where the day or the month ends, in epoch seconds."""
        end = self.ordinal + 1 if window is Window.DAY else month_end(self.ordinal)
        return (end - EPOCH) * DAY_S

    def reserve(self, priority: int, expected: Counts) -> None:
        self.today.reserve(priority, expected)
        self.month.reserve(priority, expected)

    def settle(self, priority: int, expected: Counts, actual: Counts) -> None:
        """What was reserved becomes what was used."""
        self.today.use(priority, actual)
        self.month.use(priority, actual)
        if expected is not NONE:
            self.today.release(priority, expected)
            self.month.release(priority, expected)


class Diary:
    """A team's days and months. What the clock says decides which one it is, also after it was set back."""

    __slots__ = ("days", "months", "team_id")

    def __init__(self, team_id: int) -> None:
        self.team_id = team_id
        self.days: dict[int, Day] = {}
        self.months: dict[int, Ledger] = {}

    def at(self, now: float) -> Day:
        """The day of a moment in epoch seconds."""
        ordinal = EPOCH + int(now // DAY_S)
        return self.days.get(ordinal) or self.open(ordinal)

    def open(self, ordinal: int) -> Day:
        begun = month_start(ordinal)
        month = self.months.get(begun)
        if month is None:
            forget(self.months)
            month = self.months[begun] = Ledger()
        forget(self.days)
        day = self.days[ordinal] = Day(self.team_id, ordinal, Ledger(), month)
        return day

    def load(self, row: DayUse) -> None:
        day = self.days.get(row.day) or self.open(row.day)
        day.settle(row.priority, NONE, row.use.counts())


def forget(windows: dict[int, Day] | dict[int, Ledger]) -> None:
    """Make room for one more window: the oldest go."""
    for old in sorted(windows)[:-KEPT]:
        del windows[old]


class Unsaved:
    """Settled use that the database does not have yet, and the quotas whose levels have changed."""

    __slots__ = ("days", "levels")

    def __init__(self) -> None:
        self.days: dict[tuple[int, int, int], list[int]] = {}
        self.levels: set[int] = set()

    def add(self, team_id: int, day: int, priority: int, use: Use) -> None:
        row = self.days.setdefault((team_id, day, priority), [0, 0, 0, 0])
        row[0] += use.requests
        row[1] += use.tokens_in
        row[2] += use.tokens_out
        row[3] += round(use.gpu_seconds * 1000)

    def take(self) -> tuple[DayUse, ...]:
        """Hand over the days, and begin anew."""
        days = tuple(
            DayUse(*key, Use(requests, tokens_in, tokens_out, milliseconds / 1000))
            for key, (requests, tokens_in, tokens_out, milliseconds) in self.days.items()
        )
        self.days, self.levels = {}, set()
        return days

    def give_back(self, taken: Taken) -> None:
        for row in taken.days:
            self.add(row.team_id, row.day, row.priority, row.use)
        self.levels.update(level.quota_id for level in taken.levels)


@lru_cache(maxsize=64)
def month_start(ordinal: int) -> int:
    return date.fromordinal(ordinal).replace(day=1).toordinal()


@lru_cache(maxsize=64)
def month_end(ordinal: int) -> int:
    """The first day of the next month."""
    longest = 31
    later = date.fromordinal(month_start(ordinal)) + timedelta(days=longest)
    return later.replace(day=1).toordinal()


def told(grains: int) -> int | float:
    """Units as JSON has them: whole, or to the thousandth."""
    whole, rest = divmod(grains, GRAIN)
    return round(grains / GRAIN, 3) if rest else whole


def moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
