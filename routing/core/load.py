"""What runs on a node: how far each sequence has come, and when it will probably be done."""

from routing.core.concurrency import PROMPT_ALPHA, slowdown
from routing.core.state import NodeState

#: Seconds after which what was foreseen is foreseen anew though nothing has happened.
AGE_S = 2.0


def advance(node: NodeState, now: float, alpha: float) -> None:
    """Add the time since the last call to the node's clock and to what each of its sequences has done.

    To be called before anything joins or leaves; `alpha` is the node's exponent for answers.
    """
    passed = now - node.clock.time
    if passed <= 0.0:
        return
    running = node.running
    node.clock.advance(now, running, alpha)
    if not running:
        return
    prompt, output = slowdown(PROMPT_ALPHA, running), slowdown(alpha, running)
    for lease in node.leases:
        if lease.cold and not lease.answered:
            continue
        left = passed
        if lease.prompt_left > 0.0:
            read = min(left, lease.prompt_left * prompt)
            lease.prompt_left -= read / prompt
            left -= read
        lease.written += left / output


def foresee(node: NodeState, now: float, alpha: float) -> None:
    """Work out `ends_at` of everything that runs here, unless that was done since the node changed last."""
    if node.foreseen == node.changes and now < node.foreseen_until:
        return
    advance(node, now, alpha)
    running = node.running
    prompt, output = slowdown(PROMPT_ALPHA, running), slowdown(alpha, running)
    rest = 0.0
    for lease in node.leases:
        ends = lease.expected_end(now, prompt, output)
        lease.ends_at = ends
        rest += ends - now
    node.rest_at, node.foreseen = now + (rest / len(node.leases) if node.leases else 0.0), node.changes
    node.foreseen_until = now + AGE_S
