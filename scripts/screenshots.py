"""Take the pictures of README and docs from a demo fleet of its own: `python -m scripts.screenshots`."""

import argparse
import contextlib
import itertools
import json
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
START_S = 120.0
QUESTIONS = (
    "Why is the sky blue?",
    "Summarize the plot of Hamlet in three sentences.",
    "Classify this review as positive or negative: I would buy it again.",
    "Extract all dates from: we met on May 3rd and again on June 9th.",
    "Compare bees and ants.",
)


def run(environment: dict[str, str], *words: str) -> str:
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


@contextlib.contextmanager
def demo(folder: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Address, administrator's password and keys of a fleet of simulated nodes with an hour behind it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    environment = {**os.environ, "SOLLOL_DATA_DIR": str(folder), "SOLLOL_PORT": str(port), "SOLLOL_NODES": ""}
    run(environment, "manage.py", "migrate", "--verbosity", "0")
    keys = json.loads(run(environment, "-m", "scripts.demo_hour"))
    process = subprocess.Popen(
        [sys.executable, "manage.py", "up"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield f"http://127.0.0.1:{port}", password_in(process), keys
    finally:
        process.terminate()  # a shell's background jobs ignore an interrupt, and so do their children
        process.wait(60)


def password_in(process: subprocess.Popen[str]) -> str:
    """Read what `up` tells until it says what to try; the password is in it."""
    assert process.stdout is not None  # noqa: S101 (it was asked for)
    told = ""
    for line in process.stdout:
        told += line
        if line.startswith("Try it:") and (found := re.search(r"password (\S+) \(shown only now\)", told)):
            return found[1]
    sys.exit(f"error: the demo fleet did not start:\n{told}")


def ask(url: str, key: str, number: int) -> None:
    model = ("llama3.2:3b", "llama3.2:3b", "llama3.1:8b")[number % 3]
    text = f"{QUESTIONS[number % len(QUESTIONS)]} ({number})"
    body = {"model": model, "priority": (3, 5, 8)[number % 3], "messages": [{"role": "user", "content": text}]}
    headers = {"authorization": f"Bearer {key}"} if key else {}
    request = urllib.request.Request(f"{url}/api/chat", json.dumps(body).encode(), headers)  # noqa: S310 (our own address)
    with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(request) as answer:  # noqa: S310 (the same)
        answer.read()


@contextlib.contextmanager
def at_work(url: str, keys: list[str], clients: int = 18) -> Iterator[None]:
    """Clients that ask one after the other, so that the pictures show a fleet at work."""
    ended = threading.Event()
    numbers = itertools.count()

    def client() -> None:
        while not ended.is_set():
            number = next(numbers)
            ask(url, (*keys, "")[number % 3], number)
            time.sleep(random.uniform(0, 1.0))

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def log_in(page: Page, url: str, password: str) -> None:
    page.goto(f"{url}/admin/login/?next=/dashboard/")
    page.fill("input[name=username]", "admin")
    page.fill("input[name=password]", password)
    page.press("input[name=password]", "Enter")
    page.wait_for_url(f"{url}/dashboard/")


def dashboard(page: Page, url: str) -> None:
    page.goto(f"{url}/dashboard/")
    page.locator("#requests tbody tr").first.wait_for()
    page.wait_for_timeout(2500)  # charts are drawn each second


def record(page: Page, url: str) -> None:
    page.goto(f"{url}/dashboard/")
    page.locator("#requests .badge.served").first.click(force=True)
    page.locator(".record .scores li").first.wait_for()
    page.wait_for_timeout(300)


def playground(page: Page, url: str) -> None:
    page.goto(f"{url}/dashboard/playground/")
    page.locator("#model option").first.wait_for(state="attached")
    page.select_option("#model", "llama3.2:3b")
    page.select_option("#priority", "10")
    page.fill("#system", "You are a beekeeper.")
    page.fill("#temperature", "0.7")
    page.fill("#text", "Why do bees dance?")
    page.press("#text", "Enter")
    page.locator(".log .about").wait_for(timeout=60_000)


SCENES: tuple[tuple[Callable[[Page, str], None], Literal["light", "dark"], int], ...] = (
    (dashboard, "light", 1440),
    (dashboard, "dark", 1440),
    (dashboard, "dark", 390),
    (record, "light", 1440),
    (playground, "light", 1440),
    (playground, "dark", 390),
)


def pictures(browser: Browser, url: str, password: str, save: Path) -> None:
    page = browser.new_page()
    log_in(page, url, password)
    session = page.context.storage_state()
    for scene, scheme, width in SCENES:
        height = 1000 if width > 1000 else 844  # noqa: PLR2004 (a desk's screen or a phone's)
        context = browser.new_context(
            color_scheme=scheme, viewport={"width": width, "height": height}, storage_state=session
        )
        page = context.new_page()
        scene(page, url)
        page.screenshot(path=save / f"{scene.__name__}-{scheme}-{width}.png")
        context.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="default /usr/bin/chromium")
    parser.add_argument("--output", type=Path, default=IMAGES, help="folder for the pictures; default docs/images")
    parser.add_argument("--work", type=float, default=25.0, help="seconds of work before the first picture; default 25")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="sollol-pictures-") as folder,
        demo(Path(folder)) as (url, password, keys),
        at_work(url, keys),
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=options.chromium, args=["--no-sandbox"]) as browser,
    ):
        time.sleep(options.work)
        pictures(browser, url, password, options.output)
    print(f"pictures are in {options.output}")


if __name__ == "__main__":
    main()
