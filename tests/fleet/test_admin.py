"""The operators' pages."""

import re

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from fleet.admin.page import CappedPaginator
from fleet.models import (
    ApiKey,
    LearnedSpeed,
    Node,
    NodeEvent,
    NodeModel,
    PrefillProbe,
    PriorityPolicy,
    RequestRecord,
    Rollup,
    RoutingRule,
    RoutingStrategy,
    Team,
    UsageDay,
)
from fleet.selectors.keys import by_digest
from fleet.services import keys
from fleet.services.learning import load_learned
from tests.fleet.conftest import (
    add_model,
    add_quota,
    add_request,
    add_speed,
    make_node,
    populate,
)

pytestmark = pytest.mark.django_db

WRITTEN_BY_PEOPLE = (Node, Team, ApiKey, PriorityPolicy, RoutingStrategy, RoutingRule, User, Group)
MODELS = (*WRITTEN_BY_PEOPLE, NodeModel, RequestRecord, NodeEvent, LearnedSpeed, UsageDay, Rollup, PrefillProbe)


def page(model, name, *args):
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{name}", args=args)


@pytest.mark.parametrize("model", MODELS)
def test_lists_and_forms_render(admin_page, model):
    """Every list and every row's page opens, filled."""
    populate(1)
    assert admin_page.get(page(model, "changelist")).status_code == 200
    for row in model.objects.all():
        assert admin_page.get(page(model, "change", row.pk)).status_code == 200


@pytest.mark.parametrize("model", MODELS)
def test_add_pages(admin_page, model):
    """What people write can be added; what the machine writes cannot."""
    expected = 200 if model in WRITTEN_BY_PEOPLE else 403
    assert admin_page.get(page(model, "add")).status_code == expected


def test_the_other_pages_render(admin_page):
    """The index and the background tasks' pages open in the same look."""
    assert admin_page.get(reverse("admin:index")).status_code == 200
    for model in admin.site._registry:
        assert admin_page.get(page(model, "changelist")).status_code == 200


@pytest.mark.parametrize("model", MODELS)
def test_queries_do_not_grow(admin_page, model):
    """A list with many rows costs as many queries as one with a few."""
    counts = []
    for rows in (range(2), range(2, 12)):
        for number in rows:
            populate(number)
        admin_page.get(page(model, "changelist"))
        with CaptureQueriesContext(
            connection,
        ) as queries:
            admin_page.get(page(model, "changelist"))
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_a_node_page_does_not_grow(admin_page):
    """A node's own page costs the same with one model and learned speed and with twenty."""
    node = make_node("ant")
    admin_page.get(page(Node, "change", node.pk))
    counts = []
    for rows in (range(1), range(1, 20)):
        for number in rows:
            add_model(node, number)
            add_speed(node, number)
        with CaptureQueriesContext(connection) as queries:
            admin_page.get(page(Node, "change", node.pk))
        counts.append(len(queries))
    assert counts[0] == counts[1]


def node_form(**columns):
    return {
        "name": "ant",
        "url": "ant",
        "enabled": "on",
        "labels": "{}",
        "weight": 1,
        "cost_per_hour": 0,
        "node_class": "gpu",
        "slots": 1,
        "header_name": "",
        "header_value": "",
        "models-TOTAL_FORMS": 0,
        "models-INITIAL_FORMS": 0,
        "speeds-TOTAL_FORMS": 0,
        "speeds-INITIAL_FORMS": 0,
    } | columns


def test_adding_a_node(admin_page):
    """A bare host becomes an address."""
    admin_page.post(page(Node, "add"), node_form(_save_disabled="1"))
    assert Node.objects.get().url == "http://ant:11434"


def test_a_bad_node_is_told(admin_page):
    """A fault stands beside its field."""
    answer = admin_page.post(page(Node, "add"), node_form(url="ftp://ant", slots=0))
    assert {"url", "slots"} <= set(answer.context["adminform"].errors)


def test_credentials_stay_secret(admin_page):
    """A node's credentials never come back to the browser; an empty field keeps them, no header name removes them."""
    node = make_node("ant", header_name="X-Key", header_value="secret-of-the-node")
    assert b"secret-of-the-node" not in admin_page.get(page(Node, "change", node.pk)).content
    admin_page.post(page(Node, "change", node.pk), node_form(header_name="X-Key"))
    assert Node.objects.get().header_value == "secret-of-the-node"
    admin_page.post(page(Node, "change", node.pk), node_form())
    assert Node.objects.get().header_value == ""


def act(client, model, action, *rows):
    words = {"action": action, "_selected_action": [row.pk for row in rows]}
    return client.post(page(model, "changelist"), words, follow=True)


@pytest.mark.parametrize(
    ("action", "column", "before", "told"),
    [
        ("disable", "enabled", True, "1 of 2 nodes are now disabled; 1 already were."),
        ("enable", "enabled", False, "1 of 2 nodes are now enabled; 1 already were."),
        ("drain", "draining", False, "1 of 2 nodes are now draining; 1 already were."),
        ("resume", "draining", True, "1 of 2 nodes are now taking requests again; 1 already were."),
    ],
)
def test_switches(admin_page, ant, bee, action, column, before, told):
    """The switches change the chosen nodes and say how many."""
    Node.objects.update(**{column: not before})
    Node.objects.filter(pk=ant.pk).update(**{column: before})
    answer = act(admin_page, Node, action, ant, bee)
    assert [str(message) for message in answer.context["messages"]] == [told]
    assert set(Node.objects.values_list(column, flat=True)) == {not before}


