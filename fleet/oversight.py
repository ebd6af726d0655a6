"""Watches whether the background worker works and its schedules go well, for those who look at the gateway."""

from collections.abc import Iterator
from typing import Any

from fleet.selectors.scheduled import Sighting, Work, failing

#: Seconds without a sign of life after which the worker is missed: it ends something each minute, and django-q2 looks
#: at its schedules each half minute. Or so many of the shortest time between two runs, if that is longer.
SILENT_S, PERIODS = 180.0, 2.5

Json = dict[str, Any]


class Oversight:
    """What was last seen of scheduled work; times in seconds of a clock that cannot be set.

    A sign of life is that something has ended which had not when it was looked before: neither this machine's time of
    day nor the worker's is trusted. While nobody can look, no time passes.
    """

    def __init__(self) -> None:
        self.sighting = Sighting((), None)
        self.beat: object = None
        self.silent_s = 0.0
        self.looked_at: float | None = None

    def take(self, sighting: Sighting, now: float) -> None:
        """Take what was seen at this moment."""
        beat = sighting.ended_at, *((one.name, one.ended_at) for one in sighting.works)
        if self.beat is None or beat != self.beat:
            self.silent_s = 0.0
        elif self.looked_at is not None:
            self.silent_s += now - self.looked_at
        self.sighting, self.beat, self.looked_at = sighting, beat, now

    def blind(self) -> None:
        """The database is away."""
        self.looked_at = None

    @property
    def missing(self) -> bool:
        """Whether the worker should have ended something long ago."""
        periods = [one.period for one in self.sighting.works if one.period is not None and not one.paused]
        return bool(periods) and self.silent_s > max(SILENT_S, PERIODS * min(periods))

    def condition(self) -> Json:
        """For `/readyz`."""
        if not self.missing:
            return {"worker": "ok"}
        return {"worker": "missing", "worker_silent_s": round(self.silent_s, 1)}

    def alerts(self) -> Iterator[Json]:
        """What an operator should look at, in the words of the dashboard's alerts."""
        if self.missing:
            minutes = int(self.silent_s // 60)
            text = f"the background worker has ended nothing for {minutes} min: does manage.py qcluster run?"
            yield {"kind": "worker", "severity": "error", "subject": "worker", "text": text}
        for name, why in failing(self.sighting.works):
            yield {"kind": "schedule", "severity": "warning", "subject": name, "text": f"{name} {why}"}

    def told(self) -> Json:
        """For the dashboard: the worker, and each schedule."""
        return {"worker": "missing" if self.missing else "ok", "works": [row(one) for one in self.sighting.works]}


def row(work: Work) -> Json:
    """JSON-ready; moments in epoch seconds."""
    moments = {name: None if at is None else round(at.timestamp(), 1) for name, at in moments_of(work)}
    return {**work._asdict(), **moments, "keeps_failing": work.keeps_failing}


def moments_of(work: Work) -> tuple[tuple[str, Any], ...]:
    return ("next_at", work.next_at), ("ended_at", work.ended_at), ("good_at", work.good_at)
