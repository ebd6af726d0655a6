"""What ended within the last hour, read from the history for the charts of a gateway that has just started."""

from datetime import UTC, datetime
from typing import NamedTuple

from django.db.models.functions import Mod

from fleet.selectors.history import begun_within
from routing.core.records import Outcome

HOUR_S = 3600.0
#: Requests that are read at most; of more, every second, third, ... stands for those beside it.
MOST = 60_000


class Past(NamedTuple):
    """One ended request: epoch second of its end, tokens written, milliseconds to first byte, to the end, in queue."""

    ended_at: float
    outcome: Outcome
    tokens: int
    times: tuple[float | None, float, float]


class PastHour(NamedTuple):
    """Requests, each of which stands for `weight` of them."""

    requests: list[Past]
    weight: int


def past_hour(until: float, most: int = MOST) -> PastHour:
    """The requests that began within the hour before an epoch second, thinned out evenly to about `most`."""
    rows = begun_within(*(datetime.fromtimestamp(moment, UTC) for moment in (until - HOUR_S, until)))
    weight = max(1, -(-rows.count() // most))
    if weight > 1:
        rows = rows.annotate(turn=Mod("id", weight)).filter(turn=0)
    told = rows.values_list("started_at", "outcome", "output_tokens", "first_byte_ms", "total_ms", "queue_ms")
    return PastHour(
        [
            Past(started_at.timestamp() + total / 1000, Outcome(outcome), tokens or 0, (first_byte, total, queue))
            for started_at, outcome, tokens, first_byte, total, queue in told.iterator(chunk_size=2000)
        ],
        weight,
    )
