"""Measuring a node, with real requests to a simulated one."""

import time
from io import StringIO

import httpx
import pytest
from django.core.management import CommandError, call_command
from django_q.models import OrmQ

from fleet.models import LearnedSpeed, Node, NodeEvent
from fleet.services.calibration import Calibration, begin, calibrate, queue
from fleet.services.health import sweep
from fleet.tasks import calibration as task
from simulator.threads import node_in_thread
from tests.fleet.conftest import add_speed, make_node
from tests.fleet.test_admin import act

pytestmark = pytest.mark.django_db

CHAT, EMBED, LARGE = "llama3.2:3b", "nomic-embed-text:latest", "deepseek-r1:32b"


@pytest.fixture
def simulated():
    """A node that reads 2000 tokens/s and writes 50, alone, with everything 20 times as fast as told."""
    with node_in_thread(
        models=(LARGE, CHAT, EMBED), speed=20.0, decode_rate=50.0, prefill_rate=2000.0, load_fixed=3.0
    ) as server:
        yield server


def node_of(server, **columns):
    """The node's row, with its inventory read."""
    node = Node.objects.create(name="ant", url=server.base_url, **{"vram_gb": 24} | columns)
    sweep([node])
    node.refresh_from_db()
    return node


def load(server, model=CHAT, **options):
    httpx.post(f"{server.base_url}/api/generate", json={"model": model, "options": options}, timeout=30)


def speeds():
    return {row.model.rpartition("/")[2]: row for row in LearnedSpeed.objects.all()}


def asked(server):
    return sum(count for path, count in server.record.requests.items() if path in ("/api/generate", "/api/embed"))


def test_speeds_are_measured(simulated):
    """What a node can do is found, of models that embed too; what does not fit is left alone."""
    found = calibrate(node_of(simulated, vram_gb=12))
    assert found.faults == ()
    rows = speeds()
    assert set(rows) == {CHAT, EMBED}
    assert rows[CHAT].prompt_s == pytest.approx(1 / 2000, rel=0.6)
    assert rows[CHAT].output_s == pytest.approx(1 / 50, rel=0.4)
    assert rows[CHAT].load_s == pytest.approx(4.0, rel=0.4)
    assert (rows[CHAT].prompt_seen, rows[CHAT].output_seen, rows[CHAT].load_seen) == (5, 5, 5)
    assert (rows[EMBED].prompt_seen, rows[EMBED].output_seen) == (5, 0)


def test_gateways_are_told(simulated):
    """A measured node is to be learned anew, and an event tells what was found."""
    node = node_of(simulated)
    calibrate(node)
    node.refresh_from_db()
    assert node.relearn_at is not None
    events = list(NodeEvent.objects.order_by("pk").values_list("kind", flat=True))
    assert events[-2:] == ["measuring", "measured"]
    assert f"{CHAT}: " in NodeEvent.objects.get(kind="measured").detail


def test_a_loaded_model_is_not_loaded_anew(simulated):
    """A model that is loaded is measured with the context that it has, and nothing is learned of its load."""
    load(simulated, num_ctx=2048)
    calibrate(node_of(simulated), models=1)
    assert len(simulated.record.loads) == 1
    assert speeds()[CHAT].load_seen == 0


def test_a_small_context_gets_a_short_prompt(simulated):
    """A prompt never is longer than the context that a model was loaded with."""
    load(simulated, num_ctx=256)
    assert calibrate(node_of(simulated), models=1).faults == ()


def test_what_was_known_stays_where_nothing_was_measured(simulated):
    """The load of a loaded model, as it was learned before, stays."""
    load(simulated)
    node = node_of(simulated)
    weights = node.models.get(name=CHAT).digest
    add_speed(node, weights=weights, load_s=9.0, load_seen=4, output_seen=400)
    calibrate(node, models=1)
    row = LearnedSpeed.objects.get(weights=weights)
    assert (row.load_s, row.load_seen, row.output_seen) == (9.0, 4, 5)


def test_models_are_bounded(simulated):
    """No more models are measured than allowed, the loaded one first."""
    load(simulated, CHAT)
    calibrate(node_of(simulated), models=1)
    assert set(speeds()) == {CHAT}


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"vram_gb": 0.1}, "no model is loaded, or fits"),
        ({"max_loaded": 1, "vram_gb": 0.2}, "no model is loaded, or fits"),
    ],
    ids=str,
)
def test_nothing_that_clients_use_is_unloaded(simulated, columns, told):
    """Where nothing is loaded and nothing fits, nothing is asked."""
    found = calibrate(node_of(simulated, **columns))
    assert (told in str(found), asked(simulated)) == (True, 0)


def test_places_count(simulated):
    """A node that keeps one model loaded, which it has, gets no other one."""
    load(simulated)
    calibrate(node_of(simulated, max_loaded=1))
    assert set(speeds()) == {CHAT}


def test_a_node_that_is_down():
    """A node that does not answer is told in words, as an event too, and nothing is learned."""
    node = Node.objects.create(name="ant", url="http://127.0.0.1:9")
    found = calibrate(node)
    assert (found.measured, "cannot connect" in str(found)) == ((), True)
    assert "cannot connect" in NodeEvent.objects.get(kind="not_measured").detail
    node.refresh_from_db()
    assert node.relearn_at is None


