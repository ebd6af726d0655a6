"""A family is the queue for one model: its requests wait in lines, one for each team, in the order of their keys."""

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heapify, heappop, heapreplace

from routing.core.pipeline import Demand, Kind
from routing.core.requests import Profile
from routing.core.shares import Account, Shares, Team
from routing.core.strategies import Strategy
from routing.core.tickets import Ticket

#: Kinds whose places are kept made ready; a client that asks for a new context size each time must not cost memory.
KINDS = 32

#: Seconds of work by which a team may be ahead of another and still have its interactive requests before the other's
#: batch work.
YIELD = 60.0
#: The same for the parts of batch jobs: no other request is so far behind.
AFTER_ALL = 1e9

#: (order, sequence, ticket): sorts as the line does, and never compares tickets.
Entry = tuple[float, int, Ticket]


@dataclass(slots=True)
class Line:
    """The waiting requests of one team for one model: interactive ones, and batch ones that yield to all of those."""

    urgent: list[Entry] = field(default_factory=list)
    batch: list[Entry] = field(default_factory=list)

    def part(self, request: Profile) -> list[Entry]:
        return self.batch if request.batch else self.urgent


@dataclass(slots=True)
class Family:
    """Everything that waits for one model; `bulk` of the `waiting` are bulk work.

    `changed` names nodes on which something may have become possible since the last look, `looked_at` is when all of
    the fleet was last looked at for it; `joined`: a request has come in among those that are looked at. `judged` are
    the requests that a look which is not finished has judged.
    """

    key: str
    lines: dict[Team, Line] = field(default_factory=dict)
    kinds: dict[Demand, Kind] = field(default_factory=dict)
    waiting: int = 0
    changed: set[int] = field(default_factory=set)
    looked_at: float = float("-inf")
    pressed: dict[int, str] = field(default_factory=dict)
    judged: set[Ticket] = field(default_factory=set)
    joined: bool = False
    used: int = 0
    bulk: int = 0

    def add(self, ticket: Ticket) -> None:
        line = self.lines.setdefault(ticket.request.team_id, Line())
        insort(line.part(ticket.request), (ticket.order, ticket.sequence, ticket))
        self.waiting += 1
        self.bulk += ticket.request.bulk

    def remove(self, ticket: Ticket) -> None:
        team = ticket.request.team_id
        line = self.lines[team]
        part = line.part(ticket.request)
        del part[bisect_left(part, (ticket.order, ticket.sequence))]
        if not line.urgent and not line.batch:
            del self.lines[team]
        self.waiting -= 1
        self.bulk -= ticket.request.bulk

    def kind(self, request: Profile, strategy: Strategy) -> Kind:
        """The kind of a request; the one that was used longest ago makes room for a new one."""
        demand = Demand(request.num_ctx, request.remote, strategy.name, request.labels)
        kind = self.kinds.get(demand)
        if kind is None or kind.strategy is not strategy:
            if len(self.kinds) >= KINDS:
                del self.kinds[min(self.kinds, key=lambda one: self.kinds[one].used)]
            kind = self.kinds[demand] = Kind(self.key, demand, strategy)
        self.used += 1
        kind.used = self.used
        return kind

    def unreserve(self) -> None:
        """Nobody's work is reserved anywhere any more."""
        for kind in self.kinds.values():
            kind.unreserve()

    def tickets(self) -> Iterator[Ticket]:
        """All that wait, in no order."""
        for line in self.lines.values():
            for part in (line.urgent, line.batch):
                for entry in part:
                    yield entry[2]

    def in_order(self, shares: Shares, aged: float, *, everyone: bool = False) -> Iterator[Ticket]:
        """All that wait, in the order in which they are to be served.

        The team with the lowest counter first, as it will be when those before have been served; within a team
        interactive before batch, but batch that arrived before `aged` counts as interactive; then the key. Among teams
        batch work counts as if its team had been given more (`YIELD`). Teams that run as much as they may are left out,
        unless it is to be `everyone`.
        """
        streams = [
            (shares.of(team), served(line, aged))
            for team, line in self.lines.items()
            if everyone or not shares.of(team).full
        ]
        if len(streams) == 1:
            return streams[0][1]
        return merged(streams, aged)


def served(line: Line, aged: float) -> Iterator[Ticket]:
    """One team's requests in their order."""
    urgent, batch, i, j = line.urgent, line.batch, 0, 0
    while i < len(urgent) or j < len(batch):
        take = j < len(batch) and (
            i == len(urgent) or (batch[j][2].arrived_at <= aged and batch[j][:2] < urgent[i][:2])
        )
        yield batch[j][2] if take else urgent[i][2]
        i, j = (i, j + 1) if take else (i + 1, j)


def merged(streams: list[tuple[Account, Iterator[Ticket]]], aged: float) -> Iterator[Ticket]:
    heads = []
    for number, (account, stream) in enumerate(streams):
        ticket = next(stream, None)
        if ticket is not None:
            heads.append((standing(account.counter, ticket, aged), ticket.order, number, account.counter, ticket))
    heapify(heads)
    while heads:
        _, _, number, counter, ticket = heads[0]
        yield ticket
        account, stream = streams[number]
        following = next(stream, None)
        if following is None:
            heappop(heads)
        else:
            counter += ticket.work / account.weight
            heapreplace(heads, (standing(counter, following, aged), following.order, number, counter, following))


def standing(counter: float, ticket: Ticket, aged: float) -> float:
    """The counter that a request is compared by."""
    if not ticket.request.batch or ticket.arrived_at <= aged:
        return counter
    return counter + (AFTER_ALL if ticket.request.bulk else YIELD)
