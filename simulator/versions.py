"""Which release a node claims to be, and what came with which release."""

import re
from functools import lru_cache

Release = tuple[int, int]

CAPABILITIES_IN_TAGS: Release = (0, 30)
ROUTE_SINCE: dict[str, Release] = {
    "/api/me": (0, 12),
    "/api/signout": (0, 13),
    "/api/user/keys/": (0, 13),
    "/v1/responses": (0, 14),
    "/v1/messages": (0, 14),
    "/api/status": (0, 18),
    "/api/experimental/web_search": (0, 18),
    "/api/experimental/web_fetch": (0, 18),
    "/v1/audio/transcriptions": (0, 20),
    "/api/experimental/model-recommendations": (0, 24),
}
"""The first release with a route (a prefix where the path ends in a parameter); all others are as old as anything."""

_VERSION = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+))?")


@lru_cache(maxsize=256)
def has(version: str, since: Release) -> bool:
    """Whether a version such as `0.33.0-rc2` has what came with a release; builds of developers have everything."""
    match = _VERSION.match(version)
    if match is None:
        return True
    major, minor, patch = (int(part or 0) for part in match.groups())
    return (major, minor, patch) == (0, 0, 0) or (major, minor) >= since


def has_route(version: str, route: str) -> bool:
    """Whether a version has this path, or this prefix of paths that end in a parameter."""
    return has(version, ROUTE_SINCE.get(route, (0, 0)))
