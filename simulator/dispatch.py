"""From a request to its handler: access, redirects, routes of the node's version, and the body that handlers share."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aiohttp import web

from simulator.access import refused_or_preflight
from simulator.arrivals import stay
from simulator.node_request import body_of
from simulator.passthrough import hand_over, unpacked
from simulator.redirects import to_clean_path, to_path_without_slash
from simulator.routes import OWN_BODY, Handler, handlers_of, not_routed, parameter_handlers_of, refused
from simulator.routes_control import PREFIX as CONTROL_PREFIX
from simulator.routes_control import control
from simulator.wire import Refusal, parse_body

if TYPE_CHECKING:
    from simulator.node import SimulatedNode

GO_BUFFER_BYTES = 2048
# What Go reads of a body that its handler left alone, to keep the connection; beyond that it gives the connection up.
GO_DISCARDED_BYTES = 256 * 1024


async def answer(node: "SimulatedNode", request: web.BaseRequest) -> web.StreamResponse:
    """The answer of the node, framed as Go's server frames it; raises Broken when a fault took the connection."""
    answer = await _answer(node, request)
    if answer.prepared:
        return answer
    # Go knows the length of what fits its buffer, and sends anything longer in chunks.
    long = (answer.content_length or 0) > GO_BUFFER_BYTES
    if long and request.version >= (1, 1) and request.method != "HEAD":
        answer.enable_chunked_encoding()
    if not request.content.is_eof() and (request.content_length or GO_DISCARDED_BYTES) >= GO_DISCARDED_BYTES:
        answer.force_close()
    return answer


async def _answer(node: "SimulatedNode", request: web.BaseRequest) -> web.StreamResponse:
    path = request.path
    if path.startswith(CONTROL_PREFIX):
        return await control(node, request)
    node.record.saw(path, request.headers)
    settled = to_clean_path(request) or refused_or_preflight(request, node.origins, loopback=node.loopback)
    if settled is not None:
        await node.faults.until_thawed()
        return settled
    try:
        return await _dispatched(node, request, path)
    except Refusal as refusal:
        await node.faults.until_thawed()
        return refused(path, refusal)


async def _dispatched(node: "SimulatedNode", request: web.BaseRequest, path: str) -> web.StreamResponse:
    version = node.effective_version
    handler = handlers_of(path, version).get(request.method)
    if handler is not None:
        return await _routed(node, request, path, handler)
    await node.faults.until_thawed()
    handlers, argument = parameter_handlers_of(path, version)
    if request.method in handlers:
        return await handlers[request.method](node, request, argument)
    return to_path_without_slash(request, version) or not_routed(path, version)


async def _routed(node: "SimulatedNode", request: web.BaseRequest, path: str, handler: Handler) -> web.StreamResponse:
    if path in OWN_BODY:
        return await handler(node, request, {})
    body: Mapping[str, Any] = {}
    if request.method in {"POST", "DELETE"}:
        raw = await body_of(request)
        node.record.body_bytes[path] = len(raw)
        body = parse_body(unpacked(request, raw), empty="EOF" if path.startswith("/v1/") else "missing request body")
    named = body.get("model") or body.get("name") or ""
    model = named if isinstance(named, str) else ""
    async with stay(node, path, model):
        hand_over(node, path, model)
        return await handler(node, request, body)
