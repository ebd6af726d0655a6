"""The last hour as the history has it, for the charts of a gateway that has just started."""

from datetime import UTC, datetime, timedelta

import pytest

from fleet.models import RequestRecord
from fleet.services.past import past_hour
from routing.core.records import Outcome

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def ended(number, minutes, **more):
    return RequestRecord(
        request_id=f"r{number}",
        started_at=NOW - timedelta(minutes=minutes),
        route="/api/chat",
        priority=5,
        stream=True,
        outcome="served",
        status=200,
        total_ms=2000.0,
        output_tokens=40,
        **more,
    )


def test_the_hour_before_is_read():
    """Requests that began within the hour come with the moment of their end; older and later ones do not."""
    RequestRecord.objects.bulk_create([ended(1, 61), ended(2, 30, first_byte_ms=300.0), ended(3, -1)])
    past = past_hour(NOW.timestamp())
    assert past.weight == 1
    [one] = past.requests
    assert one.ended_at == (NOW - timedelta(minutes=30)).timestamp() + 2
    assert (one.outcome, one.tokens, one.times) == (Outcome.SERVED, 40, (300.0, 2000.0, 0.0))


def test_a_large_hour_is_thinned_out():
    """Of more than can be read each third stands for three."""
    RequestRecord.objects.bulk_create([ended(number, 10) for number in range(30)])
    past = past_hour(NOW.timestamp(), most=10)
    assert (past.weight, len(past.requests)) == (3, 10)
