"""How much a node has worked through while several requests ran on it at once: time as one request alone would tell it.

k sequences share a node, whose total speed grows as k ** alpha, so that each runs k ** (1 - alpha) times slower than
alone. Decoding is bound by memory bandwidth and gains from batches, reading prompts is bound by arithmetic and hardly
gains. A node's clock adds up the time that a request would have needed alone, for either kind of work.
"""

from bisect import bisect_right

#: Exponent of reading prompts: one prompt fills the arithmetic units already.
PROMPT_ALPHA = 0.1
#: Moments remembered; older ones are dropped in one step.
KEPT = 512


def slowdown(alpha: float, running: float) -> float:
    """How many times longer a request takes when `running` run at once: k ** (1 - alpha)."""
    return 1.0 if running <= 1.0 else float(running ** (1.0 - alpha))


class WorkClock:
    """Seconds of solo work that a sequence has been given on one node, for prompts and for answers, since the start.

    `advance` is called with the number that ran since the last call; times are seconds of the injected clock.
    """

    __slots__ = ("output", "outputs", "prompt", "prompts", "time", "times")

    def __init__(self, now: float = 0.0) -> None:
        self.time, self.prompt, self.output = now, 0.0, 0.0
        self.times, self.prompts, self.outputs = [now], [0.0], [0.0]

    def advance(self, now: float, running: int, alpha: float) -> None:
        """Add the time since the last call, in which `running` sequences ran."""
        passed = now - self.time
        if passed <= 0.0:
            return
        self.time = now
        self.prompt += passed / slowdown(PROMPT_ALPHA, running)
        self.output += passed / slowdown(alpha, running)
        self.times.append(now)
        self.prompts.append(self.prompt)
        self.outputs.append(self.output)
        if len(self.times) > 2 * KEPT:
            del self.times[:KEPT], self.prompts[:KEPT], self.outputs[:KEPT]

    def share(self, begin: float, end: float) -> tuple[float, float]:
        """What part of solo speed a sequence had between two moments, for prompts and for answers: at most 1 each."""
        span = end - begin
        if span <= 0.0:
            return 1.0, 1.0
        (p0, o0), (p1, o1) = self._at(begin), self._at(end)
        return max(1e-3, (p1 - p0) / span), max(1e-3, (o1 - o0) / span)

    def _at(self, moment: float) -> tuple[float, float]:
        i = bisect_right(self.times, moment) - 1
        if i < 0:
            return self.prompts[0] - (self.times[0] - moment), self.outputs[0] - (self.times[0] - moment)
        if i + 1 == len(self.times):
            since = moment - self.time
            return self.prompt + since, self.output + since
        part = (moment - self.times[i]) / (self.times[i + 1] - self.times[i])
        return (
            self.prompts[i] + part * (self.prompts[i + 1] - self.prompts[i]),
            self.outputs[i] + part * (self.outputs[i + 1] - self.outputs[i]),
        )
