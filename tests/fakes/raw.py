"""Bytes on a socket, for what no client library would send."""

import asyncio
from urllib.parse import urlsplit


async def raw_exchange(
    url: str, sent: bytes, until: bytes = b"", after: tuple[bytes, bytes] | None = None, seconds: float = 5.0
) -> bytes:
    """Send bytes and read what comes until the connection ends, or until `until` was read.

    `after` is a pair: once the first was read, the second is sent.
    """
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    got = b""
    try:
        writer.write(sent)
        async with asyncio.timeout(seconds):
            while piece := await reader.read(65536):
                got += piece
                if after is not None and after[0] in got:
                    writer.write(after[1])
                    after = None
                if until and until in got:
                    break
    finally:
        writer.close()
    return got
