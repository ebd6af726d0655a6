"""Quotas: who may come in, at which priority, when it is refused until when, and what the database is told of it."""

import calendar
import json
from collections import Counter
from datetime import UTC, date, datetime

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from routing.core.bounds import Bound
from routing.core.buckets import GRAIN, Bucket
from routing.core.errors import QuotaExceeded
from routing.core.quotas import Quotas
from routing.core.snapshot import Breach, Measure, Quota, TeamPolicy, Window
from routing.core.usage import Day, DayUse, Ledger, Use, month_end

BEES, CATS = 1, 2
TOKENS, REQUESTS, SECONDS = Measure.TOKENS, Measure.REQUESTS, Measure.GPU_SECONDS
MINUTE, DAY, MONTH = Window.MINUTE, Window.DAY, Window.MONTH
REFUSE, DEMOTE = Breach.REFUSE, Breach.DEMOTE


def at(*moment: int) -> float:
    """Epoch seconds of a moment in UTC."""
    return datetime(*moment, tzinfo=UTC).timestamp()


NOON = at(2026, 8, 23, 12)


def quota(amount, measure=TOKENS, window=DAY, breach=REFUSE, start=None, number=1):
    return Quota(number, measure, window, amount, breach, start)


def bees(*quotas, **policy):
    """Quotas of the team Bees, numbered from 1."""
    numbered = tuple(
        Quota(number, one.measure, one.window, one.amount, one.breach, one.from_priority)
        for number, one in enumerate(quotas, 1)
    )
    return {BEES: TeamPolicy(BEES, "Bees", quotas=numbered, **policy)}


def held_to(*quotas, **policy):
    made = Quotas()
    made.apply(bees(*quotas, **policy))
    return made


