"""The dispatcher: who is placed where, who waits, and that every slot comes back."""

import pytest

from routing.core.dispatcher import Limits, Verdict
from routing.core.errors import NoNode, QueueFull, WaitExpired
from routing.core.learner import Metrics
from routing.core.snapshot import FleetSnapshot
from routing.core.state import Reach, ResidentModel
from routing.core.tickets import TicketState
from tests.core.cast import GIB, LARGE, MODELS, SMALL, assign, fleet, node, submit


def warm(dispatcher, number, *names):
    dispatcher.observe_residents(
        number, [ResidentModel(MODELS[n].key, n, MODELS[n].digest, MODELS[n].size, MODELS[n].size, 4096) for n in names]
    )


def test_a_request_goes_to_the_node_that_has_the_model():
    """A node without the model gets nothing."""
    dispatcher = fleet(node(1, "ant", LARGE), node(2, "bee", SMALL))
    submit(dispatcher, name=SMALL)
    assert assign(dispatcher) == ["bee"]


def test_a_loaded_model_is_preferred():
    """A node where the model is loaded is cheaper than one that would have to load it."""
    dispatcher = fleet(node(1, "ant"), node(2, "bee"))
    warm(dispatcher, 2, SMALL)
    submit(dispatcher)
    assert assign(dispatcher) == ["bee"]


def test_ties_rotate():
    """Equal nodes take turns."""
    dispatcher = fleet(node(1, "ant"), node(2, "bee"), node(3, "cat"))
    for number in (1, 2, 3):
        warm(dispatcher, number, SMALL)
    chosen = []
    for _ in range(6):
        placed = submit(dispatcher)
        chosen += assign(dispatcher)
        dispatcher.end(placed, 0.0)
    assert sorted(chosen[:3]) == sorted(chosen[3:]) == ["ant", "bee", "cat"]


def test_a_node_never_gets_more_than_its_slots():
    """What finds no slot waits in the gateway."""
    dispatcher = fleet(node(1, "ant", slots=2))
    warm(dispatcher, 1, SMALL)
    for _ in range(5):
        submit(dispatcher)
    assert assign(dispatcher) == ["ant", "ant"]
    assert dispatcher.waiting == 3


def test_a_freed_slot_goes_to_the_next():
    """Releasing a lease lets the next request start."""
    dispatcher = fleet(node(1, "ant", slots=1))
    first, second = submit(dispatcher), submit(dispatcher)
    assert assign(dispatcher) == ["ant"]
    dispatcher.end(first, 1.0)
    assert assign(dispatcher, 1.0) == ["ant"]
    assert second.state is TicketState.LEASED


def test_higher_priority_goes_first():
    """Of two that wait, the more urgent one gets the slot, though it came later."""
    dispatcher = fleet(node(1, "ant", slots=1))
    running = submit(dispatcher)
    assign(dispatcher)
    low, high = submit(dispatcher, priority=3), submit(dispatcher, now=1.0, priority=9)
    dispatcher.end(running, 2.0)
    assign(dispatcher, 2.0)
    assert (low.state, high.state) == (TicketState.WAITING, TicketState.LEASED)


def test_waiting_outweighs_priority_in_the_end():
    """One step of priority is worth ten seconds of waiting, so nobody waits forever."""
    dispatcher = fleet(node(1, "ant", slots=1))
    running = submit(dispatcher)
    assign(dispatcher)
    low, high = submit(dispatcher, priority=4), submit(dispatcher, now=41.0, priority=8)
    dispatcher.end(running, 42.0)
    assign(dispatcher, 42.0)
    assert (low.state, high.state) == (TicketState.LEASED, TicketState.WAITING)


def test_batch_yields_to_everybody():
    """Priority 1 is a class of its own: it goes when nothing interactive waits for the slot."""
    dispatcher = fleet(node(1, "ant", slots=1))
    running = submit(dispatcher)
    assign(dispatcher)
    batch, late = submit(dispatcher, priority=1), submit(dispatcher, now=200.0, priority=2)
    dispatcher.end(running, 201.0)
    assign(dispatcher, 201.0)
    assert (batch.state, late.state) == (TicketState.WAITING, TicketState.LEASED)


def test_batch_does_not_wait_for_ever():
    """After twice the patience it counts as interactive."""
    dispatcher = fleet(node(1, "ant", slots=1))
    running = submit(dispatcher)
    assign(dispatcher)
    batch, late = submit(dispatcher, priority=1), submit(dispatcher, now=239.0, priority=2)
    dispatcher.end(running, 240.0)
    assign(dispatcher, 240.0)
    assert (batch.state, late.state) == (TicketState.LEASED, TicketState.WAITING)


