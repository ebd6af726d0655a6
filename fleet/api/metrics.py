"""`/metrics` in Prometheus' format, read from the gateway's last published picture."""

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fleet import live
from routing.gateway.tally import BUCKETS

DISTRIBUTIONS = {
    "first_byte": ("sollol_first_byte_seconds", "Time from a request's arrival to the first byte of its answer"),
    "total": ("sollol_request_seconds", "Time from a request's arrival to its end"),
    "queue": ("sollol_queue_wait_seconds", "Time that a request waited in the gateway's queue"),
}
#: Of each node in the picture: the metric's name, its help, and the value.
NODES = (
    ("sollol_node_up", "Whether the node answers and is in use", lambda node: node["state"] in {"up", "suspect"}),
    ("sollol_node_in_flight", "Requests that run on the node now", lambda node: node["in_flight"]),
    ("sollol_node_resident_models", "Models that are loaded on the node", lambda node: len(node["resident"])),
    (
        "sollol_node_breaker_open",
        "Whether the node's breaker keeps requests away",
        lambda node: node["breaker"] != "closed",
    ),
)
TOTALS = (
    ("prompt_tokens", "sollol_prompt_tokens", "Prompt tokens of answered requests"),
    ("output_tokens", "sollol_output_tokens", "Tokens written in answers"),
    ("retries", "sollol_retries", "Attempts beyond the first"),
    ("resumed", "sollol_streams_resumed", "Streams that broke off and went on in another attempt"),
    ("dropped", "sollol_recorder_dropped", "History rows that were lost"),
)


class PictureCollector:
    """Turns one picture into metrics; labels are bounded by the fleet's own names."""

    def __init__(self, picture: live.LiveView) -> None:
        self.picture = picture

    def collect(self) -> Iterator[Metric]:
        data = self.picture.as_dict()
        requests = CounterMetricFamily(
            "sollol_requests", "Ended requests", labels=("route", "model", "team", "node", "outcome")
        )
        for labels, count in self.picture.requests.items():
            requests.add_metric(labels, count)
        yield requests
        for name, (metric, text) in DISTRIBUTIONS.items():
            told = HistogramMetricFamily(metric, text, labels=())
            add(told, (), self.picture.distributions[name])
            yield told
        waits = HistogramMetricFamily(
            "sollol_queue_wait_by_class_seconds",
            "Time that requests waited in the gateway's queue, by priority and team",
            labels=("priority", "team"),
        )
        for (priority, team), distribution in self.picture.waits.items():
            add(waits, (str(priority), team), distribution)
        yield waits
        for name, metric, text in TOTALS:
            yield CounterMetricFamily(metric, text, value=data["totals"].get(name, 0))
        yield GaugeMetricFamily("sollol_queue_depth", "Requests that wait in the gateway", value=data["queue"]["depth"])
        yield GaugeMetricFamily(
            "sollol_queue_oldest_seconds", "Age of the request that waits longest", value=data["queue"]["oldest_s"]
        )
        for metric, text, value in NODES:
            family = GaugeMetricFamily(metric, text, labels=("node",))
            for node in data["nodes"]:
                family.add_metric((node["name"],), float(value(node)))
            yield family


def add(family: HistogramMetricFamily, labels: tuple[str, ...], distribution: live.Distribution) -> None:
    """Prometheus counts what is at or below each bound."""
    below, buckets = 0, []
    for bound, count in zip((*map(str, BUCKETS), "+Inf"), distribution.counts, strict=True):
        below += count
        buckets.append((bound, float(below)))
    family.add_metric(labels, buckets, distribution.total)


class PrometheusRenderer(BaseRenderer):
    """The metrics are made as bytes already; errors are told in a line."""

    media_type = "text/plain"
    format = "txt"
    charset = None

    def render(self, data: Any, accepted_media_type: Any = None, renderer_context: Any = None) -> bytes:
        return data if isinstance(data, bytes) else f"{data.get('detail', data)}\n".encode()


class MetricsView(APIView):
    """Metrics of the gateway in this process; 503 where it runs none."""

    renderer_classes = (PrometheusRenderer,)

    def perform_content_negotiation(self, request: Request, force: bool = False) -> tuple[Any, str]:
        """There is one form, whatever a scraper says it accepts."""
        return PrometheusRenderer(), CONTENT_TYPE_LATEST

    def get(self, request: Request) -> Response:
        picture = live.view()
        if picture is None:
            return Response({"detail": "no gateway runs in this process"}, status=503)
        registry = CollectorRegistry()
        registry.register(PictureCollector(picture))
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
