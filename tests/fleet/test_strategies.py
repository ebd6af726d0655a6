"""Strategies and rules: what the database and validation refuse, and how operators set them."""

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from fleet.models import RoutingRule, RoutingStrategy
from fleet.selectors.routing import doubts, known, strategy_names
from fleet.services.routing import make_default
from routing.core.names import canonical
from routing.core.strategies import BUILT_IN, TERMS
from tests.fleet.conftest import add_model, make_node
from tests.fleet.test_admin import act, page

pytestmark = pytest.mark.django_db


def refused(rows, /, **columns):
    with pytest.raises(IntegrityError), transaction.atomic():
        rows.objects.create(**columns)


def told(row):
    """What validation says, by field."""
    with pytest.raises(ValidationError) as caught:
        row.full_clean()
    return caught.value.message_dict


@pytest.mark.parametrize("columns", [{"name": ""}, {"name": "Near"}, {"kind": "nearest"}], ids=str)
def test_impossible_strategies(columns):
    """The database refuses a strategy without a name in lower case, or of no kind."""
    refused(RoutingStrategy, **{"name": "near"} | columns)


def test_one_name_and_one_default():
    """A name belongs to one strategy, and one at most is the default."""
    RoutingStrategy.objects.create(name="near", is_default=True)
    RoutingStrategy.objects.create(name="far")
    refused(RoutingStrategy, name="near")
    refused(RoutingStrategy, name="other", is_default=True)


@pytest.mark.parametrize(
    ("columns", "field", "words"),
    [
        ({"name": "a b"}, "name", "Use letters"),
        ({"name": "FAR"}, "name", "exists already"),
        ({"kind": "nearest"}, "kind", "not a valid choice"),
        ({"name": "cheapest"}, "kind", "is the name of a kind"),
        ({"weights": {"speed": 1}}, "weights", "speed is no term"),
        ({"weights": {"run": -1}}, "weights", "from 0 to 1000"),
        ({"weights": {"run": 1001}}, "weights", "from 0 to 1000"),
        ({"weights": {"run": float("inf")}}, "weights", "from 0 to 1000"),
        ({"weights": {"run": True}}, "weights", "from 0 to 1000"),
        ({"weights": [1]}, "weights", "terms with numbers"),
        ({"preferred": ["ant"]}, "preferred", "Only the kind priority nodes"),
        ({"kind": "priority_nodes"}, "preferred", "Say which nodes"),
        ({"kind": "priority_nodes", "preferred": ["ant", "ANT"]}, "preferred", "once only"),
        ({"kind": "priority_nodes", "preferred": "ant"}, "preferred", "a list of names"),
        ({"kind": "priority_nodes", "preferred": [" "]}, "preferred", "a list of names"),
    ],
    ids=str,
)
def test_validation_of_strategies(columns, field, words):
    """Each fault of a strategy stands beside its field, in words."""
    RoutingStrategy.objects.create(name="far")
    assert words in " ".join(told(RoutingStrategy(**{"name": "near"} | columns))[field])


@pytest.mark.parametrize("kind", BUILT_IN)
def test_a_kind_may_be_changed(kind):
    """A row named as a kind, of that kind, is how its weights are changed; every term may be given."""
    preferred = ["ant"] if kind == "priority_nodes" else []
    RoutingStrategy(name=kind, kind=kind, weights=dict.fromkeys(TERMS, 1000), preferred=preferred).full_clean()


def test_names_in_lower_case():
    """Names are taken in any case and kept in lower case."""
    row = RoutingStrategy(name=" Near ")
    row.full_clean()
    assert row.name == "near"


def test_moving_the_default():
    """Making a strategy the default takes that from the one before."""
    one = RoutingStrategy.objects.create(name="one", is_default=True)
    two = RoutingStrategy.objects.create(name="two")
    make_default(two)
    one.refresh_from_db()
    assert (one.is_default, RoutingStrategy.objects.get(is_default=True)) == (False, two)


