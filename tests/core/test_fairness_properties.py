"""Busy teams get their shares, nobody is overtaken for ever, and whoever only looks changes nothing."""

from hypothesis import given, settings
from hypothesis import strategies as st

from routing.core.dispatcher import Limits, Verdict
from routing.core.families import YIELD
from routing.core.learner import OVERHEAD, Metrics
from routing.core.queueing import LARGEST_S, SIZE_FACTOR, STEP_S
from routing.core.snapshot import FleetSnapshot, StrategySpec, TeamPolicy
from routing.core.tickets import TicketState
from tests.core.cast import GIB, LARGE, SMALL, fleet, node, ticket
from tests.core.test_dispatcher import warm

BEES, CATS = 1, 2
LIMITS = Limits(queue=1000, wait=1e9, patience=20.0)
#: Nobody who arrives so much later goes first: nine steps of priority, the largest work, and a batch request's ageing.
OVERTAKEN_S = 9 * STEP_S + SIZE_FACTOR * LARGEST_S + 2 * LIMITS.patience


def sent(dispatcher, now, team=None, **more):
    """Submit one request of a team; a lease that it gets at once is granted."""
    made = ticket(now, **more)
    made.request.team_id = team
    lease = dispatcher.submit(made, now)
    if lease is not None:
        dispatcher.grant(lease)
    return made


def one_node(slots, weights=(1.0, 1.0), most=None):
    spec = node(1, "ant", SMALL, LARGE, slots=slots, vram_bytes=21 * GIB)
    dispatcher = fleet(spec, limits=LIMITS)
    policies = {
        team: TeamPolicy(team, str(team), share_weight=weight, max_concurrent=most if team == BEES else None)
        for team, weight in zip((BEES, CATS), weights, strict=True)
    }
    dispatcher.apply(FleetSnapshot(2, (spec,), policies))
    warm(dispatcher, 1, SMALL)
    return dispatcher


def placed(dispatcher, now):
    """Place all that can start."""
    leases = []
    while found := dispatcher.assign(now):
        leases += found
        for lease in found:
            dispatcher.grant(lease)
    return leases


class Backlog:
    """Two teams of which neither ever runs out of waiting requests, and how far their counters may be apart.

    With M the largest work of one request, or use of one attempt, by weight: whoever has less goes first, so that right
    after a request of the team that is ahead has begun, it is ahead by M at most, and `YIELD` more where the other's
    next is batch. Until it begins another, the gap grows only by the true-ups of what runs: M for each slot.
    """

    def __init__(self, slots, weights, data, priorities):
        self.data, self.slots, self.priorities, self.weights = (
            data,
            slots,
            priorities,
            dict(zip((BEES, CATS), weights, strict=True)),
        )
        self.dispatcher, self.now, self.largest = one_node(slots, weights), 0.0, 0.0
        self.running = []
        self.top_up()
        self.first = abs(self.gap())

    def gap(self):
        counters = [self.dispatcher.shares.of(team).counter for team in (BEES, CATS)]
        return counters[0] - counters[1]

    def top_up(self):
        for team in (BEES, CATS):
            while self.dispatcher.shares.of(team).waiting < 3:
                tokens = self.data.draw(st.sampled_from([10, 1000, 8000]))
                made = sent(self.dispatcher, self.now, team, tokens=tokens, priority=self.data.draw(self.priorities))
                self.largest = max(self.largest, made.work / self.weights[team])
                self.running += [made] * (made.state is TicketState.LEASED)

    def finish(self):
        one = self.data.draw(st.sampled_from(self.running))
        verdict = self.data.draw(st.sampled_from([Verdict.SUCCESS, Verdict.NEUTRAL]))
        used = Metrics(self.data.draw(st.integers(0, 12_000)), self.data.draw(st.integers(0, 900)))
        if verdict is Verdict.SUCCESS:
            prompt_s, output_s = self.dispatcher.reference(one.request, self.now)
            cost = OVERHEAD + used.prompt_tokens * prompt_s + used.output_tokens * output_s
            self.largest = max(self.largest, cost / self.weights[one.request.team_id])
        self.running.remove(one)
        self.dispatcher.release(one.lease, verdict, self.now, used if verdict is Verdict.SUCCESS else None)
        self.dispatcher.end(one, self.now)
        self.running += [lease.ticket for lease in placed(self.dispatcher, self.now)]
        self.top_up()

    def bound(self):
        return max(self.first, self.largest + YIELD) + self.slots * self.largest


