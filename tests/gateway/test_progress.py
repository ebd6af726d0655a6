"""Several nodes' pulls and creates, told as one: nothing early, nothing twice, nothing backwards."""

from itertools import accumulate

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.gateway.progress import MergedProgress

MANIFEST, VERIFYING, WRITING = "pulling manifest", "verifying sha256 digest", "writing manifest"
UNUSED, SUCCESS = "removing unused layers", "success"
LAYER = "sha256:" + "ab" * 32


def said(text):
    return {"status": text}


def bar(completed=0, total=100, digest=LAYER):
    line = {"status": f"pulling {digest[7:19]}", "digest": digest, "total": total}
    return line | ({"completed": completed} if completed else {})


class Told:
    """A merged progress on a clock that goes on by a second with each object, and all that it has sent."""

    def __init__(self, *nodes, interval=0.06, step=1.0):
        self.merged, self.now, self.step, self.lines = MergedProgress(nodes, interval), 0.0, step, []

    def after(self, node, *statuses):
        """What is sent after the node has said these, one by one."""
        before = len(self.lines)
        for status in statuses:
            self.merged.take(node, said(status) if isinstance(status, str) else status)
            self.tick()
        return self.lines[before:]

    def tick(self):
        self.now += self.step
        due = self.merged.due(self.now)
        self.lines += due
        return due

    def succeeds(self, node):
        self.merged.take(node, said(SUCCESS))
        self.merged.ended(node)
        return self.tick()

    def fails(self, node, text):
        self.merged.failed(node, text)
        return self.tick()


def test_the_first_status_is_told_at_once():
    """The client sees that something happens as soon as one node begins."""
    told = Told("ant", "bee")
    assert told.after("bee", MANIFEST) == [said(MANIFEST)]
    assert told.after("ant", MANIFEST) == []


def test_a_status_waits_for_every_node():
    """`verifying` is told when the last node verifies."""
    told = Told("ant", "bee")
    told.after("ant", MANIFEST, VERIFYING)
    assert told.lines == [said(MANIFEST)]
    assert told.after("bee", MANIFEST, VERIFYING) == [said(VERIFYING)]


def test_a_bar_is_as_far_as_the_slowest_node():
    """One line for all: total once, completed the least; a node that told nothing yet has nothing."""
    told = Told("ant", "bee")
    assert told.after("ant", MANIFEST, bar(60))[1:] == [bar()]
    assert told.after("bee", MANIFEST, bar(20)) == [bar(20)]
    assert told.after("ant", bar(80)) == []
    assert told.after("bee", bar(70)) == [bar(70)]


def test_a_restarted_download_does_not_go_back():
    """The bar stands until the node is as far again."""
    told = Told("ant")
    told.after("ant", MANIFEST, bar(60))
    assert told.after("ant", MANIFEST, bar(), bar(30)) == []
    assert told.after("ant", bar(61)) == [bar(61)]


def test_a_bar_is_told_at_most_once_per_interval():
    """What comes faster is told when the interval is over, without another word from the node."""
    told = Told("ant", interval=0.06, step=0.01)
    assert told.after("ant", bar(10), bar(20), bar(30)) == [bar(10)]
    told.now = told.merged.next_at() - told.step
    assert told.tick() == [bar(30)]
    assert told.merged.next_at() is None


def test_a_completion_comes_before_what_follows_it():
    """The interval does not keep a full bar behind the next status."""
    told = Told("ant", step=0.0)
    told.after("ant", MANIFEST, bar(10), bar(100), VERIFYING)
    assert told.lines == [said(MANIFEST), bar(10), bar(100), said(VERIFYING)]


def test_a_layer_of_another_manifest_counts_once_passed():
    """A digest that one node never tells is complete there when the node is past it."""
    told = Told("ant", "bee")
    assert told.after("ant", MANIFEST, bar(40))[1:] == [bar()]
    assert told.after("bee", MANIFEST, VERIFYING) == [bar(40)]
    assert told.after("ant", bar(100), VERIFYING) == [bar(100), said(VERIFYING)]


def test_a_status_of_some_nodes_waits_for_the_others_success():
    """`removing unused layers` of one node is told once the other cannot come to it any more."""
    told = Told("ant", "bee")
    told.after("ant", MANIFEST, WRITING)
    assert told.after("bee", MANIFEST, WRITING, UNUSED) == [said(WRITING)]
    assert told.succeeds("ant") == [said(UNUSED)]


def test_layers_named_differently_hold_nothing_up():
    """A node beyond a status that only another node tells has come to it too."""
    told = Told("ant", "bee")
    told.after("ant", "parsing GGUF", "using existing layer x")
    told.after("bee", "parsing GGUF", "creating new layer x", WRITING)
    told.after("ant", WRITING)
    texts = [line["status"] for line in told.lines]
    assert texts == ["parsing GGUF", "using existing layer x", "creating new layer x", WRITING]


