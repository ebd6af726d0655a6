"""What became of scheduled work: django-q2 forgets a schedule's runs as soon as others have filled its list."""

from django.db import models

LONGEST_TOLD = 300


class ScheduledRun(models.Model):
    """The last run of a schedule, by its name; `seconds` is how long it took, `told` its result or what failed.

    `good_at` is when it last ended well, `failures` how often it has failed since.
    """

    name = models.CharField(max_length=100, unique=True)
    ended_at = models.DateTimeField()
    seconds = models.FloatField()
    good = models.BooleanField()
    told = models.CharField(max_length=LONGEST_TOLD, blank=True)
    good_at = models.DateTimeField(null=True, blank=True)
    failures = models.PositiveIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.name} at {self.ended_at:%Y-%m-%d %H:%M:%S}"
