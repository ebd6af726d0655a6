"""What runs on a node: how far each sequence has come, when it will be done, what that means for others."""

import math
from typing import NamedTuple

from routing.core.concurrency import PROMPT_ALPHA, WorkClock, slowdown
from routing.core.learner import Pace
from routing.core.state import NodeState
from routing.core.tickets import Lease

#: Seconds after which what was foreseen is foreseen anew though nothing has happened.
AGE_S = 2.0
#: The logarithm of a factor below which a node that was slower, or faster, than usual counts as itself again.
FADED = 0.01


class Load(NamedTuple):
    """A node's load for whoever may come next; good until `until`, unless the node changes before.

    `running` sequences will have ended at `rest_at` on average. `prompt` and `output` are the slowdowns with one more
    sequence, `growth` the share by which that one slows the others down. `slower` is the factor by which the node is
    slower than usual just now, `success` its success rate.
    """

    until: float
    running: int
    rest_at: float
    prompt: float
    output: float
    growth: float
    slower: float
    success: float


def load_of(node: NodeState, now: float, pace: Pace) -> Load:
    """The node's load, worked out once for each change and whoever asks."""
    load = node.load
    if load is None or now >= load.until:
        load = node.load = foresee(node, now, pace)
    return load


def foresee(node: NodeState, now: float, pace: Pace) -> Load:
    """Work out when everything that runs here will be over, and the load that this is."""
    until, rest_at = math.inf, now
    running, count = node.running, len(node.leases)
    alone = slowdown(pace.alpha, running)
    if count:
        look_ahead(node, now, pace.alpha)
        until = now + AGE_S
        rest_at = sum([lease.ends_at for lease in node.leases]) / count
    slow, success = pace.slower(now), node.success_rate(now)
    if success < 1.0 or abs(slow) > FADED:
        until = min(until, now + AGE_S)
    output = slowdown(pace.alpha, running + 1)
    return Load(
        until,
        running,
        rest_at,
        slowdown(PROMPT_ALPHA, running + 1),
        output,
        output / alone - 1.0,
        math.exp(slow),
        success,
    )


def look_ahead(node: NodeState, now: float, alpha: float) -> None:
    """Set `ends_at` of all that runs here by how far each has come."""
    advance(node, now, alpha)
    running, clock = node.running, node.clock
    prompt, output = slowdown(PROMPT_ALPHA, running), slowdown(alpha, running)
    for lease in node.leases:
        progress(lease, clock)
        lease.ends_at = now + lease.expected_s(now, prompt, output)


def advance(node: NodeState, now: float, alpha: float) -> None:
    """Add the time since the last call to the node's clock.

    To be called before anything joins or leaves; `alpha` is the node's exponent for answers.
    """
    if now > node.clock.time:
        node.clock.advance(now, node.running, alpha)


def progress(lease: Lease, clock: WorkClock) -> None:
    """Add to what a sequence has done the work that the node's clock has counted since this was done last."""
    prompt, output = clock.prompt - lease.prompt_at, clock.output - lease.output_at
    if output <= 0.0:
        return
    lease.prompt_at, lease.output_at = clock.prompt, clock.output
    if lease.cold and not lease.answered:
        return
    if lease.prompt_left > 0.0:
        read = min(prompt, lease.prompt_left)
        lease.prompt_left -= read
        output *= 1.0 - read / prompt
    lease.written += output
