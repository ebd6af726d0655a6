"""Whatever happens in whatever order: teams, limits, reservations and books stay what they are said to be."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from routing.core.dispatcher import Limits, Verdict
from routing.core.errors import QueueFull, TooLate
from routing.core.learner import Metrics
from routing.core.requests import Route
from routing.core.snapshot import Breach, FleetSnapshot, StrategySpec, TeamPolicy
from routing.core.state import ResidentModel
from routing.core.tickets import TicketState
from tests.core.cast import EMBED, GIB, LARGE, MODELS, SMALL, fleet, node, ticket

NAMES = st.sampled_from([SMALL, LARGE, EMBED])
LIMITS = Limits(queue=40, wait=300.0, patience=20.0, node_wait=10.0)
MINE = {"mine": StrategySpec("mine", "fastest", {"price": 100.0, "others": 0.0})}
LABELS = ((), (("tier", "gold"),))


def teams(most=2, weight=3.0):
    """Bees may run so many at a time, Cats be demoted beyond one, Ada's own do as they like."""
    return {
        1: TeamPolicy(1, "Bees", share_weight=weight, max_concurrent=most),
        2: TeamPolicy(2, "Cats", max_concurrent=1, concurrent_breach=Breach.DEMOTE),
        3: TeamPolicy(3, "Ada", share_weight=0.5),
    }


def specs(draining=(False, False, False)):
    sizes, memory = ((SMALL, LARGE, EMBED), (SMALL, EMBED), (SMALL, LARGE)), (24, 8, None)
    return tuple(
        node(
            i + 1,
            name,
            *sizes[i],
            slots=i + 1,
            draining=draining[i],
            vram_bytes=memory[i] and memory[i] * GIB,
            node_class="cpu" if i == 2 else "gpu",
            cost_per_hour=float(i),
            labels={"tier": "gold"} if i == 0 else {},
        )
        for i, name in enumerate(("ant", "bee", "cat"))
    )


