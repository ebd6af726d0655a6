"""What is to be done to a model on nodes, a step of it at a time."""

from typing import Any

from fleet.services import stock


def carry_out(*what: Any) -> str:
    """Do it; the returned line is what the task list shows."""
    return stock.carry_out(*what)
