"""Recorded traffic once more: `manage.py replay` from history rows to what it tells."""

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from fleet.models import LearnedLength, LearnedNode, LearnedSpeed, NodeEvent, RequestRecord
from fleet.services.learning import load_learned, save_learned
from fleet.snapshot import load_snapshot
from routing.core import learned
from routing.core.requests import Task
from routing.whatif.profiles import machines_of
from routing.whatif.simulation import Scenario, simulate
from routing.whatif.traffic import Kind, traffic
from tests.fleet.conftest import add_event, add_model, add_request, make_node

pytestmark = pytest.mark.django_db

SMALL, LARGE = (f"registry.ollama.ai/library/m{number}:latest" for number in (0, 1))
SPEEDS = {("ant", 0): (0.0004, 0.011), ("ant", 1): (0.0015, 0.04), ("bee", 0): (0.004, 0.06), ("bee", 1): (0.015, 0.2)}
MIX = (
    Kind(Task.CHAT, 0.7, (300.0, 0.6), (120.0, 0.6), {SMALL: 1.0}, 8),
    Kind(Task.ANALYSIS, 0.3, (600.0, 0.4), (150.0, 0.4), {LARGE: 1.0}, 3),
)


def replay(*words):
    out = StringIO()
    call_command("replay", *words, stdout=out, stderr=StringIO())
    return out.getvalue()


def told(*words):
    return json.loads(replay("--json", "--seeds", "1", *words))


@pytest.fixture
def pair():
    """Ant, a fast node, and bee, a slow one; both with both models, and both measured."""
    nodes = {
        "ant": make_node("ant", slots=3, vram_gb=24),
        "bee": make_node("bee", slots=2, ram_gb=64, node_class="cpu"),
    }
    for node in nodes.values():
        for number, gib in ((0, 2), (1, 9)):
            add_model(node, number, size=gib << 30, capabilities=["completion"])
    save_learned(
        learned.Learned(
            tuple(
                learned.LearnedSpeed(nodes[name].pk, f"{number:064}", f"m{number}", *of(*speeds))
                for (name, number), speeds in SPEEDS.items()
            ),
            (learned.LearnedNode(nodes["ant"].pk, 0.7, 50), learned.LearnedNode(nodes["bee"].pk, 0.4, 50)),
        ),
        {},
    )
    return nodes


def of(prompt_s, output_s):
    return prompt_s, 50, output_s, 50, 4.0, 5


@pytest.fixture
def history(pair, bees):
    """Some minutes of traffic, an hour ago: what the model makes of it under another seed, as gateways record it."""
    snapshot = load_snapshot()
    machines = machines_of(snapshot, load_learned())
    preload = {node.pk: [SMALL, LARGE] for node in pair.values()}
    asked = traffic(MIX, 0.35, 400.0, 4)
    run = simulate(Scenario(machines, asked, (), snapshot, load_learned(), preload=preload), "", 77)
    begin = timezone.now() - timedelta(hours=1)
    RequestRecord.objects.bulk_create(
        RequestRecord(
            request_id=f"h{call.asked.number}",
            started_at=begin + timedelta(seconds=call.asked.at),
            route="/api/chat",
            model=call.asked.profile.key.rpartition("/")[2].partition(":")[0],
            task_type=call.asked.profile.task.value,
            complexity="simple",
            priority=call.asked.profile.priority,
            stream=True,
            outcome="served",
            status=200,
            team=bees if call.asked.number % 4 == 0 else None,
            node_id=call.node_id,
            attempts=1,
            queue_ms=call.queue_s * 1000,
            first_byte_ms=(call.first_at - call.asked.at) * 1000,
            total_ms=call.total_s * 1000,
            prompt_tokens=call.asked.profile.prompt_tokens,
            output_tokens=call.asked.output_tokens,
        )
        for call in run.calls
    )
    return run


def test_the_model_repeats_its_own_past(history):
    """Traffic that was made by the model is repeated by it, down to the models and the nodes' shares."""
    seen = told("--seeds", "3")
    assert seen["fidelity"]["word"] in {"close", "rough"}
    assert seen["replayed"] == len(history.calls) == seen["recorded"]["total"]["count"]
    assert seen["recorded"]["models"].keys() == {"m0", "m1"}
    assert seen["speeds"] == {"pairs": 4, "measured": 4}
    assert [one["label"] for one in seen["variants"]] == ["as it was"]