def test_a_slow_node_is_used_only_when_the_fast_one_is_far_behind():
    """A request is held for the fast node as long as waiting there is shorter than running elsewhere."""
    dispatcher = fleet(node(1, "ant", slots=1, vram_bytes=24 * GIB), node(2, "bee", slots=1, node_class="cpu"))
    warm(dispatcher, 1, SMALL)
    warm(dispatcher, 2, SMALL)
    submit(dispatcher)
    submit(dispatcher)
    assert assign(dispatcher) == ["ant"]
    for _ in range(10):
        submit(dispatcher)
    assert "bee" in assign(dispatcher)


def test_a_model_is_not_loaded_over_one_that_is_in_use():
    """Where the cold model does not fit beside a busy one, it waits until that one is idle."""
    dispatcher = fleet(node(1, "ant", SMALL, LARGE, vram_bytes=24 * GIB))
    warm(dispatcher, 1, SMALL)
    busy = submit(dispatcher, name=SMALL)
    assert assign(dispatcher) == ["ant"]
    dispatcher.nodes[1].spec = node(1, "ant", SMALL, LARGE, vram_bytes=22 * GIB)
    cold = submit(dispatcher, name=LARGE)
    assert assign(dispatcher) == []
    dispatcher.end(busy, 1.0)
    assert assign(dispatcher, 1.0) == ["ant"]
    assert cold.decision.reason == "loads-model"


def test_one_out_of_patience_keeps_others_from_what_is_in_its_way():
    """A model that never goes idle would starve the cold one: after twice the patience it gets no new requests."""
    dispatcher = fleet(node(1, "ant", SMALL, LARGE, vram_bytes=21 * GIB), limits=Limits(patience=10.0))
    warm(dispatcher, 1, SMALL)
    busy = submit(dispatcher, name=SMALL)
    assign(dispatcher)
    submit(dispatcher, name=LARGE)
    assert assign(dispatcher, 21.0) == []
    submit(dispatcher, now=22.0, name=SMALL)
    assert assign(dispatcher, 22.0) == []
    dispatcher.end(busy, 23.0)
    dispatcher.assign(23.0)
    assert dispatcher.nodes[1].by_weights.keys() == {MODELS[LARGE].digest}


def test_an_embedding_model_has_one_slot():
    """Ollama serves models that only embed one request at a time, whatever OLLAMA_NUM_PARALLEL says."""
    dispatcher = fleet(node(1, "ant", "nomic-embed-text", slots=4))
    submit(dispatcher, name="nomic-embed-text")
    submit(dispatcher, name="nomic-embed-text")
    assert assign(dispatcher) == ["ant"]


def test_another_context_size_waits_for_those_who_use_the_runner():
    """Another num_ctx reloads the model, so it is not sent while requests with the present one run."""
    dispatcher = fleet(node(1, "ant", slots=4))
    warm(dispatcher, 1, SMALL)
    running = submit(dispatcher, num_ctx=4096)
    assert assign(dispatcher) == ["ant"]
    submit(dispatcher, num_ctx=8192)
    assert assign(dispatcher) == []
    dispatcher.end(running, 1.0)
    assert assign(dispatcher, 1.0) == ["ant"]


def test_a_disabled_or_draining_node_gets_nothing_new():
    """The operator's switches hold from the next snapshot on."""
    dispatcher = fleet(node(1, "ant"), node(2, "bee"), node(3, "cat"))
    dispatcher.apply(FleetSnapshot(2, (node(1, "ant", enabled=False), node(2, "bee", draining=True), node(3, "cat"))))
    for _ in range(2):
        submit(dispatcher)
    assert assign(dispatcher) == ["cat", "cat"]


def test_a_retry_avoids_the_node_that_failed():
    """A failed attempt goes to another node, in its old place in the queue."""
    dispatcher = fleet(node(1, "ant"), node(2, "bee"))
    warm(dispatcher, 1, SMALL)
    failed = submit(dispatcher)
    assert assign(dispatcher) == ["ant"]
    dispatcher.release(failed.lease, Verdict.FAILURE, 1.0)
    failed.tried.add(1)
    dispatcher.retry(failed, 1.0)
    assert assign(dispatcher, 1.0) == ["bee"]


def test_an_unreachable_node_is_left_alone_until_its_breaker_lets_a_probe_through():
    """A refused connection opens the breaker at once; after the pause exactly one request is the probe."""
    dispatcher = fleet(node(1, "ant", slots=4))
    first = submit(dispatcher)
    assign(dispatcher)
    dispatcher.release(first.lease, Verdict.UNREACHABLE, 0.0)
    submit(dispatcher, now=0.1)
    submit(dispatcher, now=0.1)
    assert assign(dispatcher, 0.1) == []
    assert assign(dispatcher, 1.5) == ["ant"]


