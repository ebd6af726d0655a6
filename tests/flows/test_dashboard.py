"""Ada's day in a real browser: the dashboard tells what happens without reload, the playground answers."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page, Playwright, Route, TimeoutError, expect, sync_playwright  # noqa: A004

from tests.fakes.address import CHAT, MESSAGES
from tests.tooling.stack import Stack, wait_until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]
BODY = {"model": CHAT, "messages": MESSAGES, "stream": False}
SECOND = 1000


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of this module's own: nodes are drained and killed."""
    with Stack.started(tmp_path_factory.mktemp("dashboard")) as started:
        yield started
        started.stop()


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="module")
def logged_in(playwright: Playwright, chromium: str, stack: Stack) -> Iterator[BrowserContext]:
    with playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"]) as browser:
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        page = context.new_page()
        page.goto(f"{stack.url}/dashboard/")
        page.fill("input[name=username]", "admin")
        page.fill("input[name=password]", stack.password)
        page.press("input[name=password]", "Enter")
        page.wait_for_url(f"{stack.url}/dashboard/")
        page.close()
        yield context


@pytest.fixture
def page(logged_in: BrowserContext) -> Iterator[Page]:
    """A page on which nothing may go wrong in the console."""
    opened = logged_in.new_page()
    faults: list[str] = []
    opened.on("console", lambda said: faults.append(said.text) if said.type in {"error", "warning"} else None)
    opened.on("pageerror", lambda fault: faults.append(str(fault)))
    yield opened
    opened.close()
    assert faults == []


@pytest.fixture
def ada(logged_in: BrowserContext, stack: Stack) -> Iterator[httpx.Client]:
    """Ada's session, for what she does elsewhere than on the page that is looked at."""
    cookies = {cookie["name"]: cookie["value"] for cookie in logged_in.cookies()}
    headers = {"x-csrftoken": cookies["csrftoken"], "referer": f"{stack.url}/admin/"}
    with httpx.Client(base_url=stack.url, cookies=cookies, headers=headers, trust_env=False, timeout=60) as client:
        yield client


def open_dashboard(page: Page, stack: Stack) -> None:
    page.goto(f"{stack.url}/dashboard/")
    expect(page.locator("#link")).to_have_text("live")


def tile(page: Page, name: str):
    return page.locator("article.node").filter(has=page.get_by_role("link", name=name, exact=True))


def chat(stack: Stack) -> str:
    """One request; its id."""
    answer = httpx.post(f"{stack.url}/api/chat", json=BODY, timeout=60, trust_env=False)
    assert answer.status_code == 200
    return answer.headers["x-sollol-request-id"]


@contextlib.contextmanager
def changed(ada: httpx.Client, name: str, **columns: object) -> Iterator[None]:
    """A node as the operator has changed it elsewhere, and as before at the end."""
    row = next(row for row in ada.get("/api/fleet/nodes/").json()["results"] if row["name"] == name)
    path = f"/api/fleet/nodes/{row['id']}/"
    assert ada.patch(path, json=columns).status_code == 200
    try:
        yield
    finally:
        assert ada.patch(path, json={column: row[column] for column in columns}).status_code == 200


def serious(page: Page) -> list[str]:
    """Accessibility faults that axe calls serious or critical, each with the first place where it is."""
    told = Axe().run(page).response
    assert len(told["passes"]) > 10
    grave = [fault for fault in told["violations"] if fault["impact"] in {"serious", "critical"}]
    return [f"{fault['id']}: {fault['nodes'][0]['html'][:120]}" for fault in grave]


def test_scheduled_work_is_told(page: Page, stack: Stack) -> None:
    """Each schedule with its last run and its next one; the worker is there; on a phone, too."""
    open_dashboard(page, stack)
    expect(page.locator("#worker")).to_have_text("worker at work")
    rows = page.locator("#works tbody tr")
    expect(rows.filter(has_text="quota windows")).to_have_count(1)
    sweep = rows.filter(has_text="health sweep")
    expect(sweep.locator(".badge")).to_have_text("ok", timeout=90 * SECOND)
    expect(sweep).to_contain_text(re.compile(r"\d+ s ago.*of 3 nodes up.*every minute"))
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 900})
        open_dashboard(page, stack)
        expect(sweep).to_have_count(1)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert serious(page) == []