class Bounds(RuleBasedStateMachine):
    """The same as in `test_dispatcher_properties`, with teams, deadlines, strategies, labels, routes and looks."""

    @initialize()
    def start(self):
        self.now = 0.0
        self.most = 2
        self.dispatcher = fleet(*specs(), limits=LIMITS)
        self.tickets = []
        self.swap(False, 2, 3.0, (False,) * 3)

    def hold(self, lease):
        """Every lease is within its team's bound, and its node may be used for it."""
        account = self.dispatcher.shares.accounts[lease.ticket.request.team_id]
        assert account.limit is None or account.running <= account.limit
        assert lease.node.offers(lease.ticket.request)
        self.dispatcher.grant(lease)

    def place(self, denied=()):
        for _ in range(40):
            for number, lease in enumerate(self.dispatcher.assign(self.now)):
                if number in denied:
                    self.dispatcher.deny(lease, self.now)
                else:
                    self.hold(lease)
            if not self.dispatcher.unfinished:
                return
        raise AssertionError("assign never comes to an end")

    def holding(self):
        return [one for one in self.tickets if one.state is TicketState.LEASED]

    @rule(
        name=NAMES,
        priority=st.integers(1, 10),
        num_ctx=st.sampled_from([None, 4096, 8192]),
        tokens=st.integers(0, 20000),
        team=st.sampled_from([None, 1, 1, 2, 3]),
        deadline=st.sampled_from([None, None, 2.0, 90.0]),
        strategy=st.sampled_from(["", "", "least_loaded", "round_robin", "cheapest", "mine", "gone"]),
        labels=st.sampled_from(LABELS),
        route=st.sampled_from([Route.CHAT, Route.V1_RESPONSES]),
        count=st.integers(1, 6),
        denied=st.booleans(),
    )
    def arrive(self, team, deadline, strategy, labels, route, count, denied, **asked):
        for _ in range(count):
            made = ticket(self.now, **asked)
            made.request.team_id, made.request.strategy, made.request.labels = team, strategy, labels
            made.request.route, made.request.deadline = route, None if deadline is None else self.now + deadline
            try:
                lease = self.dispatcher.submit(made, self.now)
            except (QueueFull, TooLate):
                self.dispatcher.end(made, self.now)
                continue
            self.tickets.append(made)
            if lease is not None and denied:
                self.dispatcher.deny(lease, self.now)
            elif lease is not None:
                self.hold(lease)
        self.place()

    @rule(seconds=st.floats(0.01, 40.0), denied=st.sets(st.integers(0, 3)))
    def wait(self, seconds, denied):
        self.now += seconds
        self.dispatcher.refuse_hopeless(self.now)
        self.place(denied)

    @precondition(lambda self: self.holding())
    @rule(data=st.data(), verdict=st.sampled_from(list(Verdict)), again=st.booleans(), told=st.booleans())
    def finish(self, data, verdict, again, told):
        one = data.draw(st.sampled_from(self.holding()))
        lease = one.lease
        if verdict is not Verdict.UNREACHABLE:
            self.dispatcher.answered(lease, self.now)
        self.dispatcher.release(lease, verdict, self.now, Metrics(10, 20, 0.1, 1.0, 0.5, 2.0) if told else None)
        if again and verdict is not Verdict.SUCCESS:
            one.tried.add(lease.node.spec.id)
            self.dispatcher.retry(one, self.now, 0.3)
        else:
            self.dispatcher.end(one, self.now)
        self.place()

    @precondition(lambda self: self.tickets)
    @rule(data=st.data(), count=st.integers(1, 5))
    def cancel(self, data, count):
        for _ in range(count):
            self.dispatcher.end(data.draw(st.sampled_from(self.tickets)), self.now)
        self.place()

    @precondition(lambda self: self.tickets)
    @rule(data=st.data())
    def explain(self, data):
        one = data.draw(st.sampled_from(self.tickets))
        self.dispatcher.explain(one, self.now, every=True)
        self.dispatcher.rejected_nodes(one, self.now)

    @rule(number=st.integers(1, 3), error=st.sampled_from([None, "refused"]), certain=st.booleans())
    def look(self, number, error, certain):
        self.dispatcher.observe_reach(number, error, self.now, certain=certain)
        self.place()

    @rule(number=st.integers(1, 3))
    def route_is_unknown(self, number):
        if number in self.dispatcher.nodes:
            self.dispatcher.nodes[number].lacks(Route.V1_RESPONSES.value, self.now)

    @rule(number=st.integers(1, 3), names=st.sets(NAMES), context=st.sampled_from([0, 4096]))
    def residents(self, number, names, context):
        told = [
            ResidentModel(MODELS[n].key, n, MODELS[n].digest, MODELS[n].size, MODELS[n].size, context) for n in names
        ]
        self.dispatcher.observe_residents(number, told)
        self.place()

    @rule(
        gone=st.booleans(),
        most=st.integers(1, 3),
        weight=st.sampled_from([0.5, 3.0]),
        draining=st.tuples(*[st.booleans()] * 3),
    )
    def swap(self, gone, most, weight, draining):
        """A snapshot: other shares and bounds, a team that is gone, nodes that are being emptied."""
        known = teams(most, weight)
        if gone:
            del known[3]
        self.dispatcher.apply(FleetSnapshot(2, specs(draining), known, strategies=MINE))
        self.place()

    @rule(kept=st.sets(st.integers(1, 3)))
    def remove(self, kept):
        nodes = tuple(spec for spec in specs() if spec.id in kept)
        self.dispatcher.apply(FleetSnapshot(2, nodes, teams(), strategies=MINE))
        self.place()

    @invariant()
    def accounts_are_true(self):
        """What the accounts say that waits and runs is what does."""
        for team, account in self.dispatcher.shares.accounts.items():
            own = [one.state for one in self.tickets if one.request.team_id == team]
            assert account.waiting == own.count(TicketState.WAITING)
            assert account.running == own.count(TicketState.LEASED)

    @invariant()
    def nobody_is_lost_or_doubled(self):
        """Who waits is in exactly one line, who runs has exactly one slot, who has ended has neither."""
        waiting = [id(one) for one in self.dispatcher.queued()]
        assert len(waiting) == len(set(waiting)) == self.dispatcher.waiting
        assert set(waiting) == {id(one) for one in self.tickets if one.state is TicketState.WAITING}
        running = [id(lease.ticket) for one in self.dispatcher.nodes.values() for lease in one.leases]
        assert len(running) == len(set(running))
        assert set(running) == {id(one) for one in self.holding()}
        assert all((one.lease is not None) == (one.state is TicketState.LEASED) for one in self.tickets)

    @invariant()
    def slots_are_kept(self):
        """No runner has more in flight than slots."""
        for state in self.dispatcher.nodes.values():
            for leases in state.by_weights.values():
                assert 0 < len(leases) <= state.slots_of(next(iter(leases)).ticket.request.key)
            assert sum(map(len, state.by_weights.values())) == len(state.leases)

    @invariant()
    def room_is_kept_for_who_waits(self):
        """At most one node is drained for a request, and only as long as that waits."""
        kept = [state for state in self.dispatcher.nodes.values() if state.kept is not None]
        assert len(kept) <= 1
        assert not kept or self.dispatcher.kept is not None
        assert self.dispatcher.kept is None or self.dispatcher.kept.state is TicketState.WAITING

    @invariant()
    def nothing_is_reserved_for_nobody(self):
        """Where nobody waits, no place and no node counts anybody as waiting."""
        for family in self.dispatcher.families.values():
            if not family.waiting:
                assert not any(any(kind.reserved) for kind in family.kinds.values())
                assert not family.pressed
        if not self.dispatcher.waiting:
            assert not any(state.held for state in self.dispatcher.nodes.values())

    def teardown(self):
        """In the end, with all nodes healthy and every attempt successful, everybody is served."""
        if not hasattr(self, "dispatcher"):
            return
        self.dispatcher.limits = Limits(queue=40, wait=1e9, patience=20.0)
        self.dispatcher.apply(FleetSnapshot(3, specs(), teams(), strategies=MINE))
        for one in self.tickets:
            one.request.deadline = None
        refused = sum(one.refusal is not None for one in self.tickets)
        for _ in range(400):
            for state in self.dispatcher.nodes.values():
                self.dispatcher.observe_reach(state.spec.id, None, self.now)
            self.place()
            for one in self.holding():
                self.dispatcher.release(one.lease, Verdict.SUCCESS, self.now)
                self.dispatcher.end(one, self.now)
            self.now += 10.0
            if not self.dispatcher.waiting:
                break
        assert self.dispatcher.waiting == self.dispatcher.in_flight() == 0
        assert refused == sum(one.refusal is not None for one in self.tickets)
        assert not any(state.held or state.kept or state.by_weights for state in self.dispatcher.nodes.values())


TestBounds = Bounds.TestCase
TestBounds.settings = settings(max_examples=50, stateful_step_count=50, deadline=None)
