"""Take the pictures that the README shows, from a running stack: `python -m scripts.screenshots URL PASSWORD`."""

import argparse
import json
import threading
import urllib.request
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
QUESTIONS = (
    "Why is the sky blue?",
    "Summarize the plot of Hamlet in three sentences.",
    "Classify this review as positive or negative: I would buy it again.",
    "Extract all dates from: we met on May 3rd and again on June 9th.",
    "Compare bees and ants.",
)


def ask(url: str, number: int) -> None:
    """One request, so that the picture shows a fleet at work."""
    text = QUESTIONS[number % len(QUESTIONS)]
    model = ("llama3.2:3b", "llama3.1:8b")[number % 2]
    body = {"model": model, "priority": 3 + number % 6, "messages": [{"role": "user", "content": f"{text} ({number})"}]}
    with urllib.request.urlopen(f"{url}/api/chat", json.dumps(body).encode()) as answer:  # noqa: S310 (the user's own address)
        answer.read()


def log_in(page: Page, url: str, password: str) -> None:
    page.goto(f"{url}/admin/login/?next=/dashboard/")
    page.fill("input[name=username]", "admin")
    page.fill("input[name=password]", password)
    page.press("input[name=password]", "Enter")
    page.wait_for_url(f"{url}/dashboard/")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="address of the running gateway")
    parser.add_argument("password", help="password of the user admin")
    parser.add_argument("--requests", type=int, default=40, help="requests that run meanwhile; default 40")
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="default /usr/bin/chromium")
    parser.add_argument("--output", type=Path, default=IMAGES, help="folder for the pictures; default docs/images")
    options = parser.parse_args()
    url = options.url.rstrip("/")
    options.output.mkdir(parents=True, exist_ok=True)
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=options.chromium, args=["--no-sandbox"]) as browser,
    ):
        for scheme, width in (("light", 1440), ("dark", 390)):
            context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
            page = context.new_page()
            log_in(page, url, options.password)
            threads = [threading.Thread(target=ask, args=(url, number)) for number in range(options.requests)]
            for thread in threads:
                thread.start()
            page.wait_for_timeout(3500)
            page.screenshot(path=options.output / f"dashboard-{scheme}-{width}.png")
            for thread in threads:
                thread.join()
            context.close()


if __name__ == "__main__":
    main()
