"""The operators' pages."""

from fleet.admin import (
    batch,
    history,
    inventory,
    jobs,
    keys,
    learned,
    nodes,
    policies,
    prefill,
    rollups,
    routing,
    teams,
    usage,
    users,
)

__all__ = [
    "batch",
    "history",
    "inventory",
    "jobs",
    "keys",
    "learned",
    "nodes",
    "policies",
    "prefill",
    "rollups",
    "routing",
    "teams",
    "usage",
    "users",
]