def test_one_rule_of_a_kind(bees, cats):
    """There is one rule for each team and model, any team and any model being values as well."""
    for team in (None, bees, cats):
        for model in ("", canonical("llama3")):
            RoutingRule.objects.create(team=team, model=model, num_ctx=4)
            refused(RoutingRule, team=team, model=model, num_ctx=5)


def test_a_context_that_holds_nothing():
    """A context below four tokens is refused by the database."""
    refused(RoutingRule, num_ctx=3)


@pytest.mark.parametrize(
    ("columns", "field", "words"),
    [
        ({}, "__all__", "says nothing"),
        ({"strategy": "near"}, "strategy", "no strategy near"),
        ({"labels": {"rack": 1}}, "labels", "text values"),
        ({"num_ctx": 3}, "num_ctx", "greater than or equal to 4"),
        ({"num_ctx": 8, "model": "LLAMA3"}, "__all__", "for this model already"),
    ],
    ids=str,
)
def test_validation_of_rules(columns, field, words):
    """Each fault of a rule is told in words."""
    RoutingRule.objects.create(model=canonical("llama3"), num_ctx=4)
    assert words in " ".join(told(RoutingRule(**columns))[field])


def test_names_of_models_are_canonical():
    """Two spellings of one model are one; no model stays none."""
    one, none = RoutingRule(model=" Llama3 ", strategy="Fastest"), RoutingRule(model=" ", num_ctx=4)
    one.full_clean()
    none.full_clean()
    assert (one.model, one.strategy, none.model) == ("registry.ollama.ai/library/llama3:latest", "fastest", "")


def test_what_rules_name_stays(bees):
    """A strategy that a rule names is neither deleted, in whatever way, nor renamed; the answer names the rule."""
    near = RoutingStrategy.objects.create(name="near")
    RoutingRule.objects.create(team=bees, model=canonical("llama3"), strategy="near")
    for delete in (near.delete, RoutingStrategy.objects.all().delete):
        with pytest.raises(ProtectedError, match="Rules name near: team Bees, llama3:latest"):
            delete()
    near.name = "far"
    assert "team Bees, llama3:latest" in told(near)["name"][0]
    RoutingRule.objects.all().delete()
    near.delete()


def test_a_changed_kind_may_go():
    """A row named as a kind goes although rules name it: they mean the kind from then on."""
    row = RoutingStrategy.objects.create(name="cheapest", kind="cheapest")
    RoutingRule.objects.create(strategy="cheapest")
    row.delete()
    assert strategy_names() == list(BUILT_IN)


def test_doubts():
    """What no node matches is told, names in any case and labels by value; a disabled node serves no rule."""
    make_node("ant", labels={"rack": "a1"})
    make_node("bee", labels={"rack": "b2"}, enabled=False)
    near = RoutingStrategy(kind="priority_nodes", preferred=["ANT", "rack=b2", "dog", "rack=c3"])
    assert doubts(near, known()) == ["No node is called so, or has the label: dog, rack=c3."]
    assert doubts(RoutingRule(labels={"rack": "a1"}), known()) == []
    [doubt] = doubts(RoutingRule(labels={"rack": "b2"}), known())
    assert "No enabled node has rack=b2" in doubt
    assert doubts(RoutingRule(labels={"rack": "b2"}, enabled=False), known()) == []


# The pages


def messages(answer):
    return [str(message) for message in answer.context["messages"]]


def strategy_form(**columns):
    return {"name": "near", "kind": "priority_nodes", "preferred": "ant\n\n rack=a1 ", "note": ""} | columns


def test_adding_a_strategy(admin_page, ant):
    """Weights are given term by term, nodes line by line; what no node matches is told, and saved all the same."""
    form = strategy_form(weight_evict="2.5", weight_run="0", weight_start="")
    answer = admin_page.post(page(RoutingStrategy, "add"), form, follow=True)
    row = RoutingStrategy.objects.get()
    assert (row.weights, row.preferred) == ({"run": 0, "evict": 2.5}, ["ant", "rack=a1"])
    assert any("has the label: rack=a1" in message for message in messages(answer))


