"""Ada runs the fleet from admin, in a real browser."""

import re
from collections.abc import Iterator

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect, sync_playwright

from simulator.threads import node_in_thread
from tests.fakes.address import CHAT, MESSAGES
from tests.tooling.stack import Stack

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
#: The theme's own faults, which are not ours to mend.
THEME = {"color-contrast"}


@pytest.fixture
def ada(chromium: str, running_stack: Stack) -> Iterator[Page]:
    """A page in which Ada is logged in; whatever the browser complains about fails the test."""
    complaints: list[str] = []
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"]) as browser,
    ):
        page = browser.new_page(base_url=running_stack.url, viewport={"width": 1440, "height": 900})
        page.on("console", lambda told: complaints.append(told.text) if told.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto("/admin/login/?next=/admin/")
        page.fill("input[name=username]", "admin")
        page.fill("input[name=password]", running_stack.password)
        page.press("input[name=password]", "Enter")
        page.wait_for_url("**/admin/")
        yield page
    assert complaints == []


def choose(page: Page, name: str, action: str) -> None:
    """Tick a row of the list of nodes and run an action on it."""
    page.goto("/admin/fleet/node/")
    page.get_by_role("row", name=re.compile(rf"\b{name}\b")).get_by_role("checkbox").check()
    page.locator("select[name=action]").select_option(action)
    page.locator("button[name=index]").click()


def serious(page: Page) -> list[str]:
    """What axe finds that would keep somebody from using the page."""
    found = Axe().run(page).response["violations"]
    return [
        f"{fault['id']}: {node['html'][:120]}"
        for fault in found
        if fault["impact"] in ("serious", "critical") and fault["id"] not in THEME
        for node in fault["nodes"]
        if "fleet-" in node["html"]
    ]


def test_a_fleet_is_run_from_admin(ada: Page, running_stack: Stack) -> None:
    """A node is added, which is not SOLLOL itself, is drained, gets a model, and loses it after two questions."""
    with node_in_thread("gpu-24gb", models=("llama3.2:3b",), speed=100.0) as server:
        ada.goto("/admin/fleet/node/add/")
        ada.fill("input[name=name]", "emmet")
        ada.fill("input[name=url]", "http://127.0.0.1:9")
        ada.locator("button[name=_save]").click()
        expect(ada.get_by_text("127.0.0.1:9: cannot connect")).to_be_visible()
        ada.fill("input[name=url]", running_stack.url)
        ada.locator("button[name=_save]").click()
        expect(ada.get_by_text("this is the address of SOLLOL itself")).to_be_visible()
        ada.fill("input[name=url]", server.base_url)
        ada.locator("button[name=_save]").click()
        expect(ada.get_by_text(f"{server.base_url} is up, Ollama")).to_be_visible()

        choose(ada, "emmet", "drain")
        expect(ada.get_by_text("1 of 1 nodes are now draining.")).to_be_visible()

        choose(ada, "emmet", "pull_model")
        ada.fill("input[name=model]", "gemma3:4b")
        ada.get_by_role("button", name="Pull").click()
        expect(ada.get_by_text("The background worker does it: pulling")).to_be_visible()
        recent = ada.locator("section", has_text="Recent events")
        reload_until(ada, recent.get_by_text("pulled", exact=True))

        choose(ada, "emmet", "delete_model_")
        ada.fill("input[name=model]", "gemma3:4b")
        ada.get_by_role("button", name="Delete …").click()
        ada.get_by_role("button", name="Yes, delete it from 1 node").click()
        reload_until(ada, recent.get_by_text("deleted", exact=True))

        choose(ada, "emmet", "delete_selected")
        ada.get_by_role("button", name=re.compile("Yes")).click()
        expect(ada.get_by_text("Successfully deleted 1 node.")).to_be_visible()


def reload_until(page: Page, wanted: object) -> None:
    """Reload the page, as an impatient operator does, until something is on it."""
    for _ in range(120):
        if wanted.count():  # type: ignore[attr-defined]  # a Locator
            return
        page.wait_for_timeout(500)
        page.reload()
    pytest.fail("the page never showed it")


def newest_request(page: Page, stack: Stack) -> str:
    """The address of the page of a request that has just been served."""
    body = {"model": CHAT, "messages": MESSAGES, "stream": False}
    asked = httpx.post(f"{stack.url}/api/chat", json=body, timeout=60, trust_env=False).headers["x-sollol-request-id"]
    link = page.get_by_role("row", name=re.compile(CHAT)).get_by_role("link").first
    page.goto(f"/admin/fleet/requestrecord/?q={asked}")
    reload_until(page, link)
    return str(link.get_attribute("href"))


@pytest.mark.parametrize("width", [1440, 390])
def test_pages_can_be_used_by_all(ada: Page, running_stack: Stack, width: int) -> None:
    """Axe finds nothing serious in what we have added, and no page is wider than the screen."""
    ada.set_viewport_size({"width": width, "height": 900})
    for path in ("/admin/", "/admin/fleet/node/", "/admin/fleet/node/1/change/", "/admin/fleet/node/import/",
                 "/admin/fleet/node/models/load/?node=1", newest_request(ada, running_stack)):  # fmt: skip
        ada.goto(path)
        assert serious(ada) == [], path
        assert ada.evaluate("document.documentElement.scrollWidth") <= width, path


def test_the_members_of_a_team_have_a_name(ada: Page) -> None:
    """The box in which members are looked for tells those who do not see it what it is."""
    ada.goto("/admin/fleet/team/add/")
    expect(ada.get_by_role("searchbox", name="Members")).to_be_visible()
