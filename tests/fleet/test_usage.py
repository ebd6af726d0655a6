"""What teams use is added up, by whichever gateway and however often."""

import contextlib
import threading
from datetime import date

import pytest
from django.db import OperationalError, connection
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.models import QuotaLevel, Team, UsageDay
from fleet.services.usage import add_usage, load_usage
from routing.core.usage import DayUse, Level, Use
from tests.fleet.conftest import add_quota, add_usage_day

pytestmark = pytest.mark.django_db

TODAY = date(2026, 3, 15)


def used(team, priority=5, day=TODAY, **amounts):
    return DayUse(team.pk, day.toordinal(), priority, Use(**amounts))


def test_use_is_added(bees):
    """What is told twice as new use counts twice."""
    for _ in range(2):
        add_usage([used(bees, requests=1, tokens_in=10, tokens_out=20, gpu_seconds=0.5)], [])
    row = UsageDay.objects.get()
    assert (row.day, row.requests, row.tokens_in, row.tokens_out, row.gpu_seconds) == (TODAY, 2, 20, 40, 1.0)


def test_one_call_may_tell_a_day_twice(bees):
    """Two parts of one day in one call are added up."""
    add_usage([used(bees, requests=1), used(bees, requests=2), used(bees, priority=8, requests=4)], [])
    assert set(UsageDay.objects.values_list("priority", "requests")) == {(5, 3), (8, 4)}


def test_there_and_back(bees, cats):
    """What was added in this month is loaded; what came before it is not."""
    rows = (used(bees, requests=1, gpu_seconds=2.5), used(cats, priority=8, day=date(2026, 3, 1), tokens_in=7))
    add_usage([*rows, used(bees, day=date(2026, 2, 28), requests=9)], [])
    assert load_usage(TODAY) == (rows, ())


def test_levels_are_replaced(bees):
    """The level of a quota is the last one told."""
    quota = add_quota(bees, window="minute")
    add_usage([], [Level(quota.pk, 3.0, 1e9)])
    add_usage([], [Level(quota.pk, 1.5, 1e9 + 1)])
    assert load_usage(TODAY) == ((), (Level(quota.pk, 1.5, 1e9 + 1),))


def test_who_is_gone_is_left_out(bees, cats):
    """What is told of a team or quota that was deleted meanwhile harms nothing else."""
    quota, gone = add_quota(bees, window="minute"), add_quota(cats, window="minute")
    rows = [used(bees, requests=1), used(cats, requests=1)]
    levels = [Level(quota.pk, 1.0, 1e9), Level(gone.pk, 1.0, 1e9)]
    cats.delete()
    add_usage(rows, levels)
    assert (UsageDay.objects.get().team, QuotaLevel.objects.get().quota) == (bees, quota)


def test_a_team_takes_its_use_along(bees):
    """A team that is deleted leaves neither use nor levels."""
    quota = add_quota(bees, window="minute")
    add_usage([used(bees, requests=1)], [Level(quota.pk, 1.0, 1e9)])
    bees.delete()
    assert load_usage(TODAY) == ((), ())


def test_priorities_that_cannot_be(bees):
    """Use at a priority that does not exist is left out."""
    add_usage([used(bees, priority=0, requests=1), used(bees, priority=11, requests=1)], [])
    assert not UsageDay.objects.exists()


def test_nothing_is_nothing(django_assert_num_queries):
    """Where nothing was used the database is not asked."""
    with django_assert_num_queries(0):
        add_usage([], [])


def test_few_statements(bees, django_assert_max_num_queries):
    """However much is told at once, it is a few statements."""
    days = [
        used(bees, priority=number % 10 + 1, day=date.fromordinal(738_000 + number), requests=1)
        for number in range(900)
    ]
    with django_assert_max_num_queries(10):
        add_usage(days, [])
    assert UsageDay.objects.count() == 900


PARTS = st.lists(
    st.tuples(
        st.sampled_from(["Bees", "Cats"]),
        st.integers(0, 3),
        st.integers(1, 10),
        st.integers(0, 10**9),
        st.integers(0, 10**12),
    ),
    max_size=15,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PARTS, max_size=4))
def test_sums_hold(bees, cats, calls):
    """However use is cut into calls, the database holds its sums by team, day and priority."""
    UsageDay.objects.all().delete()
    teams = {"Bees": bees, "Cats": cats}
    expected = {}
    for parts in calls:
        add_usage(
            [used(teams[team], priority, date.fromordinal(738_000 + day), requests=requests, tokens_in=tokens)
             for team, day, priority, requests, tokens in parts],
            [],
        )  # fmt: skip
        for team, day, priority, requests, tokens in parts:
            key = (teams[team].pk, 738_000 + day, priority)
            before = expected.get(key, (0, 0))
            expected[key] = (before[0] + requests, before[1] + tokens)
    found = {
        (row.team_id, row.day.toordinal(), row.priority): (row.requests, row.tokens_in)
        for row in UsageDay.objects.all()
    }
    assert found == expected


@pytest.mark.django_db(transaction=True)
def test_writers_at_the_same_time_lose_nothing():
    """Gateways that add to the same rows at the same time all count; what the database refuses leaves nothing there."""
    team = Team.objects.create(name="Bees")

    def write():
        left = 20
        while left:
            with contextlib.suppress(OperationalError):
                add_usage([used(team, requests=1), used(team, priority=8, requests=1)], [])
                left -= 1
        connection.close()

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(UsageDay.objects.values_list("priority", "requests")) == {(5, 80), (8, 80)}


def test_usage_over_rest(api, bees, cats):
    """Usage comes the newest day first, narrowed by team, days and priority; nobody writes it."""
    add_usage_day(bees, date(2026, 3, 1), requests=1)
    add_usage_day(bees, date(2026, 3, 2), priority=8, requests=2)
    add_usage_day(cats, date(2026, 3, 2), requests=3)
    rows = api.get("/api/fleet/usage", {"team": "bees", "since": "2026-03-01"}).json()["results"]
    assert [(row["day"], row["requests"]) for row in rows] == [("2026-03-02", 2), ("2026-03-01", 1)]
    assert api.get("/api/fleet/usage", {"before": "2026-03-02"}).json()["count"] == 1
    assert api.get("/api/fleet/usage", {"priority": "8", "day": "2026-03-02"}).json()["count"] == 1
    assert api.get("/api/fleet/usage", {"since": "yesterday"}).status_code == 400
    assert api.post("/api/fleet/usage", {}, format="json").status_code == 405


def test_the_page_narrows_by_team(admin_page, bees, cats):
    """The list of usage narrows by team and by day."""
    add_usage_day(bees, requests=1)
    add_usage_day(cats, requests=2)
    answer = admin_page.get(
        "/admin/fleet/usageday/", {"team__id__exact": bees.pk, "day__gte": timezone.now().date().isoformat()}
    )
    assert [row.team for row in answer.context["cl"].result_list] == [bees]
