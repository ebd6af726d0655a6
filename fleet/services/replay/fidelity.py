"""How well the model tells again what really happened."""

from dataclasses import dataclass

from fleet.services.replay.runs import Seen, Told, change

#: Largest errors of the mean, the p95 and the nodes' shares with which the model counts as close, and as rough.
CLOSE, ROUGH = (0.15, 0.25, 0.15), (0.35, 0.5, 0.35)
#: Seconds that nobody would call a difference.
NOTHING_S = 0.02


@dataclass(frozen=True, slots=True)
class Fidelity:
    """Errors of the model as parts of what happened: above 0 it is slower than the real fleet was.

    `shares` is the part of the requests that went to another node than in reality.
    """

    mean: float
    p95: float
    shares: float
    word: str

    @property
    def verdict(self) -> str:
        return (
            f"The model {WORDS[self.word]}: its mean is {percent(self.mean)}, its p95 {percent(self.p95)}; "
            f"{self.shares:.0%} of the requests went to another node. {ADVICE[self.word]}"
        )


WORDS = {
    "close": "is close to what happened",
    "rough": "is roughly what happened",
    "poor": "does not tell again what happened",
}
ADVICE = {
    "close": "Believe differences between variants that are larger than that.",
    "rough": "Believe which variant is better where they differ by more than that, not by how much.",
    "poor": "Do not decide by the figures below; learned speeds may be missing, or the time was unlike any other.",
}


def percent(error: float) -> str:
    """An error in words."""
    if abs(error) < 0.005:  # noqa: PLR2004 (rounds to nothing)
        return "the same"
    return f"{abs(error):.0%} {'above' if error > 0 else 'below'}"


def fidelity(recorded: Seen, told: Told) -> Fidelity:
    """Compare what happened with the runs of the same fleet and policy."""
    mean = error(recorded.total.mean, told.median(lambda run: run.total.mean))
    p95 = error(recorded.total.p95, told.median(lambda run: run.total.p95))
    nodes = recorded.shares.keys() | {name for run in told.runs for name in run.shares}
    shares = sum(
        abs(recorded.shares.get(name, 0.0) - told.median(lambda run: run.shares.get(name, 0.0)))  # noqa: B023
        for name in nodes
    )
    return Fidelity(mean, p95, shares / 2, word_of(abs(mean), abs(p95), shares / 2))


def error(recorded: float, simulated: float) -> float:
    return 0.0 if abs(recorded - simulated) < NOTHING_S else change(recorded, simulated)


def word_of(*errors: float) -> str:
    for word, most in (("close", CLOSE), ("rough", ROUGH)):
        if all(one <= bound for one, bound in zip(errors, most, strict=True)):
            return word
    return "poor"
