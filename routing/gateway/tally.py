"""Counters of the hot path: plain integers that one event loop owns; scrapers and dashboards read them."""

from bisect import bisect_left
from collections import Counter, deque
from dataclasses import dataclass, field

from routing.core.records import Outcome, RequestRecord
from routing.gateway.series import Series

#: Upper bounds in seconds of the histograms.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
#: Upper bounds of tokens per second, of an event loop's lateness in seconds.
RATES = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 50.0, 75.0, 100.0, 150.0, 200.0, 300.0, 500.0, 1000.0)
LATE = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
#: Models that are counted by name, and what the others are counted as: anybody can ask for any cloud model.
MODELS, OTHERS = 500, "(other)"
#: Finished requests kept for the dashboard.
RECENT = 50
#: Finished requests that can be asked for by id before the history has them.
ENDED = 2000


class Histogram:
    """Counts per bucket (the last one has no bound) and the sum of all values; by default of seconds."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...] = BUCKETS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def take(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass(slots=True)
class Tally:
    """What has been counted since the start.

    `requests` is keyed by (route, model key, team, node, outcome), so that no client can make up labels without end;
    `waits` tells how long requests waited, by (priority, team); `first_bytes` the seconds to the first byte and `rates`
    the tokens per second of streams from there on, by model key;
    `recent` holds the newest records with the names of their team and node, newest first; `ended` more of them, by id.
    `written` are the tokens of ended answers by node, `series` is the last hour.
    """

    requests: Counter[tuple[str, str, str, str, Outcome]] = field(default_factory=Counter)
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    first_byte: Histogram = field(default_factory=Histogram)
    total: Histogram = field(default_factory=Histogram)
    queue: Histogram = field(default_factory=Histogram)
    waits: dict[tuple[int, str], Histogram] = field(default_factory=dict)
    first_bytes: dict[str, Histogram] = field(default_factory=dict)
    rates: dict[str, Histogram] = field(default_factory=dict)
    models: set[str] = field(default_factory=set)
    prompt_tokens: int = 0
    output_tokens: int = 0
    retries: int = 0
    resumed: int = 0
    written: Counter[str] = field(default_factory=Counter)
    series: Series = field(default_factory=Series)
    recent: deque[tuple[RequestRecord, str, str]] = field(default_factory=lambda: deque(maxlen=RECENT))
    ended: dict[str, tuple[RequestRecord, str, str]] = field(default_factory=dict)

    def take(self, record: RequestRecord, model_key: str, team: str, node: str) -> None:
        """Count one finished request."""
        model_key = self.named(model_key)
        self.requests[record.route, model_key, team, node, record.outcome] += 1
        self.outcomes[record.outcome] += 1
        self.total.take(record.total_ms / 1000)
        self.queue.take(record.queue_ms / 1000)
        wait = self.waits.get((record.priority, team))
        if wait is None:
            wait = self.waits[record.priority, team] = Histogram()
        wait.take(record.queue_ms / 1000)
        if record.first_byte_ms is not None:
            self.first_byte.take(record.first_byte_ms / 1000)
            self._take_model(record, model_key, record.first_byte_ms)
        self.prompt_tokens += record.prompt_tokens or 0
        if record.output_tokens:
            self.output_tokens += record.output_tokens
            self.written[node] += record.output_tokens
        self.series.take(record)
        self.retries += max(0, record.attempts - 1)
        self.resumed += record.resumed
        self.recent.appendleft((record, team, node))
        ended = self.ended
        if len(ended) >= ENDED:
            del ended[next(iter(ended))]
        ended[record.request_id] = (record, team, node)

    def named(self, model_key: str) -> str:
        """The name under which a model is counted, so that labels are bounded."""
        if model_key not in self.models:
            if len(self.models) >= MODELS:
                return OTHERS
            self.models.add(model_key)
        return model_key

    def _take_model(self, record: RequestRecord, model_key: str, first_byte_ms: float) -> None:
        firsts = self.first_bytes.get(model_key)
        if firsts is None:
            firsts = self.first_bytes[model_key] = Histogram()
            self.rates[model_key] = Histogram(RATES)
        firsts.take(first_byte_ms / 1000)
        tokens, writing_ms = record.output_tokens or 0, record.total_ms - first_byte_ms
        if record.stream and tokens > 1 and writing_ms > 0.0:
            # The first token came with the first byte.
            self.rates[model_key].take((tokens - 1) * 1000 / writing_ms)
