"""Filters: who can serve a kind of request at all. A filter is a function; decisions count whom each rejects."""

from collections.abc import Callable

from routing.core.state import NodeState

#: Labels that a node must have, as pairs of name and value.
Labels = tuple[tuple[str, str], ...]


class Wanted:
    """What requests of one kind want of a node."""

    __slots__ = ("key", "labels", "remote")

    def __init__(self, key: str, labels: Labels, *, remote: bool) -> None:
        self.key, self.labels, self.remote = key, labels, remote


Filter = Callable[[Wanted, NodeState], bool]


def enabled(wanted: Wanted, node: NodeState) -> bool:
    """The operator lets the node be used."""
    return node.spec.enabled


def not_draining(wanted: Wanted, node: NodeState) -> bool:
    """The node is not being emptied."""
    return not node.spec.draining


def has_model(wanted: Wanted, node: NodeState) -> bool:
    """The model is installed there, or it runs at ollama.com and the node is the one for that."""
    return node.cloud if wanted.remote else wanted.key in node.models


def has_labels(wanted: Wanted, node: NodeState) -> bool:
    """The node has every label that a rule demands for this team or model."""
    labels = node.spec.labels
    return all(labels.get(name) == value for name, value in wanted.labels)


#: What a node is for all requests of a kind; `pipeline` asks beside these whether the node has the weights that count
#: (others are better than an error only), has the route, answers, has a breaker that lets requests pass, and has not
#: failed this very request.
FILTERS: tuple[Filter, ...] = (enabled, not_draining, has_model, has_labels)