def tokens(amount, requests=1):
    """Use of this many tokens, a third of them in."""
    return Use(requests, amount // 3, amount - amount // 3, 0.0)


def reported(quotas, now=NOON, number=0):
    return quotas.used(BEES, now)["quotas"][number]


def refused(quotas, expected, now=NOON, priority=5):
    with pytest.raises(QuotaExceeded) as told:
        quotas.admit(BEES, priority, expected, now)
    return told.value


def test_whoever_has_no_team_is_bound_by_nothing():
    """And nobody is told what it used."""
    quotas = held_to(quota(1))
    for _ in range(3):
        quotas.admit(None, 7, tokens(10), NOON).settle(tokens(10), NOON)
    assert quotas.admit(None, 7, tokens(10), NOON).priority == 7
    assert quotas.taken() == ((), ())


def test_what_a_team_without_quotas_uses_is_counted():
    """By day and priority for the database, in all for the report; also of a team that is not known yet."""
    quotas = Quotas()
    for priority, amount in ((5, 10), (5, 20), (1, 30)):
        quotas.admit(CATS, priority, tokens(99), NOON).settle(Use(1, amount, 2 * amount, 0.25), NOON)
    day = date(2026, 8, 23).toordinal()
    assert quotas.taken().days == (
        DayUse(CATS, day, 5, Use(2, 30, 60, 0.5)),
        DayUse(CATS, day, 1, Use(1, 30, 60, 0.25)),
    )
    total = {"requests": 3, "tokens_in": 60, "tokens_out": 120, "gpu_seconds": 0.75}
    assert quotas.used(CATS, NOON) == {"team_id": CATS, "quotas": [], "today": total, "month": total}


def test_of_a_hundred_at_once_as_many_come_in_as_fit():
    """What they are expected to use is reserved before any of them has used it."""
    quotas = held_to(quota(1000))
    for _ in range(10):
        quotas.admit(BEES, 5, tokens(100), NOON)
    for _ in range(90):
        refused(quotas, tokens(100))
    assert (reported(quotas)["reserved"], reported(quotas)["left"]) == (1000, 0)


def test_a_refusal_tells_which_quota_what_is_used_and_until_when():
    """In words, and in whole seconds until the day's end."""
    quotas = held_to(quota(1000, start=4))
    quotas.admit(BEES, 5, tokens(900), NOON).settle(tokens(950), NOON)
    quotas.admit(BEES, 5, tokens(20), NOON)
    told = refused(quotas, tokens(60), NOON + 0.5)
    assert (told.status, told.retry_after) == (429, 12 * 3600)
    assert told.message == (
        "the team's quota of 1,000 tokens per day from priority 4 has no room: 950 used, 20 reserved by requests under "
        "way, 60 expected of this one; there will be room in 43200 s, at 2026-08-24 00:00:00 UTC"
    )


def test_a_minutes_quota_refills_all_the_time():
    """Retry-After is the deficit by the rate: 600 tokens each minute are 10 each second."""
    quotas = held_to(quota(600, window=MINUTE))
    quotas.admit(BEES, 5, tokens(600), NOON).settle(tokens(600), NOON)
    assert refused(quotas, tokens(55)).retry_after == 6
    refused(quotas, tokens(55), NOON + 5.499)
    assert quotas.admit(BEES, 5, tokens(55), NOON + 5.5).priority == 5
    assert reported(quotas, NOON + 5.5)["used"] == 545


def test_a_bucket_may_go_below_empty_by_what_was_not_foreseen():
    """The refill pays that debt first."""
    quotas = held_to(quota(600, window=MINUTE))
    quotas.admit(BEES, 5, tokens(100), NOON).settle(tokens(1200), NOON)
    assert (reported(quotas)["used"], reported(quotas)["left"], reported(quotas)["resets_at"]) == (1200, 0, NOON + 120)
    assert refused(quotas, tokens(10)).retry_after == 61


@pytest.mark.parametrize("window", Window)
def test_what_is_larger_than_a_whole_quota_comes_in_when_nothing_is_taken(window):
    """Else it never would; and nothing beside it."""
    quotas = held_to(quota(60, window=window))
    assert quotas.admit(BEES, 5, tokens(500), NOON).priority == 5
    for amount, seconds in ((1, 441), (500, 500)):
        told = refused(quotas, tokens(amount))
        assert window is not MINUTE or told.retry_after == seconds
        later = NOON + told.retry_after
        assert quotas.admit(BEES, 5, tokens(amount), later).settle(tokens(0, requests=0), later) is None
        quotas = held_to(quota(60, window=window))
        quotas.admit(BEES, 5, tokens(500), NOON)


def test_a_budget_of_a_high_priority_demotes_to_just_below_it():
    """Said in short; requests below it do not count in it."""
    quotas = held_to(quota(100, breach=DEMOTE, start=8), default_priority=7)
    quotas.admit(BEES, 7, tokens(1000), NOON).settle(tokens(1000), NOON)
    first = quotas.admit(BEES, 9, tokens(80), NOON)
    second = quotas.admit(BEES, 9, tokens(80), NOON)
    assert [(first.priority, first.demoted), (second.priority, second.demoted)] == [
        (9, ""),
        (7, "tokens per day from priority 8"),
    ]
    assert reported(quotas)["reserved"] == 80


def test_a_budget_demotes_to_the_default_where_that_is_lower():
    """From priority 8 to 5, which need not be just below."""
    quotas = held_to(quota(100, breach=DEMOTE, start=8), default_priority=5)
    quotas.admit(BEES, 8, tokens(100), NOON)
    assert quotas.admit(BEES, 8, tokens(100), NOON).priority == 5


def test_budgets_make_a_chain():
    """Each in turn, until one has room."""
    chain = [quota(100 * start, breach=DEMOTE, start=start) for start in (9, 6, 3)]
    quotas = held_to(*chain, default_priority=10)
    given = [quotas.admit(BEES, 10, tokens(100), NOON).priority for _ in range(10)]
    assert given == [10] * 3 + [2] * 7
    quotas = held_to(quota(100, breach=DEMOTE, start=9), quota(200, breach=DEMOTE, start=6), default_priority=10)
    assert [quotas.admit(BEES, 10, tokens(100), NOON).priority for _ in range(4)] == [10, 8, 5, 5]


def test_other_soft_quotas_demote_to_batch():
    """Counting goes on there; what runs at batch already is not demoted."""
    quotas = held_to(quota(100, breach=DEMOTE), batch_priority=2)
    quotas.admit(BEES, 5, tokens(100), NOON)
    demoted = quotas.admit(BEES, 5, tokens(50), NOON)
    assert (demoted.priority, demoted.demoted) == (2, "tokens per day")
    low = quotas.admit(BEES, 1, tokens(50), NOON)
    assert (low.priority, low.demoted) == (1, "")
    assert reported(quotas)["reserved"] == 200


def test_what_a_soft_quota_of_a_minute_demotes_takes_nothing_from_it():
    """Otherwise hours of batch would have to be paid before anything else ran."""
    quotas = held_to(quota(60, window=MINUTE, breach=DEMOTE))
    given = [quotas.admit(BEES, 5, tokens(60), NOON).priority for _ in range(100)]
    assert given == [5] + [1] * 99
    assert quotas.admit(BEES, 5, tokens(60), NOON + 60).priority == 5


def test_a_demoted_request_takes_nothing_from_budgets_above_it():
    """Neither from those of a day nor from the buckets of a minute that it was held to as well."""
    quotas = held_to(quota(10, breach=DEMOTE), quota(100, window=MINUTE, start=5), quota(100, start=5))
    assert quotas.admit(BEES, 5, tokens(20), NOON).priority == 5
    assert quotas.admit(BEES, 5, tokens(40), NOON).priority == 1
    assert [one["reserved"] for one in quotas.used(BEES, NOON)["quotas"]] == [60, 20, 20]


def test_a_hard_quota_wins_over_soft_ones():
    """Also over one that would have lowered the priority below it."""
    quotas = held_to(quota(100, breach=DEMOTE), quota(200, start=5))
    quotas.admit(BEES, 5, tokens(200), NOON)
    told = refused(quotas, tokens(10))
    assert "200 tokens per day from priority 5" in told.message
    assert quotas.admit(BEES, 4, tokens(10), NOON).priority == 1


def test_of_several_hard_quotas_the_longest_wait_is_told():
    """A retry before that would be in vain."""
    quotas = held_to(quota(60, window=MINUTE), quota(60, window=MONTH), quota(60))
    quotas.admit(BEES, 5, tokens(60), NOON)
    told = refused(quotas, tokens(60))
    assert "tokens per month" in told.message
    assert told.retry_after == at(2026, 9, 1) - NOON


@pytest.mark.parametrize(
    ("measure", "used"), [(REQUESTS, Use(3)), (TOKENS, Use(0, 1, 2)), (SECONDS, Use(gpu_seconds=3.0))]
)
@pytest.mark.parametrize("window", Window)
def test_each_measure_counts_in_each_window(measure, window, used):
    """Requests, tokens in and out together, and GPU-seconds."""
    quotas = held_to(quota(5.5, measure, window))
    quotas.admit(BEES, 5, used, NOON).settle(used, NOON)
    assert "3 used" in refused(quotas, used).message
    assert reported(quotas)["left"] == 2.5


def test_a_cancelled_request_costs_nothing():
    """Not even a request; and it ends only once."""
    quotas = held_to(quota(1, REQUESTS), quota(1, REQUESTS, MINUTE))
    one = quotas.admit(BEES, 5, tokens(10), NOON)
    one.cancel(NOON)
    other = quotas.admit(BEES, 5, tokens(10), NOON)
    one.cancel(NOON)
    one.settle(tokens(10), NOON)
    refused(quotas, tokens(10))
    assert quotas.taken().days == ()
    other.settle(tokens(10), NOON)
    other.settle(tokens(10), NOON)
    other.cancel(NOON)
    assert [row.use for row in quotas.taken().days] == [tokens(10)]


def test_what_is_cancelled_late_is_not_granted_twice():
    """Its minute has been refilled already: the bucket was full without it."""
    quotas = held_to(quota(60, window=MINUTE))
    waiting = quotas.admit(BEES, 5, tokens(60), NOON)
    quotas.admit(BEES, 5, tokens(60), NOON + 60)
    waiting.cancel(NOON + 60)
    assert refused(quotas, tokens(60), NOON + 60).retry_after == 60


def test_a_request_counts_for_the_day_in_which_it_came():
    """Also if it ends after midnight, and in the next month."""
    quotas = held_to(quota(100), quota(100, window=MONTH))
    before, after = at(2024, 2, 29, 23) + 3599, at(2024, 3, 1)
    late = quotas.admit(BEES, 5, tokens(100), before)
    assert refused(quotas, tokens(1), before + 0.999).retry_after == 1
    new = quotas.admit(BEES, 5, tokens(100), after)
    late.settle(tokens(90), after)
    assert [reported(quotas, after, number)["used"] for number in (0, 1)] == [0, 0]
    new.settle(tokens(80), after)
    days = [(date.fromordinal(row.day).isoformat(), row.use) for row in quotas.taken().days]
    assert days == [("2024-02-29", tokens(90)), ("2024-03-01", tokens(80))]


def test_a_clock_that_is_set_back_finds_the_day_that_it_tells():
    """What was used in it counts, nothing is refilled by the step, and buckets go on from there."""
    quotas = held_to(quota(100), quota(60, REQUESTS, MINUTE))
    quotas.admit(BEES, 5, Use(60, 0, 70), NOON).settle(Use(60, 0, 70), NOON)
    quotas.admit(BEES, 5, tokens(90), NOON + 86400).settle(tokens(90), NOON + 86400)
    assert refused(quotas, Use(1, 0, 40), NOON).retry_after == 12 * 3600
    for _ in range(59):
        quotas.admit(BEES, 5, Use(1), NOON).settle(Use(1), NOON)
    assert refused(quotas, Use(1), NOON - 3600).retry_after == 1
    assert quotas.admit(BEES, 5, Use(1), NOON - 3599).priority == 5
    assert reported(quotas, NOON + 86400)["used"] == 90


def test_what_was_used_stays_when_the_operator_changes_an_amount():
    """In buckets and in days; a new quota of a day counts what came before it."""
    quotas = held_to(quota(100), quota(100, window=MINUTE))
    running = quotas.admit(BEES, 5, tokens(60), NOON)
    quotas.apply(bees(quota(200), quota(120, window=MINUTE), quota(50, window=MONTH)))
    running.settle(tokens(70), NOON)
    assert [one["left"] for one in quotas.used(BEES, NOON)["quotas"]] == [130, 50, 0]
    quotas.apply({})
    assert quotas.admit(BEES, 5, tokens(1000), NOON).priority == 5
    assert quotas.used(BEES, NOON)["quotas"] == []


def test_a_minutes_quota_of_something_else_begins_empty():
    """Tokens are no requests, though it be the same quota."""
    quotas = held_to(quota(100, window=MINUTE))
    running = quotas.admit(BEES, 5, tokens(60), NOON)
    quotas.apply(bees(quota(100, REQUESTS, MINUTE)))
    running.settle(tokens(70), NOON)
    assert (reported(quotas)["measure"], reported(quotas)["used"]) == ("requests", 0)


def test_gpu_seconds_count_in_whole_milliseconds():
    """So that what a database adds up in floating point comes back as it was."""
    quotas = held_to(quota(100, SECONDS))
    for seconds in (1.001, 0.0294, 2.0006):
        quotas.admit(BEES, 5, Use(1), NOON).settle(Use(1, gpu_seconds=seconds), NOON)
    assert quotas.taken().days[0].use.gpu_seconds == reported(quotas)["used"] == 3.031


def test_the_report_is_json():
    """With everything that a client plans with."""
    quotas = held_to(quota(90.5, SECONDS, MINUTE, DEMOTE, 7))
    quotas.admit(BEES, 8, Use(1, 1, 1, 10.0), NOON).settle(Use(1, 1, 1, 30.0), NOON)
    quotas.admit(BEES, 8, Use(1, 1, 1, 10.0), NOON)
    told = json.loads(json.dumps(quotas.used(BEES, NOON)))
    assert told["quotas"] == [
        {
            "quota_id": 1,
            "measure": "gpu_seconds",
            "window": "minute",
            "from_priority": 7,
            "breach": "demote",
            "amount": 90.5,
            "used": 30,
            "reserved": 10,
            "left": 50.5,
            "resets_at": pytest.approx(NOON + 60 * 40 / 90.5, abs=0.001),
        }
    ]
    assert told["today"] == told["month"] == {"requests": 1, "tokens_in": 1, "tokens_out": 1, "gpu_seconds": 30}


def test_what_the_database_could_not_take_is_told_again():
    """With what came since, nothing lost and nothing twice; a level is told as it is now."""
    quotas = held_to(quota(100, window=MINUTE))
    quotas.admit(BEES, 5, tokens(30), NOON).settle(tokens(30), NOON)
    lost = quotas.taken()
    quotas.admit(BEES, 5, tokens(40), NOON).settle(tokens(40), NOON)
    quotas.give_back(lost)
    again = quotas.taken()
    assert [row.use for row in again.days] == [Use(2, 23, 47)]
    assert again.levels == ((1, 70.0, NOON),)
    assert quotas.taken() == ((), ())
    quotas.give_back(again)
    assert quotas.taken() == again


def test_what_is_only_reserved_is_not_told_to_the_database():
    """Neither in days nor in levels."""
    quotas = held_to(quota(100, window=MINUTE))
    quotas.admit(BEES, 5, tokens(30), NOON)
    quotas.admit(BEES, 5, tokens(30), NOON).settle(tokens(10), NOON)
    assert [row.use for row in quotas.taken().days] == [tokens(10)]
    quotas.admit(BEES, 5, tokens(0, 0), NOON).settle(Use(1, -5, 0, -1.0), NOON)
    told = quotas.taken()
    assert [row.use for row in told.days] == [Use(1)]
    assert told.levels == ((1, 10.0, NOON),)


# What holds for whatever comes in whatever order.


def replayed(takes, end, rate):
    """The level at `end`, and the highest ever, of a bucket from which (moment, grains) were taken in this order."""
    level = before = highest = 0
    for moment, grains in takes:
        level = max(0, level - (moment - before) * rate) + grains
        before, highest = moment, max(highest, level)
    return max(0, level - (end - before) * rate), highest


STEPS = st.lists(
    st.tuples(
        st.one_of(st.just(0), st.integers(0, 12)),
        st.integers(0, 20),
        st.sampled_from(["take", "take", "take", "all", "all", "less", "more"]),
        st.integers(0, 99),
    ),
    min_size=5,
    max_size=60,
)


#: The second is given back while the first is open, and what was refilled of it then is of use to the third.
NESTED = [(0, 1, "take", 0), (0, 2, "take", 0), (1, 1, "take", 0), (0, 0, "all", 1), (0, 0, "all", 0)]


@settings(max_examples=600, deadline=None)
@given(STEPS, st.integers(1, 3))
@example(NESTED, 1)
def test_a_bucket_is_as_if_what_was_given_back_had_never_been_taken(steps, rate):
    """Whatever was taken, refilled and given back between: compared with taking anew what was kept."""
    bucket, moment = Bucket(), 0
    bucket.rate = rate
    takes, marks = [], {}
    for elapsed, grains, kind, which in steps:
        moment += elapsed
        if kind == "take":
            marks[bucket.reserve(grains, moment)] = len(takes)
            takes.append([moment, grains])
        elif marks:
            mark = sorted(marks)[which % len(marks)]
            position = marks.pop(mark)
            expected = takes[position][1]
            used = {"all": 0, "less": min(grains, expected), "more": expected + grains}[kind]
            bucket.settle(mark, used, moment)
            takes[position][1] = min(used, expected)
            takes.append([moment, max(0, used - expected)])
        assert bucket.refill(moment) == replayed(takes, moment, rate)[0]
    assert bucket.reserved == sum(bucket.open.values())
    assert len(bucket.open) == len(marks)


def test_a_bucket_remembers_no_more_than_what_is_open_needs():
    """However many requests pass while one is open and the level creeps up; what is given back stays right."""
    bucket, takes = Bucket(), [(0, 500)]
    bucket.rate = 1
    first = bucket.reserve(500, 0)
    for moment in range(400, 5000, 9):
        bucket.settle(bucket.reserve(10, moment), 10, moment)
        takes.append((moment, 10))
    assert len(bucket.marks) < 50
    bucket.settle(first, 0, 5000)
    assert bucket.level == replayed(takes[1:], 5000, 1)[0]


AMOUNTS = st.integers(1, 300)
QUOTAS = st.builds(
    quota,
    st.integers(1, 400),
    st.sampled_from([TOKENS, REQUESTS, SECONDS]),
    st.sampled_from(list(Window)),
    st.sampled_from(list(Breach)),
    st.sampled_from([None, None, 2, 5, 8, 10]),
)
PRIORITIES = st.integers(1, 10)
USES = st.builds(lambda t, s: Use(1, t // 4, t - t // 4, s / 1000), st.integers(0, 200), st.integers(0, 60_000))
POLICIES = {"default_priority": PRIORITIES, "batch_priority": st.integers(1, 3)}


def amount_of(use, measure):
    return {TOKENS: use.tokens_in + use.tokens_out, REQUESTS: use.requests, SECONDS: use.gpu_seconds}[measure]


class Spending(RuleBasedStateMachine):
    """Arrivals, ends of both kinds, midnights and a failing database, in any order, of what is used as foreseen."""

    @initialize(limits=st.lists(QUOTAS, max_size=5), policy=st.fixed_dictionaries(POLICIES))
    def start(self, limits, policy):
        self.quotas = held_to(*limits, **policy)
        self.limits = self.quotas.accounts[BEES].bounds
        self.now = NOON
        self.open, self.kept, self.stored = [], [], Counter()

    @rule(priority=PRIORITIES, use=USES)
    def arrive(self, priority, use):
        hard = [one.quota for one in self.limits if one.hard]
        assume(all(amount_of(use, one.measure) <= one.amount for one in hard))
        try:
            made = self.quotas.admit(BEES, priority, use, self.now)
        except QuotaExceeded:
            return
        assert 1 <= made.priority <= priority
        assert bool(made.demoted) == (made.priority < priority)
        assert made.demoted.isascii()
        self.open.append((made, use, self.now))

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 99), cancelled=st.booleans(), twice=st.booleans())
    def end(self, which, cancelled, twice):
        made, use, came = self.open.pop(which % len(self.open))
        for _ in range(1 + twice):
            if cancelled:
                made.cancel(self.now)
            else:
                made.settle(use, self.now)
        if not cancelled:
            self.kept.append((made.priority, use, came))

    @rule(milliseconds=st.one_of(st.integers(1, 30_000), st.sampled_from([3_600_000, 43_200_000])))
    def wait(self, milliseconds):
        self.now = round(self.now * 1000 + milliseconds) / 1000

    @rule(works=st.booleans())
    def save(self, works):
        taken = self.quotas.taken()
        if not works:
            self.quotas.give_back(taken)
            return
        for row in taken.days:
            self.store(row)

    def store(self, row):
        assert min(row.use) >= 0
        for name, amount in row.use._asdict().items():
            self.stored[row.day, row.priority, name] += round(amount * 1000)

    @invariant()
    def hard_quotas_hold(self):
        """Never is more used and reserved than the amount."""
        for one in self.quotas.used(BEES, self.now)["quotas"]:
            if one["breach"] == "refuse":
                assert one["used"] + one["reserved"] <= one["amount"]

    def teardown(self):
        """In the end nothing is reserved, the database has what was used, and no minute saw more than its quota."""
        if not hasattr(self, "quotas"):
            return
        while self.open:
            self.end(0, cancelled=True, twice=False)
        for account in self.quotas.accounts.values():
            ledgers = [day.today for day in account.diary.days.values()] + list(account.diary.months.values())
            assert not any(grains for one in ledgers for row in one.reserved for grains in row)
        for bound in self.limits:
            if bound.bucket is not None:
                assert (bound.bucket.reserved, bound.bucket.open) == (0, {})
                self.minutes_held(bound)
        self.save(works=True)
        assert +self.stored == self.expected()

    def minutes_held(self, bound):
        """A bucket from which only what was kept is taken, as it came: it is never below empty."""
        takes = [
            (round(came * 1000), use.counts()[bound.place])
            for priority, use, came in sorted(self.kept, key=lambda one: one[2])
            if priority >= bound.floor
        ]
        level, highest = replayed(takes, round(self.now * 1000), bound.bucket.rate)
        if bound.hard:
            assert highest <= bound.amount
            assert bound.bucket.refill(round(self.now * 1000)) == level

    def expected(self):
        told = Counter()
        for priority, use, came in self.kept:
            for name, amount in use._asdict().items():
                told[datetime.fromtimestamp(came, UTC).toordinal(), priority, name] += round(amount * 1000)
        return +told


TestSpending = Spending.TestCase
TestSpending.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)


