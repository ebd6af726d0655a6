"""OLLAMA_ORIGINS: which pages may ask a node."""

from dataclasses import dataclass

LOCAL_HOSTS = ("localhost", "127.0.0.1", "0.0.0.0")  # noqa: S104 - origins that are allowed, no address to listen on
_LOCAL = tuple(f"{scheme}://{host}" for host in LOCAL_HOSTS for scheme in ("http", "https"))
LOCAL_ORIGINS = (
    *_LOCAL,
    *(f"{origin}:*" for origin in _LOCAL),
    "app://*",
    "file://*",
    "tauri://*",
    "vscode-webview://*",
    "vscode-file://*",
)
SCHEMES = ("http://", "https://", "chrome-extension://", "safari-extension://", "moz-extension://")


@dataclass(frozen=True)
class Origins:
    """Origins that are allowed, each with at most one `*` for any text; local ones always are."""

    patterns: tuple[str, ...] = LOCAL_ORIGINS

    @classmethod
    def of(cls, setting: str) -> "Origins":
        """From the operator's comma-separated list; raises ValueError for what Ollama does not start with."""
        entries = [entry.strip().lower() for entry in setting.strip().strip("\"'").split(",")]
        given = [entry for entry in entries if entry]
        for entry in given:
            if entry.count("*") > 1:
                raise ValueError(f"only one * is allowed: {entry}")
            if "*" not in entry and not entry.startswith(SCHEMES):
                raise ValueError(f"bad origin: origins must contain '*' or include http://,https://: {entry}")
        return cls((*given, *LOCAL_ORIGINS))

    @property
    def everybody(self) -> bool:
        return "*" in self.patterns

    def allow(self, origin: str) -> bool:
        return any(_matches(pattern, origin) for pattern in self.patterns)


def _matches(pattern: str, origin: str) -> bool:
    before, star, after = pattern.partition("*")
    if not star:
        return origin == pattern
    return len(origin) >= len(before) + len(after) and origin.startswith(before) and origin.endswith(after)
