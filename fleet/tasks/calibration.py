"""Measuring a node, queued by an operator."""

from fleet.models import Node
from fleet.services.calibration import calibrate


def measure(node_id: int) -> str:
    """Measure the node; the returned line is what the task list shows."""
    node = Node.objects.filter(pk=node_id).first()
    return "the node is gone" if node is None else f"{node.name}: {calibrate(node)}"