def test_a_drained_node_is_told_within_a_second(page: Page, stack: Stack, ada: httpx.Client) -> None:
    """The tile changes without reload when Ada drains the node elsewhere, and changes back."""
    open_dashboard(page, stack)
    badge = tile(page, "bee").locator("h3 .badge").last
    expect(badge).to_have_text("up")
    with changed(ada, "bee", draining=True):
        expect(badge).to_have_text("draining", timeout=2 * SECOND)
    expect(badge).to_have_text("up", timeout=2 * SECOND)


def test_a_request_appears_and_tells_why(page: Page, stack: Stack) -> None:
    """A request turns up in the stream; its decision record has a bar for each node that was judged."""
    open_dashboard(page, stack)
    request_id = chat(stack)
    row = page.locator(f'tr[data-request="{request_id}"]')
    expect(row).to_contain_text("served", timeout=2 * SECOND)
    row.get_by_role("button").press("Enter")
    record = page.get_by_role("dialog")
    expect(record).to_contain_text(request_id)
    expect(record.locator(".scores li.chosen")).to_have_count(1)
    assert record.locator("svg.bar rect").count() >= 1
    assert record.locator("svg.bar rect").first.evaluate("bar => bar.getBoundingClientRect().width") > 1
    assert serious(page) == []
    page.keyboard.press("Escape")
    expect(record).to_be_hidden()


def test_charts_and_figures_move(page: Page, stack: Stack) -> None:
    """Six charts are drawn, and a request is part of the figures."""
    open_dashboard(page, stack)
    expect(page.locator("figure.chart canvas")).to_have_count(6)
    since = page.locator("#now div").filter(has_text="Requests per second").locator("small")
    before = since.inner_text()
    chat(stack)
    expect(since).not_to_have_text(before, timeout=2 * SECOND)
    expect(page.locator("#speeds tbody tr").first).to_be_visible(timeout=10 * SECOND)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize("path", ["/dashboard/", "/dashboard/playground/"])