def test_a_bar_waits_for_the_status_before_it():
    """Quantising is not told while another node still parses what comes before it."""
    told = Told("ant", "bee")
    quantising = {"status": "quantizing", "digest": "0" * 19, "total": 8, "completed": 2}
    assert told.after("bee", bar(5)) == [bar()]
    assert told.after("ant", bar(100), "parsing GGUF", quantising) == [bar(5)]
    assert [line["status"] for line in told.after("bee", "parsing GGUF")][1:] == ["parsing GGUF", "quantizing"]


def test_fields_keep_ollamas_order():
    """As on the wire: status, digest, total, completed."""
    told = Told("ant")
    [line] = told.after("ant", {"completed": 2, "total": 8, "digest": "0" * 19, "status": "quantizing"})
    assert list(line.items()) == [("status", "quantizing"), ("digest", "0" * 19), ("total", 8), ("completed", 2)]


def test_a_failure_lets_the_others_go_on():
    """The slowest node fails: the bar is as far as the rest, and statuses wait for it no more."""
    told = Told("ant", "bee")
    told.after("bee", MANIFEST, bar(10))
    told.after("ant", MANIFEST, bar(90))
    assert told.fails("bee", "no space left on device") == [bar(90)]
    assert told.after("ant", VERIFYING) == [bar(100), said(VERIFYING)]
    assert not told.merged.over


def test_an_unknown_name_looks_as_on_one_node():
    """All fail alike: the manifest, then the node's own error."""
    told = Told("ant", "bee")
    for node in ("ant", "bee"):
        told.after(node, MANIFEST, {"error": "pull model manifest: file does not exist"})
    assert told.lines == [said(MANIFEST)]
    assert told.merged.outcome() == {"error": "pull model manifest: file does not exist"}


def test_success_needs_every_node():
    """Over and well when the last node has succeeded."""
    told = Told("ant", "bee")
    told.succeeds("ant")
    assert not told.merged.over
    told.succeeds("bee")
    assert told.merged.over
    assert (told.merged.outcome(), told.merged.succeeded) == (said(SUCCESS), ["ant", "bee"])


@pytest.mark.parametrize(
    ("texts", "error"),
    [
        ({"bee": "x"}, "bee: x; succeeded on ant, cat"),
        ({"cat": "x", "bee": "x"}, "bee, cat: x; succeeded on ant"),
        ({"cat": "y", "bee": "x"}, "bee: x; cat: y; succeeded on ant"),
        ({"ant": "x", "bee": "y", "cat": "x"}, "ant, cat: x; bee: y"),
    ],
)
def test_the_error_says_where_what_failed(texts, error):
    """Nodes in their order, equal texts together, and where the work was done all the same."""
    told = Told("ant", "bee", "cat")
    for node, text in texts.items():
        told.fails(node, text)
    for node in {"ant", "bee", "cat"} - set(texts):
        told.succeeds(node)
    assert told.merged.outcome() == {"error": error}
    assert told.merged.failures == texts


def test_an_end_without_success_is_a_failure():
    """A stream that just ends has not succeeded."""
    told = Told("ant")
    told.after("ant", MANIFEST)
    told.merged.ended("ant")
    assert told.merged.outcome() == {"error": "ended without success"}


def test_success_in_the_middle_is_not_the_end():
    """A create that pulls its base says success twice; only the last counts."""
    told = Told("ant")
    told.after("ant", MANIFEST, SUCCESS, "using existing layer x")
    assert not told.merged.over
    told.merged.take("ant", {"error": "template error", "status": 400})
    assert told.merged.outcome() == {"error": "template error"}


def test_a_connection_lost_behind_success_does_no_harm():
    """What the node has said last counts."""
    told = Told("ant")
    told.after("ant", MANIFEST, SUCCESS)
    told.fails("ant", "connection lost")
    assert told.merged.outcome() == said(SUCCESS)


def test_nothing_counts_after_the_verdict():
    """A node that has failed stays failed."""
    told = Told("ant")
    told.fails("ant", "connection lost")
    assert told.after("ant", MANIFEST, SUCCESS) == []
    told.merged.ended("ant")
    assert told.merged.outcome() == {"error": "connection lost"}


def test_of_no_nodes_nothing_is_to_be_expected():
    """Nobody asked is no success."""
    assert (MergedProgress([]).over, MergedProgress([]).outcome()) == (True, {"error": "no node was asked"})


ODD = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)
)
FIELDS = st.sampled_from(["status", "digest", "total", "completed", "error"])
OBJECTS = st.dictionaries(FIELDS, ODD | st.sampled_from([MANIFEST, LAYER, SUCCESS, 2**63, -1]), max_size=5)


@given(st.lists(st.tuples(st.sampled_from(["ant", "bee"]), OBJECTS), max_size=12))
def test_no_object_is_malformed_enough_to_raise(objects):
    """Whatever nodes say, what is sent is JSON with sizes that make sense."""
    told = Told("ant", "bee")
    for node, fields in objects:
        for line in told.after(node, fields):
            assert orjson.dumps(line)
            assert 0 <= line.get("completed", 0) <= line.get("total", 0)
    assert orjson.dumps(told.merged.outcome())


