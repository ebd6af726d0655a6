"""A web page in a real browser: fetch with its preflights, and the WebSocket."""

import http.server
import threading
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.fakes.address import CHAT
from tests.tooling.stack import Stack

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

#: A name that leads to this machine and is none of its own, as another site's page would be.
FOREIGN = "foreign.test"
FETCH = """async ([url, model]) => {
    const answer = await fetch(url + "/api/chat", {
        method: "POST",
        headers: {"Content-Type": "application/json", "X-Sollol-Priority": "7", "X-Request-Id": "page-" + Date.now()},
        body: JSON.stringify({model, messages: [{role: "user", content: "Hello"}]}),
    });
    const lines = (await answer.text()).trim().split("\\n").map((line) => JSON.parse(line));
    return [answer.status, lines.length, lines.at(-1).done];
}"""
SOCKET = """([url, model]) => new Promise((resolve) => {
    const socket = new WebSocket(url.replace("http", "ws") + "/ws/chat", ["sollol"]);
    const got = [];
    socket.onopen = () => socket.send(JSON.stringify({id: 1, model, messages: [{role: "user", content: "Hello"}]}));
    socket.onerror = () => resolve(["refused", 0, false]);
    socket.onmessage = (event) => {
        got.push(JSON.parse(event.data));
        if (got.at(-1).done) resolve([socket.protocol, got.length, got.at(-1).done]);
    };
})"""


class EmptyPage(http.server.BaseHTTPRequestHandler):
    """One page with nothing on it."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture(scope="module")
def site() -> Iterator[int]:
    """The port of a site that is not the gateway."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), EmptyPage)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()


@pytest.fixture(scope="module")
def page(chromium: str) -> Iterator[Page]:
    arguments = ["--no-sandbox", f"--host-resolver-rules=MAP {FOREIGN} 127.0.0.1"]
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=chromium, args=arguments) as browser,
    ):
        yield browser.new_page()


@pytest.mark.parametrize(("way", "first"), [(FETCH, 200), (SOCKET, "sollol")])
def test_a_page_of_this_machine_chats(running_stack: Stack, site: int, page: Page, way: str, first: object) -> None:
    """From another port, with our own headers, over HTTP and over a WebSocket."""
    page.goto(f"http://localhost:{site}/")
    told = page.evaluate(way, [running_stack.url, CHAT])
    assert (told[0], told[2]) == (first, True)
    assert told[1] > 5


def test_a_foreign_page_gets_nothing(running_stack: Stack, site: int, page: Page) -> None:
    """The browser keeps every answer from it, and opens no socket."""
    page.goto(f"http://{FOREIGN}:{site}/")
    failed = page.evaluate(f"(given) => ({FETCH})(given).catch((error) => [error.name])", [running_stack.url, CHAT])
    assert failed == ["TypeError"]
    assert page.evaluate(SOCKET, [running_stack.url, CHAT])[0] == "refused"
