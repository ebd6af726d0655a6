"""History added up by hour and by day: what statistics read instead of the history itself."""

from django.db import models
from django.db.models import Q


class Span(models.TextChoices):
    HOUR = "hour"
    DAY = "day"


class Rollup(models.Model):
    """Ended requests that came in one hour or on one day (UTC), by team, model, node and kind of task.

    Names are those of the time; "" where there was none. `errors` are requests that failed, `refused` those that were
    refused or waited too long; both and `cancelled` are part of `requests`. `seconds` is time in the fleet without the
    wait, `queue_seconds` the wait, `first_byte_seconds` the time to the first byte of those `first_bytes` that had one.
    """

    span = models.CharField(max_length=4, choices=Span.choices)
    begins = models.DateTimeField(help_text="The first moment of the hour or day, in UTC.")
    team_name = models.CharField("team", max_length=64, blank=True)
    model = models.CharField(max_length=255, blank=True)
    node_name = models.CharField("node", max_length=64, blank=True)
    task_type = models.CharField("task", max_length=32, blank=True)
    requests = models.PositiveBigIntegerField(default=0)
    errors = models.PositiveBigIntegerField(default=0)
    refused = models.PositiveBigIntegerField(default=0)
    cancelled = models.PositiveBigIntegerField(default=0)
    retries = models.PositiveBigIntegerField(default=0)
    resumed = models.PositiveBigIntegerField(default=0)
    tokens_in = models.PositiveBigIntegerField(default=0)
    tokens_out = models.PositiveBigIntegerField(default=0)
    seconds = models.FloatField(default=0.0)
    queue_seconds = models.FloatField(default=0.0)
    first_byte_seconds = models.FloatField(default=0.0)
    first_bytes = models.PositiveBigIntegerField(default=0)

    class Meta:
        ordering = ("-begins", "-id")
        verbose_name = "roll-up"
        indexes = (models.Index(fields=("span", "-begins", "-id"), name="rollup_newest"),)
        constraints = (
            models.UniqueConstraint(
                fields=("span", "begins", "team_name", "model", "node_name", "task_type"), name="rollup_once"
            ),
            models.CheckConstraint(condition=Q(span__in=Span.values), name="rollup_span"),
        )

    def __str__(self) -> str:
        return f"{self.span} of {self.begins:%Y-%m-%d %H:%M}: {self.requests} requests"


class RollupMark(models.Model):
    """How far the history has been added up: to the request with the id `done`.

    `seen` was the newest id at `seen_at`. What comes with a lower id than one that is visible may become visible a
    moment later, where several gateways write at once; so only what was visible some seconds ago is added up.
    """

    done = models.BigIntegerField(default=0)
    seen = models.BigIntegerField(default=0)
    seen_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"added up to {self.done}"
