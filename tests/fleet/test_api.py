"""The control plane over REST."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from fleet.models import ApiKey, Node, NodeObservation
from fleet.selectors.keys import by_digest
from fleet.services import keys
from tests.fleet.conftest import (
    add_event,
    add_model,
    add_request,
    add_speed,
    populate,
)

pytestmark = pytest.mark.django_db

LISTS = (
    "nodes", "models", "teams", "keys", "policies", "strategies", "rules", "speeds", "prefills", "usage", "rollups",
    "requests", "events",
)  # fmt: skip


def with_key(plain):
    return APIClient(headers={"Authorization": f"Bearer {plain}"})


def test_nobody(db):
    """Without a key the answer is 401 and says how to come in."""
    answer = APIClient().get("/api/fleet/nodes")
    assert (answer.status_code, answer["WWW-Authenticate"]) == (401, 'Bearer realm="sollol"')


@pytest.mark.parametrize("plain", ["sk-anything", "ollama", ""])
def test_a_foreign_key_counts_as_none(plain):
    """A bearer that does not look like ours is no key: 401 for want of one."""
    answer = with_key(plain).get("/api/fleet/nodes")
    assert (answer.status_code, answer.json()["detail"]) == (401, "Authentication credentials were not provided.")


def test_a_wrong_key(db):
    """A bearer that looks like ours and is not is told as wrong."""
    answer = with_key("sollol_abcdefgh_" + "x" * 43).get("/api/fleet/nodes")
    assert (answer.status_code, "unknown, revoked or expired" in answer.json()["detail"]) == (401, True)


def test_a_revoked_key(api, manage_key):
    """A revoked key is 401 from then on."""
    keys.revoke(by_digest(keys.digest(manage_key)))
    assert api.get("/api/fleet/nodes").status_code == 401


def test_other_scopes(bees):
    """Keys without scope manage are known but may not: 403."""
    plain = keys.create(bees, "chat", ["inference", "models"]).plain
    assert [with_key(plain).get(f"/api/fleet/{name}").status_code for name in LISTS] == [403] * len(LISTS)


def test_staff_sessions(ada, bees):
    """Ada's session may manage, with the CSRF token; Bo's may not."""
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(ada)
    assert client.get("/api/fleet/nodes").status_code == 200
    assert client.post("/api/fleet/teams", {"name": "Dogs"}, format="json").status_code == 403
    client.force_login(bees.members.get())
    assert client.get("/api/fleet/nodes").status_code == 403


@pytest.mark.parametrize("name", LISTS)
def test_lists_answer(api, ant, name):
    """Every list answers, with and without the slash at the end."""
    assert api.get(f"/api/fleet/{name}").status_code == 200
    assert api.get(f"/api/fleet/{name}/").status_code == 200


def test_the_life_of_a_node(api):
    """A node is created, read, changed and deleted."""
    made = api.post(
        "/api/fleet/nodes", {"name": "ant", "url": "ant", "slots": 4, "labels": {"rack": "a1"}}, format="json"
    )
    assert (made.status_code, made.json()["url"]) == (201, "http://ant:11434")
    path = f"/api/fleet/nodes/{made.json()['id']}"
    assert api.patch(path, {"vram_gb": 24}, format="json").json()["vram_gb"] == 24
    assert api.get(path).json()["observed"]["reachable"] is None
    assert api.delete(path).status_code == 204
    assert not Node.objects.exists()


@pytest.mark.parametrize(
    ("columns", "field"),
    [
        ({"url": "ftp://ant"}, "url"),
        ({"url": "ANT:11434/"}, "url"),
        ({"slots": 0}, "slots"),
        ({"name": "ANT"}, "non_field_errors"),
        ({"labels": {"a": 1}}, "labels"),
        ({"node_class": "tpu"}, "node_class"),
        ({"vram_gb": "nan"}, "vram_gb"),
        ({"header_name": "X-Key"}, "non_field_errors"),
        ({"name": None}, "name"),
    ],
    ids=str,
)
def test_bad_input_names_its_field(api, ant, columns, field):
    """Bad input is 400 and names the field."""
    answer = api.post("/api/fleet/nodes", {"name": "bee", "url": "bee"} | columns, format="json")
    assert (answer.status_code, field in answer.json()) == (400, True)


def test_credentials_are_write_only(api):
    """A node's credentials go in and never come out; a change of something else keeps them."""
    made = api.post(
        "/api/fleet/nodes",
        {"name": "ant", "url": "ant", "header_name": "X-Key", "header_value": "secret"},
        format="json",
    )
    assert "secret" not in made.content.decode()
    api.patch(f"/api/fleet/nodes/{made.json()['id']}", {"slots": 2}, format="json")
    assert Node.objects.get().header_value == "secret"


@pytest.mark.parametrize(
    ("action", "column", "after"),
    [
        ("disable", "enabled", False),
        ("enable", "enabled", True),
        ("drain", "draining", True),
        ("resume", "draining", False),
    ],
)
def test_switches(api, ant, action, column, after):
    """Each switch is a POST that answers with the node as it is then."""
    Node.objects.update(**{column: not after})
    answer = api.post(f"/api/fleet/nodes/{ant.pk}/{action}")
    assert (answer.status_code, answer.json()[column]) == (200, after)
    assert api.get(f"/api/fleet/nodes/{ant.pk}/{action}").status_code == 405


