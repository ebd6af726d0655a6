"""Admin against made-up addresses, forms and files: no fault of ours, nothing told, nothing changed."""

import csv
import io

import pytest
from django.contrib.auth.models import Permission, User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from fleet.models import (
    ApiKey,
    LearnedSpeed,
    Node,
    NodeEvent,
    NodeModel,
    PrefillProbe,
    PriorityPolicy,
    Quota,
    RequestRecord,
    Team,
    UsageDay,
)
from fleet.services import keys
from tests.fleet.conftest import add_probe, add_quota, add_request, add_usage_day, populate
from tests.fleet.test_admin import MODELS, act, node_form, page
from tests.fleet.test_groups import member
from tests.fleet.test_key_pages import team_form

pytestmark = pytest.mark.django_db

HUGE, ENDLESS = "9" * 30, "9" * 5000
SECRET = "secret-of-the-node"


@pytest.fixture
def ant(db):
    """A node with a secret, and a row of everything that belongs to it."""
    return populate(1)


@pytest.mark.parametrize(
    "path",
    ["node/{}/change/", "node/{}/pull_here/", "node/{}/delete_here/", "node/{}/history/", "node/{}/delete/",
     "node/models/pull/?node={}", "requestrecord/{}/change/", "requestrecord/?team={}", "requestrecord/?node={}",
     "requestrecord/?within={}", "requestrecord/?p={}", "requestrecord/?o={}", "requestrecord/?q={}",
     "requestrecord/?model={}", "requestrecord/?task={}", "requestrecord/?outcome__exact={}", "nodeevent/?q={}",
     "requestrecord/?started_at_from_0={}", "requestrecord/?started_at_to_0=2026-01-01&started_at_to_1={}",
     "nodeevent/?node__id__exact={}", "usageday/?team={}", "usageday/?day__gte={}", "usageday/?priority={}",
     "apikey/?team={}", "node/?node_class={}", "node/?region={}", "node/?enabled__exact={}"],
)  # fmt: skip
def test_made_up_addresses(admin_page, ant, bees, path):
    """A made-up id, page, time or text is refused or finds nothing: never a fault of ours."""
    for number in ("x", "0", "-1", "1.5", "٣", "\0", HUGE, ENDLESS):
        assert admin_page.get(f"/admin/fleet/{path.format(number)}").status_code < 500, number


@pytest.mark.parametrize(
    ("model", "words"),
    [(Node, "header_value__startswith"), (Node, "header_value"), (NodeModel, "node__header_value__startswith"),
     (LearnedSpeed, "node__header_value__startswith"), (NodeEvent, "node__header_value__startswith"),
     (RequestRecord, "node__header_value__startswith"), (Team, "members__password__startswith"),
     (Team, "keys__digest__startswith"), (User, "password__startswith"), (ApiKey, "digest__startswith"),
     (ApiKey, "created_by__password__startswith"), (ApiKey, "team__members__password__startswith")],
    ids=str,
)  # fmt: skip
def test_no_secret_is_guessed_by_filters(ant, bees, model, words):
    """A list is narrowed by what it offers alone, so that no secret is found out letter by letter."""
    keys.create(bees, "chat", created_by=User.objects.get(username="bo"))
    User.objects.filter(username="di").update(is_superuser=True)
    for start in (SECRET[:3], "zzz"):
        assert member("di", "operator").get(page(model, "changelist"), {words: start}).status_code in (302, 400, 403)


@pytest.mark.parametrize("group", ["viewer", "operator"])
def test_no_page_shows_a_secret(ant, group):
    """Nobody reads a node's credentials or a person's password, on pages and in exports."""
    eve = User.objects.create_user("eve", password="a long enough password")
    client = member("di", group)
    addresses = [page(Node, "change", ant.pk), page(Node, "changelist"), page(User, "change", eve.pk),
                 reverse("admin:fleet_node_export_csv"), reverse("admin:fleet_node_export_yaml")]  # fmt: skip
    for address in addresses:
        text = client.get(address).content.decode()
        assert SECRET not in text
        assert eve.password.split("$")[-1] not in text


def test_a_lead_who_may_look_at_nodes(ant, bees, cats):
    """A node's page and the landing page show a lead no request and no quota of another team."""
    client = member("bo", "team lead")
    User.objects.get(username="bo").user_permissions.add(Permission.objects.get(codename="view_node"))
    add_quota(cats)
    add_usage_day(cats, requests=95)
    add_request(2, node=ant, team=cats, team_name="Cats")
    add_request(3, node=ant, team=bees, team_name="Bees")
    text = client.get(page(Node, "change", ant.pk)).content.decode()
    assert "Bees" in text
    assert "Cats" not in text
    assert "Cats" not in client.get(reverse("admin:index")).content.decode()


