"""Whether the channel layer answers, where it is a server of its own."""

import asyncio
from typing import Any

from channels.layers import get_channel_layer

#: Seconds that it may take to answer.
PATIENCE_S = 2.0


async def answers() -> bool | None:
    """True or false; None where the channel layer is part of this process."""
    layer: Any = get_channel_layer()
    if layer is None or not hasattr(layer, "connection"):
        return None
    try:
        async with asyncio.timeout(PATIENCE_S):
            await layer.connection(0).ping()
    except Exception:  # noqa: BLE001 (whatever is wrong with it, it does not answer)
        return False
    return True