def test_probing(admin_page):
    """Probing tells for each node what was found."""
    node = Node.objects.create(name="ant", url="http://127.0.0.1:9")
    answer = act(admin_page, Node, "probe_now", node)
    assert "ant: down: cannot connect" in str(next(iter(answer.context["messages"])))


def test_a_key_is_shown_once(admin_page, ada, bees):
    """The answer that creates a key shows it; no page after that does."""
    answer = admin_page.post(page(ApiKey, "add"), {"team": bees.pk, "name": "chat", "scopes": ["inference", "manage"]})
    [plain] = re.findall(r"sollol_\w{8}_[\w-]{43}", answer.content.decode())
    key = by_digest(keys.digest(plain))
    assert (key.team, key.scopes, key.created_by) == (bees, ["inference", "manage"], ada)
    assert "no-store" in answer["Cache-Control"]
    for name, args in (("changelist", ()), ("change", (key.pk,)), ("history", (key.pk,))):
        assert plain not in admin_page.get(page(ApiKey, name, *args)).content.decode()


def test_a_bad_key_is_told(admin_page, bees):
    """A key without scopes, or of a name in use, is refused on the form."""
    keys.create(bees, "chat")
    assert b"This field is required" in admin_page.post(page(ApiKey, "add"), {"team": bees.pk, "name": "x"}).content
    answer = admin_page.post(page(ApiKey, "add"), {"team": bees.pk, "name": "chat", "scopes": ["inference"]})
    assert b"choose another name" in answer.content


def test_revoking(admin_page, bees):
    """Keys are revoked from the list."""
    answer = act(admin_page, ApiKey, "revoke", keys.create(bees, "one").key)
    assert "1 of 1 keys are now revoked." in answer.content.decode()


def test_history_is_not_counted_whole():
    """The history's pages end at a cap instead of counting millions of rows."""
    for number in range(5):
        add_request(number)
    paginator = CappedPaginator(RequestRecord.objects.all(), 2)
    paginator.most = 3
    assert (paginator.count, paginator.num_pages) == (3, 2)


def test_staff_only(bees):
    """Bo, who is no staff, gets the login page."""
    client = Client()
    client.force_login(bees.members.get())
    assert client.get(page(Node, "changelist")).status_code == 302


def test_searching_history(admin_page):
    """Requests are found by their whole id or model."""
    add_request(1, model="llama3")
    add_request(2, model="qwen")
    for term, found in (("r1", 1), ("qwen", 1), ("", 2), ("lla", 0)):
        answer = admin_page.get(page(RequestRecord, "changelist"), {"q": term})
        assert len(answer.context["cl"].result_list) == found


def test_learned_speeds_on_the_page_of_their_node(admin_page, ant):
    """A node's page shows the speeds in tokens per second, and marks what is a guess."""
    add_speed(ant, 1)
    add_speed(ant, 2, output_seen=0, load_s=12.25, load_seen=0)
    text = admin_page.get(page(Node, "change", ant.pk)).content.decode().replace("\xa0", " ")
    assert ("m1:latest" in text, "1,000" in text, "50.0" in text, "≈ 50.0" in text, "≈ 12.2 s" in text) == (True,) * 5


def test_speeds_by_basis(admin_page, ant):
    """The list of speeds narrows by node, and by whether anything was measured."""
    measured = add_speed(ant, 1, output_seen=0)
    guess = add_speed(ant, 2, prompt_seen=0, output_seen=0)
    for basis, row in (("measured", measured), ("guess", guess)):
        answer = admin_page.get(page(LearnedSpeed, "changelist"), {"basis": basis, "node__id__exact": ant.pk})
        assert [found.pk for found in answer.context["cl"].result_list] == [row.pk]


def test_forgetting(admin_page, ant, bee):
    """What was learned of the chosen nodes is forgotten, and the action says so."""
    add_speed(ant)
    add_speed(bee)
    answer = act(admin_page, Node, "forget", ant)
    assert "1 node starts from its class again" in str(next(iter(answer.context["messages"])))
    assert [row.node_id for row in load_learned().speeds] == [bee.pk]


def test_saving_and_measuring(admin_page, ant):
    """A node may be measured as soon as it is saved."""
    answer = admin_page.post(
        page(Node, "change", ant.pk), node_form(url="ant", fleet_node_save_and_measure="1"), follow=True
    )
    assert any("The background worker measures ant" in str(message) for message in answer.context["messages"])


def test_only_looking(ant, bees):
    """Whoever may only look at nodes, policies, strategies and rules gets their pages, and no actions."""
    add_speed(ant)
    quota = add_quota(bees)
    strategy = RoutingStrategy.objects.create(name="near")
    rule = RoutingRule.objects.create(strategy="near")
    viewer = User.objects.create_user("di", is_staff=True)
    viewer.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client = Client()
    client.force_login(viewer)
    for row in (ant, quota.policy, strategy, rule):
        assert client.get(page(type(row), "change", row.pk)).status_code == 200
        assert client.post(page(type(row), "change", row.pk), {}).status_code == 403
    act(client, Node, "forget", ant)
    assert load_learned().speeds
