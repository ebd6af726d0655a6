"""Traces made of records, as a collector gets them."""

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from fleet import checks
from fleet.services.tracing import Traces
from routing.core.records import Outcome
from tests.fleet.scraped import record

TRACE, CALLER, OWN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", "b7ad6b7169203331"
BOTH = f"00-{TRACE}-{CALLER}-01 00-{TRACE}-{OWN}-01"


def spans(**columns):
    """The spans of one request, by name."""
    kept = InMemorySpanExporter()
    traces = Traces(SimpleSpanProcessor(kept))
    traces([record(**{"trace": BOTH, "team_id": 1, "node_id": 2, **columns})], {1: "Bees"}, {2: "ant"})
    return {span.name: span for span in kept.get_finished_spans()}


def milliseconds(span):
    """When a span began and ended, in milliseconds after the request came."""
    return tuple(round(at / 1e6 - 1000.0, 1) for at in (span.start_time, span.end_time))


def test_a_span_for_the_request_and_one_for_each_part():
    """The wait, the attempt and the stream lie in the request's span, each where it was."""
    found = spans(queue_ms=100.0, first_byte_ms=500.0, total_ms=2500.0)
    times = {name: milliseconds(span) for name, span in found.items()}
    assert times == {
        "/api/chat": (0.0, 2500.0),
        "queue": (0.0, 100.0),
        "attempt": (100.0, 2500.0),
        "stream": (500.0, 2500.0),
    }
    whole = found["/api/chat"]
    assert {found[name].parent.span_id for name in ("queue", "attempt")} == {whole.context.span_id}
    assert found["stream"].parent.span_id == found["attempt"].context.span_id


def test_the_request_stands_under_its_caller():
    """Its span has the id that the node was told, in the caller's trace."""
    whole = spans()["/api/chat"]
    assert (whole.context.trace_id, whole.context.span_id) == (int(TRACE, 16), int(OWN, 16))
    assert whole.parent.span_id == int(CALLER, 16)
    assert spans(trace=f" 00-{TRACE}-{OWN}-01")["/api/chat"].parent is None


def test_what_a_span_tells():
    """Model, tokens, team, node and outcome; nothing of what was said."""
    told = dict(spans(error="secret words")["/api/chat"].attributes)
    assert told["gen_ai.request.model"] == "llama3"
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]) == (30, 101)
    assert (told["sollol.team"], told["sollol.node"], told["sollol.outcome"]) == ("Bees", "ant", "served")
    assert "secret" not in str(told)


def test_requests_that_went_wrong():
    """A failure is an error; one that no node was tried for has no attempt."""
    found = spans(outcome=Outcome.REFUSED, status=429, attempts=0, first_byte_ms=None)
    assert found["/api/chat"].status.is_ok is False
    assert found.keys() == {"/api/chat", "queue"}


@pytest.mark.parametrize("trace", ["", f"00-{TRACE}-{CALLER}-00 00-{TRACE}-{OWN}-00"])
def test_what_is_not_sampled_is_not_sent(trace):
    """Where the caller has decided against the trace, or none was begun, nothing is sent."""
    assert spans(trace=trace) == {}


def test_traces_without_their_packages(settings, monkeypatch):
    """Asking for traces where the extra is not installed is refused at the start, and says what to do."""
    settings.ENV = settings.ENV.model_copy(update={"sollol_traces": True})
    assert checks.check_traces(None) == []
    monkeypatch.setattr(checks, "TRACING", ("no_such_package.sdk",))
    [fault] = checks.check_traces(None)
    assert (fault.id, "requirements/otel.txt" in fault.hint) == ("fleet.E003", True)
    settings.ENV = settings.ENV.model_copy(update={"sollol_traces": False})
    assert checks.check_traces(None) == []
