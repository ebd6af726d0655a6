"""What a team may ask for, its share of a busy fleet, and the quotas on what it uses."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q

from fleet.models.node import check_finite
from fleet.models.revision import Routed
from fleet.models.team import Team
from routing.core.resuming import OnBreak
from routing.core.snapshot import Breach, Measure, Window

LOWEST, HIGHEST = 1, 10
#: A budget of the lowest priority would be a budget of everything.
LOWEST_BUDGET = LOWEST + 1
EVERYTHING = f"Every request runs at priority {LOWEST} or above: leave this empty to count them all."
AT_LEAST_ONE = "Nothing would ever be allowed: give at least 1."
TAKEN = "The team has this quota already: change its amount instead."


class Concurrency(models.TextChoices):
    """What happens to a request beyond `max_concurrent`."""

    WAIT = "wait", "wait (hard)"
    DEMOTE = "demote", "demote (soft)"


MEASURES = (
    (Measure.REQUESTS.value, "requests"),
    (Measure.TOKENS.value, "tokens"),
    (Measure.GPU_SECONDS.value, "GPU-seconds"),
)
WINDOWS = (
    (Window.MINUTE.value, "minute"),
    (Window.DAY.value, "day"),
    (Window.MONTH.value, "month"),
)
ON_BREAK = (
    (OnBreak.CONTINUE.value, "go on at another node"),
    (OnBreak.ERROR.value, "end with an error"),
)
BREACHES = (
    (Breach.REFUSE.value, "refuse (hard)"),
    (Breach.DEMOTE.value, "demote (soft)"),
)


def priority(default: int, help_text: str) -> Any:
    return models.PositiveSmallIntegerField(
        default=default, validators=[MinValueValidator(LOWEST), MaxValueValidator(HIGHEST)], help_text=help_text
    )


class PriorityPolicy(Routed):
    """Priorities from 1 (batch) to 10 (critical); a team without a policy has these defaults."""

    team = models.OneToOneField(Team, on_delete=models.CASCADE, related_name="policy")
    default_priority = priority(5, "Of a request that asks for none.")
    highest_priority = priority(10, "Requests that ask for more run at the default priority.")
    batch_priority = priority(1, "Of batch work, and of what is demoted.")
    share_weight = models.FloatField(
        default=1.0,
        validators=[check_finite, MinValueValidator(0.001), MaxValueValidator(1000)],
        help_text="Share of a busy fleet: 2 gets twice as much as 1.",
    )
    max_concurrent = models.PositiveBigIntegerField(
        "most at a time",
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Requests running at a time. Empty: no limit.",
    )
    concurrent_breach = models.CharField(
        "beyond that",
        max_length=8,
        choices=Concurrency.choices,
        default=Concurrency.WAIT,
        help_text="Others wait in the queue, or run at batch priority.",
    )
    on_break = models.CharField(
        "streams that break off",
        max_length=8,
        choices=ON_BREAK,
        default=OnBreak.CONTINUE.value,
        help_text="They go on at another node where that is known to work. A request may say otherwise itself.",
    )
    hedge = models.BooleanField(
        "second copies of short requests",
        default=False,
        help_text="Embeddings and classifications that take longer than 95% of their kind are sent to a second node as "
        "well, and the first answer counts; at most 5% of them.",
    )
    join_embeddings = models.BooleanField(
        "join small embedding requests",
        default=False,
        help_text="Small ones that wait for one model go to a node in one call. Each still is a request of its own; "
        "tokens of one call are divided among them by the length of their texts.",
    )
    split_embeddings = models.BooleanField(
        "split large embedding requests",
        default=False,
        help_text="A long list of texts is spread over the nodes with the same weights that are idle. CPUs and GPUs "
        "round vectors differently.",
    )
    cache_embeddings = models.BooleanField(
        "answer known texts from the cache",
        default=False,
        help_text="Vectors are kept by weights, options and text, and shared with every team that has this set.",
    )

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
            models.CheckConstraint(
                condition=Q(max_concurrent=None) | Q(max_concurrent__gte=1), name="policy_max_concurrent"
            ),
            models.CheckConstraint(
                condition=Q(concurrent_breach__in=Concurrency.values), name="policy_concurrent_breach"
            ),
            models.CheckConstraint(condition=Q(on_break__in=[value for value, _ in ON_BREAK]), name="policy_on_break"),
        )

    def __str__(self) -> str:
        return f"policy of {self.team}"

    def clean(self) -> None:
        for name in ("default_priority", "batch_priority"):
            asked = getattr(self, name)
            if asked is not None and self.highest_priority is not None and asked > self.highest_priority:
                raise ValidationError({name: f"This is above the highest priority, {self.highest_priority}."})


class Quota(Routed):
    """A bound on what a team uses in each minute, day or month; with `from_priority`, a budget of that priority.

    A budget counts and holds only requests that run at its priority or above. GPU-seconds are the seconds that requests
    hold their slots.
    """

    policy = models.ForeignKey(PriorityPolicy, on_delete=models.CASCADE, related_name="quotas", db_index=False)
    amount = models.FloatField(validators=[check_finite], help_text="How much in each window.")
    measure = models.CharField(
        "of",
        max_length=12,
        choices=MEASURES,
        default=Measure.REQUESTS.value,
        help_text="Tokens in and out; GPU-seconds are those in which requests hold their slots.",
    )
    window = models.CharField(
        "each",
        max_length=8,
        choices=WINDOWS,
        default=Window.DAY.value,
        help_text="A minute refills continuously; days and months are those of UTC.",
    )
    breach = models.CharField(
        "beyond that",
        max_length=8,
        choices=BREACHES,
        default=Breach.REFUSE.value,
        help_text="Refused with 429 and Retry-After; or served at a lower priority: below the budget, or as batch.",
    )
    from_priority = models.PositiveSmallIntegerField(
        "budget of priority",
        null=True,
        blank=True,
        help_text=f"{LOWEST_BUDGET} to {HIGHEST}: only requests at this priority or above count. Empty: all count.",
    )

    class Meta:
        ordering = ("policy", "window", "measure", "from_priority")
        constraints = (
            models.UniqueConstraint(
                fields=("policy", "measure", "window", "from_priority"),
                name="quota_budget_once",
                violation_error_message=TAKEN,
            ),
            models.UniqueConstraint(
                fields=("policy", "measure", "window"),
                condition=Q(from_priority=None),
                name="quota_once",
                violation_error_message=TAKEN,
            ),
            models.CheckConstraint(
                condition=Q(amount__gt=0), name="quota_amount", violation_error_message="Give an amount above 0."
            ),
            models.CheckConstraint(condition=Q(measure__in=[value for value, _ in MEASURES]), name="quota_measure"),
            models.CheckConstraint(condition=Q(window__in=[value for value, _ in WINDOWS]), name="quota_window"),
            models.CheckConstraint(condition=Q(breach__in=[value for value, _ in BREACHES]), name="quota_breach"),
            models.CheckConstraint(
                condition=Q(from_priority=None) | Q(from_priority__range=(LOWEST_BUDGET, HIGHEST)),
                name="quota_from_priority",
                violation_error_message=f"A budget is of a priority from {LOWEST_BUDGET} to {HIGHEST}.",
            ),
        )

    def __str__(self) -> str:
        budget = "" if self.from_priority is None else f" from priority {self.from_priority}"
        return f"{self.amount:,.15g} {self.measure.replace('gpu_', 'GPU-')} each {self.window}{budget}"

    def clean(self) -> None:
        faults = {}
        if self.amount is not None:
            if self.amount <= 0:
                faults["amount"] = "Give an amount above 0."
            elif self.amount < 1 and self.measure != Measure.GPU_SECONDS:
                faults["amount"] = AT_LEAST_ONE
        try:
            highest = self.policy.highest_priority
        except PriorityPolicy.DoesNotExist:
            highest = HIGHEST
        if told := self.budget_fault(highest):
            faults["from_priority"] = told
        if faults:
            raise ValidationError(faults)

    def budget_fault(self, highest: int | None) -> str:
        """What is wrong with the budget's priority in a team that may ask for `highest` at most; empty if nothing."""
        if self.from_priority is None:
            return ""
        if self.from_priority == LOWEST:
            return EVERYTHING
        if not LOWEST_BUDGET <= self.from_priority <= HIGHEST:
            return f"A priority is between {LOWEST} and {HIGHEST}."
        if highest is not None and self.from_priority > highest:
            return f"The team's requests never run above priority {highest}: nothing would count."
        return ""

    @property
    def kind(self) -> tuple[str, str, int | None]:
        """What a team can have one quota of."""
        return self.measure, self.window, self.from_priority
