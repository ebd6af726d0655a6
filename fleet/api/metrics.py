"""`/metrics` in Prometheus' format, read from the gateway's last published picture."""

from collections.abc import Iterator, Mapping
from typing import Any

from drf_spectacular.utils import extend_schema
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fleet import live
from routing.gateway.tally import BUCKETS, LATE, RATES

DISTRIBUTIONS = {
    "first_byte": ("sollol_first_byte_seconds", "Time from a request's arrival to the first byte of its answer"),
    "total": ("sollol_request_seconds", "Time from a request's arrival to its end"),
    "queue": ("sollol_queue_wait_seconds", "Time that a request waited in the gateway's queue"),
}
#: Of each node in the picture: the metric's name, its help, and the value.
NODES = (
    ("sollol_node_up", "Whether the node answers and is in use", lambda node: node["state"] in {"up", "suspect"}),
    (
        "sollol_node_in_use",
        "Whether operators let the node be used: neither disabled nor draining",
        lambda node: node["state"] not in {"disabled", "draining"},
    ),
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
    ("retries_denied", "sollol_retries_denied", "Further attempts that the retry budget did not allow"),
    ("second_copies", "sollol_second_copies", "Short requests that were sent to a second node as well"),
    ("second_copies_won", "sollol_second_copies_won", "Second copies that answered first"),
    ("embeddings_cached", "sollol_embedding_cache_hits", "Texts whose vectors were in the cache"),
    ("embeddings_not_cached", "sollol_embedding_cache_misses", "Texts that were looked for in the cache in vain"),
    ("embeddings_joined", "sollol_embeddings_joined", "Embedding requests that shared a call to a node with others"),
    ("embedding_calls_joined", "sollol_embedding_calls_joined", "Calls to nodes that carried several requests"),
    ("embeddings_split", "sollol_embeddings_split", "Embedding requests that were spread over several nodes"),
    ("embedding_parts", "sollol_embedding_parts", "Parts of embedding requests that went to further nodes"),
    ("resumed", "sollol_streams_resumed", "Streams that broke off and went on in another attempt"),
    ("dropped", "sollol_recorder_dropped", "History rows that were lost"),
)


#: The states of a breaker, each a series of its own.
BREAKERS = ("closed", "open", "half_open")


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
        yield GaugeMetricFamily(
            "sollol_embedding_cache_bytes",
            "Memory that kept vectors take",
            value=data["totals"].get("embeddings_cache_bytes", 0),
        )
        for metric, text, value in NODES:
            family = GaugeMetricFamily(metric, text, labels=("node",))
            for node in data["nodes"]:
                family.add_metric((node["name"],), float(value(node)))
            yield family


class GaugesCollector:
    """Turns gauges into metrics; labels are the fleet's own names, of models at most some hundred."""

    def __init__(self, gauges: live.Gauges) -> None:
        self.gauges = gauges

    def collect(self) -> Iterator[Metric]:
        gauges = self.gauges
        yield by_model(
            "sollol_model_first_byte_seconds", "Time from a request's arrival to its first byte", gauges.first_bytes
        )
        yield by_model(
            "sollol_output_tokens_per_second",
            "Speed of streamed answers from their first byte on",
            gauges.rates,
            RATES,
        )
        yield from self.speeds()
        yield from self.breakers()
        yield from self.quotas()
        lag = HistogramMetricFamily(
            "sollol_event_loop_lag_seconds", "How late the gateway's event loop came to what was due", labels=()
        )
        if gauges.lag.counts:
            add(lag, (), gauges.lag, LATE)
        yield lag
        yield GaugeMetricFamily(
            "sollol_recorder_pending", "History rows that wait to be written", value=float(gauges.pending)
        )

    def speeds(self) -> Iterator[Metric]:
        """Of each model on each node what was learned, as of one request alone."""
        labels = ("node", "model")
        prompt = GaugeMetricFamily(
            "sollol_learned_prompt_tokens_per_second", "Learned speed of prompts, of one request alone", labels=labels
        )
        output = GaugeMetricFamily(
            "sollol_learned_output_tokens_per_second", "Learned speed of answers, of one request alone", labels=labels
        )
        load = GaugeMetricFamily("sollol_learned_load_seconds", "Learned time that a load takes", labels=labels)
        loads = CounterMetricFamily(
            "sollol_model_loads", "Loads of models that requests had to wait for", labels=labels
        )
        for speed in self.gauges.speeds:
            for family, value in ((prompt, speed.prompt), (output, speed.output), (load, speed.load_s)):
                if value is not None:
                    family.add_metric((speed.node, speed.model), value)
            loads.add_metric((speed.node, speed.model), speed.loads)
        yield from (prompt, output, load, loads)

    def breakers(self) -> Iterator[Metric]:
        nodes = GaugeMetricFamily(
            "sollol_node_breaker_state", "1 for the state that the node's breaker is in", labels=("node", "state")
        )
        models = GaugeMetricFamily(
            "sollol_model_breaker_open",
            "Models on nodes that failed there, from which their own breaker keeps requests away",
            labels=("node", "model"),
        )
        for (node, model), state in self.gauges.breakers.items():
            if model:
                models.add_metric((node, model), 1.0)
                continue
            for one in BREAKERS:
                nodes.add_metric((node, one), float(one == state))
        yield from (nodes, models)

    def quotas(self) -> Iterator[Metric]:
        labels = ("team", "measure", "window", "from_priority")
        used = GaugeMetricFamily("sollol_quota_used", "What is used of a quota, in its measure", labels=labels)
        amount = GaugeMetricFamily("sollol_quota_limit", "What a quota allows, in its measure", labels=labels)
        for quota in self.gauges.quotas:
            key = (quota.team, quota.measure, quota.window, quota.from_priority)
            used.add_metric(key, quota.used)
            amount.add_metric(key, quota.amount)
        yield from (used, amount)


def by_model(
    name: str, text: str, told: Mapping[str, live.Distribution], bounds: tuple[float, ...] = BUCKETS
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, text, labels=("model",))
    for model, distribution in told.items():
        add(family, (model,), distribution, bounds)
    return family


def add(
    family: HistogramMetricFamily,
    labels: tuple[str, ...],
    distribution: live.Distribution,
    bounds: tuple[float, ...] = BUCKETS,
) -> None:
    """Prometheus counts what is at or below each bound."""
    below, buckets = 0, []
    for bound, count in zip((*map(str, bounds), "+Inf"), distribution.counts, strict=True):
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

    permission = "fleet.view_node"
    renderer_classes = (PrometheusRenderer,)

    def perform_content_negotiation(self, request: Request, force: bool = False) -> tuple[Any, str]:
        """There is one form, whatever a scraper says it accepts."""
        return PrometheusRenderer(), CONTENT_TYPE_LATEST

    @extend_schema(responses={(200, "text/plain"): str}, tags=["overview"], operation_id="metrics")
    def get(self, request: Request) -> Response:
        """Metrics of the gateway in this process, for Prometheus."""
        picture = live.view()
        if picture is None:
            return Response({"detail": "no gateway runs in this process"}, status=503)
        registry = CollectorRegistry()
        registry.register(PictureCollector(picture))
        gauges = live.gauges()
        if gauges is not None:
            registry.register(GaugesCollector(gauges))
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
