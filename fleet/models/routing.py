"""How nodes are chosen: named strategies, and rules that say for whose requests and which models they hold."""

import math
from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.db.models import ProtectedError, Q
from django.db.models.functions import Lower
from django.db.models.signals import pre_delete
from django.dispatch import receiver

from fleet.models.node import check_labels, is_text
from fleet.models.revision import Routed
from fleet.models.team import Team
from routing.core.names import canonical, display
from routing.core.strategies import BUILT_IN, TERMS, Kind

LEAST_CONTEXT = 4
#: The largest weight of a term. A price counts in seconds for a unit of money, so its weight is far larger.
MOST, MOST_PRICE = 1000.0, 1e6
NAME = RegexValidator(r"\A[A-Za-z0-9][A-Za-z0-9_-]*\Z", "Use letters, digits, dashes and underscores.")

KINDS = (
    (Kind.FASTEST.value, "fastest: where it is expected to finish first"),
    (Kind.LEAST_LOADED.value, "least loaded: where the smallest part of the slots is taken"),
    (Kind.ROUND_ROBIN.value, "round robin: in turn"),
    (Kind.PRIORITY_NODES.value, "priority nodes: the first of the preferred nodes that can take it"),
    (Kind.CHEAPEST.value, "cheapest: time and the node's cost weighed up"),
)


def check_weights(weights: object) -> None:
    if not isinstance(weights, dict):
        raise ValidationError('Weights are terms with numbers, for example {"evict": 0.5}.')
    for term, weight in weights.items():
        if term not in TERMS:
            raise ValidationError(
                "%(term)s is no term; the terms are %(terms)s.", params={"term": term, "terms": ", ".join(TERMS)}
            )
        most = MOST_PRICE if term == "price" else MOST
        number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not number or not math.isfinite(weight) or not 0 <= weight <= most:
            raise ValidationError(
                "The weight of %(term)s is a number from 0 to %(most)s.", params={"term": term, "most": f"{most:g}"}
            )


def check_preferred(preferred: object) -> None:
    if not isinstance(preferred, list) or not all(
        is_text(one) and one.strip() and one.strip("=") == one for one in preferred
    ):
        raise ValidationError('Preferred nodes are a list of names or labels, for example ["gpu-1", "rack=a1"].')
    if len({one.lower() for one in preferred}) < len(preferred):
        raise ValidationError("A node is preferred once only.")


class RoutingStrategy(Routed):
    """A way of choosing a node: its kind, and the weights that differ from the kind's own.

    Each kind exists under its own name without a row; a row of that name changes it. Names are lower case.
    """

    name = models.CharField(
        max_length=50,
        validators=[NAME],
        unique=True,
        error_messages={"unique": "A strategy with this name exists already."},
        help_text="Rules and answers name it so. The name of a kind changes that kind itself.",
    )
    kind = models.CharField(max_length=20, choices=KINDS, default=Kind.FASTEST.value)
    weights = models.JSONField(
        default=dict,
        blank=True,
        validators=[check_weights],
        help_text="What differs from the kind's own weights.",
    )
    preferred = models.JSONField(
        "preferred nodes",
        default=list,
        blank=True,
        validators=[check_preferred],
        help_text="For priority nodes only: names or labels (name=value), the first liked best.",
    )
    note = models.TextField(blank=True, help_text="What it is for.")
    is_default = models.BooleanField("default", default=False, help_text="Holds wherever no rule names another.")

    unrouted: ClassVar[frozenset[str]] = frozenset({"note"})

    class Meta:
        ordering = ("name",)
        verbose_name_plural = "routing strategies"
        constraints = (
            models.CheckConstraint(
                condition=Q(name=Lower("name")) & ~Q(name=""),
                name="strategy_name",
                violation_error_message="A strategy has a name in lower case.",
            ),
            models.CheckConstraint(condition=Q(kind__in=[value for value, _ in KINDS]), name="strategy_kind"),
            models.UniqueConstraint(
                fields=("is_default",),
                condition=Q(is_default=True),
                name="strategy_default",
                violation_error_message="Another strategy is the default: only one can be.",
            ),
        )

    def __str__(self) -> str:
        return self.name

    def clean_fields(self, exclude: Any = None) -> None:
        """Normalises first, so that two spellings of one name count as one."""
        if isinstance(self.name, str):
            self.name = self.name.strip().lower()
        if isinstance(self.preferred, list):
            self.preferred = [one.strip() if isinstance(one, str) else one for one in self.preferred]
        super().clean_fields(exclude)

    def clean(self) -> None:
        faults = {}
        if self.name in BUILT_IN and self.kind != self.name:
            faults["kind"] = f"{self.name} is the name of a kind; a strategy of another kind needs another name."
        if self.preferred and self.kind != Kind.PRIORITY_NODES:
            faults["preferred"] = "Only the kind priority nodes prefers nodes."
        if self.kind == Kind.PRIORITY_NODES and not self.preferred:
            faults["preferred"] = "Say which nodes are preferred, the first liked best."
        if told := self.renamed_under_rules():
            faults["name"] = told
        if faults:
            raise ValidationError(faults)

    def renamed_under_rules(self) -> str:
        before = RoutingStrategy.objects.filter(pk=self.pk).values_list("name", flat=True).first()
        if before is None or before == self.name or before in BUILT_IN:
            return ""
        rules = using(before)
        return f"Rules name {before}: {told(rules)}. Change them first." if rules else ""