@settings(deadline=None)
@given(st.lists(QUOTAS, min_size=1, max_size=4), st.lists(st.tuples(USES, st.integers(0, 9000)), max_size=30), USES)
def test_a_retry_after_retry_after_is_admitted(limits, before, use):
    """If nothing else came, and not a second sooner; whatever came before, and also if it is larger than the quota."""
    quotas, now = held_to(*limits), NOON
    for expected, milliseconds in before:
        now = round(now * 1000 + milliseconds) / 1000
        try:
            quotas.admit(BEES, 10, expected, now).settle(expected, now)
        except QuotaExceeded:
            continue
    try:
        quotas.admit(BEES, 10, use, now)
    except QuotaExceeded as told:
        later = now + told.retry_after
        with pytest.raises(QuotaExceeded):
            quotas.admit(BEES, 10, use, later - 1)
        quotas.admit(BEES, 10, use, later)


@settings(deadline=None)
@given(st.integers(1, 600), st.integers(1, 600), st.integers(0, 60_000))
def test_the_refill_is_exact(amount, used, milliseconds):
    """Amount by time, to the thousandth of what a report tells, however often anybody looks."""
    quotas = held_to(quota(amount, window=MINUTE))
    quotas.admit(BEES, 5, tokens(used), NOON).settle(tokens(used), NOON)
    for part in range(1, 8):
        reported(quotas, NOON + milliseconds * part / 8000)
    bucket = quotas.bounds[1].bucket
    assert bucket.refill(round(NOON * 1000) + milliseconds) * 60_000 == GRAIN * max(
        0, used * 60_000 - amount * milliseconds
    )


