"""Sends a trace of each ended request by OTLP, made from its record: nothing is measured while it runs."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from routing.core.records import NodeEvent, Outcome, RequestRecord

log = logging.getLogger("sollol.traces")

MS_NS, S_NS = 1_000_000, 1_000_000_000
SAMPLED = 1
BAD = frozenset({Outcome.FAILED, Outcome.EXPIRED, Outcome.REFUSED})


def processor() -> Any:
    """What batches spans and sends them where the variables of OpenTelemetry say."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 (an optional extra)
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 (as above)
    except ImportError as error:
        raise ImproperlyConfigured(
            f"SOLLOL_TRACES wants OpenTelemetry ({error}); install it: pip install -r requirements/otel.txt"
        ) from None
    return BatchSpanProcessor(OTLPSpanExporter())


class Traces:
    """Makes a span of each request, with parts for the wait, the last attempt and the stream.

    Called in the recorder's thread. The span's id is what the node was told as its parent, and its own parent is what
    the client sent. Requests of a trace that is not sampled are left out.
    """

    def __init__(self, spans: Any = None) -> None:
        self.spans = processor() if spans is None else spans
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 (an optional extra)
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator  # noqa: PLC0415 (as above)

        self.resource = Resource.create({"service.name": "sollol"})
        self.ids = RandomIdGenerator()

    def __call__(
        self, batch: Sequence[RequestRecord | NodeEvent], teams: Mapping[int, str], nodes: Mapping[int, str]
    ) -> None:
        for record in batch:
            if isinstance(record, RequestRecord) and record.trace:
                self.send(record, teams, nodes)

    def send(self, record: RequestRecord, teams: Mapping[int, str], nodes: Mapping[int, str]) -> None:
        parent, _, own = record.trace.rpartition(" ")
        trace, span, flags = int(own[3:35], 16), int(own[36:52], 16), int(own[53:], 16)
        if not flags & SAMPLED:
            return
        begin = int(record.started_at * S_NS)
        queued = begin + int(record.queue_ms * MS_NS)
        end = max(queued, begin + int(record.total_ms * MS_NS))
        first = None if record.first_byte_ms is None else min(end, begin + int(record.first_byte_ms * MS_NS))
        above = int(parent[36:52], 16) if parent else None
        facts = attributes(record, teams, nodes)
        self.end(f"{record.route}", trace, span, above, (begin, end), facts, record.outcome in BAD, record.outcome)
        self.end("queue", trace, self.ids.generate_span_id(), span, (begin, queued), {})
        if record.attempts:
            attempt = self.ids.generate_span_id()
            told = {"sollol.attempts": record.attempts, "sollol.node": facts.get("sollol.node", "")}
            self.end("attempt", trace, attempt, span, (queued, end), told)
            if first is not None and record.stream:
                self.end("stream", trace, self.ids.generate_span_id(), attempt, (max(first, queued), end), {})

    def end(
        self,
        name: str,
        trace: int,
        span: int,
        above: int | None,
        times: tuple[int, int],
        facts: dict[str, Any],
        bad: bool = False,
        why: str = "",
    ) -> None:
        """Hand a finished span to what sends it; times in nanoseconds since the epoch."""
        from opentelemetry.sdk.trace import ReadableSpan  # noqa: PLC0415 (an optional extra)
        from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags  # noqa: PLC0415 (as above)

        flags = TraceFlags(TraceFlags.SAMPLED)
        self.spans.on_end(
            ReadableSpan(
                name,
                context=SpanContext(trace, span, is_remote=False, trace_flags=flags),
                parent=None if above is None else SpanContext(trace, above, is_remote=True, trace_flags=flags),
                resource=self.resource,
                attributes=facts,
                kind=SpanKind.SERVER if facts and "http.route" in facts else SpanKind.INTERNAL,
                status=Status(StatusCode.ERROR, str(why)) if bad else Status(StatusCode.UNSET),
                start_time=times[0],
                end_time=times[1],
            )
        )

    def close(self) -> None:
        """Send what waits."""
        self.spans.shutdown()


def attributes(record: RequestRecord, teams: Mapping[int, str], nodes: Mapping[int, str]) -> dict[str, Any]:
    """By the names of OpenTelemetry's conventions where there are any; nothing of what was said."""
    facts = {
        "http.route": record.route,
        "http.response.status_code": record.status,
        "gen_ai.system": "ollama",
        "gen_ai.request.model": record.model[:200],
        "gen_ai.usage.input_tokens": record.prompt_tokens,
        "gen_ai.usage.output_tokens": record.output_tokens,
        "sollol.request_id": record.request_id,
        "sollol.outcome": record.outcome.value,
        "sollol.task": record.task_type,
        "sollol.priority": record.priority,
        "sollol.queue_ms": record.queue_ms,
        "sollol.attempts": record.attempts,
        "sollol.resumed": record.resumed,
        "sollol.team": None if record.team_id is None else teams.get(record.team_id, str(record.team_id)),
        "sollol.node": None if record.node_id is None else nodes.get(record.node_id, str(record.node_id)),
        "sollol.reason": record.decision.reason if record.decision else None,
    }
    return {name: value for name, value in facts.items() if value is not None}
