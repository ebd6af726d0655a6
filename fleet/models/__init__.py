"""What the control plane keeps in the database."""

from fleet.models.batch import BatchItem, BatchJob, BatchLane, Endpoint, ItemState, JobState
from fleet.models.batch_file import BatchFile, FileKind, FilePart
from fleet.models.history import NodeEvent, RequestRecord
from fleet.models.inventory import NodeModel
from fleet.models.key import ApiKey, Scope
from fleet.models.learned import LearnedLength, LearnedNode, LearnedSpeed, LearnedText
from fleet.models.node import Node, NodeClass, NodeObservation
from fleet.models.policy import PriorityPolicy, Quota
from fleet.models.prefill import PrefillProbe
from fleet.models.revision import Revision, Routed, RoutedQuerySet, bump, lock
from fleet.models.rollup import Rollup, RollupMark, Span
from fleet.models.routing import RoutingRule, RoutingStrategy
from fleet.models.scheduled import ScheduledRun
from fleet.models.team import Team
from fleet.models.usage import QuotaLevel, UsageDay

__all__ = [
    "ApiKey",
    "BatchFile",
    "BatchItem",
    "BatchJob",
    "BatchLane",
    "Endpoint",
    "FileKind",
    "FilePart",
    "ItemState",
    "JobState",
    "LearnedLength",
    "LearnedNode",
    "LearnedSpeed",
    "LearnedText",
    "Node",
    "NodeClass",
    "NodeEvent",
    "NodeModel",
    "NodeObservation",
    "PrefillProbe",
    "PriorityPolicy",
    "Quota",
    "QuotaLevel",
    "RequestRecord",
    "Revision",
    "Rollup",
    "RollupMark",
    "Routed",
    "RoutedQuerySet",
    "RoutingRule",
    "RoutingStrategy",
    "ScheduledRun",
    "Scope",
    "Span",
    "Team",
    "UsageDay",
    "bump",
    "lock",
]
