"""What the start tells: addresses, nodes with their state, and a line to try."""

import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx

from fleet.management.demo import FLEET, LABEL, is_simulated
from fleet.models import Node

PROBE_S = 3.0
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 (nothing is bound here)


@dataclass(frozen=True)
class Look:
    """One quick look at a node: the models it has, smallest first, or why there was no answer."""

    node: Node
    error: str = ""
    chat_models: tuple[str, ...] = ()
    models: int = 0


def looks(nodes: Sequence[Node]) -> list[Look]:
    """Ask all nodes at once what models they have; takes a few seconds at most."""
    if not nodes:
        return []
    with ThreadPoolExecutor(len(nodes)) as pool:
        return list(pool.map(look, nodes))


def look(node: Node) -> Look:
    headers = {node.header_name: node.header_value} if node.header_name else {}
    try:
        answer = httpx.get(f"{node.url}/api/tags", headers=headers, timeout=PROBE_S, trust_env=False)
        answer.raise_for_status()
        models = sorted(answer.json()["models"] or [], key=lambda model: model.get("size", 0))
        chat = tuple(model["name"] for model in models if not embeds(model))
    except httpx.HTTPStatusError as error:
        return Look(node, f"answers {error.response.status_code}")
    except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError) as error:
        return Look(node, str(error) or type(error).__name__)
    return Look(node, chat_models=chat, models=len(models))


def embeds(model: dict[str, object]) -> bool:
    """Whether /api/tags' row looks like a model that only embeds: it does not say so outright."""
    details = model.get("details")
    family = details.get("family") if isinstance(details, dict) else ""
    return "bert" in str(family) or "embed" in str(model["name"])


def base_url(host: str, port: int) -> str:
    """The address under which this machine reaches a gateway that listens on `host`."""
    host = WILDCARDS.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def text(url: str, admin: str, logs: str, seen: Iterable[Look], *, needs_key: bool) -> str:
    """The banner; `admin` is what to tell about the administrator's password."""
    seen = list(seen)
    lines = [
        "",
        "SOLLOL is running; Ctrl-C stops it.",
        "",
        f"  Ollama API  {url}",
        f"  OpenAI API  {url}/v1",
        f"  Dashboard   {url}/dashboard/",
        f"  Admin       {url}/admin/",
        f"              {admin}",
        f"  Logs        {logs}",
        "",
        *node_lines(seen),
        "",
    ]
    model = first_model(seen)
    if model:
        lines += ["Try it:", "", f"  {curl(url, model, needs_key=needs_key)}", ""]
    elif any(one.node.enabled and not one.error for one in seen):
        lines += ["No node has a chat model yet; pull one: ollama pull llama3.2:3b (on the node)", ""]
    return "\n".join(lines)


def node_lines(seen: Sequence[Look]) -> list[str]:
    if not seen:
        return ["  Nodes       none; add one in Admin, or start with SOLLOL_NODES=host:11434"]
    name_width, url_width = max(len(one.node.name) for one in seen), max(len(one.node.url) for one in seen)
    lines = []
    for number, one in enumerate(seen):
        head = "  Nodes       " if number == 0 else " " * 14
        lines.append(f"{head}{one.node.name:<{name_width}}  {one.node.url:<{url_width}}  {state(one)}")
    return lines


def state(one: Look) -> str:
    if not one.node.enabled:
        return "disabled"
    if one.error:
        return f"unreachable ({one.error})"
    kind = f", simulated {FLEET[one.node.labels[LABEL]].profile}" if is_simulated(one.node) else ""
    return f"up, {one.models} model{'' if one.models == 1 else 's'}{kind}"


def first_model(seen: Iterable[Look]) -> str:
    return next((one.chat_models[0] for one in seen if one.node.enabled and one.chat_models), "")


def curl(url: str, model: str, *, needs_key: bool) -> str:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}]})
    key = " -H 'Authorization: Bearer YOUR-KEY'" if needs_key else ""
    return f"curl {url}/api/chat{key} -d '{body}'"