def test_operators_have_models_probed_again(db):
    """What the page offers an operator works."""
    probe = add_probe(1)
    act(member("di", "operator"), PrefillProbe, "probe_again", probe)
    probe.refresh_from_db()
    assert probe.again


def test_a_lead_changes_no_quota_by_a_forged_form(bees):
    """Fields that the page has not offered are not taken."""
    client, quota = member("bo", "team lead"), add_quota(bees)
    policy = bees.policy
    fields = team_form(bees) | {"policy-TOTAL_FORMS": 1, "policy-INITIAL_FORMS": 1, "policy-0-id": policy.pk}
    fields |= {"policy-0-team": bees.pk, "policy-0-highest_priority": 9, "policy-0-DELETE": "on"}
    for prefix in ("policy-0-quotas", "policy-0-quota_set", "quotas", "policy-quotas"):
        fields |= {f"{prefix}-TOTAL_FORMS": 1, f"{prefix}-INITIAL_FORMS": 1, f"{prefix}-0-id": quota.pk,
                   f"{prefix}-0-policy": policy.pk, f"{prefix}-0-amount": 99999, f"{prefix}-0-measure": "requests",
                   f"{prefix}-0-window": "day", f"{prefix}-0-breach": "refuse", f"{prefix}-0-DELETE": "on"}  # fmt: skip
    client.post(page(Team, "change", bees.pk), fields)
    assert list(Quota.objects.values_list("amount", flat=True)) == [100]
    assert PriorityPolicy.objects.get().highest_priority == 10


def test_a_form_takes_no_row_of_another(admin_page, bees, cats):
    """A team's page changes no policy and no quota of another team whose ids are slipped in."""
    foreign = add_quota(cats)
    add_quota(bees)
    fields = team_form(bees) | {"policy-TOTAL_FORMS": 1, "policy-INITIAL_FORMS": 1, "policy-0-id": foreign.policy.pk,
        "policy-0-team": bees.pk, "policy-0-default_priority": 1, "policy-0-highest_priority": 2,
        "policy-0-batch_priority": 1, "policy-0-share_weight": 1, "policy-0-on_break": "resume",
        "policy-0-concurrent_breach": "wait"}  # fmt: skip
    for prefix in ("policy-0-quotas",):
        fields |= {f"{prefix}-TOTAL_FORMS": 1, f"{prefix}-INITIAL_FORMS": 1, f"{prefix}-0-id": foreign.pk,
                   f"{prefix}-0-policy": bees.policy.pk, f"{prefix}-0-amount": 1, f"{prefix}-0-measure": "requests",
                   f"{prefix}-0-window": "day", f"{prefix}-0-breach": "refuse"}  # fmt: skip
    answer = admin_page.post(page(Team, "change", bees.pk), fields)
    foreign.refresh_from_db()
    assert answer.status_code < 500
    assert (foreign.amount, foreign.policy.team, foreign.policy.highest_priority) == (100, cats, 10)


ACTIONS = {
    Node: ("probe_now", "enable", "disable", "drain", "resume", "measure", "forget", "pull_model", "load_model",
           "unload_model", "delete_model_", "delete_selected"),
    ApiKey: ("revoke", "rotate", "delete_selected"),
    PrefillProbe: ("probe_again", "delete_selected"),
    RequestRecord: ("delete_selected",),
    UsageDay: ("delete_selected",),
}  # fmt: skip


