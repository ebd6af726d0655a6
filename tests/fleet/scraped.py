"""A gateway's view and gauges with something of everything, and what a scraper reads of them."""

from contextlib import contextmanager

from prometheus_client.parser import text_string_to_metric_families

from fleet import live
from routing.core.records import Outcome, RequestRecord
from routing.gateway.gauges import Gauges, QuotaUse, Speed, fixed
from routing.gateway.tally import LATE, Histogram, Tally
from routing.gateway.view import Distribution, View

NODE = {
    "id": 1, "name": "ant", "state": "up", "in_flight": 2, "slots": 4, "resident": ["llama3:latest"],
    "vram_used": 6 << 30, "vram_total": 24 << 30, "models": 3, "version": "0.12.0", "breaker": "closed", "error": "",
    "requests": 10, "failures": 1,
}  # fmt: skip
MODEL = "registry.ollama.ai/library/llama3:latest"


def record(**columns):
    return RequestRecord(
        **{
            "request_id": "r1", "started_at": 1.0, "route": "/api/chat", "model": "llama3", "task_type": "chat",
            "complexity": "low", "priority": 5, "stream": True, "outcome": Outcome.SERVED, "status": 200,
            "attempts": 1, "queue_ms": 100.0, "first_byte_ms": 500.0, "total_ms": 2500.0, "prompt_tokens": 30,
            "output_tokens": 101,
        }
        | columns
    )  # fmt: skip


def view(tally, nodes=(NODE,)):
    totals = {
        "requests": sum(tally.outcomes.values()), "prompt_tokens": tally.prompt_tokens,
        "output_tokens": tally.output_tokens, "retries": tally.retries, "resumed": tally.resumed, "dropped": 0,
    }  # fmt: skip
    data = {
        "at": 1.0, "nodes": list(nodes), "queue": {"depth": 3, "oldest_s": 4.5, "by_priority": {"5": 3}},
        "in_flight": 2, "totals": totals, "recent": [],
    }  # fmt: skip
    return View(
        data,
        {(route, "llama3:latest", team, node, outcome.value): count
         for (route, _, team, node, outcome), count in tally.requests.items()},
        {name: Distribution(tuple(one.counts), one.total)
         for name, one in (("first_byte", tally.first_byte), ("total", tally.total), ("queue", tally.queue))},
        {labels: Distribution(tuple(one.counts), one.total) for labels, one in tally.waits.items()},
    )  # fmt: skip


def gauges(tally, **parts):
    lag = Histogram(LATE)
    lag.take(0.002)
    return Gauges(
        **{
            "speeds": (Speed("ant", "llama3:latest", 1000.0, 50.0, 3.0, 2),),
            "breakers": {("ant", ""): "half_open", ("ant", "phi3:latest"): "open"},
            "quotas": (QuotaUse("Bees", "tokens", "day", "", 900.0, 1000.0),),
            "first_bytes": {"llama3:latest": fixed(tally.first_bytes[MODEL])} if tally.first_bytes else {},
            "rates": {"llama3:latest": fixed(tally.rates[MODEL])} if tally.rates else {},
            "lag": fixed(lag),
            "pending": 7,
        }
        | parts
    )


@contextmanager
def published(*records, **parts):
    """What a gateway publishes that has served these requests, by default one."""
    tally = Tally()
    for one in records or (record(),):
        tally.take(one, MODEL, "Bees", "ant")
    live.publish(view(tally))
    live.publish_gauges(gauges(tally, **parts))
    try:
        yield
    finally:
        live.publish(None)
        live.publish_gauges(None)


def families(text):
    return {family.name: family for family in text_string_to_metric_families(text)}


def samples(text):
    """Values by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families(text).values()
        for sample in family.samples
    }