def answering(paths):
    """A network with one node that answers these paths; what is a number is a status."""

    def answer(request):
        body = paths[request.url.path]
        return (
            httpx.Response(body, json={"error": "no room"}) if isinstance(body, int) else httpx.Response(200, json=body)
        )

    return httpx.MockTransport(answer)


TAGS = {"models": [{"name": "a:1", "size": 10**9, "digest": "a" * 64}, {"name": "b:1", "size": 2 * 10**9}]}


def test_one_models_fault_is_its_own():
    """A model that cannot be run is told with the node's own words."""
    node = make_node("ant", vram_gb=24)
    found = calibrate(node, transport=answering({"/api/tags": TAGS, "/api/ps": {}, "/api/generate": 500}))
    assert [fault.partition(":1: ")[0] for fault in found.faults] == ["a", "b"]
    assert "HTTP 500: no room" in found.faults[0]


@pytest.mark.parametrize("answer", [{}, {"eval_count": "many", "eval_duration": 1}, {"prompt_eval_count": 0}], ids=str)
def test_answers_that_tell_nothing(answer):
    """An answer without durations is no measurement."""
    found = calibrate(
        make_node("ant"), transport=answering({"/api/tags": TAGS, "/api/ps": {}, "/api/generate": answer})
    )
    assert (found.measured, "tell no durations" in str(found)) == ((), True)


def test_stubs_are_left_alone():
    """Models that run elsewhere are no measure of the node."""
    tags = [
        {"name": "gpt-oss:120b-cloud", "size": 10**9},
        {"name": "far:1", "size": 10**9, "remote_host": "https://ollama.com:443"},
        {"name": "tiny:1", "size": 400},
    ]
    found = calibrate(make_node("ant"), transport=answering({"/api/tags": {"models": tags}, "/api/ps": {}}))
    assert "no model is loaded" in str(found)


def test_time_is_bounded(simulated):
    """When the time is over no further request is made, and that is told."""
    found = calibrate(node_of(simulated), seconds=0.0)
    assert "no time was left" in str(found)
    assert asked(simulated) == 0


def test_one_at_a_time(ant):
    """While a node is measured it is not measured a second time; when that was long ago, it is."""
    assert begin(ant, 60.0)
    assert str(calibrate(ant)) == "it is being measured already"
    assert begin(ant, 0.0)


def test_a_node_that_goes_meanwhile(simulated):
    """A node that is deleted while it is measured leaves an event under its name."""
    node = node_of(simulated)

    def tell(line):
        Node.objects.filter(pk=node.pk).delete()

    calibrate(node, tell)
    assert NodeEvent.objects.get(kind="measured", node=None).node_name == "ant"
    assert not LearnedSpeed.objects.exists()


def test_in_words():
    """A result reads as what it is."""
    assert str(Calibration(faults=("a", "b"))) == "a; b"


def test_the_action_queues(admin_page, ant, bee):
    """The action leaves the work to the worker, one task for each node, and says where the result will be."""
    answer = act(admin_page, Node, "measure", ant, bee)
    assert "ant, bee" in str(next(iter(answer.context["messages"])))
    assert sorted(row.task["args"] for row in OrmQ.objects.all()) == [(ant.pk,), (bee.pk,)]


def test_the_task(simulated):
    """The task tells what was found in one line; a node that is gone meanwhile is told."""
    node = node_of(simulated)
    queue([node])
    assert task.measure(*OrmQ.objects.get().task["args"]).startswith(f"ant: {EMBED}: ")
    node.delete()
    assert task.measure(0) == "the node is gone"


def test_the_command(simulated):
    """The command measures in the foreground and shows how far it is."""
    node_of(simulated)
    out = StringIO()
    call_command("calibrate", "ANT", stdout=out)
    assert f"{CHAT} ..." in out.getvalue()
    assert "tokens/s out" in out.getvalue()


def test_the_command_tells_what_failed():
    """A node that cannot be measured ends the command with status 1; names that no node has are told."""
    with pytest.raises(CommandError, match="no nodes in use"):
        call_command("calibrate")
    make_node("ant", enabled=False)
    Node.objects.create(name="bee", url="http://127.0.0.1:9")
    out = StringIO()
    with pytest.raises(CommandError, match="1 of 1 nodes not measured"):
        call_command("calibrate", stdout=out)
    assert "cannot connect" in out.getvalue()
    with pytest.raises(CommandError, match="no node is called dog"):
        call_command("calibrate", "dog")


def test_over_rest(api, ant):
    """Measuring is accepted and queued; forgetting is done at once."""
    answer = api.post(f"/api/fleet/nodes/{ant.pk}/calibrate")
    assert (answer.status_code, OrmQ.objects.get().task["args"]) == (202, (ant.pk,))
    add_speed(ant)
    answer = api.post(f"/api/fleet/nodes/{ant.pk}/forget")
    assert (answer.status_code, answer.json()["relearn_at"] is None, LearnedSpeed.objects.exists()) == (
        200,
        False,
        False,
    )
    assert api.get(f"/api/fleet/nodes/{ant.pk}/forget").status_code == 405


def test_it_takes_no_long(simulated):
    """A whole measurement of small models is over well before the worker would end it."""
    began = time.monotonic()
    calibrate(node_of(simulated))
    assert time.monotonic() - began < 60