@settings(deadline=None)
@given(
    st.lists(QUOTAS.filter(lambda one: one.breach is DEMOTE), max_size=6),
    st.lists(st.tuples(PRIORITIES, USES), max_size=30),
    PRIORITIES,
    USES,
    st.fixed_dictionaries(POLICIES),
    st.randoms(),
)
def test_demotion_ends_where_the_chain_ends(limits, before, priority, use, policy, chance):
    """Asked anew for each lower priority, in whatever order budgets are: the end is the same, and it is an end."""
    quotas = held_to(*limits, **policy)
    for asked, expected in before:
        quotas.admit(BEES, asked, expected, NOON)
    end = chained(quotas, priority, use, chance)
    made = quotas.admit(BEES, priority, use, NOON)
    assert made.priority == end
    assert made.demoted in {"", *(one.label() for one in quotas.bounds.values())}


def chained(quotas, priority, use, chance):
    """The word of it: one quota after the other, budgets before the others, each time anew."""
    bounds, day = list(quotas.bounds.values()), quotas.accounts[BEES].diary.at(NOON)
    chance.shuffle(bounds)
    bounds.sort(key=lambda one: one.quota.from_priority is None)
    while True:
        for one in bounds:
            lower = one.target < priority and priority >= one.floor
            if lower and not one.has_room(use.counts(), day, round(NOON * 1000)):
                priority = one.target
                break
        else:
            return priority