def test_a_strategys_page_shows_what_it_is(admin_page, ant):
    """Saving what the page shows changes nothing."""
    row = RoutingStrategy.objects.create(
        name="near", kind="priority_nodes", preferred=["ant", "rack=a1"], weights={"run": 2.0}
    )
    shown = admin_page.get(page(RoutingStrategy, "change", row.pk)).context["adminform"].form.initial
    form = {name: value for name, value in shown.items() if value not in (None, False)}
    admin_page.post(page(RoutingStrategy, "change", row.pk), form)
    row.refresh_from_db()
    assert (row.preferred, row.weights) == (["ant", "rack=a1"], {"run": 2.0})


@pytest.mark.parametrize(
    ("columns", "field"),
    [({"weight_run": "-1"}, "weight_run"), ({"preferred": ""}, "preferred"), ({"kind": "cheapest"}, "preferred")],
    ids=str,
)
def test_a_bad_strategy_is_told(admin_page, columns, field):
    """A fault stands beside its field."""
    answer = admin_page.post(page(RoutingStrategy, "add"), strategy_form(**columns))
    assert field in answer.context["adminform"].errors


def test_a_second_default_is_told(admin_page):
    """The page refuses a second default; the action moves it."""
    RoutingStrategy.objects.create(name="one", is_default=True)
    answer = admin_page.post(page(RoutingStrategy, "add"), strategy_form(is_default="on"))
    assert b"only one can be" in answer.content
    two = RoutingStrategy.objects.create(name="two")
    assert "two now holds" in messages(act(admin_page, RoutingStrategy, "use_as_default", two))[0]
    assert RoutingStrategy.objects.get(is_default=True) == two
    assert (
        "Choose one" in messages(act(admin_page, RoutingStrategy, "use_as_default", *RoutingStrategy.objects.all()))[0]
    )


@pytest.mark.parametrize("whole_list", [False, True])
def test_deleting_what_rules_name(admin_page, bees, whole_list):
    """The page for deleting names the rules instead of deleting, for one strategy and for several."""
    row = RoutingStrategy.objects.create(name="near")
    RoutingRule.objects.create(team=bees, strategy="near")
    if whole_list:
        answer = act(admin_page, RoutingStrategy, "delete_selected", row)
    else:
        answer = admin_page.post(page(RoutingStrategy, "delete", row.pk), {"post": "yes"})
    assert b"Rules that name near: team Bees, every model. Change them first." in answer.content
    assert RoutingStrategy.objects.exists()


def test_the_list_tells_the_default(admin_page):
    """Above the strategies stands which one holds, also while there are none."""
    assert b"<strong>fastest</strong> holds" in admin_page.get(page(RoutingStrategy, "changelist")).content
    RoutingStrategy.objects.create(name="near", is_default=True)
    assert b"<strong>near</strong> holds" in admin_page.get(page(RoutingStrategy, "changelist")).content


def rule_form(**columns):
    return {
        "team": "",
        "model": "",
        "strategy": "",
        "labels": "{}",
        "num_ctx": "",
        "enabled": "on",
        "note": "",
    } | columns


def test_adding_a_rule(admin_page, bees, ant):
    """A rule takes a model as clients name it and a strategy from the list; labels that no node has are told."""
    add_model(ant, 1)
    RoutingStrategy.objects.create(name="near")
    text = admin_page.get(page(RoutingRule, "add")).content.decode()
    assert all(f'<option value="{name}"' in text for name in ("round_robin", "near", "m1:latest"))
    form = rule_form(team=bees.pk, model="M1", strategy="near", labels='{"rack": "a1"}')
    answer = admin_page.post(page(RoutingRule, "add"), form, follow=True)
    row = RoutingRule.objects.get()
    assert (row.team, row.model, row.strategy) == (bees, canonical("m1"), "near")
    assert any("No enabled node has rack=a1" in message for message in messages(answer))
    assert b'value="m1:latest"' in admin_page.get(page(RoutingRule, "change", row.pk)).content


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({}, b"says nothing"),
        ({"strategy": "dog"}, b"not one of the available choices"),
        ({"num_ctx": 1}, b"equal to 4"),
    ],
    ids=str,
)
def test_a_bad_rule_is_told(admin_page, columns, words):
    """A fault of a rule is told on its page."""
    assert words in admin_page.post(page(RoutingRule, "add"), rule_form(**columns)).content