def test_no_serious_accessibility_fault(page: Page, stack: Stack, path: str, width: int, scheme: str) -> None:
    """Axe finds nothing serious in either scheme and width, and nothing sticks out to the side."""
    chat(stack)
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{stack.url}{path}")
    if path == "/dashboard/":
        expect(page.locator("#requests tbody tr").first).to_be_visible()
    else:
        expect(page.locator("#model option").first).to_be_attached()
    assert serious(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_polling_stands_in_for_the_socket(page: Page, stack: Stack, ada: httpx.Client) -> None:
    """Where no WebSocket can be had the page says so, and still follows."""
    page.route_web_socket(re.compile("/ws/dashboard"), lambda socket: socket.close())
    page.goto(f"{stack.url}/dashboard/")
    expect(page.locator("#link")).to_contain_text("asking every 5 s", timeout=15 * SECOND)
    with changed(ada, "cat", draining=True):
        expect(tile(page, "cat").locator("h3 .badge").last).to_have_text("draining", timeout=8 * SECOND)


def test_a_lost_connection_is_told_and_made_again(page: Page, stack: Stack) -> None:
    """When the socket breaks the page says so and is live again by itself."""
    tries = []

    def once(socket) -> None:
        tries.append(socket)
        server = socket.connect_to_server()
        if len(tries) == 1:
            server.on_message(lambda message: (socket.send(message), socket.close()))

    page.route_web_socket(re.compile("/ws/dashboard"), once)
    page.goto(f"{stack.url}/dashboard/")
    expect(page.locator("#link")).to_contain_text("connection lost")
    expect(page.locator("#link")).to_have_text("live", timeout=5 * SECOND)
    assert len(tries) == 2


def test_the_playground_answers_and_tells_why(page: Page, stack: Stack) -> None:
    """An answer streams in, names its node and its speed, and leads to the decision record; so does a second one."""
    page.goto(f"{stack.url}/dashboard/playground/")
    page.select_option("#model", CHAT)
    page.fill("#system", "You are a beekeeper.")
    page.fill("#temperature", "0.5")
    page.fill("#text", "Why do bees dance?")
    page.press("#text", "Enter")
    about = page.locator(".log .about")
    expect(about).to_contain_text(re.compile(r"answered by (ant|bee|cat)"), timeout=30 * SECOND)
    expect(about).to_contain_text("per second")
    assert page.locator(".log .assistant .words").inner_text().strip()
    assert serious(page) == []
    expect(page.locator("#code")).to_contain_text('"temperature": 0.5')
    about.get_by_role("button").click()
    expect(page.get_by_role("dialog").locator(".scores li.chosen")).to_have_count(1)
    page.keyboard.press("Escape")
    page.fill("#text", "And ants?")
    page.click("#send")
    expect(about).to_have_count(2, timeout=30 * SECOND)


def test_the_place_in_the_queue_is_told(page: Page, stack: Stack) -> None:
    """While others are served first, the playground tells how many are before it and when it will probably start."""
    page.goto(f"{stack.url}/dashboard/playground/")
    page.select_option("#model", CHAT)
    page.select_option("#priority", "1")
    page.fill("#text", "Am I the last?")
    seen = Event()

    def crowd() -> bool:
        while chat(stack):
            if seen.is_set():
                return True
        return False

    with ThreadPoolExecutor(60) as pool:
        others = [pool.submit(crowd) for _ in range(60)]
        try:
            page.click("#send")
            expect(page.locator("#state")).to_contain_text(
                re.compile(r"Waiting: number \d+ in the queue"), timeout=30 * SECOND
            )
        finally:
            seen.set()
        assert all(other.result() for other in others)
    expect(page.locator(".log .about")).to_contain_text("waited", timeout=60 * SECOND)


def test_a_read_stream_stands_still(page: Page, stack: Stack) -> None:
    """While Ada has paused the stream new requests are counted, and shown when she wants them."""
    chat(stack)
    open_dashboard(page, stack)
    top = page.locator("#requests tbody tr").first
    expect(top).to_be_visible()
    page.click("#pause")
    before = top.get_attribute("data-request")
    newer = chat(stack)
    expect(page.locator("#newer")).to_have_text("1 newer", timeout=2 * SECOND)
    assert top.get_attribute("data-request") == before
    page.click("#newer")
    expect(page.locator(f'tr[data-request="{newer}"]')).to_be_visible()


def test_an_answer_can_be_stopped(page: Page, stack: Stack) -> None:
    """Stop ends a running answer; what came stays, and the next question can be asked."""
    page.goto(f"{stack.url}/dashboard/playground/")
    page.select_option("#model", "llama3.1:8b")
    state = page.locator("#state")
    for number in range(10):
        # An answer may be over before a busy machine has clicked; then another one is asked for.
        page.fill("#text", f"Write a long essay about bee number {number} and all that it has seen.")
        page.click("#send")
        with contextlib.suppress(TimeoutError):
            page.click("#stop", timeout=SECOND)
        expect(page.locator("#send")).to_be_enabled(timeout=30 * SECOND)
        if state.inner_text() == "Stopped":
            break
    expect(state).to_have_text("Stopped")
    expect(page.locator(".log .about").last).to_contain_text("stopped")


def test_a_bad_key_is_told_what_to_do(page: Page, stack: Stack) -> None:
    """A key that is not in force is named as the fault, and what was asked is not lost."""
    page.goto(f"{stack.url}/dashboard/playground/")
    expect(page.locator("#model option").first).to_be_attached()
    page.fill("#key", "sollol_nobody00_" + "x" * 43)
    page.fill("#text", "Who am I?")
    page.press("#text", "Enter")
    expect(page.get_by_role("alert")).to_contain_text("wants an API key")
    expect(page.locator("#text")).to_have_value("Who am I?")
    expect(page.locator("#code")).to_contain_text("$SOLLOL_KEY")


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"gateway": False, "nodes": 0, "models": []}, "No gateway runs"),
        ({"gateway": True, "nodes": 0, "models": []}, "pull a model"),
    ],
)
def test_an_empty_fleet_is_told_what_to_do(page: Page, stack: Stack, told: dict, words: str) -> None:
    """Without gateway or models the playground says what is missing instead of offering a form that cannot work."""

    def answer(route: Route) -> None:
        route.fulfill(json=told)

    page.route("**/dashboard/models/", answer)
    page.goto(f"{stack.url}/dashboard/playground/")
    expect(page.locator("#none")).to_contain_text(words)
    expect(page.locator("#send")).to_be_disabled()


