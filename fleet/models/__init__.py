"""What the control plane keeps in the database."""

from fleet.models.history import NodeEvent, RequestRecord
from fleet.models.inventory import NodeModel
from fleet.models.key import ApiKey, Scope
from fleet.models.node import Node, NodeClass, NodeObservation
from fleet.models.policy import PriorityPolicy
from fleet.models.revision import Revision, Routed, RoutedQuerySet, bump, lock
from fleet.models.team import Team

__all__ = [
    "ApiKey",
    "Node",
    "NodeClass",
    "NodeEvent",
    "NodeModel",
    "NodeObservation",
    "PriorityPolicy",
    "RequestRecord",
    "Revision",
    "Routed",
    "RoutedQuerySet",
    "Scope",
    "Team",
    "bump",
    "lock",
]
