"""Whatever happens in whatever order: no slot leaks, none is used twice, nobody is forgotten."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from routing.core.breaker import BreakerState
from routing.core.dispatcher import Limits, Verdict
from routing.core.errors import QueueFull
from routing.core.learner import Metrics
from routing.core.snapshot import FleetSnapshot
from routing.core.state import ResidentModel
from routing.core.tickets import TicketState
from tests.core.cast import EMBED, GIB, LARGE, MODELS, SMALL, fleet, node, ticket

NAMES = st.sampled_from([SMALL, LARGE, EMBED])
LIMITS = Limits(queue=30, wait=300.0, patience=20.0, node_wait=10.0)


def specs(enabled=(True, True, True), draining=(False, False, False)):
    sizes = ((SMALL, LARGE, EMBED), (SMALL, EMBED), (SMALL, LARGE))
    memory = (24, 8, None)
    return tuple(
        node(
            i + 1,
            name,
            *sizes[i],
            slots=i + 1,
            enabled=enabled[i],
            draining=draining[i],
            vram_bytes=memory[i] and memory[i] * GIB,
            node_class="cpu" if i == 2 else "gpu",
        )
        for i, name in enumerate(("ant", "bee", "cat"))
    )


class Fleet(RuleBasedStateMachine):
    """Arrivals, grants, denials, completions, failures, cancellations, node deaths and operators, in any order."""

    @initialize()
    def start(self):
        self.now = 0.0
        self.dispatcher = fleet(*specs(), limits=LIMITS)
        self.tickets = []
        self.refused = 0

    def place(self, denied=()):
        for number, lease in enumerate(self.dispatcher.assign(self.now)):
            assert lease.node.used
            if number in denied:
                self.dispatcher.deny(lease, self.now)
            else:
                self.dispatcher.grant(lease)

    def holding(self):
        return [one for one in self.tickets if one.state is TicketState.LEASED]

    @rule(
        name=NAMES,
        priority=st.integers(1, 10),
        num_ctx=st.sampled_from([None, 4096, 8192]),
        tokens=st.integers(0, 20000),
    )
    def arrive(self, **asked):
        made = ticket(self.now, **asked)
        try:
            lease = self.dispatcher.submit(made, self.now)
        except QueueFull:
            assert self.dispatcher.waiting == LIMITS.queue
            self.dispatcher.end(made, self.now)
            return
        self.tickets.append(made)
        if lease is not None:
            self.dispatcher.grant(lease)
        self.place()

    @rule(seconds=st.floats(0.01, 40.0))
    def wait(self, seconds):
        self.now += seconds
        self.dispatcher.refuse_hopeless(self.now)
        self.place()

    @rule(denied=st.sets(st.integers(0, 3)))
    def deny_some(self, denied):
        self.place(denied)

    @precondition(lambda self: self.holding())
    @rule(
        data=st.data(), verdict=st.sampled_from(list(Verdict)), again=st.booleans(), pause=st.sampled_from([0.0, 0.3])
    )
    def finish(self, data, verdict, again, pause):
        one = data.draw(st.sampled_from(self.holding()))
        lease = one.lease
        self.dispatcher.answered(lease)
        self.dispatcher.release(lease, verdict, self.now, Metrics(10, 20, 0.1, 1.0, 0.5, 2.0))
        self.dispatcher.release(lease, verdict, self.now)
        if again and verdict is not Verdict.SUCCESS:
            one.tried.add(lease.node.spec.id)
            self.dispatcher.retry(one, self.now, pause)
        else:
            self.dispatcher.end(one, self.now)
        self.place()

    @precondition(lambda self: self.tickets)
    @rule(data=st.data())
    def cancel(self, data):
        self.dispatcher.end(data.draw(st.sampled_from(self.tickets)), self.now)
        self.place()

    @rule(number=st.integers(1, 3), error=st.sampled_from([None, "refused"]), certain=st.booleans())
    def look(self, number, error, certain):
        self.dispatcher.observe_reach(number, error, self.now, certain=certain)
        self.place()

    @rule(number=st.integers(1, 3), names=st.sets(NAMES))
    def residents(self, number, names):
        told = [ResidentModel(MODELS[n].key, n, MODELS[n].digest, MODELS[n].size, MODELS[n].size, 4096) for n in names]
        self.dispatcher.observe_residents(number, told)
        self.place()

    @rule(enabled=st.tuples(*[st.booleans()] * 3), draining=st.tuples(*[st.booleans()] * 3))
    def operate(self, enabled, draining):
        self.dispatcher.apply(FleetSnapshot(2, specs(enabled, draining)))
        self.place()

    @rule(kept=st.sets(st.integers(1, 3)))
    def remove(self, kept):
        self.dispatcher.apply(FleetSnapshot(2, tuple(spec for spec in specs() if spec.id in kept)))
        self.place()

    @invariant()
    def slots_are_kept(self):
        """No runner has more in flight than slots, and the books agree with the tickets."""
        for state in self.dispatcher.nodes.values():
            for weights, leases in state.by_weights.items():
                key = next(iter(leases)).ticket.request.key
                assert 0 < len(leases) <= state.slots_of(key), (state.spec.name, weights)
            assert sum(map(len, state.by_weights.values())) == len(state.leases)
        assert self.dispatcher.in_flight() == len(self.holding())
        assert all(one.lease in one.lease.node.leases for one in self.holding())

    @invariant()
    def nobody_is_forgotten(self):
        """Who waits is in exactly one line; who does not is in none."""
        waiting = list(self.dispatcher.queued())
        assert len(waiting) == len(set(map(id, waiting))) == self.dispatcher.waiting
        assert {id(one) for one in waiting} == {id(one) for one in self.tickets if one.state is TicketState.WAITING}

    @invariant()
    def one_probe_at_most(self):
        """A half-open breaker has let exactly one attempt through."""
        for state in self.dispatcher.nodes.values():
            if state.breaker.state is BreakerState.HALF_OPEN:
                assert state.breaker.probe in state.leases

    def teardown(self):
        """In the end, with all nodes healthy and every attempt successful, everybody is served."""
        if not hasattr(self, "dispatcher"):
            return
        self.dispatcher.limits = Limits(queue=30, wait=1e9, patience=20.0)
        self.dispatcher.apply(FleetSnapshot(3, specs()))
        for _ in range(400):
            for state in self.dispatcher.nodes.values():
                self.dispatcher.observe_reach(state.spec.id, None, self.now)
            self.dispatcher.refuse_hopeless(self.now)
            self.place()
            for one in self.holding():
                self.dispatcher.release(one.lease, Verdict.SUCCESS, self.now)
                self.dispatcher.end(one, self.now)
            self.now += 10.0
            if not self.dispatcher.waiting:
                break
        assert self.dispatcher.waiting == 0
        assert self.dispatcher.in_flight() == 0


TestFleet = Fleet.TestCase
TestFleet.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
