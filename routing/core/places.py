"""Places: what each node is for the requests of one kind, worked out when the node has changed, and read for each."""

import math
from collections.abc import Iterable
from typing import Any

from routing.core.concurrency import PROMPT_ALPHA, slowdown
from routing.core.learner import OVERHEAD, Learner
from routing.core.load import AGE_S, load_of
from routing.core.residency import context_of, displaced, has_context, size_of
from routing.core.snapshot import InstalledModel
from routing.core.state import NodeState, Reach, ResidentModel
from routing.core.strategies import Strategy
from routing.core.tickets import Lease

#: A model used within this many seconds is likely to be wanted again; evicting it costs its load in full.
RECENTLY = 60.0
#: Slots of which one can be left free for others without wasting much.
MANY_SLOTS = 3
#: Share of its load time that evicting a model not used recently is counted with.
COLD_EVICTION = 0.3
NONE: frozenset[Lease] = frozenset()


INFINITE = math.inf
#: What judging a place for one request reads of it, side by side, so that one unpacking does instead of twenty
#: lookups: when the node was last sent something, `begins_at`, 1 / slots, `fixed`, `per_prompt`, `per_output`, the
#: weight of the request's own run and that where a GPU is wanted, `running`, `rest`, the weight of the delay of those
#: who run there, all that does not depend on the request, `press`, `per_run`, `factor`, whether it could begin now,
#: `spare`, the routes that the node lacks, and the place. A plain tuple, which the interpreter unpacks several times
#: faster than a named one.
Row = tuple[
    int,
    float,
    float,
    float,
    float,
    float,
    float,
    float,
    int,
    float,
    float,
    float,
    float,
    float,
    float,
    bool,
    bool,
    frozenset[str],
    "Place",
]


