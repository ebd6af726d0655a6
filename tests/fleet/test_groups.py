"""Groups: operators run the fleet, who leads a team has that team, viewers look."""

import re

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.urls import reverse

from fleet.models import ApiKey, Node, PriorityPolicy, RequestRecord, RoutingRule, Team, UsageDay
from fleet.services import keys
from fleet.services.groups import ensure_groups
from tests.fleet.conftest import add_quota, add_request, add_usage_day
from tests.fleet.test_admin import act, node_form, page
from tests.fleet.test_key_pages import PLAIN, new_key, rotate, team_form

pytestmark = pytest.mark.django_db


def member(name, *groups):
    user, _ = User.objects.get_or_create(username=name)
    user.is_staff = True
    user.save()
    user.groups.set(Group.objects.filter(name__in=groups))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def bo(bees, cats):
    """Bo leads team Bees; both teams have a policy, usage, a key and a request."""
    for team in (bees, cats):
        add_quota(team)
        add_usage_day(team, requests=90)
        keys.create(team, "chat")
        add_request(team.pk, team=team, team_name=team.name)
    return member("bo", "team lead")


def rows(client, model, **words):
    return list(client.get(page(model, "changelist"), words).context["cl"].result_list)


@pytest.mark.parametrize("model", [Team, ApiKey, PriorityPolicy, UsageDay, RequestRecord])
def test_a_lead_sees_the_own_team(bo, bees, cats, model):
    """Lists have the own team's rows only, and pages of others' do not exist."""
    [own] = rows(bo, model)
    assert bo.get(page(model, "change", own.pk)).status_code == 200
    [other] = model.objects.exclude(pk=own.pk)
    assert bo.get(page(model, "change", other.pk)).status_code == 302


def test_a_lead_does_not_read_other_teams_in_filters(bo, cats):
    """Nor does a filter offer another team, or yield its rows."""
    answer = bo.get(page(RequestRecord, "changelist"))
    assert "Cats" not in answer.content.decode()
    assert rows(bo, RequestRecord, team=str(cats.pk)) == []


@pytest.mark.parametrize("model", [Node, RoutingRule, User, Group])
def test_a_lead_does_not_run_the_fleet(bo, model):
    """The fleet's and the people's pages are not a lead's."""
    assert bo.get(page(model, "changelist")).status_code == 403


def test_a_lead_reads_policies_only(bo, bees):
    """Policies are the operators' matter, on the team's page too."""
    policy = bees.policy
    assert bo.post(page(PriorityPolicy, "change", policy.pk), {}).status_code == 403
    assert bo.get(reverse("admin:fleet_prioritypolicy_import_rows")).status_code == 403
    fields = team_form(bees, highest_priority=1, **{"policy-0-highest_priority": 1, "policy-0-id": policy.pk})
    bo.post(page(Team, "change", bees.pk), fields | {"policy-TOTAL_FORMS": 1, "policy-INITIAL_FORMS": 1})
    policy.refresh_from_db()
    assert policy.highest_priority == 10


def test_a_lead_gives_out_keys_of_the_own_team(bo, bees):
    """A key of the team, for inference, is a lead's to give."""
    answer = bo.post(page(ApiKey, "add"), {"team": bees.pk, "name": "new", "scopes": ["inference"]})
    assert PLAIN.search(answer.content.decode())
    answer = bo.post(page(Team, "change", bees.pk), team_form(bees, new_key("newer", "inference")))
    assert PLAIN.search(answer.content.decode())


def test_a_lead_makes_himself_no_operator(bo, bees, cats):
    """No key of another team, none with more scopes, and none by rotating one that has more."""
    for team, scope in ((cats, "inference"), (bees, "manage")):
        answer = bo.post(page(ApiKey, "add"), {"team": team.pk, "name": "new", "scopes": [scope]})
        assert "Select a valid choice" in answer.content.decode()
    bo.post(page(Team, "change", bees.pk), team_form(bees, new_key("new", "manage")))
    strong = keys.create(bees, "ops", ["manage"]).key
    assert not PLAIN.search(rotate(bo, strong, overlap="0").content.decode())
    act(bo, ApiKey, "revoke", strong)
    strong.refresh_from_db()
    assert (strong.state, ApiKey.objects.filter(name="new").exists()) == ("active", False)


def test_a_lead_renames_no_team(bo, bees, cats):
    """Name and members are the operators' matter; what the team is for is the lead's to say."""
    bo.post(page(Team, "change", bees.pk), team_form(bees, name="Wasps", description="buzz", members=[]))
    bees.refresh_from_db()
    assert (bees.name, bees.description, bees.members.count()) == ("Bees", "buzz", 1)


def test_a_lead_who_also_looks(bo, bees, cats):
    """As a viewer too, a lead sees all teams, and still changes the own one only."""
    both = member("bo", "team lead", "viewer")
    assert len(rows(both, ApiKey)) == 2
    other = cats.keys.get()
    assert not PLAIN.search(rotate(both, other, overlap="0").content.decode())
    assert both.post(page(Team, "change", cats.pk), team_form(cats, description="mine")).status_code == 403


def test_the_landing_page_of_a_lead(bo):
    """The page tells the own team's quotas and nothing of the fleet."""
    text = bo.get(reverse("admin:index")).content.decode()
    assert "90% of 100 requests each day" in text
    assert "Cats" not in text
    assert "Nodes up" not in text


def test_operators(ant, bees):
    """An operator adds nodes, drains them and gives out keys of any scope; people are the administrators' matter."""
    ada = member("ada", "operator")
    ada.post(page(Node, "add"), node_form(name="bee", url="bee", _save_disabled="1"))
    act(ada, Node, "drain", ant)
    assert Node.objects.get(name="bee").enabled is False
    assert Node.objects.get(name="ant").draining
    answer = ada.post(page(ApiKey, "add"), {"team": bees.pk, "name": "ops", "scopes": ["manage"]})
    assert PLAIN.search(answer.content.decode())
    assert ada.get(page(User, "add")).status_code == 403


def test_viewers(ant, bees):
    """A viewer sees all and changes nothing."""
    di = member("di", "viewer")
    assert di.get(page(Node, "change", ant.pk)).status_code == 200
    assert di.get(reverse("admin:index")).status_code == 200
    act(di, Node, "drain", ant)
    assert not Node.objects.get().draining
    for address in (page(Node, "add"), reverse("admin:fleet_node_stock", args=("delete",), query={"node": ant.pk}),
                    reverse("admin:fleet_node_import_rows")):  # fmt: skip
        assert di.get(address).status_code == 403
    exported = di.get(reverse("admin:fleet_node_export_csv"))
    assert re.search(r"(?m)^ant,", exported.content.decode())


def test_groups_are_brought_up_to_date():
    """After a migration a group has what belongs to it again, and keeps what it was given beside that."""
    group = Group.objects.get(name="viewer")
    extra = Permission.objects.get(codename="change_node")
    group.permissions.set([extra])
    ensure_groups()
    assert set(group.permissions.values_list("codename", flat=True)) > {
        "change_node",
        "view_node",
        "view_requestrecord",
    }


@pytest.mark.parametrize(
    ("groups", "status"), [(("operator",), 200), (("viewer",), 200), (("team lead",), 403), ((), 403)], ids=str
)
def test_the_live_picture_is_for_those_who_see_all_teams(groups, status):
    """It shows every team's requests, so that a team lead gets neither the page nor what it is made of."""
    client = member("di", *groups)
    assert client.get("/dashboard/").status_code == status
    assert client.get("/dashboard/state/").status_code == status
    assert client.get("/dashboard/playground/").status_code == 200
