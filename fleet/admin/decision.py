"""The decision record of a request, laid out: who was in the choice at what cost, and who was not and why."""

from collections.abc import Mapping
from typing import Any

from django.template.loader import render_to_string

from fleet.admin.page import milliseconds, unbroken

#: What each filter rejects nodes for.
REASONS = {
    "enabled": "disabled",
    "not_draining": "draining",
    "has_model": "the model is not there",
    "has_labels": "lacks a label that a rule demands",
    "same_weights": "has other weights under this name",
    "has_route": "its Ollama does not know the route",
    "alive": "does not answer",
    "breaker_allows": "rests after failures (its breaker is open)",
    "not_tried": "has failed this very request",
    "left_to_others": "others wait for it, and this is a part of a batch job",
}
MEANINGS = {
    "start": "until it can begin",
    "run": "the request itself",
    "others": "delay of those who run there",
    "evict": "loads that evicted models will cost",
    "gpu": "a CPU where a GPU is wanted",
    "price": "what the node's time costs",
    "distance": "the way there",
    "risk": "a CPU where a GPU is wanted, or a run that may be too long",
}


def laid_out(decision: Any) -> str:
    """The record as HTML; whatever an older or newer gateway has written into it is shown, not lost."""
    if not isinstance(decision, Mapping) or not decision:
        return "No decision was made: the request ended before it."
    best = [row for row in decision.get("best") or () if isinstance(row, Mapping)]
    terms = list(dict.fromkeys(term for row in best for term in row.get("terms") or ()))
    rejected = decision.get("rejected")
    names = decision.get("rejected_nodes")
    names = names if isinstance(names, Mapping) else {}
    more = decision.get("more")
    known = {"strategy", "node", "reason", "score_s", "rejected", "rejected_nodes", "best", "others", "more"}
    facts = {
        "decision": decision,
        "score": seconds(decision.get("score_s")),
        "terms": [(term, MEANINGS.get(term, "")) for term in terms],
        "best": [candidate(row, terms, str(decision.get("node", ""))) for row in best],
        "rejected": [reason(why, told, names.get(why)) for why, told in rejected.items()]
        if isinstance(rejected, Mapping)
        else [],
        "scored": [other(row, str(decision.get("node", ""))) for row in decision.get("others") or () if is_pair(row)],
        "more": more if isinstance(more, int) else 0,
        "others": [(name, value) for name, value in decision.items() if name not in known and value not in ("", None)],
    }
    return render_to_string("admin/fleet/requestrecord/decision.html", facts)


def candidate(row: Mapping[str, Any], terms: list[str], chosen: str) -> dict[str, Any]:
    costs = row.get("terms") or {}
    return {
        "node": row.get("node", "?"),
        "chosen": row.get("node") == chosen,
        "cost": seconds(row.get("cost_s")),
        "starts": "now" if row.get("starts_now") else "later",
        "condition": row.get("condition") or "-",
        "costs": [seconds(costs.get(term)) for term in terms],
    }


def is_pair(row: Any) -> bool:
    return isinstance(row, list | tuple) and len(row) == len(("node", "cost"))


def other(row: Any, chosen: str) -> dict[str, Any]:
    """A node behind the best few, of which the cost alone is kept."""
    return {"node": row[0], "cost": seconds(row[1]), "chosen": row[0] == chosen}


def reason(name: str, count: Any, nodes: Any) -> dict[str, Any]:
    """Which nodes a filter has rejected, as far as the record tells, and how many."""
    told = ", ".join(map(str, nodes)) if isinstance(nodes, list) else ""
    if told and isinstance(count, int) and count > len(nodes):
        told += f" and {count - len(nodes)} more"
    return {"name": name, "nodes": told or f"{count} node{'' if count == 1 else 's'}", "why": REASONS.get(name, "")}


def seconds(value: Any) -> str:
    """A cost in seconds; `-` where the term plays no part."""
    if not isinstance(value, int | float):
        return "-"
    return milliseconds(value * 1000) if value else unbroken("0 s")