@st.composite
def streams(draw):
    """One node's stream: some layers cached, some loaded in steps, perhaps a failure at some point."""
    lines = [said(MANIFEST)]
    for number in draw(st.lists(st.integers(0, 3), unique=True, max_size=3).map(sorted)):
        steps = list(accumulate(draw(st.lists(st.integers(0, 40), max_size=4))))
        lines += [bar(min(step, 99), 100, f"sha256:{number}{LAYER[8:]}") for step in steps]
        lines.append(bar(100, 100, f"sha256:{number}{LAYER[8:]}"))
    lines += [said(VERIFYING), said(WRITING)]
    lines += [said(UNUSED)] if draw(st.booleans()) else []
    fails_at = draw(st.none() | st.integers(0, len(lines)))
    if fails_at is None:
        return [*lines, said(SUCCESS)]
    return [*lines[:fails_at], {"error": draw(st.sampled_from(["no space", "timeout"]))}]


@st.composite
def runs(draw, most=5):
    """Streams of one to five nodes, the order in which their objects come, and the seconds between two."""
    nodes = {name: draw(streams()) for name in ["ant", "bee", "cat", "dog", "eel"][: draw(st.integers(1, most))]}
    order = draw(st.permutations([name for name, lines in nodes.items() for _ in lines]))
    return nodes, order, draw(st.sampled_from([0.0, 0.01, 0.05, 1.0]))


def play(nodes, order, step):
    """Play the streams; yields after each object: its node, the lines sent then, and how far each node has come."""
    told = Told(*nodes, step=step)
    left = {name: list(lines) for name, lines in nodes.items()}
    for node in order:
        lines = told.after(node, left[node].pop(0))
        if not left[node]:
            told.merged.ended(node)
            lines += told.tick()
        yield told, lines, left


def played(run):
    *_, (told, _, _) = play(*run)
    return told


@given(runs())
def test_bars_never_go_back(run):
    """Completed grows, up to the total, whatever the nodes do."""
    best = {}
    for line in played(run).lines:
        if "digest" in line:
            completed = line.get("completed", 0)
            assert best.get(line["digest"], 0) <= completed <= line["total"]
            best[line["digest"]] = completed


@given(runs())
def test_no_line_comes_twice(run):
    """A status is told once, and a bar only when it has moved."""
    lines = [orjson.dumps(line) for line in played(run).lines]
    assert len(lines) == len(set(lines))


@given(runs())
def test_nobody_is_left_behind(run):
    """When a status is told, each node that has not failed has told it or succeeded."""
    nodes = run[0]
    for told, lines, left in play(*run):
        for line in (line for line in lines if line in (said(VERIFYING), said(WRITING), said(UNUSED))):
            alive = [name for name in nodes if name not in told.merged.failures]
            assert all(line not in left[name] for name in alive)


@given(runs())
def test_the_outcome_is_that_of_the_streams(run):
    """Success if and only if all streams end with it."""
    merged, failed = played(run).merged, {name: lines[-1].get("error") for name, lines in run[0].items()}
    failed = {name: text for name, text in failed.items() if text}
    assert merged.over
    assert (merged.failures, merged.succeeded) == (failed, [name for name in run[0] if name not in failed])
    assert merged.outcome() == said(SUCCESS) or failed


@given(runs())
def test_nothing_is_held_back_when_over(run):
    """In the end everything that anybody has told is told, and what succeeded is full."""
    told = played(run)
    heard = {(line["status"], line.get("digest")) for lines in run[0].values() for line in lines if "error" not in line}
    assert {(line["status"], line.get("digest")) for line in told.lines} == heard - {(SUCCESS, None)}
    assert (told.tick(), told.merged.next_at()) == ([], None)
    last = {line["digest"]: line for line in told.lines if "digest" in line}
    assert not told.merged.succeeded or all(line.get("completed") == line["total"] for line in last.values())


@given(runs(most=1))
def test_one_node_is_told_as_it_tells(run):
    """Of one node every status comes out once, in the node's order."""
    [lines] = run[0].values()
    texts = [line["status"] for line in lines if line.get("status", SUCCESS) != SUCCESS]
    assert list(dict.fromkeys(line["status"] for line in played(run).lines)) == list(dict.fromkeys(texts))


@given(runs())
def test_a_full_bar_precedes_what_follows_it(run):
    """When `verifying` is told, the layers that a surviving node told before it are full."""
    for told, lines, _ in play(*run):
        if said(VERIFYING) not in lines or not told.merged._alive():
            continue
        before = told.lines[: told.lines.index(said(VERIFYING))]
        full = {line["digest"] for line in before if line.get("completed") == line.get("total", 0)}
        alive = [run[0][teller.name] for teller in told.merged._alive()]
        assert {line["digest"] for stream in alive for line in stream if "digest" in line} <= full
