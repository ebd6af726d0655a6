"""When nodes were away, from their recorded transitions."""

from collections.abc import Iterable
from datetime import datetime

from fleet.selectors.recorded import Transition
from routing.whatif.faults import Fault


def outages(transitions: Iterable[Transition], begin: datetime, seconds: float) -> list[Fault]:
    """A fault for each time between a node's going down and its next coming up; several observers tell of the same."""
    gone: dict[int, float] = {}
    found: list[Fault] = []
    for node_id, at, kind in transitions:
        moment = max(0.0, (at - begin).total_seconds())
        if kind == "down":
            gone.setdefault(node_id, moment)
        elif node_id in gone:
            found.append(Fault(node_id, gone.pop(node_id), moment))
    return [*found, *(Fault(node_id, at, max(at, seconds)) for node_id, at in gone.items())]
