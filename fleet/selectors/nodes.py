"""Reads of nodes."""

from collections.abc import Sequence

from django.db.models import Q, QuerySet

from fleet.models import Node


def to_sweep() -> QuerySet[Node]:
    """The nodes that the health sweep looks at: every enabled one."""
    return Node.objects.filter(enabled=True).select_related("observation")


def named(names: Sequence[str]) -> list[Node]:
    """Nodes by name, ignoring case; all nodes for no names. Raises ValueError for a name that no node has."""
    rows = Node.objects.select_related("observation")
    if not names:
        return list(rows)
    wanted = Q(pk__in=())
    for name in names:
        wanted |= Q(name__iexact=name)
    found = list(rows.filter(wanted))
    missing = {name.lower(): name for name in names}.keys() - {node.name.lower() for node in found}
    if missing:
        raise ValueError(f"no node is called {', '.join(sorted(missing))}")
    return found
