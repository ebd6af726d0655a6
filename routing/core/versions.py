"""Which routes an Ollama server has, by its version, and which of two versions is the lower."""

import re
from functools import lru_cache

#: The first version (major, minor) that has a route; routes that stand not here are older than any server in use.
INTRODUCED: dict[str, tuple[int, int]] = {
    "/api/me": (0, 12),
    "/api/signout": (0, 13),
    "/v1/responses": (0, 14),
    "/v1/messages": (0, 14),
    "/api/status": (0, 18),
    "/api/experimental/web_search": (0, 18),
    "/api/experimental/web_fetch": (0, 18),
    "/v1/audio/transcriptions": (0, 20),
    "/api/experimental/model-recommendations": (0, 24),
}
#: What a server says that somebody has built from its source: it has what is newest.
DEVELOPMENT = "0.0.0"


@lru_cache(maxsize=256)
def missing_routes(version: str) -> frozenset[str]:
    """The routes that a server of this version does not have; none where the version says nothing."""
    numbers = re.match(r"v?(\d+)\.(\d+)", version)
    if numbers is None or version.startswith(DEVELOPMENT):
        return frozenset()
    known = int(numbers[1]), int(numbers[2])
    return frozenset(path for path, first in INTRODUCED.items() if known < first)


def version_order(version: str) -> tuple[tuple[int, ...], bool, str]:
    """Sorts "0.9.1" before "0.10.0", and a release candidate before its release."""
    core, _, suffix = version.partition("-")
    return tuple(int(number) for number in re.findall(r"\d+", core)), not suffix, suffix
