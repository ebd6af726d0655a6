"""Reads of strategies and rules, and what about them will not do what the operator may expect."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce

from fleet.models import Node, NodeModel, RoutingRule, RoutingStrategy
from routing.core.names import display
from routing.core.strategies import BUILT_IN


def strategies() -> QuerySet[RoutingStrategy]:
    """The operator's strategies, each with the number of `rules` that name it, in one query."""
    rules = RoutingRule.objects.filter(strategy=OuterRef("name")).order_by().values("strategy")
    return RoutingStrategy.objects.annotate(
        rules=Coalesce(Subquery(rules.annotate(n=Count("pk")).values("n"), output_field=IntegerField()), 0)
    ).order_by("name")


def rules() -> QuerySet[RoutingRule]:
    return RoutingRule.objects.select_related("team").order_by("team__name", "model")


def strategy_names() -> list[str]:
    """Every name that a rule may give: the kinds', then the operator's."""
    return list(dict.fromkeys([*BUILT_IN, *RoutingStrategy.objects.order_by("name").values_list("name", flat=True)]))


def model_names() -> list[str]:
    """The models that are installed anywhere, as lists show them."""
    keys = NodeModel.objects.filter(installed=True).order_by("key").values_list("key", flat=True).distinct()
    return sorted({display(key) for key in keys})


@dataclass(frozen=True, slots=True)
class Known:
    """The fleet's nodes by name, each with its labels: all of them, and the enabled ones."""

    nodes: Mapping[str, Mapping[str, str]]
    enabled: Collection[str]

    def has(self, wanted: str) -> bool:
        """Whether a node has this name, or this label as `name=value`."""
        label, equals, value = wanted.partition("=")
        if equals:
            return any(labels.get(label) == value for labels in self.nodes.values())
        return wanted.lower() in self.nodes

    def serves(self, labels: Mapping[str, str]) -> bool:
        """Whether an enabled node has all of these labels."""
        return any(labels.items() <= self.nodes[name].items() for name in self.enabled)


def known() -> Known:
    """The fleet's nodes, in one query."""
    rows: list[Any] = list(Node.objects.order_by("name").values_list("name", "labels", "enabled"))
    return Known(
        {name.lower(): labels for name, labels, _ in rows}, [name.lower() for name, _, enabled in rows if enabled]
    )


def doubts(row: RoutingStrategy | RoutingRule, fleet: Known) -> list[str]:
    """What an operator should be told when saving this; it may come true later, so it is no error."""
    if isinstance(row, RoutingStrategy):
        strange = [one for one in row.preferred if not fleet.has(one)]
        return [f"No node is called so, or has the label: {', '.join(strange)}."] if strange else []
    if row.enabled and row.labels and not fleet.serves(row.labels):
        wanted = ", ".join(f"{name}={value}" for name, value in row.labels.items())
        return [f"No enabled node has {wanted}: the requests of this rule will be refused."]
    return []
