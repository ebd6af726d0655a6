"""/api/create: a model made from another one or from uploaded files."""

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web

from simulator.library import InstalledModel
from simulator.models import ModelSpec
from simulator.names import ModelName, parse_name, stored_name
from simulator.progress import PROGRESS_SECONDS, Progress, Report, WorkFailed
from simulator.routes_blobs import blob_digest
from simulator.routes_models import body_model
from simulator.routes_transfer import pulled
from simulator.wire import BadBody, Refusal, go_json, typed

if TYPE_CHECKING:
    from simulator.node import SimulatedNode

Body = Mapping[str, Any]
QUANTISE_DIGEST = "0" * 19
QUANTISE_STEPS = 4


async def create(node: "SimulatedNode", request: web.BaseRequest, body: Body) -> web.StreamResponse:
    name = stored_name(body_model(body))
    if name is None:
        raise BadBody("invalid model name")
    _check_create(node, body)
    if node.faults.fail_create is not None:
        raise Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, node.faults.fail_create, charset=False)
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
            await pulled(node, name, report)
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