def test_it_is_told_for_people(history):
    """The verdict comes first, then tables and bars; the fleet and the policy as they are come first among variants."""
    text = replay("--seeds", "2", "--strategy", "random", "--add-node", "like=ant,name=dog")
    assert text.index("happened > model") < text.index("The model is ") < text.index("Compared in the model")
    assert "random, with dog" in text
    assert "█" in text


def test_without_changes_there_is_nothing_to_compare(history):
    """The report says what could be asked for."""
    assert "try --strategy" in replay("--seeds", "1")


def test_more_of_the_same_is_faster(history):
    """A copy of the fast node shortens the mean, and gets part of the requests."""
    before, after = told("--add-node", "name=dog,like=ant")["variants"]
    assert after["nodes"] == ["ant", "bee", "dog"]
    assert mean(after) < mean(before)
    assert after["runs"][0]["shares"]["dog"] > 0.1


def test_less_is_slower(history):
    """Without the fast node the mean grows much; with one slot there it grows."""
    variants = [told(*words)["variants"][1] for words in (("--slots", "ant=1"), ("--remove-node", "ANT"))]
    assert mean(told()["variants"][0]) < mean(variants[0]) < mean(variants[1])


def test_denser_arrivals_wait_longer(history):
    """Three times the load takes a third of the time and waits longer; by itself first, then with the change."""
    seen = told("--load-factor", "3", "--strategy", "least_loaded")
    assert [one["label"] for one in seen["variants"]] == ["as it was", "load x 3", "least_loaded, load x 3"]
    as_it_was, dense, _ = seen["variants"]
    assert mean(dense) > mean(as_it_was)


def test_a_team_and_a_model_are_told_alone(history):
    """Filters choose of whom it is told; the others run beside them unless told not to."""
    seen = told("--team", "bees", "--model", "m0:latest")
    assert seen["replayed"] == len(history.calls)
    assert 0 < seen["recorded"]["total"]["count"] < seen["replayed"] / 2
    alone = told("--team", "bees", "--model", "m0", "--only")
    assert alone["replayed"] == alone["recorded"]["total"]["count"] == seen["recorded"]["total"]["count"]
    assert mean(alone["variants"][0]) <= mean(seen["variants"][0])


def test_the_same_seed_tells_the_same(history):
    """Two replays are equal; nothing in the database has changed."""
    rows = list(RequestRecord.objects.values_list())
    assert told("--strategy", "random") == told("--strategy", "random")
    assert rows == list(RequestRecord.objects.values_list())


def test_a_plot_is_written(history, tmp_path):
    """A curve for what happened and one for each variant."""
    target = tmp_path / "plot.svg"
    replay("--seeds", "1", "--strategy", "random", "--plot", str(target))
    assert target.read_text().count("<polyline") == 3
    with pytest.raises(CommandError, match="cannot be written"):
        replay("--seeds", "1", "--plot", str(tmp_path / "absent" / "plot.svg"))


def test_progress_is_shown_on_a_terminal(history):
    """Whoever watches sees a line that changes; the report itself stays clean."""

    class Terminal(StringIO):
        def isatty(self):
            return True

    err, out = Terminal(), StringIO()
    call_command("replay", "--seeds", "2", stdout=out, stderr=err)
    assert "run 2 of 2, as it was:" in err.getvalue()
    assert "\r" not in out.getvalue()


def test_guesses_are_said_to_be_guesses(history):
    """Without learned speeds the priors of the nodes' classes are used, and it is told."""
    for rows in (LearnedSpeed, LearnedNode, LearnedLength):
        rows.objects.all().delete()
    assert "nothing was learned of these nodes yet" in replay("--seeds", "1")


def test_what_cannot_be_replayed_is_counted(history):
    """Refused requests, other routes and models that are gone are left out, each told with its number."""
    add_request(1, outcome="refused", status=429, model="m0")
    add_request(2, route="/api/pull", model="m0")
    add_request(3, model="absent")
    add_request(4, model="gpt-oss:20b-cloud")
    text = replay("--seeds", "1")
    for line in ("1 refused at once", "1 other than inference", "1 for absent, which no node has", "1 for models at"):
        assert f"left out: {line}" in text