@given(
    data=st.data(),
    slots=st.integers(1, 4),
    weights=st.tuples(*[st.sampled_from([0.5, 1.0, 4.0])] * 2),
    batch=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_busy_teams_stay_close(data, slots, weights, batch):
    """While two teams both have requests waiting, neither gets more than its share by more than a fixed amount."""
    backlog = Backlog(slots, weights, data, st.integers(1, 10) if batch else st.integers(2, 10))
    for _ in range(60):
        backlog.now += data.draw(st.sampled_from([0.0, 1.0, 7.0]))
        backlog.finish()
        assert len(backlog.running) >= max(1, slots - 1)
        assert abs(backlog.gap()) <= backlog.bound()


@given(data=st.data(), weights=st.tuples(*[st.sampled_from([1.0, 3.0])] * 2))
@settings(max_examples=10, deadline=None)
def test_a_share_is_what_the_weight_says(data, weights):
    """Over many equal requests teams are served in the proportion of their weights."""
    dispatcher = one_node(2, weights)
    for _ in range(200):
        sent(dispatcher, 0.0, BEES, priority=data.draw(st.integers(2, 10)) if dispatcher.waiting < 20 else 10)
        sent(dispatcher, 0.0, CATS, priority=2)
    served = {BEES: 0, CATS: 0}
    for second in range(100):
        for lease in [*dispatcher.nodes[1].leases]:
            served[lease.ticket.request.team_id] += 1
            dispatcher.end(lease.ticket, float(second) + lease.remaining(0.0))
            break
        placed(dispatcher, float(second))
    assert abs(served[BEES] * weights[1] - served[CATS] * weights[0]) <= 4 * max(weights)


arrivals = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.5, 30.0, 200.0]),
        st.sampled_from([BEES, CATS]),
        st.integers(1, 10),
        st.sampled_from([10, 3000, 30_000]),
        st.sampled_from([None, None, 5.0, 400.0]),
        st.integers(0, 2),
    ),
    min_size=10,
    max_size=60,
)


@given(arrivals=arrivals, slots=st.integers(1, 3), most=st.sampled_from([None, 1, 2]))
@settings(max_examples=60, deadline=None)
def test_nobody_is_overtaken_by_who_comes_much_later(arrivals, slots, most):
    """Within a team and a model nobody goes before one that came 390 s and twice the patience earlier."""
    dispatcher, now = one_node(slots, most=most), 0.0
    for gap, team, priority, tokens, deadline, ends in arrivals:
        now += gap
        for lease in sorted(dispatcher.nodes[1].leases, key=lambda one: one.ticket.sequence)[:ends]:
            dispatcher.end(lease.ticket, now)
        waiting = [*dispatcher.queued()]
        begun = placed(dispatcher, now)
        made = sent(dispatcher, now, team, priority=priority, tokens=tokens)
        # Set when it is in the queue already, so that what counts here is the order only.
        made.request.deadline = None if deadline is None else now + deadline
        begun += [made.lease] * (made.lease is not None) + placed(dispatcher, now)
        for one in begun:
            assert not [
                other
                for other in waiting
                if other.state is TicketState.WAITING
                and other.request.team_id == one.ticket.request.team_id
                and one.ticket.arrived_at - other.arrived_at > OVERTAKEN_S
            ]


@given(arrivals=arrivals)
@settings(max_examples=40, deadline=None)
def test_a_deadline_draws_forward_but_not_before_its_arrival(arrivals):
    """The key of a request lies between its arrival and 390 s later, whatever its priority, size and deadline."""
    dispatcher = one_node(1)
    for _, _, priority, tokens, deadline, _ in arrivals:
        made = ticket(100.0, priority=priority, tokens=tokens)
        made.request.deadline = None if deadline is None else 100.0 + deadline
        expected = dispatcher.learner.expectation(made.request)
        order = dispatcher.order(made.request, 100.0, dispatcher.work_of(made.request, expected, 100.0))
        assert 100.0 <= order <= 100.0 + 9 * STEP_S + SIZE_FACTOR * LARGEST_S


