"""A request's decision record, laid out for people: scores as bars by term, and in words why nodes were rejected."""

from collections.abc import Mapping
from typing import Any

#: Why a node was rejected, by the filter that did it.
REJECTED = {
    "enabled": "disabled by the operator",
    "not_draining": "being drained",
    "has_model": "does not have the model",
    "has_labels": "lacks a label that a routing rule demands",
    "same_weights": "has other weights under this name",
    "has_route": "does not know this route",
    "alive": "does not answer",
    "breaker_allows": "kept free after failures in a row",
    "not_tried": "has failed this request before",
    "left_to_others": "others wait for it, and this is a part of a batch job",
}
TERMS = {
    "start": "until it can begin",
    "run": "the request itself",
    "others": "slows down those who run there",
    "queue": "delays those who wait for it",
    "evict": "models that must be loaded again",
    "risk": "may take too long there",
    "price": "what its time costs",
    "distance": "the way there",
    "preference": "the operator's preference",
}
CONDITIONS = {
    "warm": "model loaded",
    "cloud": "runs at ollama.com",
    "joins-load": "model is being loaded",
    "loads-model": "model must be loaded",
    "retry": "another try after a failure",
}
#: A preference by rank weighs more than any time: such a term has no bar.
LONGEST_S = 1e5


def laid_out(told: Mapping[str, Any]) -> dict[str, Any]:
    """A request as `GET /api/requests/{id}` tells it, with what the page draws."""
    decision = told.get("decision") or {}
    rows = decision.get("best", [])
    chosen = decision.get("node", "")
    longest = max((sum(drawable(row["terms"]).values()) for row in rows), default=0.0)
    return {
        **told,
        "reason": CONDITIONS.get(decision.get("reason", ""), decision.get("reason", "")),
        "strategy": decision.get("strategy", ""),
        "score": decision.get("score_s"),
        "scores": [score(row, longest, chosen) for row in rows],
        "terms": [(name, TERMS.get(name, name)) for name in used_terms(rows)],
        "others": others(decision.get("others", []), chosen),
        "more": decision.get("more", 0),
        "rejected": rejected(told, decision),
        "ended": told.get("state") == "ended",
        "tokens_s": pace(told),
    }


def others(rows: list[Any], chosen: str) -> list[dict[str, Any]]:
    """The nodes behind the best few, whose costs alone are kept."""
    return [{"node": node, "cost": cost, "chosen": node == chosen} for node, cost in rows]


def drawable(terms: Mapping[str, float]) -> dict[str, float]:
    return {name: seconds for name, seconds in terms.items() if 0 < seconds < LONGEST_S}


def used_terms(rows: list[Mapping[str, Any]]) -> list[str]:
    """The terms that have a bar, in their usual order."""
    seen = {name for row in rows for name in drawable(row["terms"])}
    return [name for name in TERMS if name in seen] + sorted(seen - TERMS.keys())


def score(row: Mapping[str, Any], longest: float, chosen: str) -> dict[str, Any]:
    """One node's row: its bars in percent of the longest row, and all of its terms as numbers."""
    bars, at = [], 0.0
    for name, seconds in drawable(row["terms"]).items():
        width = 100 * seconds / longest if longest else 0.0
        bars.append({"term": name, "x": f"{at:.2f}%", "width": f"{width:.2f}%", "seconds": seconds})
        at += width
    return {
        "node": row["node"],
        "cost": row["cost_s"],
        "starts_now": row["starts_now"],
        "condition": CONDITIONS.get(row["condition"], row["condition"]),
        "bars": bars,
        "chosen": row["node"] == chosen,
        "terms": [(TERMS.get(name, name), seconds) for name, seconds in row["terms"].items()],
    }


def rejected(told: Mapping[str, Any], decision: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Why nodes were rejected: one by one while the request is under way, else by the filter that did it."""
    by_name: Mapping[str, str] = told.get("rejected_nodes") or {}
    if by_name:
        return [{"who": node, "why": REJECTED.get(why, why)} for node, why in sorted(by_name.items())]
    counts: Mapping[str, int] = decision.get("rejected") or {}
    names: Mapping[str, list[str]] = decision.get("rejected_nodes") or {}
    return [{"who": who(count, names.get(why, [])), "why": REJECTED.get(why, why)} for why, count in counts.items()]


def who(count: int, names: list[str]) -> str:
    """The names of so many nodes, as far as the record has them; older records have none."""
    if not names:
        return f"{count} node{'s' if count > 1 else ''}:"
    return ", ".join(names) + (f" and {count - len(names)} more" if count > len(names) else "")


def pace(told: Mapping[str, Any]) -> float | None:
    """Tokens per second from the first byte to the end."""
    tokens, first, total = told.get("output_tokens"), told.get("first_byte_ms"), told.get("total_ms")
    if not tokens or first is None or total is None or total <= first or not told.get("stream"):
        return None
    return 1000 * float(tokens) / (float(total) - float(first))
