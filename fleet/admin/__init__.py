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
    "routing",
    "teams",
    "usage",
    "users",
]
