"""What has happened: ended requests and nodes' transitions; names are kept when node or team are deleted."""

from django.db import models

from fleet.models.node import Node
from fleet.models.team import Team
from routing.core.records import Outcome


class RequestRecord(models.Model):
    """One ended request. Times in milliseconds, tokens as the node counted; prompts and answers are never stored."""

    request_id = models.CharField(max_length=64, unique=True)
    started_at = models.DateTimeField()
    route = models.CharField(max_length=100)
    model = models.CharField(max_length=255, blank=True)
    task_type = models.CharField("task", max_length=32, blank=True)
    complexity = models.CharField(max_length=32, blank=True)
    priority = models.SmallIntegerField()
    stream = models.BooleanField()
    outcome = models.CharField(max_length=16, choices=[(outcome.value, outcome.value) for outcome in Outcome])
    status = models.PositiveSmallIntegerField()
    team = models.ForeignKey(
        Team, null=True, blank=True, on_delete=models.SET_NULL, related_name="requests", db_index=False
    )
    team_name = models.CharField(max_length=64, blank=True)
    key_prefix = models.CharField(max_length=16, blank=True)
    node = models.ForeignKey(
        Node, null=True, blank=True, on_delete=models.SET_NULL, related_name="requests", db_index=False
    )
    node_name = models.CharField(max_length=64, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    resumed = models.PositiveSmallIntegerField(
        default=0, help_text="How often its stream broke off and went on in another attempt."
    )
    queue_ms = models.FloatField(default=0.0)
    first_byte_ms = models.FloatField(null=True, blank=True)
    total_ms = models.FloatField(default=0.0)
    prompt_tokens = models.PositiveBigIntegerField(null=True, blank=True)
    output_tokens = models.PositiveBigIntegerField(null=True, blank=True)
    error = models.TextField(blank=True)
    decision = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ("-started_at", "-id")
        verbose_name = "request"
        # Each holds the whole order of the lists: else SQLite reads the newest of all until it has found enough.
        indexes = (
            models.Index(fields=("-started_at", "-id"), name="request_newest"),
            models.Index(fields=("team", "-started_at", "-id"), name="request_team"),
            models.Index(fields=("node", "-started_at", "-id"), name="request_node"),
            models.Index(fields=("model", "-started_at", "-id"), name="request_model"),
            models.Index(fields=("outcome", "-started_at", "-id"), name="request_outcome"),
            models.Index(fields=("task_type", "-started_at", "-id"), name="request_task"),
        )

    def __str__(self) -> str:
        return self.request_id


class NodeEvent(models.Model):
    """A transition of a node: up, down, version, inventory, breaker_open, breaker_closed, ..."""

    node = models.ForeignKey(
        Node, null=True, blank=True, on_delete=models.SET_NULL, related_name="events", db_index=False
    )
    node_name = models.CharField(max_length=64, blank=True)
    at = models.DateTimeField()
    kind = models.CharField(max_length=32)
    detail = models.TextField(blank=True)

    class Meta:
        ordering = ("-at", "-id")
        indexes = (
            models.Index(fields=("-at", "-id"), name="event_newest"),
            models.Index(fields=("node", "-at", "-id"), name="event_node"),
            models.Index(fields=("kind", "-at", "-id"), name="event_kind"),
        )

    def __str__(self) -> str:
        return f"{self.node_name}: {self.kind}"
