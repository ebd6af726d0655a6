"""Routes about the account of the node at ollama.com, and what ollama.com does for those who have one."""

from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from aiohttp import web

from simulator.arrivals import stay
from simulator.cloud import need_account
from simulator.http_answer import json_answer
from simulator.wire import typed

if TYPE_CHECKING:
    from simulator.node import SimulatedNode

Body = Mapping[str, Any]
MOST_RESULTS = 10
USUAL_RESULTS = 5


async def me(node: "SimulatedNode", request: web.BaseRequest, body: Body) -> web.StreamResponse:
    async with stay(node, request.path, ""):
        need_account(node)
        name = node.account
        return json_answer(
            {
                "id": sha256(name.encode()).hexdigest()[:32],
                "email": f"{name.lower()}@example.com",
                "name": name,
                "plan": "free",
            }
        )


async def signout(node: "SimulatedNode", request: web.BaseRequest, body: Body) -> web.StreamResponse:
    async with stay(node, request.path, ""):
        node.account = ""
        return json_answer(None)


async def delete_key(node: "SimulatedNode", request: web.BaseRequest, key: str) -> web.StreamResponse:
    """The older way to sign out: the key of this node is the only one it can name."""
    return await signout(node, request, {})


async def web_search(node: "SimulatedNode", request: web.BaseRequest, body: Body) -> web.StreamResponse:
    need_account(node)
    query = typed(body, "query", str, "")
    count = min(typed(body, "max_results", int, USUAL_RESULTS), MOST_RESULTS)
    results = [
        {
            "title": f"{query} ({number})",
            "url": f"https://example.com/{sha256(query.encode()).hexdigest()[:12]}/{number}",
            "content": f"Result {number} for {query}",
        }
        for number in range(1, count + 1)
    ]
    return json_answer({"results": results})


async def web_fetch(node: "SimulatedNode", request: web.BaseRequest, body: Body) -> web.StreamResponse:
    need_account(node)
    url = typed(body, "url", str, "")
    return json_answer({"title": url, "content": f"The page at {url}", "links": [f"{url}#more"]})