# REST


def test_the_life_of_a_strategy(api, ant):
    """A strategy is created, becomes the default, is kept while a rule names it, and is deleted."""
    told = {"name": "Near", "kind": "priority_nodes", "preferred": ["ant", "dog"], "weights": {"run": 2}}
    made = api.post("/api/fleet/strategies", told, format="json")
    assert made.status_code == 201
    assert (made.json()["name"], made.json()["doubts"]) == ("near", ["No node is called so, or has the label: dog."])
    path = f"/api/fleet/strategies/{made.json()['id']}"
    assert api.post(f"{path}/make_default").json()["is_default"] is True
    rule = api.post("/api/fleet/rules", {"strategy": "near"}, format="json").json()
    assert api.get(path).json()["rules"] == 1
    kept = api.delete(path)
    assert (kept.status_code, "Rules name near" in kept.json()["detail"]) == (409, True)
    assert api.delete(f"/api/fleet/rules/{rule['id']}").status_code == 204
    assert api.delete(path).status_code == 204


def test_rules_over_rest(api, bees):
    """A rule is told with its canonical model; no team and no model are every one."""
    made = api.post("/api/fleet/rules", {"team": "Bees", "model": "llama3", "num_ctx": 8192}, format="json")
    assert (made.status_code, made.json()["model"]) == (201, canonical("llama3"))
    made = api.post("/api/fleet/rules", {"labels": {"rack": "a1"}}, format="json")
    assert (made.json()["team"], made.json()["model"], len(made.json()["doubts"])) == (None, "", 1)
    found = api.get("/api/fleet/rules", {"team": "bees", "model": "llama3", "enabled": "true"}).json()
    assert found["count"] == 1


@pytest.mark.parametrize(
    ("resource", "columns", "field"),
    [
        ("rules", {}, "non_field_errors"),
        ("rules", {"strategy": "dog"}, "strategy"),
        ("rules", {"team": "Dogs", "num_ctx": 4}, "team"),
        ("rules", {"num_ctx": 4, "labels": []}, "labels"),
        ("rules", {"model": "Llama3", "num_ctx": 4}, "non_field_errors"),
        ("strategies", {"name": "ONE"}, "name"),
        ("strategies", {"name": "two", "is_default": True}, "non_field_errors"),
        ("strategies", {"name": "two", "weights": {"run": "fast"}}, "weights"),
        ("strategies", {"name": "two", "kind": "nearest"}, "kind"),
    ],
    ids=str,
)
def test_bad_input_names_its_field(api, resource, columns, field):
    """Bad input is 400 and names the field."""
    RoutingStrategy.objects.create(name="one", is_default=True)
    RoutingRule.objects.create(model=canonical("llama3"), num_ctx=4)
    answer = api.post(f"/api/fleet/{resource}", columns, format="json")
    assert (answer.status_code, field in answer.json()) == (400, True)


def test_a_rule_is_changed_in_part(api):
    """What a change does not name stays as it was."""
    row = RoutingRule.objects.create(model=canonical("llama3"), num_ctx=4, strategy="fastest")
    assert api.patch(f"/api/fleet/rules/{row.pk}", {"enabled": False}, format="json").json()["enabled"] is False
    row.refresh_from_db()
    assert (row.model, row.num_ctx, row.strategy) == (canonical("llama3"), 4, "fastest")