@settings(deadline=None)
@given(st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1)))  # noqa: DTZ001 (made UTC below)
def test_days_and_months_end_where_the_calendar_says(moment):
    """Leap years and all."""
    now = moment.replace(tzinfo=UTC).timestamp()
    ordinal = moment.toordinal()
    day = Day(BEES, ordinal, Ledger(), Ledger())
    last = calendar.monthrange(moment.year, moment.month)[1]
    assert month_end(ordinal) == date(moment.year, moment.month, last).toordinal() + 1
    for window, end in ((DAY, at(*moment.timetuple()[:3])), (MONTH, at(moment.year, moment.month, last))):
        assert day.ends(window) == end + 86400
        wait = Bound(quota(1, window=window), TeamPolicy(BEES, ""), None).wait((0, 0, 0, 0), day, now)
        assert now + wait - 1 < day.ends(window) <= now + wait


COMINGS = st.lists(st.tuples(PRIORITIES, USES, USES, st.integers(0, 20_000), st.booleans()), max_size=40)
EARLY = at(2026, 8, 31, 23) + 3300


class Database:
    """What a recorder adds up, in floating point as a database does."""

    def __init__(self):
        self.days, self.levels = {}, {}

    def store(self, taken):
        for team, day, priority, use in taken.days:
            before = self.days.get((team, day, priority), Use())
            self.days[team, day, priority] = Use(*(a + b for a, b in zip(before, use, strict=True)))
        self.levels.update((level.quota_id, level) for level in taken.levels)

    def load(self, quotas, now):
        month = datetime.fromtimestamp(now, UTC).date().replace(day=1).toordinal()
        days = [DayUse(*key, use) for key, use in self.days.items() if key[1] >= month]
        quotas.load(reversed(days), self.levels.values())


def spend(quotas, comings, now, database=None):
    """Let them come one after the other, some saved after; what was decided, and when it is then."""
    decided = []
    for priority, expected, actual, milliseconds, saved in comings:
        now = round(now * 1000 + milliseconds) / 1000
        try:
            made = quotas.admit(BEES, priority, expected, now)
            made.settle(actual, now)
            decided.append((made.priority, made.demoted))
        except QuotaExceeded as told:
            decided.append((told.message, told.retry_after))
        if saved and database:
            database.store(quotas.taken())
    return decided, now


@settings(max_examples=200, deadline=None)
@given(st.lists(QUOTAS, max_size=5), COMINGS, COMINGS)
def test_a_restart_decides_nothing_differently(limits, before, after):
    """What was loaded and what came since are as good as a process that was never interrupted."""
    database, whole = Database(), held_to(*limits)
    _, now = spend(whole, before, EARLY, database)
    database.store(whole.taken())
    restarted = held_to(*limits)
    database.load(restarted, now)
    assert restarted.used(BEES, now) == whole.used(BEES, now)
    assert spend(restarted, after, now) == spend(whole, after, now)
    assert restarted.used(BEES, now + 900) == whole.used(BEES, now + 900)
    assert restarted.taken().days == whole.taken().days
