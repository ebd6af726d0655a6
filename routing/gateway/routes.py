"""Which path and method is whose: exact paths, paths that end in a name, and untidy spellings of both."""

import posixpath
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from routing.gateway.exchange import Exchange

Handler = Callable[[Exchange], Awaitable[None]]
#: The order in which Ollama lists the methods that a path allows.
METHOD_ORDER = ("HEAD", "GET", "POST", "DELETE")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What answers, and the scope that a caller needs; none for what tells nothing."""

    handler: Handler
    scope: str = "inference"


Methods = Mapping[str, Endpoint]


@dataclass(frozen=True, slots=True)
class Table:
    """`exact` paths, and `named` ones by the part before their last segment."""

    exact: dict[str, Methods] = field(default_factory=dict)
    named: dict[str, Methods] = field(default_factory=dict)

    def find(self, path: str) -> Methods | None:
        """The methods of a path that is known; None for any other."""
        found = self.exact.get(path)
        if found is None:
            prefix, _, name = path.rpartition("/")
            found = self.named.get(prefix + "/") if name else None
        return found

    def unslashed(self, path: str, method: str) -> str | None:
        """The path without a slash at its end, if that is one of ours for this method; None for any other."""
        bare = path.removesuffix("/")
        return bare if bare != path and method in (self.find(bare) or {}) else None


def clean(path: str) -> str:
    """The path without empty and dot segments, as Go's server makes it; a slash at its end stays.

    It begins with a slash, also where the client's does not (`*`): a node's address is put in front of it.
    """
    if path.startswith("/") and "//" not in path and "/." not in path:
        return path
    tidy = posixpath.normpath("/" + path.lstrip("/"))
    return tidy + "/" if path.endswith("/") and tidy != "/" else tidy


def allowed(methods: Methods) -> bytes:
    """The value of an `Allow` header."""
    return ", ".join(method for method in METHOD_ORDER if method in methods).encode()