class Place:
    """One node for one kind of request; everything is worked out when the node has changed, and put into `row`.

    `outdated`: the node has other weights under this name than those that count. `usable`: it answers and its breaker
    lets requests pass. `ready`: it would begin a request at once, or begin to load the model at once; `spare`: it would
    then have another slot left. `begins_at` is the moment from which it could, `later` the seconds that a load takes
    beyond that. `per_prompt`, `per_output` and `fixed` are the seconds that a token and any request take beside the
    `running` sequences, whose expected rest is `rest` seconds in all and which slow down by the share `growth`. `press`
    and `per_run` are the seconds by which those who wait for the node are delayed: at once, and for each second that a
    request runs. What was worked out is good until `until`, unless the node changes before: then the place is no longer
    `fresh`, and is put on the `pile` of those to be worked out anew. `number` is its place in its kind's lists.
    """

    __slots__ = (
        "begins_at",
        "blockers",
        "constant",
        "evictions",
        "factor",
        "fixed",
        "fresh",
        "growth",
        "heavy",
        "joins",
        "later",
        "learner",
        "light",
        "model",
        "node",
        "number",
        "outdated",
        "output_s",
        "pace",
        "per_output",
        "per_prompt",
        "per_run",
        "per_slot",
        "pile",
        "press",
        "prompt_s",
        "ready",
        "remote",
        "rest",
        "row",
        "running",
        "slots",
        "spare",
        "speeds",
        "strategy",
        "until",
        "usable",
        "victims",
        "wanted",
        "warm",
        "weighing",
        "weights",
    )

    row: Row

    def __init__(
        self,
        node: NodeState,
        model: InstalledModel,
        strategy: Strategy,
        learner: Learner,
        *,
        remote: bool,
        num_ctx: int | None,
        number: int = 0,
        pile: list[Any] | None = None,
    ) -> None:
        spec = node.spec
        self.node, self.model, self.remote, self.number = node, model, remote, number
        self.strategy, self.weighing, self.learner = strategy, strategy.weighing, learner
        self.weights = f"remote {model.key}" if remote else (model.digest or model.key)
        self.wanted = None if remote else context_of(num_ctx, model)
        self.slots = node.slots_of(model.key)
        self.per_slot = 1.0 / self.slots
        self.outdated = model.key in node.outdated
        self.pace = learner.pace(spec)
        self.speeds = learner.of(spec, self.weights, None if remote else model)
        self.light = self.weighing.run + self.weighing.price * spec.cost_per_hour / 3600.0
        self.heavy = self.light + (self.weighing.gpu if spec.node_class == "cpu" and not remote else 0.0)
        self.fresh, self.pile = False, [] if pile is None else pile
        self.until = -INFINITE
        self.usable = self.ready = self.spare = self.warm = self.joins = False
        self.victims: tuple[str, ...] = ()
        self.blockers: tuple[Lease, ...] = ()

    def refresh(self, now: float) -> None:
        """Work everything out anew."""
        node, pace, speeds = self.node, self.pace, self.speeds
        if not self.fresh:
            node.read_by(self)
            self.fresh = True
        load = load_of(node, now, pace)
        self.until = load.until
        self.begins_now(now)
        running, prompt, output, growth = load.running, load.prompt, load.output, load.growth
        if self.remote:
            running, rest, prompt, output, growth = 0, 0.0, 1.0, 1.0, 0.0
        elif self.blockers:
            # They will be gone when this begins.
            running = max(0, running - len(self.blockers))
            rest = sum([max(0.0, lease.ends_at - now) for lease in node.leases if lease not in self.blockers])
            prompt, output = slowdown(PROMPT_ALPHA, running + 1), slowdown(pace.alpha, running + 1)
            growth = output / slowdown(pace.alpha, running) - 1.0
        else:
            rest = max(0.0, load.rest_at - now) * len(node.leases)
        self.running, self.rest, self.growth = running, rest, growth
        if speeds.output.seen and speeds.prompt.seen:
            prompt_s, output_s = speeds.prompt.value, speeds.output.value
        else:
            prompt_s, output_s = self.learner.solo(node.spec, speeds)
        self.prompt_s, self.output_s = prompt_s * load.slower, output_s * load.slower
        self.per_prompt, self.per_output = self.prompt_s * prompt, self.output_s * output
        self.fixed = OVERHEAD * output
        self._weigh(now)
        self.factor = 1.0 if self.strategy.ordered else 1.0 / (load.success * node.spec.weight)
        self.row = self._row(barred=not self.usable)

    def _row(self, *, barred: bool) -> Row:
        return (
            self.node.last_sent,
            self.begins_at,
            self.per_slot,
            self.fixed,
            self.per_prompt,
            self.per_output,
            self.light,
            self.heavy,
            self.running,
            self.rest,
            self.growth * self.weighing.others,
            INFINITE if barred else self.constant,
            self.press,
            self.per_run,
            self.factor,
            self.ready and not barred,
            self.spare,
            self.node.missing,
            self,
        )

    def barred(self) -> Row:
        """The row for a request that this place cannot serve."""
        return self._row(barred=True)

    def begins_now(self, now: float) -> bool:
        """Whether it could begin something at once: the part of the work that tells whether more of it is needed."""
        self.usable = self.node.reach is not Reach.DOWN and self._breaker(now)
        self._beginning(now)
        return self.ready and self.usable

    def _breaker(self, now: float) -> bool:
        health = self.node.health
        if health.allows(self.weights, now):
            return True
        self.until = min(self.until, health.opens_at(self.weights, now))
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
        elif self._context_differs(ours, resident):
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
            # Whoever room is made for comes first, and takes this model's place: it is loaded again after that.
            self.ready = False
            self.begins_at = max([self.begins_at, *(lease.ends_at for lease in node.leases)]) + self.speeds.load.value
            self.later = self.speeds.load.value
        self.spare = self.ready and (free > 1 or self.slots < MANY_SLOTS)

    def _context_differs(self, ours: Iterable[Lease], resident: ResidentModel | None) -> bool:
        """Whether the runner that is there serves another context size than the one wanted."""
        wanted = self.wanted
        for lease in ours:
            if lease.num_ctx != wanted:
                return True
        return resident is not None and not has_context(self.node, resident, self.weights, wanted)

    def _loading(self, now: float) -> None:
        """The model must be loaded: after what blocks it has ended, and what loads already has been loaded."""
        begins = self.begins_at
        for lease in self.blockers:
            begins = max(begins, lease.ends_at)
        for lease in self.node.cold:
            begins = max(begins, lease.started_at + lease.speeds.load.value)
        self.begins_at, self.later = max(now, begins), self.speeds.load.value

    def _weigh(self, now: float) -> None:
        """The strategy's weights, applied to everything that does not depend on the request."""
        node, weighing = self.node, self.weighing
        gone: set[str] = set()
        if self.blockers or self.victims:
            gone = {lease.weights for lease in self.blockers}.union(self.victims)
            gone.discard(self.weights)
        self.evictions = self.press = self.per_run = 0.0
        if gone:
            self.evictions = self._evictions(gone, now)
        if gone or node.held:
            # How lately the evicted were used and how many wait changes without a word.
            self.until = min(self.until, now + AGE_S)
            if weighing.others:
                self._pressure(gone, now)
        self.constant = weighing.start * self.later + weighing.evict * self.evictions + weighing.distance * node.rtt
        if self.strategy.constant is not None:
            self.constant += self.strategy.constant(node, self.strategy)

    def _evictions(self, gone: set[str], now: float) -> float:
        """Seconds of loading that evicted models will cost those who want them next."""
        cost = 0.0
        for weights in gone:
            recently = now - self.node.used_at.get(weights, -math.inf) < RECENTLY
            cost += self._load_of(weights) * (1.0 if recently else COLD_EVICTION)
        return cost

    def _pressure(self, gone: set[str], now: float) -> None:
        """By how much those who wait for this node, or will soon, are delayed by a request that runs here.

        Whoever wants a model that must go for it waits for the load, the request, and the load back; all who wait for
        the same switch share that. Who waits here for other models loses this request's part of the node's time. To
        those who wait for the same model it is all one which node it takes: it takes one turn of theirs.
        """
        node, held, others = self.node, self.node.held, self.weighing.others
        press = per_run = waiting = 0.0
        for weights in gone:
            span, rate, count = self.later + self._load_of(weights), node.use_rate(weights, now), held.get(weights, 0.0)
            press += (count + 0.5 * rate * span) * span
            per_run += count + rate * span
        for weights, count in held.items():
            if weights not in gone and weights != self.weights:
                waiting += count
        turns = max(1.0, held.get(self.weights, 0.0))
        self.press = press * others / turns
        self.per_run = others * (per_run / turns + waiting / (self.running + 1))

    def _load_of(self, weights: str) -> float:
        speeds = self.learner.speeds.get((self.node.spec.id, weights))
        return speeds.load.value if speeds else self.speeds.load.value

    def run_s(self, prompt: float, output: float) -> float:
        """Seconds that a request of so many tokens takes beside what runs here now."""
        return self.fixed + prompt * self.per_prompt + output * self.per_output

    def wait_s(self, now: float, reserved: float) -> float:
        """Seconds until a request could begin here, after `reserved` seconds of work ahead; a load not included."""
        return max(0.0, self.begins_at - now) + reserved / self.slots

    def terms(self, now: float, prompt: float, output: float, press: float, reserved: float) -> dict[str, float]:
        """The weighted parts of the cost by name: what a decision record prints. `pipeline.cheapest` adds them up."""
        weighing, run = self.weighing, self.run_s(prompt, output)
        told = {
            "start": weighing.start * (self.wait_s(now, reserved) + self.later),
            "run": weighing.run * run,
            "others": weighing.others * min(self.running * run, self.rest) * self.growth,
            "queue": press * (self.press + self.per_run * run),
            "evict": weighing.evict * self.evictions,
            "price": weighing.price * self.node.spec.cost_per_hour / 3600.0 * run,
            "distance": weighing.distance * self.node.rtt,
            "preference": self.strategy.constant(self.node, self.strategy) if self.strategy.constant else 0.0,
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
