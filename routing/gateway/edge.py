"""Who may ask from which web page: CORS as an Ollama server does it (its OLLAMA_ORIGINS)."""

from collections.abc import Iterable, Mapping

from routing.gateway.exchange import Exchange, Headers

METHODS = b"GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"
_STAINLESS = (
    "Arch,Async,Custom-Poll-Interval,Helper-Method,Lang,Os,Package-Version,Poll-Helper,Retry-Count,Runtime,"
    "Runtime-Version,Timeout"
)
#: Ollama's own list, and behind it the headers that this gateway reads.
ALLOWED_HEADERS = ",".join(
    (
        "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta",
        *(f"X-Stainless-{name}" for name in _STAINLESS.split(",")),
        "X-Sollol-Priority,X-Sollol-Deadline,X-Sollol-Strategy,X-Sollol-On-Break,X-Sollol-Nodes,X-Request-Id",
    )
).encode()
MAX_AGE = b"43200"
_LOCAL = tuple(f"{scheme}://{host}" for host in ("localhost", "127.0.0.1", "0.0.0.0") for scheme in ("http", "https"))  # noqa: S104 (origins, no addresses to listen on)
#: Pages of this machine and applications that bring their own page may always ask.
ALWAYS = (
    *_LOCAL,
    *(f"{origin}:*" for origin in _LOCAL),
    "app://*",
    "file://*",
    "tauri://*",
    "vscode-webview://*",
    "vscode-file://*",
)


class Origins:
    """The origins that may ask; an entry may hold one `*`, and `*` alone allows all."""

    def __init__(self, entries: Iterable[str] = ()) -> None:
        given = [entry.strip() for entry in entries if entry.strip()]
        self.all = "*" in given
        patterns = [entry.partition("*") for entry in (*ALWAYS, *given)]
        self._exact = frozenset(start for start, star, _ in patterns if not star)
        self._wild = tuple((start, end) for start, star, end in patterns if star)

    def allow(self, origin: str) -> bool:
        """Whether a page of this origin may ask."""
        return (
            self.all
            or origin in self._exact
            or any(
                len(origin) >= len(start) + len(end) and origin.startswith(start) and origin.endswith(end)
                for start, end in self._wild
            )
        )

    def admit(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether a request with these headers comes from no page, from a page of ours, or from one that may ask."""
        origin = headers.get(b"origin")
        return origin is None or is_own(origin, headers.get(b"host", b"")) or self.allow(origin.decode("latin-1"))

    async def settle(self, exchange: Exchange) -> bool:
        """Answer what goes no further (a foreign origin, a preflight); true if that was so.

        Otherwise the answer that follows gets the headers by which a browser shows it to the page.
        """
        origin = exchange.headers.get(b"origin")
        if not self.admit(exchange.headers):
            await exchange.respond(403, [], b"")
            return True
        if origin is None or is_own(origin, exchange.headers.get(b"host", b"")):
            return False
        if exchange.method == "OPTIONS":
            await exchange.respond(204, self._preflight(origin), b"")
            return True
        exchange.extra = self._shown_to(origin)
        return False

    def _shown_to(self, origin: bytes) -> Headers:
        if self.all:
            return [(b"access-control-allow-origin", b"*")]
        return [(b"vary", b"Origin"), (b"access-control-allow-origin", origin)]

    def _preflight(self, origin: bytes) -> Headers:
        headers: Headers = [
            (b"access-control-allow-methods", METHODS),
            (b"access-control-allow-headers", ALLOWED_HEADERS),
            (b"access-control-max-age", MAX_AGE),
        ]
        if self.all:
            return [*headers, (b"access-control-allow-origin", b"*")]
        vary = (b"Origin", b"Access-Control-Request-Method", b"Access-Control-Request-Headers")
        return [*headers, *((b"vary", name) for name in vary), (b"access-control-allow-origin", origin)]


def is_own(origin: bytes, host: bytes) -> bool:
    """Whether the page comes from the address that it asks."""
    scheme, _, rest = origin.partition(b"://")
    return scheme in {b"http", b"https"} and rest == host
