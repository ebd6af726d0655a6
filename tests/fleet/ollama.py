"""Fake Ollama servers behind an httpx transport: one per host, changed by the test as it goes."""

import json
from dataclasses import dataclass, field

import httpx


@dataclass
class FakeOllama:
    """What one server says; `error` is raised instead of an answer, `body` replaces every answer."""

    version: str = "0.12.0"
    models: dict[str, str] = field(default_factory=lambda: {"llama3:latest": "a" * 64})
    loaded: list[str] = field(default_factory=list)
    error: type[httpx.TransportError] | None = None
    body: httpx.Response | None = None
    broken: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    headers: httpx.Headers | None = None

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        self.headers = request.headers
        if self.error is not None:
            raise self.error("the fake is down", request=request)
        if self.body is not None:
            return self.body
        if request.url.path in self.broken:
            return httpx.Response(500, json={"error": "broken"})
        answers = {"/api/version": self.release, "/api/tags": self.tags, "/api/ps": self.ps, "/api/show": self.show}
        return httpx.Response(200, json=answers[request.url.path](request))

    def release(self, request: httpx.Request) -> dict:
        return {"version": self.version}

    def tags(self, request: httpx.Request) -> dict:
        rows = [
            {
                "name": name,
                "model": name,
                "size": 4_000_000_000,
                "digest": digest,
                "details": {"quantization_level": "Q4_K_M"},
            }
            for name, digest in self.models.items()
        ]
        return {"models": rows}

    def ps(self, request: httpx.Request) -> dict:
        rows = [
            {
                "name": name,
                "digest": self.models.get(name, "f" * 64),
                "size": 5_000_000_000,
                "size_vram": 5_000_000_000,
                "context_length": 4096,
                "expires_at": "2318-06-04T14:38:31.837532345-07:00",
            }
            for name in self.loaded
        ]
        return {"models": rows}

    def show(self, request: httpx.Request) -> dict:
        info = {"general.architecture": "llama", "general.parameter_count": 8_030_261_312, "llama.context_length": 8192}
        return {"model_info": info, "capabilities": ["tools", "completion"], "asked": json.loads(request.content)}


@dataclass
class Fleet:
    """The network: hosts and the fakes behind them."""

    hosts: dict[str, FakeOllama] = field(default_factory=dict)

    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self.route)

    def route(self, request: httpx.Request) -> httpx.Response:
        return self.hosts[request.url.host].answer(request)
