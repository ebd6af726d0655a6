"""/api/embed and /api/embeddings, and the work that /v1/embeddings shares with them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web

from simulator.asked import context_of, request_options
from simulator.cloud import check_stub, remote_model
from simulator.embedding import embed as embed_text
from simulator.embedding import raw_vector
from simulator.forms import NANOSECONDS
from simulator.http_answer import Broken, Delivery, EndedEarly, body_answer, json_answer
from simulator.inference import bury, not_found, not_pulled
from simulator.library import InstalledModel
from simulator.names import parse_name
from simulator.options import Options
from simulator.runner import RunnerDied
from simulator.scheduler import QueueFull
from simulator.text import BYTES_PER_TOKEN, count_tokens
from simulator.wire import JSON_UTF8, BadBody, Refusal, float32_list, go_json, parse_keep_alive, typed

if TYPE_CHECKING:
    from simulator.node import SimulatedNode

Body = Mapping[str, Any]
ENGINE_CANNOT_EMBED = (
    '{"error":{"code":501,"message":"This server does not support embeddings. Start it with `--embeddings`",'
    '"type":"not_supported_error"}}'
)
TOO_LONG = "the input length exceeds the context length"


@dataclass(frozen=True)
class Embedded:
    """Texts as the engine saw them, and what that took: seconds are simulated."""

    texts: Sequence[str]
    tokens: int
    total: float
    load: float


async def embed(node: "SimulatedNode", request: web.BaseRequest, body: Body) -> web.StreamResponse:
    name = typed(body, "model", str, "", owner="EmbedRequest")
    inputs = read_inputs(body.get("input"))
    dimensions = typed(body, "dimensions", int, 0)
    model = embedding_model(node, name)
    done = await embed_inputs(node, request, model, inputs, body)
    if not done.texts:
        return json_answer({"model": name, "embeddings": []})
    spec = model.spec
    vectors = [float32_list(embed_text(model.digest, text, spec.embedding_length, dimensions)) for text in done.texts]
    fields = {
        "total_duration": int(done.total * NANOSECONDS),
        "load_duration": int(done.load * NANOSECONDS),
        "prompt_eval_count": done.tokens,
    }
    head = b'{"model":%b,"embeddings":[%b],' % (go_json(name), b",".join(vectors))
    return body_answer(head + go_json(fields)[1:], JSON_UTF8)


async def embeddings(node: "SimulatedNode", request: web.BaseRequest, body: Body) -> web.StreamResponse:
    """The older route: one prompt, the engine's output as it is."""
    try:
        name = typed(body, "model", str, "", owner="EmbeddingRequest")
        if not name:
            raise BadBody("model is required")
        prompt = typed(body, "prompt", str, "", owner="EmbeddingRequest")
        model = embedding_model(node, name, exact=True)
        done = await embed_inputs(node, request, model, [prompt] if prompt else [], body)
    except Refusal as refusal:
        if refusal.status == HTTPStatus.NOT_IMPLEMENTED:
            raise Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, refusal.text) from None
        raise
    if not done.texts:
        return json_answer({"embedding": []})
    return json_answer({"embedding": raw_vector(model.digest, done.texts[0], model.spec.embedding_length)})


def read_inputs(value: Any) -> list[str]:
    """The texts to embed: a string or a list of strings."""
    if value is None or value == "":
        return []
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    raise BadBody("invalid input type")


def embedding_model(node: "SimulatedNode", name: str, *, exact: bool = False) -> InstalledModel:
    """The model that a request names; `exact` wants its very spelling, as the older route does."""
    if not name:
        raise not_found(name)
    remote = remote_model(node, name)
    if remote is not None:
        return remote
    if parse_name(name) is None:
        raise Refusal(HTTPStatus.BAD_REQUEST, "invalid model name")
    model = node.library.find(name, exact=exact)
    if model is None:
        raise not_pulled(name)
    check_stub(node, model)
    return model


async def embed_inputs(
    node: "SimulatedNode", request: web.BaseRequest, model: InstalledModel, inputs: Sequence[str], body: Body
) -> Embedded:
    """Load the model and run the inputs through it, one after the other."""
    started = node.clock.now()
    if node.faults.busy and not model.spec.remote_host and node.faults.strikes():
        node.record.busy_refusals += 1
        raise QueueFull
    if node.faults.blank and node.faults.strikes():
        raise Broken
    options = request_options(model, body)
    keep_alive = parse_keep_alive(body.get("keep_alive"))
    truncate = typed(body, "truncate", bool, default=True)
    async with node.scheduler.lease(model, options.runner, keep_alive) as runner:
        load = node.clock.now() - started
        texts, tokens = [], 0
        for text in inputs:
            if "embedding" not in model.spec.capabilities:
                raise Refusal(HTTPStatus.NOT_IMPLEMENTED, ENGINE_CANNOT_EMBED)
            fitting = _fitting(node, model, options, text, truncate=truncate)
            try:
                await Delivery(request, node.faults, JSON_UTF8).check()
                async with runner.slot(fitting) as sequence:
                    await sequence.evaluate(count_tokens(fitting))
            except EndedEarly:
                raise Broken from None
            except RunnerDied as death:
                bury(node, runner, death.text)
                raise Refusal(death.status, death.text) from None
            texts.append(fitting)
            tokens += count_tokens(fitting)
        return Embedded(texts, tokens, node.clock.now() - started, load)


def _fitting(node: "SimulatedNode", model: InstalledModel, options: Options, text: str, *, truncate: bool) -> str:
    num_ctx = context_of(node, model, options)
    if count_tokens(text) <= num_ctx:
        return text
    if not truncate:
        raise Refusal(HTTPStatus.BAD_REQUEST, TOO_LONG)
    raw = text.encode("utf-8", "surrogatepass")[: num_ctx * BYTES_PER_TOKEN]
    return raw.decode("utf-8", "ignore")
