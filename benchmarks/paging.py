"""The gaps between the chunks of streams while someone pages through admin, beside those while nobody does.

`python -m benchmarks.paging --password PASSWORD` asks a gateway that runs already (`--url`), with whatever history it
has: four streams at a time, with and without one reader who turns pages of admin as fast as they come, in turns. With
`--write` it writes benchmarks/results/paging.md.
"""

import argparse
import asyncio
import os
import re
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx

RESULT = Path(__file__).parent / "results" / "paging.md"
STREAMS, TURNS = 4, 2
MODEL = "llama3.2:3b"
PAGES = (
    "/admin/fleet/requestrecord/?p={page}",
    "/admin/fleet/requestrecord/?task=transcription",
    "/admin/fleet/requestrecord/?q=no-such-id",
    "/admin/fleet/rollup/",
    "/admin/fleet/nodeevent/",
)


async def stream(client: httpx.AsyncClient, gaps: list[float], until: float) -> None:
    """One chat after the other; seconds between their lines."""
    while time.monotonic() < until:
        body = {"model": MODEL, "messages": [{"role": "user", "content": f"Tell me of {time.time()}"}]}
        async with client.stream("POST", "/api/chat", json=body) as answer:
            answer.raise_for_status()
            last = None
            async for _ in answer.aiter_lines():
                now = time.monotonic()
                if last is not None:
                    gaps.append(now - last)
                last = now


async def turn_pages(client: httpx.AsyncClient, took: list[float], until: float) -> None:
    page = 0
    while time.monotonic() < until:
        page += 1
        for address in PAGES:
            began = time.monotonic()
            (await client.get(address.format(page=page % 100))).raise_for_status()
            took.append(time.monotonic() - began)


async def log_in(client: httpx.AsyncClient, user: str, password: str) -> None:
    form = (await client.get("/admin/login/")).text
    token = re.search(r'csrfmiddlewaretoken" value="([^"]+)"', form)
    assert token, "admin has no login form"
    fields = {"username": user, "password": password, "csrfmiddlewaretoken": token[1]}
    await client.post("/admin/login/", data=fields, headers={"referer": f"{client.base_url}/admin/login/"})
    (await client.get(PAGES[-1])).raise_for_status()


async def measure(options: argparse.Namespace) -> str:
    lines = [
        "| paging | gaps | p50 | p99 | p99.9 | longest | pages | a page, median |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    async with httpx.AsyncClient(base_url=options.url, trust_env=False, timeout=60) as client:
        await log_in(client, options.user, options.password)
        for paging in (False, True) * TURNS:
            gaps: list[float] = []
            took: list[float] = []
            until = time.monotonic() + options.seconds
            readers = [turn_pages(client, took, until)] if paging else []
            await asyncio.gather(*(stream(client, gaps, until) for _ in range(STREAMS)), *readers)
            parts = statistics.quantiles(gaps, n=1000)
            told = " | ".join(f"{1000 * value:.1f} ms" for value in (parts[499], parts[989], parts[998], max(gaps)))
            page = f"{1000 * statistics.median(took):.0f} ms" if took else ""
            lines.append(f"| {'yes' if paging else 'no'} | {len(gaps):,} | {told} | {len(took)} | {page} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="The gateway.")
    parser.add_argument("--user", default="admin")
    parser.add_argument("--password", required=True, help="Of the user, who may see everything.")
    parser.add_argument("--seconds", type=float, default=10.0, help="Of each turn.")
    parser.add_argument("--note", default="", help="What is special about this run, for the result.")
    parser.add_argument("--write", action="store_true", help="Write the result.")
    options = parser.parse_args()
    head = (
        f"# Streams while someone pages through admin\n\nGaps between the chunks of {STREAMS} streams at a time, on "
        f"{os.cpu_count()} cores, {datetime.now(UTC):%Y-%m-%d}. Written by `python -m benchmarks.paging --write`. "
        f"{options.note}\n\n"
    )
    print(text := head + asyncio.run(measure(options)))
    if options.write:
        RESULT.write_text(text)


if __name__ == "__main__":
    main()
