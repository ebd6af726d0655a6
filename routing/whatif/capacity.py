"""How many requests a second a fleet could carry at best: a linear program, and the simplex method to solve it."""

import math
from collections.abc import Iterable, Sequence

from routing.whatif.machines import OVERHEAD_S, Machine, Runnable
from routing.whatif.traffic import Asked

#: Numbers below which a tableau's entry counts as zero.
TINY = 1e-12


def capacity(machines: Sequence[Machine], asked: Iterable[Asked]) -> float:
    """The largest rate, in requests per second, of a mix like `asked` that any router could sustain.

    Model loads are ignored, and each node is taken to work on as many requests at a time as one model has slots there.
    With w[m,n] the mean seconds of node n that a request for model m costs, s[m] the model's share of all requests and
    x[m,n] the rate at which n gets them: maximise r such that sum_n x[m,n] = r s[m] and sum_m x[m,n] w[m,n] <= 1.
    """
    by_model: dict[str, list[Asked]] = {}
    for one in asked:
        by_model.setdefault(one.profile.key, []).append(one)
    total = sum(map(len, by_model.values()))
    if not total:
        return 0.0
    columns, rows = [], len(machines) + len(by_model)
    for row, (key, some) in enumerate(by_model.items()):
        for number, machine in enumerate(machines):
            if (model := machine.models.get(key)) is not None:
                column = [0.0] * rows
                column[number] = work(machine, model, some)
                column[len(machines) + row] = -1.0
                columns.append(column)
    rate = [0.0] * len(machines) + [len(some) / total for some in by_model.values()]
    return maximum([*columns, rate], [1.0] * len(machines) + [0.0] * len(by_model))


def work(machine: Machine, model: Runnable, asked: Sequence[Asked]) -> float:
    """Mean seconds of a node's time per request, when every slot of the model is in use."""
    reading = math.pow(model.slots, -machine.prompt_alpha)
    answering = math.pow(model.slots, -machine.alpha)
    prompts = sum(one.profile.prompt_tokens for one in asked) / len(asked)
    answers = sum(one.output_tokens for one in asked) / len(asked)
    return (OVERHEAD_S + prompts * model.prompt_s) * reading + answers * model.output_s * answering


def maximum(columns: Sequence[Sequence[float]], bounds: Sequence[float]) -> float:
    """The largest value of the last variable, where all are at least 0 and sum(columns[j] x[j]) <= bounds, bounds >= 0.

    Simplex with Bland's rule, which cannot cycle.
    """
    rows, count = len(bounds), len(columns)
    table = [
        [*(column[row] for column in columns), *(1.0 if row == slack else 0.0 for slack in range(rows)), bounds[row]]
        for row in range(rows)
    ]
    costs = [0.0] * (count - 1) + [-1.0] + [0.0] * (rows + 1)
    basis = list(range(count, count + rows))
    while (entering := next((j for j, cost in enumerate(costs[:-1]) if cost < -TINY), None)) is not None:
        candidates = [
            (table[row][-1] / table[row][entering], basis[row], row)
            for row in range(rows)
            if table[row][entering] > TINY
        ]
        if not candidates:
            return float("inf")
        least = min(ratio for ratio, _, _ in candidates)
        pivot = min((index, row) for ratio, index, row in candidates if ratio <= least + TINY)[1]
        costs = turn(table, costs, pivot, entering)
        basis[pivot] = entering
    return costs[-1]


def turn(table: list[list[float]], costs: list[float], pivot: int, entering: int) -> list[float]:
    """Make `entering` a basic variable in row `pivot`; the new costs."""
    scale = table[pivot][entering]
    table[pivot] = leading = [value / scale for value in table[pivot]]
    for row, line in enumerate(table):
        if row != pivot and line[entering]:
            factor = line[entering]
            table[row] = [value - factor * lead for value, lead in zip(line, leading, strict=True)]
    factor = costs[entering]
    return [value - factor * lead for value, lead in zip(costs, leading, strict=True)]