def story(arrivals, *, look):
    """A fleet of three that serves all that arrives; with `look`, everything is explained in between.

    What is foreseen of running requests and of those who wait is made anew after a while only, and looking is an
    occasion for that: so time goes on in larger steps, and the strategy does not weigh the delay of those who wait.
    """
    specs = (
        node(1, "ant", SMALL, LARGE, slots=2, vram_bytes=21 * GIB),
        node(2, "bee", SMALL, slots=1, vram_bytes=8 * GIB),
        node(3, "cat", SMALL, slots=1, node_class="cpu"),
    )
    dispatcher, now, told, running = fleet(*specs, limits=LIMITS), 0.0, [], []
    calm = {"calm": StrategySpec("calm", "fastest", {"others": 0.0})}
    dispatcher.apply(FleetSnapshot(2, specs, strategies=calm, strategy="calm"))
    warm(dispatcher, 1, SMALL)
    for number, (gap, team, priority, tokens, deadline, ends) in enumerate(arrivals):
        now += 5.0 + gap
        for one in running[:ends]:
            dispatcher.release(one.lease, Verdict.SUCCESS, now, Metrics(tokens, 50, 0.1 * number, 1.0, 0.0, 2.0))
            dispatcher.end(one, now)
        del running[:ends]
        made = ticket(now, name=LARGE if tokens == 3000 else SMALL, priority=priority, tokens=tokens)
        made.request.team_id, made.request.num_ctx = team, 4096 if deadline else None
        lease = dispatcher.submit(made, now)
        if lease is not None:
            dispatcher.grant(lease)
            running.append(made)
        begun = placed(dispatcher, now)
        running += [one.ticket for one in begun]
        if look:
            looked(dispatcher, made, now)
        told.append([(one.node.spec.name, one.ticket.arrived_at, round(one.decision.score, 6)) for one in begun])
        told.append((made.state, lease and lease.node.spec.name))
    return told


def looked(dispatcher, made, now):
    dispatcher.explain(made, now, every=True)
    dispatcher.rejected_nodes(made, now)
    for one in [*dispatcher.queued()][:5]:
        dispatcher.explain(one, now)
        dispatcher.judge(one, now)
        dispatcher.lane_of(one)


@given(arrivals=arrivals)
@settings(max_examples=40, deadline=None)
def test_who_looks_changes_nothing(arrivals):
    """What is placed where and when is the same, whether or not everything is explained in between."""
    assert story(arrivals, look=True) == story(arrivals, look=False)


def test_a_team_never_runs_more_than_it_may():
    """One look at many free slots begins as many of a bounded team as may run, and goes on with the others."""
    dispatcher = one_node(8, most=2)
    held = [sent(dispatcher, 0.0, CATS) for _ in range(8)]
    bees = [sent(dispatcher, 0.0, BEES) for _ in range(20)]
    cats = [sent(dispatcher, 0.0, CATS) for _ in range(3)]
    for one in held:
        dispatcher.end(one, 1.0)
    placed(dispatcher, 1.0)
    while dispatcher.unfinished:
        placed(dispatcher, 1.0)
    assert sum(one.state is TicketState.LEASED for one in bees) == 2
    assert all(one.state is TicketState.LEASED for one in cats)


def test_a_look_comes_to_an_end_in_a_large_fleet():
    """Many who prefer to wait do not make the dispatcher look at the same ones for ever."""
    fast = [node(number, f"fast{number}", slots=1, vram_bytes=24 * GIB) for number in range(1, 21)]
    slow = [node(number, f"slow{number}", slots=1, node_class="cpu") for number in range(21, 101)]
    dispatcher = fleet(*fast, *slow)
    for number in range(1, 101):
        warm(dispatcher, number, SMALL)
    for _ in range(36):
        sent(dispatcher, 0.0)
    calls = 1 + sum(dispatcher.unfinished for _ in range(10) if dispatcher.assign(1.0) is not None)
    assert dispatcher.waiting == 16
    assert calls < 5
