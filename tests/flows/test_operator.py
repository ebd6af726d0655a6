"""What operators do is in force at once, and what happened is in the history."""

import json
import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.fakes.address import CHAT, MESSAGES
from tests.tooling.stack import Stack, wait_until

pytestmark = pytest.mark.timeout(240)
BODY = {"model": CHAT, "messages": MESSAGES, "stream": False}


@pytest.fixture
def ada(running_stack: Stack):
    """Ada the operator, logged in to the admin."""
    with httpx.Client(base_url=running_stack.url, trust_env=False, timeout=60) as browser:
        page = browser.get("/admin/login/")
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)[1]
        form = {
            "username": "admin",
            "password": running_stack.password,
            "csrfmiddlewaretoken": token,
            "next": "/admin/",
        }
        answer = browser.post("/admin/login/", data=form, headers={"referer": f"{running_stack.url}/admin/login/"})
        assert answer.headers.get("location") == "/admin/"
        browser.headers.update({"x-csrftoken": browser.cookies["csrftoken"], "referer": f"{running_stack.url}/admin/"})
        yield browser


def nodes(ada) -> dict[str, dict]:
    return {node["name"]: node for node in ada.get("/api/fleet/nodes/").json()["results"]}


def host(stack: Stack) -> str:
    answer = httpx.post(f"{stack.url}/api/chat", json=BODY, timeout=60, trust_env=False)
    return answer.headers["x-sollol-node"]


def test_a_disabled_node_gets_nothing_a_second_later(ada, running_stack):
    """The admin's action is in force within a second, in both directions."""
    favourite = host(running_stack)
    number = nodes(ada)[favourite]["id"]
    page = ada.get("/admin/fleet/node/")
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)[1]
    act = {"_selected_action": str(number), "csrfmiddlewaretoken": token, "index": "0"}
    try:
        assert ada.post("/admin/fleet/node/", data={**act, "action": "disable"}).status_code == 302
        time.sleep(1.0)
        assert favourite not in {host(running_stack) for _ in range(3)}
    finally:
        ada.post("/admin/fleet/node/", data={**act, "action": "enable"})
    assert nodes(ada)[favourite]["enabled"] is True


def test_a_key_made_in_the_rest_api_names_its_team(ada, running_stack):
    """A team with a key: its requests are the team's in the history, and a revoked key is refused."""
    ada.post("/api/fleet/teams/", json={"name": "Bees"})
    made = ada.post("/api/fleet/keys/", json={"name": "Bo", "team": "Bees", "scopes": ["inference"]}).json()
    bo = {"authorization": f"Bearer {made['key']}"}

    def answer():
        return httpx.post(f"{running_stack.url}/api/chat", json=BODY, headers=bo, timeout=60, trust_env=False)

    wait_until(lambda: answer().status_code == 200, "the key is known", 3)
    request_id = answer().headers["x-sollol-request-id"]

    def record():
        rows = ada.get("/api/fleet/requests/", params={"team": "Bees"}).json()["results"]
        return next((row for row in rows if row["request_id"] == request_id), None)

    wait_until(record, "the request is in the history", 5)
    assert record()["outcome"] == "served"
    assert record()["decision"]["node"] in {"ant", "bee", "cat"}
    ada.post(f"/api/fleet/keys/{made['id']}/revoke/")
    wait_until(lambda: answer().status_code == 401, "the key is revoked", 3)


def test_a_node_killed_under_load_costs_nobody_anything_before_the_first_byte(running_stack):
    """With kill -9 in the middle of forty requests, every one that had not begun to be answered is answered."""
    favourite = host(running_stack)

    def chat(number: int) -> httpx.Response:
        body = {**BODY, "messages": [{"role": "user", "content": f"Question {number}"}]}
        return httpx.post(f"{running_stack.url}/api/chat", json=body, timeout=120, trust_env=False)

    with ThreadPoolExecutor(10) as pool:
        answers = [pool.submit(chat, number) for number in range(40)]
        wait_until(lambda: sum(one.done() for one in answers) > 5, "the load runs")
        os.kill(running_stack.pid_of(favourite), signal.SIGKILL)
        done = [one.result() for one in answers]
    assert [answer.status_code for answer in done] == [200] * 40
    assert all(answer.json()["done"] for answer in done)
    assert max(int(answer.headers["x-sollol-attempts"]) for answer in done) > 1


def test_metrics_tell_what_happened(ada, running_stack):
    """A scraper with the right to manage reads counts, times and the state of each node; others read nothing."""
    before = host(running_stack)
    wait_until(lambda: f'node="{before}",outcome="served"' in ada.get("/metrics").text, "the request is counted", 5)
    text = ada.get("/metrics").text
    assert 'sollol_node_up{node="ant"} 1.0' in text or 'sollol_node_up{node="ant"} 0.0' in text
    assert re.search(r"sollol_request_seconds_count [1-9]", text)
    assert httpx.get(f"{running_stack.url}/metrics", trust_env=False).status_code == 401


def test_the_whole_stack_answers_over_a_websocket(running_stack: Stack):
    """The site serves the sockets beside all else, and what ran over one is found by its id."""
    with connect(running_stack.url.replace("http", "ws") + "/ws/chat") as socket:
        socket.send(json.dumps({"model": CHAT, "messages": MESSAGES, "id": "a"}))
        messages = [json.loads(socket.recv(timeout=60))]
        while not messages[-1].get("done"):
            messages.append(json.loads(socket.recv(timeout=60)))
    assert messages[-1]["id"] == "a"
    assert messages[-1]["_sollol_routing"]["host"] in {"ant", "bee", "cat"}
    for path in ("/ws/nothing", "/ws/dashboards"):
        with pytest.raises(InvalidStatus):
            connect(running_stack.url.replace("http", "ws") + path)


def test_a_request_is_found_by_the_id_that_the_client_chose(running_stack: Stack, ada):
    """While it is fresh by the address, and for good in the history."""
    name = f"flow-{time.time_ns()}"
    httpx.post(f"{running_stack.url}/api/chat", json=BODY, headers={"x-request-id": name}, timeout=60)
    told = httpx.get(f"{running_stack.url}/api/requests/{name}").json()
    assert (told["state"], told["outcome"]) == ("ended", "served")
    wait_until(lambda: name in ada.get("/api/fleet/requests/").text, "the history has it", 10)