class RoutingRule(Routed):
    """What holds for the requests of a team, for a model, or for both; the most specific rule that says a thing counts.

    `model` is a canonical name, empty for any; `strategy` is the name of a kind or of a row.
    """

    team = models.ForeignKey(
        Team, null=True, blank=True, on_delete=models.CASCADE, related_name="rules", help_text="Empty: every team."
    )
    model = models.CharField(max_length=600, blank=True, help_text="As clients name it. Empty: every model.")
    strategy = models.CharField(
        max_length=50, blank=True, help_text="How a node is chosen. Empty: as without the rule."
    )
    labels = models.JSONField(
        "labels required",
        default=dict,
        blank=True,
        validators=[check_labels],
        help_text='Only nodes with all of these are used, for example {"rack": "a1"}.',
    )
    num_ctx = models.PositiveIntegerField(
        "context size",
        null=True,
        blank=True,
        validators=[MinValueValidator(LEAST_CONTEXT)],
        help_text="Tokens; every such request gets it, whatever it asks for, so that none makes a node load anew.",
    )
    enabled = models.BooleanField(default=True)
    note = models.TextField(blank=True, help_text="Why it is so.")

    unrouted: ClassVar[frozenset[str]] = frozenset({"note"})

    class Meta:
        ordering = ("team__name", "model")
        constraints = (
            models.UniqueConstraint(
                fields=("team", "model"),
                name="rule_once",
                violation_error_message="There is a rule for this team and model already.",
            ),
            models.UniqueConstraint(
                fields=("model",),
                condition=Q(team=None),
                name="rule_of_all_teams_once",
                violation_error_message="There is a rule of every team for this model already.",
            ),
            models.CheckConstraint(
                condition=Q(num_ctx=None) | Q(num_ctx__gte=LEAST_CONTEXT),
                name="rule_num_ctx",
                violation_error_message=f"A context has at least {LEAST_CONTEXT} tokens.",
            ),
        )

    def __str__(self) -> str:
        who = "every team" if self.team is None else f"team {self.team}"
        return f"{who}, {display(self.model) if self.model else 'every model'}"

    def clean_fields(self, exclude: Any = None) -> None:
        """Normalises first, so that two spellings of one model count as one."""
        if isinstance(self.model, str):
            self.model = canonical(self.model) if self.model.strip() else ""
        if isinstance(self.strategy, str):
            self.strategy = self.strategy.strip().lower()
        super().clean_fields(exclude)

    def clean(self) -> None:
        if self.strategy and not exists(self.strategy):
            raise ValidationError({"strategy": f"There is no strategy {self.strategy}."})
        if not self.strategy and not self.labels and self.num_ctx is None:
            raise ValidationError("This rule says nothing: give it a strategy, labels or a context size.")


def exists(strategy: str) -> bool:
    return strategy in BUILT_IN or RoutingStrategy.objects.filter(name=strategy).exists()


def using(strategy: str) -> list[RoutingRule]:
    """The rules that name this strategy."""
    return list(RoutingRule.objects.filter(strategy=strategy).select_related("team"))


def told(rules: list[RoutingRule]) -> str:
    return "; ".join(map(str, rules))


@receiver(pre_delete, sender=RoutingStrategy)
def keep_what_rules_use(sender: type[RoutingStrategy], instance: RoutingStrategy, **signal: Any) -> None:
    """However a strategy is deleted: not while rules name it, unless its name would mean the kind from then on."""
    rules = [] if instance.name in BUILT_IN else using(instance.name)
    if rules:
        raise ProtectedError(f"Rules name {instance.name}: {told(rules)}. Change them first.", set(rules))
