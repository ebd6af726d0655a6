"""ollama.com as a node sees it: an account, models that run there, and what a node says that is not signed in."""

from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from simulator.library import InstalledModel
from simulator.models import ModelSpec
from simulator.names import ModelName, parse_name, source_of, split_source
from simulator.wire import Refusal

if TYPE_CHECKING:
    from simulator.node import SimulatedNode

CLOUD_HOST = "https://ollama.com:443"
CLOUD_CAPABILITIES = ("completion", "tools", "embedding")
# The only place that stubs may point to, as OLLAMA_REMOTES has it by default.
REMOTES = frozenset({"ollama.com"})


class SignedOut(Refusal):
    """The node has no account; `relayed` when the answer is that of ollama.com, whatever API the path belongs to."""

    def __init__(self, signin_url: str, *, relayed: bool = False) -> None:
        super().__init__(HTTPStatus.UNAUTHORIZED, "unauthorized")
        self.signin_url = signin_url
        self.relayed = relayed


def need_account(node: "SimulatedNode", *, relayed: bool = False) -> None:
    """Raises SignedOut where nobody is signed in."""
    if not node.account:
        raise SignedOut(f"https://ollama.com/connect?name={node.name}&key=simulated", relayed=relayed)


def remote_model(node: "SimulatedNode", text: str) -> InstalledModel | None:
    """The model of ollama.com that a name with a cloud suffix means; None for names of this node's own models."""
    base, source = source_of(text)
    if source != "cloud":
        return None
    name = parse_name(base)
    if name is None:
        raise Refusal(HTTPStatus.BAD_REQUEST, "invalid model name")
    need_account(node)
    return _cloud_model(name, base)


@lru_cache(maxsize=256)
def _cloud_model(name: ModelName, base: str) -> InstalledModel:
    spec = ModelSpec(
        name.shortest, capabilities=CLOUD_CAPABILITIES, remote_host=CLOUD_HOST, remote_model=base, license=""
    )
    return InstalledModel(name, spec, 0.0)


def check_stub(node: "SimulatedNode", model: InstalledModel) -> None:
    """What running an installed model needs besides its name, when the name stands for a model elsewhere."""
    if not model.spec.remote_host:
        return
    if urlsplit(model.spec.remote_host).hostname not in REMOTES:
        raise Refusal(HTTPStatus.BAD_REQUEST, "this server cannot run this remote model")
    need_account(node)


def remote_fields_of(node: "SimulatedNode", text: str) -> dict[str, str]:
    """As remote_fields, by a name that need not be one."""
    base, source = split_source(text)
    name = parse_name(base)
    if source == "cloud" and name is not None:
        return remote_fields(_cloud_model(name, base))
    model = node.library.find(base)
    return remote_fields(model) if model else {}


def remote_fields(model: InstalledModel) -> dict[str, str]:
    """What answers, lists and details say of a model that runs elsewhere; empty for all others."""
    spec = model.spec
    return {"remote_model": spec.remote_model, "remote_host": spec.remote_host} if spec.remote_host else {}
