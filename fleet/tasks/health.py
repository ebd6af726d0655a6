"""The health sweep of every enabled node, every minute."""

from fleet.selectors.nodes import to_sweep
from fleet.services import health


def sweep() -> str:
    """Look at all enabled nodes; the returned line is what the task list shows."""
    sightings = health.sweep(to_sweep())
    up = sum(sighting.reachable for sighting in sightings)
    return f"{up} of {len(sightings)} nodes up"
