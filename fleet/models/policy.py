"""What a team may ask for, and its share of a busy fleet."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q

from fleet.models.node import check_finite
from fleet.models.revision import Routed
from fleet.models.team import Team

LOWEST, HIGHEST = 1, 10


def priority(default: int, help_text: str) -> Any:
    return models.PositiveSmallIntegerField(
        default=default, validators=[MinValueValidator(LOWEST), MaxValueValidator(HIGHEST)], help_text=help_text
    )


def limit(help_text: str) -> Any:
    return models.PositiveBigIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)], help_text=f"{help_text} Empty: no limit."
    )


def limit_check(name: str) -> models.CheckConstraint:
    return models.CheckConstraint(condition=Q(**{name: None}) | Q(**{f"{name}__gte": 1}), name=f"policy_{name}")


class PriorityPolicy(Routed):
    """Priorities from 1 (batch) to 10 (critical); a team without a policy has these defaults."""

    team = models.OneToOneField(Team, on_delete=models.CASCADE, related_name="policy")
    default_priority = priority(5, "Of a request that asks for none.")
    highest_priority = priority(10, "Requests that ask for more get this.")
    batch_priority = priority(1, "Of batch work.")
    share_weight = models.FloatField(
        default=1.0,
        validators=[check_finite, MinValueValidator(0.001), MaxValueValidator(1000)],
        help_text="Share of a busy fleet: 2 gets twice as much as 1.",
    )
    max_concurrent = limit("Requests running at a time.")
    requests_per_minute = limit("Requests each minute.")
    tokens_per_minute = limit("Tokens, in and out, each minute.")
    tokens_per_day = limit("Tokens, in and out, each day (UTC).")
    gpu_seconds_per_day = limit("Seconds of a node's time each day (UTC).")

    class Meta:
        ordering = ("team__name",)
        verbose_name_plural = "priority policies"
        constraints = (
            *(
                models.CheckConstraint(
                    condition=Q(**{f"{name}__range": (LOWEST, HIGHEST)}),
                    name=f"policy_{name}",
                    violation_error_message=f"{name.replace('_', ' ').capitalize()} is between {LOWEST} and {HIGHEST}.",
                )
                for name in ("default_priority", "highest_priority", "batch_priority")
            ),
            models.CheckConstraint(
                condition=Q(default_priority__lte=F("highest_priority"), batch_priority__lte=F("highest_priority")),
                name="policy_within_highest",
                violation_error_message="Default and batch priority cannot be above the highest priority.",
            ),
            models.CheckConstraint(condition=Q(share_weight__gt=0), name="policy_share_weight"),
            *(
                limit_check(name)
                for name in (
                    "max_concurrent",
                    "requests_per_minute",
                    "tokens_per_minute",
                    "tokens_per_day",
                    "gpu_seconds_per_day",
                )
            ),
        )

    def __str__(self) -> str:
        return f"policy of {self.team}"

    def clean(self) -> None:
        for name in ("default_priority", "batch_priority"):
            asked = getattr(self, name)
            if asked is not None and self.highest_priority is not None and asked > self.highest_priority:
                raise ValidationError({name: f"This is above the highest priority, {self.highest_priority}."})
