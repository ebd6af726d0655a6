"""The operators' pages."""

from fleet.admin import (
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