def test_probing(api):
    """Probing answers with what was observed."""
    node = Node.objects.create(name="ant", url="http://127.0.0.1:9")
    observed = api.post(f"/api/fleet/nodes/{node.pk}/probe").json()["observed"]
    assert (observed["reachable"], "cannot connect" in observed["last_error"]) == (False, True)


def test_a_key_is_answered_once(api, cats):
    """Creating a key answers with it; reading it never does."""
    made = api.post("/api/fleet/keys", {"team": "Cats", "name": "chat", "scopes": ["inference"]}, format="json")
    assert made.status_code == 201
    key = by_digest(keys.digest(made.json()["key"]))
    assert key.team == cats
    assert "key" not in api.get(f"/api/fleet/keys/{key.pk}").json()
    assert api.delete(f"/api/fleet/keys/{key.pk}").status_code == 405


def test_revoking_and_rotating(api, cats):
    """Rotation answers 201 with the new key; a revoked key is not rotated."""
    key = keys.create(cats, "chat").key
    answer = api.post(f"/api/fleet/keys/{key.pk}/rotate")
    assert (answer.status_code, by_digest(keys.digest(answer.json()["key"])).name) == (201, "chat")
    assert api.post(f"/api/fleet/keys/{key.pk}/rotate").status_code == 400
    new = answer.json()["id"]
    assert api.post(f"/api/fleet/keys/{new}/revoke").json()["state"] == "revoked"


def test_bad_keys(api, cats):
    """Unknown scopes and teams, and names in use, are 400."""
    keys.create(cats, "chat")
    for columns in ({"scopes": ["all"]}, {"scopes": []}, {"team": "Dogs"}, {}):
        answer = api.post("/api/fleet/keys", {"team": "Cats", "name": "chat"} | columns, format="json")
        assert answer.status_code == 400


def test_a_key_stays_with_its_team(api, bees, cats):
    """A key's scopes may change, its team may not."""
    key = keys.create(cats, "chat").key
    path = f"/api/fleet/keys/{key.pk}"
    assert api.patch(path, {"scopes": ["models"]}, format="json").json()["scopes"] == ["models"]
    assert "team" in api.patch(path, {"team": "Bees"}, format="json").json()
    assert ApiKey.objects.get(pk=key.pk).digest == key.digest


def test_teams_and_policies(api, cats):
    """A team has members by name and a policy."""
    made = api.post("/api/fleet/teams", {"name": "Dogs", "members": ["cy"]}, format="json")
    assert (made.status_code, made.json()["members"]) == (201, ["cy"])
    assert api.post("/api/fleet/policies", {"team": "Dogs", "default_priority": 3}, format="json").status_code == 201
    answer = api.post(
        "/api/fleet/policies", {"team": "Cats", "default_priority": 9, "highest_priority": 8}, format="json"
    )
    assert (answer.status_code, "default_priority" in answer.json()) == (400, True)
    assert api.post("/api/fleet/policies", {"team": "Dogs"}, format="json").status_code == 400


def test_history_by_cursor(api, ant, cats):
    """Requests come newest first, in pages that hold their place, narrowed by what they were."""
    for number in range(3):
        add_request(number, team=cats, team_name="Cats", node=ant, outcome="failed" if number else "served")
    first = api.get("/api/fleet/requests", {"limit": 2}).json()
    second = api.get(first["next"]).json()
    assert [row["request_id"] for row in first["results"] + second["results"]] == ["r2", "r1", "r0"]
    found = api.get(
        "/api/fleet/requests", {"team": "cats", "node": "ant", "model": "llama3", "outcome": "failed", "task": "chat"}
    )
    assert len(found.json()["results"]) == 2


def test_unknown_filters(api, ant):
    """A filter that no list knows, or a value that does not fit, is 400 instead of everything."""
    assert "team" in api.get("/api/fleet/requests", {"tame": "Bees"}).json()["tame"][0]
    assert api.get("/api/fleet/requests", {"since": "yesterday"}).status_code == 400
    assert api.get("/api/fleet/nodes", {"enabled": "perhaps"}).status_code == 400


def test_filters(api, ant, bee):
    """Lists narrow by their columns."""
    NodeObservation.objects.create(node=ant, reachable=True)
    add_model(ant, 1)
    add_event(ant, "down")
    names = [
        row["name"] for row in api.get("/api/fleet/nodes", {"reachable": "true", "enabled": "true"}).json()["results"]
    ]
    assert names == ["ant"]
    assert api.get("/api/fleet/models", {"node": "bee"}).json()["count"] == 0
    assert api.get("/api/fleet/models", {"node": "ant", "installed": "1"}).json()["count"] == 1
    add_speed(ant, 1)
    assert api.get("/api/fleet/speeds", {"node": "ANT", "model": "m1", "weights": "000"}).json()["count"] == 1
    assert api.get("/api/fleet/speeds", {"node": "bee"}).json()["count"] == 0
    assert len(api.get("/api/fleet/events", {"node": "ant", "kind": "down"}).json()["results"]) == 1


@pytest.mark.parametrize("name", LISTS)
def test_queries_do_not_grow(api, name):
    """A list with many rows costs as many queries as one with a few."""
    counts = []
    for rows in (range(2), range(2, 12)):
        for number in rows:
            populate(number)
        with CaptureQueriesContext(connection) as queries:
            assert len(api.get(f"/api/fleet/{name}").json()["results"]) >= len(rows)
        counts.append(len(queries))
    assert counts[0] == counts[1]