def test_the_queue_is_bounded():
    """A full queue refuses and queues nothing."""
    dispatcher = fleet(node(1, "ant", slots=1), limits=Limits(queue=2))
    submit(dispatcher)
    submit(dispatcher)
    with pytest.raises(QueueFull):
        submit(dispatcher)
    assert dispatcher.waiting == 2


def test_a_wait_without_a_slot_expires():
    """After the longest wait the request is refused and leaves the queue."""
    dispatcher = fleet(node(1, "ant", slots=1), limits=Limits(wait=60.0))
    submit(dispatcher)
    assign(dispatcher)
    waiting = submit(dispatcher)
    dispatcher.refuse_hopeless(61.0)
    assert isinstance(waiting.refusal, WaitExpired)
    assert dispatcher.waiting == 0


def test_a_node_that_has_just_gone_is_waited_for():
    """A restart of the only node takes seconds: requests wait that long, and no longer."""
    dispatcher = fleet(node(1, "ant"), limits=Limits(node_wait=10.0))
    assert dispatcher.observe_reach(1, "connection refused", 0.0, certain=True) is Reach.DOWN
    waiting = submit(dispatcher, now=1.0)
    dispatcher.refuse_hopeless(5.0)
    assert waiting.refusal is None
    dispatcher.refuse_hopeless(12.0)
    assert isinstance(waiting.refusal, NoNode)


def test_one_failed_look_is_no_death():
    """A node is down after the second look that fails, and up with the first that succeeds."""
    dispatcher = fleet(node(1, "ant"))
    assert dispatcher.observe_reach(1, "silence", 1.0) is None
    assert dispatcher.nodes[1].reach is Reach.SUSPECT
    assert dispatcher.observe_reach(1, "silence", 2.0) is Reach.DOWN
    assert dispatcher.observe_reach(1, None, 3.0) is Reach.UP


def test_a_denied_lease_keeps_its_place():
    """What the slot store denies goes back to its place in the queue, and its slot is free."""
    dispatcher = fleet(node(1, "ant", slots=1))
    first, second = submit(dispatcher), submit(dispatcher, now=1.0)
    [lease] = dispatcher.assign(1.0)
    dispatcher.deny(lease, 1.0)
    assert (first.state, dispatcher.in_flight(), dispatcher.waiting) == (TicketState.WAITING, 0, 2)
    assert assign(dispatcher, 1.0) == ["ant"]
    assert (first.state, second.state) == (TicketState.LEASED, TicketState.WAITING)


def test_answers_teach_which_node_is_faster():
    """Of two nodes believed equal, the one whose answers come faster is preferred afterwards."""
    dispatcher = fleet(node(1, "ant"), node(2, "bee"))
    for number in (1, 2):
        warm(dispatcher, number, SMALL)
    for second in range(8):
        placed = submit(dispatcher, now=second)
        [name] = assign(dispatcher, second)
        speed = 0.01 if name == "bee" else 0.05
        dispatcher.release(placed.lease, Verdict.SUCCESS, second, Metrics(100, 100, 0.1, 100 * speed, 0.0, 1.0))
    submit(dispatcher, now=9)
    assert assign(dispatcher, 9) == ["bee"]


def test_a_fast_failing_node_does_not_look_attractive():
    """Failures raise a node's cost at once and fade with time."""
    dispatcher = fleet(node(1, "ant"), node(2, "bee"))
    warm(dispatcher, 1, SMALL)
    warm(dispatcher, 2, SMALL)
    failing = dispatcher.nodes[1]
    failing.count_failure(0.0)
    assert failing.success_rate(0.0) == pytest.approx(0.7)
    assert failing.success_rate(60.0) > 0.98
    submit(dispatcher)
    assert assign(dispatcher) == ["bee"]


def test_a_node_moved_to_another_address_starts_unknown():
    """Another URL is another server: nothing learned of the old one's state counts."""
    dispatcher = fleet(node(1, "ant"))
    warm(dispatcher, 1, SMALL)
    moved = node(1, "ant")
    moved = type(moved)(**{f: getattr(moved, f) for f in moved.__slots__} | {"url": "http://elsewhere:11434"})
    dispatcher.apply(FleetSnapshot(2, (moved,)))
    assert dispatcher.nodes[1].reach is Reach.UNKNOWN
    assert not dispatcher.nodes[1].resident