@pytest.mark.parametrize("group", ["viewer", "team lead", None])
@pytest.mark.parametrize("model", ACTIONS, ids=lambda model: model.__name__)
def test_no_action_without_its_permission(ant, bees, cats, model, group):
    """Who may not change a row changes it by no action, offered or not."""
    add_usage_day(cats)
    keys.create(cats, "chat")
    client = member("bo", *filter(None, (group,)))
    before = list(model.objects.order_by("pk").values())
    for name in ACTIONS[model]:
        for row in model.objects.all():
            words = {"action": name, "_selected_action": [row.pk], "post": "yes", "overlap": "0"}
            assert client.post(page(model, "changelist"), words).status_code in (200, 302, 403)
    assert list(model.objects.order_by("pk").values()) == before


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_nothing_is_changed_from_another_site(ada, ant, bees, model):
    """A form without its token is refused on every page."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(ada)
    for address in (page(model, "changelist"), page(model, "add")):
        assert client.post(address, {"action": "delete_selected"}).status_code == 403


@pytest.mark.parametrize("address", ["export-csv/", "export-yaml/", "import/", "models/pull/", "models/delete/"])
def test_nobody_gets_behind_the_buttons(bees, address):
    """Exports, imports and orders ask who is there: a lead may none of it for nodes, and a stranger logs in first."""
    for client, status in ((member("bo", "team lead"), (403,)), (Client(), (302,))):
        assert client.get(f"/admin/fleet/node/{address}").status_code in status


HOSTILE = {
    "an object that is no JSON": "- {name: ant, url: 'http://a:1', labels: {day: 2026-01-01}}",
    "names that are no text": "- {name: ant, url: 'http://a:1', labels: {1: a}}",
    "no number": "- {name: ant, url: 'http://a:1', weight: .nan}",
    "endless": "- {name: ant, url: 'http://a:1', vram_gb: .inf}",
    "binary": "- {name: !!binary aGk=, url: 'http://a:1'}",
    "a date as a name": "- {name: 2026-01-01, url: 'http://a:1'}",
    "a null character": '- {name: "a\\0nt", url: "http://a:1"}',
    "a null character in labels": '- {name: ant, url: "http://a:1", labels: {"rack": "a\\0"}}',
    "half a character": '- {name: ant, url: "http://a:1", labels: {"rack": "\\ud800"}}',
    "python": "- !!python/object/apply:os.system ['true']",
    "deep": "- {name: ant, url: 'http://a:1', labels: " + "[" * 3000 + "]" * 3000 + "}",
    "a list of lists": "- [name, ant]",
    "keys of a mapping": "- {? {a: b} : c}",
    "a huge number": f"- {{name: ant, url: 'http://a:1', slots: {ENDLESS}}}",
    "a larger number than fits": f"- {{name: ant, url: 'http://a:1', slots: {HUGE}}}",
    "a set": "- {name: ant, url: 'http://a:1', labels: !!set {a, b}}",
    "merge": "- {name: ant, url: 'http://a:1', <<: {slots: 3}}",
    "a bomb": "a: &a [x,x]\nb: &b [*a,*a]\n",
}  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_yaml(admin_page, text):
    """Whatever a YAML text holds, the page says what is wrong, or what would be changed and then is."""
    assert told(admin_page, text, "yaml") < 500


CELLS = {
    "a formula": "=cmd|'/c calc'!A0",
    "deep JSON": "[" * 100_000,
    "a null character": "a\0b",
    "half a character in JSON": '{"a": "\\ud800"}',
    "a null character in JSON": '{"a": "\\u0000"}',
    "endless JSON": '{"a": 1e999}',
    "a huge number": ENDLESS,
    "other digits": "٣",
}


@pytest.mark.parametrize("column", ["name", "slots", "labels", "vram_gb", "enabled"])
def test_hostile_csv(admin_page, column):
    """The same of a CSV text, in each kind of column."""
    for cell in CELLS.values():
        row = {"url": "http://a:1", "name": "ant", column: cell}
        text = io.StringIO()
        csv.writer(text).writerows([row.keys(), row.values()])
        assert told(admin_page, text.getvalue(), "csv") < 500, cell


def told(client, text, form):
    """Asks what an import would do, and has it done; the worst status of both."""
    address = reverse("admin:fleet_node_import_rows")
    first = client.post(address, {"text": text, "form": form})
    plan = first.context["plan"] if first.status_code == 200 else None
    if plan is None:
        return first.status_code
    second = client.post(address, {"text": text, "form": form, "mark": plan.mark})
    client.get(page(Node, "changelist"))
    return max(first.status_code, second.status_code)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe\x00n", "name\nünü".encode("latin-1"), b"\0" * 100, "﻿url,name\nhttp://a:1,ant".encode(),
     b"name,url\r\n" * 3, b"a" * 3 * 2**20, b'"' * 1000],
    ids=lambda content: repr(content[:9]),
)  # fmt: skip
def test_hostile_files(admin_page, content):
    """A file in another encoding, an empty one and one that is too large are refused in words."""
    for name in ("nodes.csv", "nodes.yaml", "nodes.csv.exe", "../../nodes.csv", ""):
        file = SimpleUploadedFile(name or "x", content)
        answer = admin_page.post(reverse("admin:fleet_node_import_rows"), {"file": file, "form": "csv"})
        assert answer.status_code == 200


@pytest.mark.parametrize(
    "columns",
    [{"labels": '{"rack": "a\\u0000"}'}, {"labels": '{"rack": "\\ud800"}'}, {"labels": "[" * 100_000},
     {"labels": '{"a": 1e999}'}, {"name": "a\0"}, {"url": "http://[::1"}, {"url": "http://a:99999"},
     {"url": "file:///etc/passwd"}, {"url": "http://user:pass@a"}, {"slots": ENDLESS}, {"vram_gb": "nan"},
     {"weight": "inf"}, {"header_name": "X-A\r\nX-B"}, {"header_name": "X-A", "header_value": "a\r\nb"}],
    ids=lambda columns: str(columns)[:40],
)  # fmt: skip
def test_hostile_nodes(admin_page, columns):
    """A node's form says what is wrong with it, and saves nothing."""
    answer = admin_page.post(page(Node, "add"), node_form(name="ant", url="ant", _save_disabled="1") | columns)
    assert answer.status_code == 200
    assert not Node.objects.exists()
