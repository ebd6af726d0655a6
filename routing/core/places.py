"""Places: what each node is for the requests of one kind, worked out when the node has changed, and read for each."""

import math

from routing.core.concurrency import PROMPT_ALPHA, slowdown
from routing.core.learner import OVERHEAD, Learner, Speeds
from routing.core.load import AGE_S, foresee
from routing.core.residency import context_of, displaced, has_context, size_of
from routing.core.snapshot import InstalledModel
from routing.core.state import NodeState, Reach
from routing.core.strategies import ORDERED, Strategy
from routing.core.tickets import Lease

#: A model used within this many seconds is likely to be wanted again; evicting it costs its load in full.
RECENTLY = 60.0
#: Slots of which one can be left free for others without wasting much.
MANY_SLOTS = 3
#: Share of its load time that evicting a model not used recently is counted with.
COLD_EVICTION = 0.3
#: The logarithm of a factor below which a node that was slower, or faster, than usual counts as itself again.
FADED = 0.01
NONE: frozenset[Lease] = frozenset()


class Place:
    """One node for one kind of request. `cost` is what is asked for most of all; everything it reads is made ready.

    `outdated`: the node has other weights under this name than those that count. `usable`: it answers and its breaker
    lets requests pass. `ready`: it would begin a request at once, or begin to load the model at once; `spare`: it would
    then have another slot left. `begins_at` is the moment from which it could, `later` the seconds that a load takes
    beyond that. `per_prompt`, `per_output` and `fixed` are the seconds that a token and any request take beside the
    `running` sequences, whose expected rest is `rest` seconds in all and which slow down by the share `growth`.
    `reserved` is the work, in seconds, that requests ahead in the queue are waiting to run here. `press` and `per_run`
    are the seconds by which those who wait for the node are delayed: at once, and for each second that a request runs.
    """

    __slots__ = (
        "begins_at",
        "blockers",
        "changes",
        "constant",
        "evictions",
        "factor",
        "fixed",
        "growth",
        "joins",
        "later",
        "model",
        "node",
        "others",
        "outdated",
        "output_s",
        "per_output",
        "per_prompt",
        "per_run",
        "press",
        "prompt_s",
        "ready",
        "remote",
        "reserved",
        "rest",
        "run_weight",
        "running",
        "slots",
        "spare",
        "speeds",
        "start_weight",
        "until",
        "usable",
        "victims",
        "wanted",
        "warm",
        "weights",
    )

    speeds: Speeds

    def __init__(self, node: NodeState, model: InstalledModel, *, remote: bool, num_ctx: int | None) -> None:
        self.node, self.model, self.remote = node, model, remote
        self.weights = f"remote {model.key}" if remote else (model.digest or model.key)
        self.wanted = None if remote else context_of(num_ctx, model)
        self.slots = node.slots_of(model.key)
        self.outdated = model.key in node.outdated
        self.changes, self.until, self.reserved = -1, -math.inf, 0.0
        self.usable = self.ready = self.spare = self.warm = self.joins = False
        self.victims: tuple[str, ...] = ()
        self.blockers: tuple[Lease, ...] = ()

    def refresh(self, now: float, strategy: Strategy, learner: Learner) -> None:
        """Work everything out anew."""
        node = self.node
        self.changes, self.until = node.changes, math.inf
        self.usable = node.reach is not Reach.DOWN and self._breaker(now)
        self.speeds = learner.of(node.spec, self.weights, None if self.remote else self.model)
        pace = learner.pace(node.spec)
        running = 0 if self.remote else node.running
        self.rest = 0.0
        if node.leases and not self.remote:
            foresee(node, now, pace.alpha)
            self.until = min(self.until, node.foreseen_until)
            self.rest = max(0.0, node.rest_at - now) * len(node.leases)
        self._beginning(now)
        if self.blockers:
            # They will be gone when this begins.
            running = max(0, running - len(self.blockers))
            self.rest = sum(max(0.0, lease.ends_at - now) for lease in node.leases if lease not in self.blockers)
        self.running = running
        slow = pace.slower(now)
        if abs(slow) > FADED:
            self.until = min(self.until, now + AGE_S)
        slower = math.exp(slow)
        prompt, output = slowdown(PROMPT_ALPHA, running + 1), slowdown(pace.alpha, running + 1)
        prompt_s, output_s = learner.solo(node.spec, self.speeds)
        self.prompt_s, self.output_s = prompt_s * slower, output_s * slower
        self.per_prompt, self.per_output = self.prompt_s * prompt, self.output_s * output
        self.fixed = OVERHEAD * output
        self.growth = output / slowdown(pace.alpha, running) - 1.0
        self._weigh(strategy, learner, now)

    def _breaker(self, now: float) -> bool:
        breaker = self.node.breaker
        if breaker.allows(now):
            return True
        if now < breaker.open_until:
            self.until = breaker.open_until
        return False

    def _beginning(self, now: float) -> None:
        """Whether the node could begin at once, and if not, when."""
        node, weights = self.node, self.weights
        self.victims, self.blockers, self.joins = (), (), False
        self.begins_at, self.later = now, 0.0
        if self.remote:
            self.warm = self.ready = self.spare = True
            return
        ours = node.by_weights.get(weights, NONE)
        resident = node.resident.get(weights)
        self.warm = resident is not None
        if resident is None and not ours:
            self.victims, self.blockers = displaced(node, self.model, weights)
        elif any(lease.num_ctx != self.wanted for lease in ours) or (
            resident is not None and not has_context(node, resident, weights, self.wanted)
        ):
            # Another context size is another runner: Ollama waits for all who use this one, then loads anew.
            self.warm, self.blockers, ours = False, tuple(ours), NONE
        free = self.slots - len(ours)
        if free <= 0:
            self.begins_at = max(now, min(lease.ends_at for lease in ours))
        if not self.warm and ours:
            # The model is being loaded for another request of ours; this one joins it.
            self.joins = True
            loaded = min(lease.started_at for lease in ours) + self.speeds.load.value
            self.begins_at = max(self.begins_at, loaded)
        elif not self.warm:
            self._loading(now)
        self.ready = free > 0 and (self.warm or self.joins or (not self.blockers and not node.loading))
        kept = node.kept
        if kept is not None and weights in kept.blocked and (weights, self.wanted) != kept[:2]:
            self.ready = False
        self.spare = self.ready and (free > 1 or self.slots < MANY_SLOTS)

    def _loading(self, now: float) -> None:
        """The model must be loaded: after what blocks it has ended, and what loads already has been loaded."""
        begins = self.begins_at
        for lease in self.blockers:
            begins = max(begins, lease.ends_at)
        for lease in self.node.leases:
            if lease.cold and not lease.answered:
                begins = max(begins, lease.started_at + lease.speeds.load.value)
        self.begins_at, self.later = max(now, begins), self.speeds.load.value

    def _weigh(self, strategy: Strategy, learner: Learner, now: float) -> None:
        """The strategy's weights, applied to everything that does not depend on the request."""
        node, weight = self.node, strategy.weight
        self.start_weight, self.others = weight("start"), weight("others")
        self.run_weight = weight("run") + weight("price") * node.spec.cost_per_hour / 3600.0
        gone = {lease.weights for lease in self.blockers}.union(self.victims) - {self.weights}
        self.evictions = self._evictions(gone, learner, now)
        self._pressure(gone, learner, now)
        if gone or node.held:
            # How lately the evicted were used and how many wait changes without a word.
            self.until = min(self.until, now + AGE_S)
        self.constant = (
            strategy.constant(node)
            + self.start_weight * self.later
            + weight("evict") * self.evictions
            + weight("distance") * node.rtt
        )
        success = node.success_rate(now)
        if success < 1.0:
            self.until = min(self.until, now + AGE_S)
        self.factor = 1.0 if strategy.kind in ORDERED else 1.0 / (success * node.spec.weight)

    def _evictions(self, gone: set[str], learner: Learner, now: float) -> float:
        """Seconds of loading that evicted models will cost those who want them next."""
        cost = 0.0
        for weights in gone:
            recently = now - self.node.used_at.get(weights, -math.inf) < RECENTLY
            cost += self._load_of(weights, learner) * (1.0 if recently else COLD_EVICTION)
        return cost

    def _pressure(self, gone: set[str], learner: Learner, now: float) -> None:
        """By how much those who wait for this node, or will soon, are delayed by a request that runs here.

        Whoever wants a model that must go for it waits for the load, the request, and the load back; all who wait for
        the same switch share that. Who waits here for other models loses this request's part of the node's time. To
        those who wait for the same model it is all one which node it takes: it takes one turn of theirs.
        """
        node, own = self.node, max(0.0, self.node.held.get(self.weights, 0.0) - 1.0)
        self.press = self.per_run = 0.0
        if not self.others:
            return
        for weights in gone:
            span, rate = self.later + self._load_of(weights, learner), node.use_rate(weights, now)
            held = node.held.get(weights, 0.0)
            self.press += (held + 0.5 * rate * span) * span
            self.per_run += held + rate * span
        self.press *= self.others / (1.0 + own)
        waiting = sum(count for weights, count in node.held.items() if weights not in gone and weights != self.weights)
        self.per_run = self.others * (self.per_run / (1.0 + own) + waiting / (self.running + 1))

    def _load_of(self, weights: str, learner: Learner) -> float:
        speeds = learner.speeds.get((self.node.spec.id, weights))
        return speeds.load.value if speeds else self.speeds.load.value

    def run_s(self, prompt: float, output: float) -> float:
        """Seconds that a request of so many tokens takes beside what runs here now."""
        return self.fixed + prompt * self.per_prompt + output * self.per_output

    def wait_s(self, now: float) -> float:
        """Seconds until a request could begin here, those ahead in the queue considered; a load not included."""
        return max(0.0, self.begins_at - now) + self.reserved / self.slots

    def terms(self, now: float, prompt: float, output: float, press: float, strategy: Strategy) -> dict[str, float]:
        """The weighted parts of the cost by name: what a decision record prints. `pipeline.cheapest` adds them up."""
        run, price = self.run_s(prompt, output), strategy.weight("price")
        told = {
            "start": self.start_weight * (self.wait_s(now) + self.later),
            "run": strategy.weight("run") * run,
            "others": self.others * min(self.running * run, self.rest) * self.growth,
            "queue": press * (self.press + self.per_run * run),
            "evict": strategy.weight("evict") * self.evictions,
            "price": price * self.node.spec.cost_per_hour / 3600.0 * run,
            "distance": strategy.weight("distance") * self.node.rtt,
            "preference": strategy.constant(self.node),
        }
        return {name: value for name, value in told.items() if value}

    @property
    def size(self) -> float:
        """Bytes of memory that the model takes when loaded."""
        return 0.0 if self.remote else size_of(self.node, self.model, self.weights)

    @property
    def condition(self) -> str:
        """The state in which the node's runner would meet the request, in a word for headers and logs."""
        if self.warm:
            return "cloud" if self.remote else "warm"
        return "joins-load" if self.joins else "loads-model"
