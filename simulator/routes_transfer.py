"""Routes that move models: pull and push, with their progress streams."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aiohttp import web

from simulator.downloads import layers_of
from simulator.library import InstalledModel
from simulator.names import ModelName, stored_name
from simulator.progress import PROGRESS_SECONDS, Cut, Progress, Report, WorkFailed
from simulator.routes_models import body_model
from simulator.wire import BadBody

if TYPE_CHECKING:
    from simulator.node import SimulatedNode

Body = Mapping[str, Any]


async def pull(node: "SimulatedNode", request: web.BaseRequest, body: Body) -> web.StreamResponse:
    name = stored_name(body_model(body))
    if name is None:
        raise BadBody("invalid model name")
    progress = Progress(node, request, body)
    return await progress.run(pulled(node, name, progress.report))


async def pulled(node: "SimulatedNode", name: ModelName, report: Report) -> None:
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
        weights = digest == f"sha256:{spec.weights_digest}"
        async with node.downloads.watch(digest, total, weights=weights) as download:
            while not (cut := download.cut(node.faults)) and not download.done:
                completed = {"completed": int(download.completed)} if download.completed >= 1 else {}
                await report(status, digest=digest, total=total, **completed)
                await node.clock.sleep(PROGRESS_SECONDS)
            if cut:
                await report(status, digest=digest, total=total, completed=int(download.completed))
                raise Cut
        await report(status, digest=digest, total=total, completed=total)
    await report("verifying sha256 digest")
    await report("writing manifest")
    node.library.add(InstalledModel(name, spec, node.clock.epoch(), system=spec.system))


async def push(node: "SimulatedNode", request: web.BaseRequest, body: Body) -> web.StreamResponse:
    text = body_model(body)
    if not text:
        raise BadBody("model is required")
    name = stored_name(text)
    progress = Progress(node, request, body)
    return await progress.run(_pushed(node, text, name, progress.report))


async def _pushed(node: "SimulatedNode", text: str, name: ModelName | None, report: Report) -> None:
    await report("retrieving manifest")
    model = node.library.get(name) if name else None
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
