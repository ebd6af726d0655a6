"""What `/api/dashboard`, `/api/stats` and `/api/health` answer, for the schema and its tests."""

from typing import Any

from rest_framework import serializers
from rest_framework.serializers import (
    BooleanField,
    CharField,
    ChoiceField,
    DateTimeField,
    FloatField,
    IntegerField,
    ListField,
)

CONDITIONS = ("ok", "degraded", "down")
STATES = ("up", "suspect", "down", "draining", "disabled", "unknown")


class Shape(serializers.Serializer[Any]):
    """Describes an answer; the values are JSON-ready already."""


def maybe(kind: type[Any]) -> Any:
    return kind(allow_null=True)


class FiguresShape(Shape):
    """Ended requests; times in milliseconds, null where there were none."""

    requests = IntegerField()
    errors = IntegerField(help_text="That failed.")  # type: ignore[assignment]  # a field, as those beside it
    refused = IntegerField(help_text="That were refused or waited too long.")
    cancelled = IntegerField(help_text="Whose client left.")
    retries = IntegerField()
    success_rate = FloatField(allow_null=True, help_text="Of those that were neither refused nor cancelled.")
    average_latency_ms = FloatField(allow_null=True, help_text="From arrival to end, the wait included.")
    average_queue_ms = maybe(FloatField)
    average_first_byte_ms = maybe(FloatField)
    tokens_in = IntegerField()
    tokens_out = IntegerField()


class HostShape(Shape):
    """The health of one host: as the gateway sees it, else as it was last looked at. Memory in bytes."""

    host = CharField()
    url = CharField()
    state = ChoiceField(STATES)
    available = BooleanField(help_text="Whether requests are sent to it.")
    breaker = ChoiceField(("closed", "open", "half_open", "unknown"))
    in_flight = IntegerField()
    slots = IntegerField()
    models_loaded = ListField(child=CharField())
    gpu_memory_total = IntegerField(allow_null=True, help_text="Null where it was not told.")
    gpu_memory_used = IntegerField()
    attempts = IntegerField(help_text="Since the gateway started.")
    success_rate = FloatField(allow_null=True, help_text="Of these attempts.")
    version = CharField(allow_blank=True)
    latency_ms = FloatField(allow_null=True, help_text="Of the last look.")
    checked_at = maybe(DateTimeField)
    error = CharField(allow_blank=True)


class WorkersShape(Shape):
    """The background worker; `running`: its schedules are not overdue."""

    configured = IntegerField()
    running = BooleanField()
    last_task_at = maybe(DateTimeField)
    tasks_waiting = IntegerField()
    tasks_failed = IntegerField(help_text="Within a day.")
    schedules = IntegerField()


class ScheduledShape(Shape):
    """A schedule of the background worker; of its last run null before the first."""

    name = CharField()
    every = CharField(help_text="How often it runs, in words.")
    paused = BooleanField(help_text="An operator lets it run no more.")
    next_run_at = maybe(DateTimeField)
    last_run_at = DateTimeField(allow_null=True, help_text="When its last run ended.")
    duration_seconds = maybe(FloatField)
    succeeded = maybe(BooleanField)
    result = CharField(allow_blank=True, help_text="Of the last run, or why it failed.")
    last_success_at = maybe(DateTimeField)
    failures_in_a_row = IntegerField()
    failures_last_day = IntegerField()


class StatusShape(Shape):
    state = ChoiceField(CONDITIONS)
    gateway = BooleanField(help_text="Whether a gateway runs in this process.")
    hosts_total = IntegerField()
    hosts_in_use = IntegerField(help_text="Neither disabled nor draining.")
    hosts_available = IntegerField()
    in_flight = IntegerField()
    waiting = IntegerField()
    longest_wait_seconds = FloatField()
    workers = WorkersShape()


class PerformanceShape(FiguresShape):
    since = DateTimeField(help_text="An hour or two ago.")
    gpu_memory_total = IntegerField(help_text="Of all hosts in use of which it is known, in bytes.")
    gpu_memory_used = IntegerField()


class IntelligenceShape(Shape):
    task_types_learned = ListField(child=CharField())
    patterns = IntegerField(help_text="Kinds of task by model of which the length of answers is known.")
    answers_seen = IntegerField()
    speeds_learned = IntegerField(help_text="Models on hosts of which the speed was measured.")
    hosts_measured = IntegerField()
    default_strategy = CharField()


class AlertShape(Shape):
    severity = ChoiceField(("critical", "warning", "info"))
    kind = ChoiceField(
        (
            "no_host", "host_unavailable", "host_degraded", "performance_degraded", "quota_nearly_used",
            "worker_silent", "schedule_failing", "no_gateway",
        )
    )  # fmt: skip
    subject = CharField(allow_blank=True, help_text="The host, team or schedule that it is about.")
    detail = CharField()


class DashboardShape(Shape):
    at = DateTimeField()
    status = StatusShape()
    performance = PerformanceShape()
    routing = IntelligenceShape()
    alerts = ListField(child=AlertShape())
    hosts = ListField(child=HostShape())
    scheduled = ListField(child=ScheduledShape(), help_text="What the background worker does again and again.")


class MomentShape(FiguresShape):
    begins = DateTimeField()


class HostHistoryShape(FiguresShape):
    host = CharField()
    history = ListField(child=MomentShape())


class PatternShape(FiguresShape):
    task = CharField(allow_blank=True)
    model = CharField(allow_blank=True)
    host = CharField()
    share = FloatField(allow_null=True, help_text="Of the requests of this kind for this model.")


class TaskShape(Shape):
    task = CharField(allow_blank=True)
    requests = IntegerField()
    share = FloatField()


class SpeedBaselineShape(Shape):
    """A model on a host, of one request alone; null: not measured."""

    host = CharField()
    model = CharField(allow_blank=True)
    prompt_tokens_per_second = maybe(FloatField)
    output_tokens_per_second = maybe(FloatField)
    load_seconds = maybe(FloatField)
    answers_seen = IntegerField()
    updated_at = DateTimeField()


class AnswerBaselineShape(Shape):
    task = CharField()
    model = CharField()
    mean_tokens = FloatField()
    answers_seen = IntegerField()
    updated_at = DateTimeField()


class BaselinesShape(Shape):
    speeds = ListField(child=SpeedBaselineShape())
    answers = ListField(child=AnswerBaselineShape())


class StatsShape(Shape):
    """What went on since then; a minute old at most."""

    at = DateTimeField()
    since = DateTimeField()
    span = ChoiceField(("hour", "day"), help_text="What the histories are told by; by day from three days on.")
    team = CharField(allow_null=True, help_text="The team that was asked for.")
    total = FiguresShape()
    hosts = ListField(child=HostHistoryShape())
    routing_patterns = ListField(child=PatternShape(), help_text="The 200 most frequent ones.")
    task_types = ListField(child=TaskShape())
    baselines = BaselinesShape()


class HealthShape(Shape):
    status = ChoiceField(CONDITIONS)
    at = DateTimeField()
    gateway = BooleanField()
    database = ChoiceField(("ok",))
    worker = BooleanField()
    hosts_in_use = IntegerField()
    hosts_available = IntegerField()


class StatsQuery(Shape):
    """What `/api/stats` may be asked."""

    hours = IntegerField(min_value=1, max_value=8784, default=24, help_text="How far back, in hours.")
    team = CharField(required=False, max_length=64, help_text="Only this team's requests, by name.")
    model = CharField(required=False, max_length=255, help_text="Only requests for this model.")