def test_the_programs_that_the_playground_shows_run(page: Page, stack: Stack, tmp_path) -> None:
    """The curl command and the Python program, copied as they are, give an answer."""
    page.goto(f"{stack.url}/dashboard/playground/")
    page.select_option("#model", CHAT)
    page.fill("#system", 'You\'re a "beekeeper" \\ poet.')
    page.fill("#temperature", "0.5")
    page.fill("#num-ctx", "4096")
    page.select_option("#priority", "8")
    curl = page.locator("#code").inner_text()
    page.click("#as-python")
    program = tmp_path / "same.py"
    program.write_text(page.locator("#code").inner_text())
    for command in (["bash", "-c", curl.replace("curl ", "curl -s ", 1)], [sys.executable, str(program)]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert len(done.stdout) > 20
        assert '"error"' not in done.stdout


def test_the_rest_apis_own_page(page: Page, stack: Stack) -> None:
    """The page of the REST API works under its strict policy, in dark too; what is tried from there is answered."""
    page.emulate_media(color_scheme="dark")
    page.goto(f"{stack.url}/api/docs/")
    expect(page.locator("html")).to_have_class(re.compile("dark-mode"))
    page.locator(".opblock-get").first.click()
    page.click(".try-out__btn")
    page.click(".execute")
    expect(page.locator(".live-responses-table tbody .response-col_status").first).to_contain_text("200")


def test_a_killed_node_is_an_alert(page: Page, stack: Stack) -> None:
    """After kill -9 the node is told as down, in its tile and as an alert that leads to it; the last test here."""
    open_dashboard(page, stack)
    expect(tile(page, "cat").locator("h3 .badge").last).to_have_text("up")
    alert = page.locator("#alerts li.error").filter(has_text="cat")

    def told() -> bool:
        # `up` starts it again, perhaps before anybody has looked; then it is killed once more.
        with contextlib.suppress(ProcessLookupError, StopIteration):
            os.kill(stack.pid_of("cat"), signal.SIGKILL)
        page.wait_for_timeout(0.5 * SECOND)
        return alert.count() > 0

    wait_until(told, "an alert")
    expect(alert).to_contain_text("has been down")
    expect(alert.get_by_role("link")).to_have_attribute("href", re.compile(r"/admin/fleet/node/\d+/change/"))
    assert serious(page) == []
    # `up` starts it again, and the alert goes.
    wait_until(lambda: running(stack, "cat"), "cat is started again")
    expect(page.locator("#alerts li")).to_have_count(0, timeout=15 * SECOND)


def running(stack: Stack, name: str) -> bool:
    with contextlib.suppress(StopIteration):
        return bool(stack.pid_of(name))
    return False


def test_a_batch_job_is_seen_to_move(page: Page, stack: Stack) -> None:
    """The panel says when there is none; a job appears, its bar moves without reload, and it leads to admin's page."""
    open_dashboard(page, stack)
    expect(page.locator("#no-batch")).to_be_visible(timeout=5 * SECOND)
    with httpx.Client(base_url=f"{stack.url}/v1", trust_env=False, timeout=60) as client:
        requests = [
            {"custom_id": str(n), "method": "POST", "url": "/v1/chat/completions", "body": {**BODY, "max_tokens": 60}}
            for n in range(120)
        ]
        lines = "".join(f"{json.dumps(one)}\n" for one in requests).encode()
        file = client.post("/files", files={"file": ("a.jsonl", lines)}, data={"purpose": "batch"}).json()["id"]
        order = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        batch = client.post("/batches", json=order).json()["id"]
        row = page.locator("#batch tbody tr").filter(has_text=batch)
        expect(row.locator(".badge")).to_have_text("in progress", timeout=20 * SECOND)
        seen: set[str] = set()
        wait_until(lambda: seen.add(row.locator("meter").get_attribute("value")) or len(seen) > 2, "a bar that moves")
        assert client.post(f"/batches/{batch}/cancel").status_code == 200
        expect(row.locator(".badge")).to_have_text("cancelled", timeout=20 * SECOND)
    assert serious(page) == []
    row.get_by_role("link").click()
    expect(page.get_by_role("heading", name="Progress")).to_be_visible()
