"""The channel layer on Redis."""

import asyncio
import os
import sys
from pathlib import Path

import pytest
from channels_redis.core import RedisChannelLayer

from tests.tooling.stack import ROOT, environment

pytestmark = pytest.mark.redis

SEND = """
import asyncio
from channels.layers import get_channel_layer
asyncio.run(get_channel_layer().group_send("bees", {"type": "told", "by": "another process"}))
"""


async def test_message_reaches_another_process(tmp_path: Path, redis_url: str) -> None:
    """What a process with REDIS_URL sends to a group reaches a member in this process."""
    layer = RedisChannelLayer(hosts=[redis_url])
    channel = await layer.new_channel()
    await layer.group_add("bees", channel)
    given = environment(tmp_path, 8000, REDIS_URL=redis_url)
    sender = await asyncio.create_subprocess_exec(
        sys.executable, "manage.py", "shell", "-v", "0", "-c", SEND, cwd=ROOT, env={**os.environ, **given}
    )
    assert await sender.wait() == 0
    assert await asyncio.wait_for(layer.receive(channel), 10) == {"type": "told", "by": "another process"}
    await layer.group_discard("bees", channel)
    await layer.close_pools()
