"""Admin in a real browser."""

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.tooling.stack import Stack

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]


def test_admin_lets_the_first_administrator_in(chromium: str, running_stack: Stack) -> None:
    """The login page loads with all its files, and takes the password that the banner has shown."""
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"]) as browser,
    ):
        page = browser.new_page()
        failed: list[str] = []
        page.on("response", lambda answer: failed.append(answer.url) if answer.status >= 400 else None)
        page.goto(f"{running_stack.url}/admin/")
        expect(page.locator("input[name=username]")).to_be_visible()
        page.fill("input[name=username]", "admin")
        page.fill("input[name=password]", running_stack.password)
        page.press("input[name=password]", "Enter")
        page.wait_for_url(f"{running_stack.url}/admin/")
        expect(page.get_by_text("Nodes").first).to_be_visible()
        assert not failed
