"""The operators' pages."""

from fleet.admin import history, inventory, jobs, keys, nodes, policies, teams, users

__all__ = ["history", "inventory", "jobs", "keys", "nodes", "policies", "teams", "users"]