def test_a_cut_answer_is_as_long_as_it_had_come(history):
    """Of a client that left in the middle what ran counts; one that left while waiting leaves again."""
    node = RequestRecord.objects.filter(model="m0").first().node
    common = {"model": "m0", "outcome": "cancelled", "status": 499, "node": node, "prompt_tokens": 10}
    add_request(1, **common, first_byte_ms=100, total_ms=1100)
    add_request(2, **common, total_ms=700)
    assert told()["guessed_lengths"] == 2


def test_outages_happen_again(history, pair):
    """A node that was down for part of the time is down in the model, too."""
    begin = RequestRecord.objects.earliest("started_at").started_at
    for seconds, kind in ((0, "down"), (1, "down"), (200, "up")):
        event = add_event(pair["ant"], kind)
        NodeEvent.objects.filter(pk=event.pk).update(at=begin + timedelta(seconds=seconds))
    seen = told()
    assert seen["outages"] == 1
    assert seen["variants"][0]["runs"][0]["shares"]["ant"] < seen["recorded"]["shares"]["ant"]
    assert mean(seen["variants"][0]) > 5 * seen["recorded"]["total"]["mean"]
    assert seen["fidelity"]["word"] == "poor"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--since", "2020-01-01", "--until", "2020-01-02"), "no requests were recorded from 2020-01-01 00:00"),
        (("--since", "yesterday"), "is no moment"),
        (("--since", "2020-02-31"), "is no moment"),
        (("--since", "2020-01-02", "--until", "2020-01-01"), "before it begins"),
        (("--last", "soon"), "is no span of time"),
        (("--team", "dogs"), r"no team is called 'dogs' \(teams: Bees\)"),
        (("--model", "absent"), "none of the .* requests recorded in that time for absent"),
        (("--strategy", "magic"), r"no strategy is called 'magic' \(strategies: fastest"),
        (("--remove-node", "dog"), r"no node is called 'dog' \(nodes: ant, bee\)"),
        (("--remove-node", "ant", "--remove-node", "bee"), "there are none left"),
        (("--slots", "ant"), "give a node and a number"),
        (("--slots", "ant=0"), "give a node and a number"),
        (("--add-node", "name=dog,like=cow"), "no node is called 'cow'"),
        (("--add-node", "name=dog"), "how much memory"),
        (("--add-node", "name=ant,like=bee"), "called 'ant' already"),
        (("--add-node", "name=dog,wheels=4"), "'wheels=4' is not understood"),
        (("--add-node", "name=dog,vram=much"), "vram='much' is not a number"),
        (("--add-node", "name=dog,like=ant,slots=0"), "must be above 0"),
        (("--add-node", "name=dog,like=ant,class=tpu"), "neither of gpu, cpu"),
        (("--add-node", "name=dog,like=ant,models=absent"), "no node has absent"),
        (("--load-factor", "0"), "--load-factor must be"),
        (("--seeds", "0"), "must be at least 1"),
        (("--only",), "--only needs"),
        (("--plot", "plot.png"), "ends in .svg"),
    ],
)
def test_what_is_wrong_is_said(pair, bees, words, message):
    """Each mistake ends the command with a line that says what to change."""
    add_request(1, model="m0", prompt_tokens=10, output_tokens=10, total_ms=500)
    with pytest.raises(CommandError, match=message):
        replay(*words)


def test_without_nodes_there_is_nothing_to_replay_on(db):
    """An empty fleet is told first."""
    with pytest.raises(CommandError, match="there are no nodes in use"):
        replay()


def test_a_new_node_by_its_hardware(history):
    """A node that is like no other has its class's speeds and the models that fit."""
    seen = told("--add-node", "name=dog,class=gpu,vram=8,slots=4,models=all")
    assert seen["variants"][1]["nodes"] == ["ant", "bee", "dog"]
    assert "dog" in seen["variants"][1]["runs"][0]["shares"]


def mean(variant):
    return variant["runs"][0]["total"]["mean"]
