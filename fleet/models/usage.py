"""What teams have used, added up by day and priority, and how full their quotas of a minute are."""

from django.db import models
from django.db.models import Q

from fleet.models.policy import HIGHEST, LOWEST, Quota
from fleet.models.team import Team


class UsageDay(models.Model):
    """What a team used on one day (UTC) at one priority; GPU-seconds are seconds in which requests held their slots."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="usage", db_index=False)
    day = models.DateField()
    priority = models.PositiveSmallIntegerField()
    requests = models.BigIntegerField(default=0)
    tokens_in = models.BigIntegerField(default=0)
    tokens_out = models.BigIntegerField(default=0)
    gpu_seconds = models.FloatField("GPU-seconds", default=0.0)

    class Meta:
        ordering = ("-day", "team__name", "-priority")
        verbose_name = "usage of a day"
        verbose_name_plural = "usage by day"
        constraints = (
            models.UniqueConstraint(fields=("team", "day", "priority"), name="usageday_once"),
            models.CheckConstraint(condition=Q(priority__range=(LOWEST, HIGHEST)), name="usageday_priority"),
        )
        indexes = (models.Index(fields=("day",), name="usageday_day"),)

    def __str__(self) -> str:
        return f"{self.team} on {self.day:%d %b %Y} at priority {self.priority}"


class QuotaLevel(models.Model):
    """What is taken of a quota that refills continuously, at one moment."""

    quota = models.OneToOneField(Quota, on_delete=models.CASCADE, primary_key=True, related_name="level")
    level = models.FloatField()
    at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.level:,.6g}"
