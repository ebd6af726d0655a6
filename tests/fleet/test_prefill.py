"""Probes' results and the policy for streams that break off: kept, shown, and in the snapshot."""

import pytest
from django.urls import reverse

from fleet import live
from fleet.models import PrefillProbe, PriorityPolicy, RequestRecord
from fleet.services.lookup import found
from fleet.services.prefill import save_prefills
from fleet.services.recording import DatabaseStore
from fleet.snapshot import load_snapshot
from routing.core import records
from routing.core.dispatcher import Dispatcher
from routing.core.resuming import Behaviour, OnBreak, Probed
from routing.core.snapshot import Prefill
from routing.gateway.tally import Tally
from routing.gateway.view import view_of
from tests.fleet.conftest import add_probe, revision
from tests.fleet.test_admin import act, page

pytestmark = pytest.mark.django_db

PROBED = Probed("d" * 64, "llama3.2:3b", "ant", Behaviour.RESTART, 1_700_000_000.25, "it said: hm")


def test_a_result_reaches_every_gateway():
    """It is kept in place of an older one, moves the revision on, and comes with the snapshot."""
    add_probe(1, digest=PROBED.digest, again=True)
    before = revision()
    save_prefills([PROBED])
    assert revision() > before
    assert load_snapshot().prefills == {PROBED.digest: Prefill(Behaviour.RESTART, PROBED.at)}
    row = PrefillProbe.objects.get()
    assert (row.model, row.node_name, row.detail, row.again) == ("llama3.2:3b", "ant", "it said: hm", False)


def test_odd_texts_are_kept_as_far_as_they_can_be():
    """A node's name for a model, and what a model said, may be anything."""
    save_prefills([Probed("d" * 64, "m" * 999, "ant", Behaviour.UNCLEAR, 1.0, "\0\ud800" * 3000)])
    row = PrefillProbe.objects.get()
    assert (len(row.model), "\0" in row.detail, len(row.detail) <= 2000) == (600, False, True)


def test_an_operator_asks_for_another_probe(admin_page):
    """The last result counts until gateways have probed anew."""
    probe = add_probe(1)
    answer = act(admin_page, PrefillProbe, "probe_again", probe)
    assert b"1 model is probed again" in answer.content
    (kept,) = load_snapshot().prefills.values()
    assert (kept.behaviour, kept.again) == (Behaviour.CONTINUE, True)


def test_the_page_tells_what_follows(admin_page):
    """What the model does, and what that means for its streams."""
    add_probe(1)
    add_probe(2, behaviour="trim")
    told = admin_page.get(page(PrefillProbe, "changelist")).content.decode()
    assert all(words in told for words in ("goes on at another node", "ends with an error", "trims white space"))


def test_probes_over_rest(api):
    """Listed by what was found, and asked for anew."""
    probe = add_probe(1)
    add_probe(2, behaviour="restart")
    (row,) = api.get("/api/fleet/prefills", {"behaviour": "continue"}).json()["results"]
    assert (row["model"], row["node"], row["again"]) == ("m1:latest", "ant", False)
    answer = api.post(f"/api/fleet/prefills/{probe.pk}/probe")
    assert (answer.status_code, answer.json()["again"]) == (202, True)
    assert api.delete(f"/api/fleet/prefills/{probe.pk}").status_code == 405


def test_the_policy_for_streams_that_break_off(api, bees):
    """Of a team, over REST; another word than those that there are is refused."""
    asked = {"team": "Bees", "on_break": "error"}
    assert api.post("/api/fleet/policies", asked, format="json").status_code == 201
    assert load_snapshot().teams[bees.pk].on_break is OnBreak.ERROR
    policy = PriorityPolicy.objects.get()
    answer = api.patch(f"/api/fleet/policies/{policy.pk}", {"on_break": "perhaps"}, format="json")
    assert (answer.status_code, list(answer.json())) == (400, ["on_break"])


def test_the_policys_page_has_it(admin_page, bees):
    """Beside the other fields of the policy."""
    policy = PriorityPolicy.objects.create(team=bees)
    assert b'name="on_break"' in admin_page.get(page(PriorityPolicy, "change", policy.pk)).content


@pytest.fixture
def resumed():
    return records.RequestRecord(
        "r1", 1e9, "/api/chat", "m", "chat", "simple", 5, True, records.Outcome.SERVED, 200, attempts=3, resumed=2
    )


def test_history_tells_it(resumed, admin_page):
    """The row, the lookup by id, and the page."""
    assert DatabaseStore()([resumed]) == 1
    assert RequestRecord.objects.get().resumed == 2
    assert found("r1")["resumed"] == 2
    assert admin_page.get(reverse("admin:fleet_requestrecord_changelist")).status_code == 200


def test_metrics_count_it(resumed, api):
    """The streams that were continued."""
    tally = Tally()
    tally.take(resumed, "m", "Bees", "ant")
    live.publish(view_of(Dispatcher(), tally, 0.0))
    try:
        assert "sollol_streams_resumed_total 2.0" in api.get("/metrics").content.decode()
    finally:
        live.publish(None)
