"""What is known of models on nodes."""

from collections.abc import Iterable

from django.db.models import Count, Q, QuerySet

from fleet.models import Node, NodeModel


def described_weights(nodes: Iterable[Node]) -> dict[int, set[str]]:
    """For each node the digests (or names, where it tells none) that /api/show was read for; in one query."""
    known: dict[int, set[str]] = {}
    rows = NodeModel.objects.filter(node__in=[node.pk for node in nodes], described=True)
    for node_id, digest, key in rows.values_list("node_id", "digest", "key"):
        known.setdefault(node_id, set()).add(digest or key)
    return known


def node_models() -> QuerySet[NodeModel]:
    """Every model on every node, each with its node."""
    return NodeModel.objects.select_related("node").order_by("name", "node__name")


def with_counts(nodes: QuerySet[Node]) -> QuerySet[Node]:
    """The nodes with `installed` and `resident` counts and their observation, in one query."""
    return nodes.select_related("observation").annotate(
        installed=Count("models", filter=Q(models__installed=True)),
        resident=Count("models", filter=Q(models__resident=True)),
    )
