"""Routes that move or make models: pull, push, create and blobs, with their progress streams."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from hashlib import sha256
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web

from simulator.downloads import layers_of
from simulator.http_answer import Delivery, EndedEarly, body_answer, empty_answer
from simulator.library import InstalledModel
from simulator.models import ModelSpec
from simulator.names import ModelName, parse_name
from simulator.node_request import ask_for_body
from simulator.routes_models import body_model
from simulator.runner import RunnerDied
from simulator.wire import JSON_PLAIN, NDJSON, BadBody, error_json, go_json, typed

if TYPE_CHECKING:
    from simulator.node import SimulatedNode

Body = Mapping[str, Any]
Report = Callable[..., Awaitable[None]]
DIGEST = re.compile(r"sha256[:-]([0-9a-fA-F]{64})\Z")
PROGRESS_SECONDS = 0.06
QUANTISE_DIGEST = "0" * 19
QUANTISE_STEPS = 4


class WorkFailed(Exception):  # noqa: N818 - named after what happened
    """A transfer ends with this text: an error line when something was streamed before, a status when not."""


class Progress:
    """The status objects of a pull, push or create, streamed or, with `stream` false, left out."""

    def __init__(self, node: "SimulatedNode", request: web.BaseRequest, body: Body) -> None:
        self._streams = typed(body, "stream", bool, default=True)
        self._delivery = Delivery(request, node.faults, NDJSON)

    async def report(self, status: str, **fields: Any) -> None:
        if self._streams:
            await self._delivery.send([go_json({"status": status, **fields}) + b"\n"])

    async def run(self, work: Awaitable[None]) -> web.StreamResponse:
        """Do the work and end the answer as it went."""
        try:
            await work
            await self.report("success")
        except (WorkFailed, RunnerDied) as failure:
            if not self._streams or not self._delivery.sent:
                body = error_json(str(failure))
                return body_answer(body, JSON_PLAIN, HTTPStatus.INTERNAL_SERVER_ERROR)
            await self._delivery.stream.send([error_json(str(failure)) + b"\n"])
        except EndedEarly:
            pass
        if self._streams:
            return await self._delivery.finish()
        return body_answer(b'{"status":"success"}', JSON_PLAIN)


async def pull(node: "SimulatedNode", request: web.BaseRequest, body: Body) -> web.StreamResponse:
    text = body_model(body)
    name = parse_name(text) if text else None
    if name is None:
        raise BadBody("invalid model name")
    progress = Progress(node, request, body)
    return await progress.run(_pulled(node, name, progress.report))


async def _pulled(node: "SimulatedNode", name: ModelName, report: Report) -> None:
    """Fetch a model of the registry, layer by layer."""
    await report("pulling manifest")
    spec = node.registry.get(name.key)
    if spec is None:
        raise WorkFailed("pull model manifest: file does not exist")
    if node.faults.fail_pull is not None:
        raise WorkFailed(node.faults.fail_pull)
    for digest, total in layers_of(spec):
        status = f"pulling {digest.removeprefix('sha256:')[:12]}"
        if digest in node.library.blobs:
            await report(status, digest=digest, total=total, completed=total)
            continue
        async with node.downloads.watch(digest, total) as download:
            while not download.done:
                completed = {"completed": int(download.completed)} if download.completed >= 1 else {}
                await report(status, digest=digest, total=total, **completed)
                await node.clock.sleep(PROGRESS_SECONDS)
        await report(status, digest=digest, total=total, completed=total)
    await report("verifying sha256 digest")
    await report("writing manifest")
    node.library.add(InstalledModel(name, spec, node.clock.epoch(), system=spec.system))


async def push(node: "SimulatedNode", request: web.BaseRequest, body: Body) -> web.StreamResponse:
    text = body_model(body)
    if not text:
        raise BadBody("model is required")
    progress = Progress(node, request, body)
    return await progress.run(_pushed(node, text, progress.report))


async def _pushed(node: "SimulatedNode", text: str, report: Report) -> None:
    await report("retrieving manifest")
    model = node.library.find(text)
    if model is None:
        await report("couldn't retrieve manifest")
        raise WorkFailed(f"file does not exist: {text}")
    for digest, total in layers_of(model.spec):
        status = f"pushing {digest.removeprefix('sha256:')[:12]}"
        started = node.clock.now()
        completed = 0.0
        while completed < total:
            await report(status, digest=digest, total=total, **({"completed": int(completed)} if completed else {}))
            await node.clock.sleep(PROGRESS_SECONDS)
            completed = (node.clock.now() - started) * node.profile.download_bytes_per_second
        await report(status, digest=digest, total=total, completed=total)
    await report("pushing manifest")
    node.registry[model.name.key] = model.spec


async def create(node: "SimulatedNode", request: web.BaseRequest, body: Body) -> web.StreamResponse:
    name = parse_name(body_model(body)) if body_model(body) else None
    if name is None:
        raise BadBody("invalid model name")
    _check_create(node, body)
    progress = Progress(node, request, body)
    return await progress.run(_created(node, name, body, progress.report))


def _check_create(node: "SimulatedNode", body: Body) -> None:
    """What is wrong with a create request before its work begins."""
    files = typed(body, "files", dict, {})
    adapters = typed(body, "adapters", dict, {})
    if not body.get("from") and not files:
        raise BadBody("no files provided to convert" if "files" in body else "neither 'from' or 'files' was specified")
    if len(adapters) > 1:
        raise BadBody("only one adapter is currently supported")
    for path, digest in {**files, **adapters}.items():
        if path.startswith("/") or ".." in path.split("/"):
            raise BadBody("file path must be relative")
        if blob_digest(str(digest)) is None:
            raise BadBody("invalid digest format")
    known = (".gguf", ".safetensors", ".json", ".model", ".bin", ".txt")
    unknown = [path for path in files if not path.endswith(known)]
    missing = [path for path, digest in files.items() if blob_digest(digest) not in node.library.blobs]
    if unknown or any(not path.endswith(".gguf") for path in missing):
        raise BadBody("unknown type")


async def _created(node: "SimulatedNode", name: ModelName, body: Body, report: Report) -> None:
    base = await _base_of(node, body, report)
    quantise = typed(body, "quantize", str, "") or typed(body, "quantization", str, "")
    if quantise:
        total = base.spec.weights_bytes
        for step in range(1, QUANTISE_STEPS + 1):
            status = f"quantizing {base.spec.quantization} model to {quantise}"
            await report(status, digest=QUANTISE_DIGEST, total=total, completed=total * step // QUANTISE_STEPS)
            await node.clock.sleep(PROGRESS_SECONDS)
        spec = replace(base.spec, quantization=quantise, weights_sha256="", revision=f"{base.digest}{quantise}")
        base = replace(base, spec=spec)
    await report(f"using existing layer sha256:{base.spec.weights_digest}")
    licences = body.get("license") or ""
    model = replace(
        base,
        name=name,
        modified_at=node.clock.epoch(),
        parent=typed(body, "from", str, ""),
        system=typed(body, "system", str, base.system),
        template=typed(body, "template", str, base.template),
        license="\n".join(licences) if isinstance(licences, list) else str(licences) or base.license,
        options={**base.options, **typed(body, "parameters", dict, {})},
        messages=tuple(typed(body, "messages", list, list(base.messages))),
    )
    for layer in (model.template, model.system, model.license, model.options, model.messages):
        if layer:
            await report(f"creating new layer sha256:{sha256(go_json(layer)).hexdigest()}")
    await report("writing manifest")
    node.library.add(model)


async def _base_of(node: "SimulatedNode", body: Body, report: Report) -> InstalledModel:
    """The model that a new one is made from: an installed one, one of the registry, or an uploaded file."""
    source = typed(body, "from", str, "")
    if source:
        name = parse_name(source)
        if name is None:
            raise WorkFailed("invalid model name")
        model = node.library.find(source)
        if model is None:
            await _pulled(node, name, report)
            model = node.library.find(source)
        if model is None:
            raise WorkFailed(f"model '{source}' not found")
        return model
    files: dict[str, str] = typed(body, "files", dict, {})
    path = max(files, key=lambda path: path.endswith((".gguf", ".safetensors")))
    await report("parsing GGUF" if path.endswith(".gguf") else "converting model")
    digest = blob_digest(files[path]) or ""
    size = node.library.blobs.get(digest)
    if size is None:
        blob = digest.replace(":", "-")
        raise WorkFailed(f"open /usr/share/ollama/.ollama/models/blobs/{blob}: no such file or directory")
    spec = ModelSpec(path, weights_bytes=max(1, size), weights_sha256=digest.removeprefix("sha256:"))
    return InstalledModel(ModelName("", "", path, ""), spec, node.clock.epoch())


def blob_digest(text: str) -> str | None:
    """`sha256:` and 64 hex digits, from either spelling."""
    match = DIGEST.match(text)
    return f"sha256:{match.group(1).lower()}" if match else None


async def has_blob(node: "SimulatedNode", request: web.BaseRequest, text: str) -> web.StreamResponse:
    digest = blob_digest(text)
    if digest is None:
        raise BadBody("invalid digest format")
    return empty_answer(HTTPStatus.OK if digest in node.library.blobs else HTTPStatus.NOT_FOUND)


async def store_blob(node: "SimulatedNode", request: web.BaseRequest, text: str) -> web.StreamResponse:
    digest = blob_digest(text)
    if digest is None:
        raise BadBody("invalid digest format")
    if digest in node.library.blobs:
        return empty_answer()
    await ask_for_body(request)
    sha, size = sha256(), 0
    async for chunk in request.content.iter_any():
        sha.update(chunk)
        size += len(chunk)
    got = f"sha256:{sha.hexdigest()}"
    if got != digest:
        raise BadBody(f'digest mismatch, expected "{digest}", got "{got}"')
    node.library.blobs[digest] = size
    return empty_answer(HTTPStatus.CREATED)
