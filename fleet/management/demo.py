"""The simulated nodes that `up` starts when nobody has named a real one, and the rows they have in the database."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from fleet.management.ports import LOOPBACK, PortTaken, check, free_port
from fleet.models import Node
from fleet.services.nodes import disable, enable, parse, seed

#: Marks a node that `up` has added; the value is the simulated node's name.
LABEL = "demo"
#: Marks one that `up` has disabled, so that it may enable it again.
PAUSED = "demo-paused"


@dataclass(frozen=True)
class Simulated:
    """One simulated node: the port it is first given, its profile, and how its row in the database describes it."""

    name: str
    port: int
    profile: str
    options: str

    def entry(self, port: int) -> str:
        return f"{self.name}={LOOPBACK}:{port}?{self.options}&label.{LABEL}={self.name}"


FLEET = {
    simulated.name: simulated
    for simulated in (
        Simulated("ant", 21434, "gpu-24gb", "slots=4&vram_gb=24&ram_gb=64&class=gpu&max_loaded=3"),
        Simulated("bee", 21435, "gpu-8gb", "slots=2&vram_gb=8&ram_gb=32&class=gpu&max_loaded=3"),
        Simulated("cat", 21436, "cpu-32", "slots=2&ram_gb=32&class=cpu&max_loaded=3"),
    )
}


def wake() -> tuple[list[tuple[Simulated, int]], list[str]]:
    """The simulated nodes to start, each with its port, and lines to tell.

    They are added to an empty database only; one that was deleted stays away, one that was disabled is not started.
    """
    if not Node.objects.exists():
        seed_fleet()
    lines: list[str] = []
    paused = [node for node in Node.objects.filter(enabled=False) if PAUSED in node.labels]
    for node in paused:
        node.labels = {key: value for key, value in node.labels.items() if key != PAUSED}
        node.save()
    if paused:
        enable(paused)
        lines.append(f"the simulated nodes are enabled again: {', '.join(node.name for node in paused)}")
    chosen: list[tuple[Simulated, int]] = []
    taken: set[int] = set()
    for node in Node.objects.filter(enabled=True):
        if is_simulated(node):
            port = usable_port(node, taken)
            if port != urlsplit(node.url).port:
                lines.append(f"port {urlsplit(node.url).port} is taken; the simulated node {node.name} moves to {port}")
                node.url = f"http://{LOOPBACK}:{port}"
                node.save()
            taken.add(port)
            chosen.append((FLEET[node.labels[LABEL]], port))
    return chosen, lines


def seed_fleet() -> None:
    taken: set[int] = set()
    for simulated in FLEET.values():
        port = free_port(simulated.port, taken)
        taken.add(port)
        seed(simulated.entry(port))


def is_simulated(node: Node) -> bool:
    return node.labels.get(LABEL) in FLEET and urlsplit(node.url).hostname == LOOPBACK


def usable_port(node: Node, taken: set[int]) -> int:
    """The node's own port, or another if that is taken."""
    own = urlsplit(node.url).port or 0
    used = taken | {urlsplit(url).port or 0 for url in Node.objects.exclude(pk=node.pk).values_list("url", flat=True)}
    try:
        check(LOOPBACK, own)
    except PortTaken:
        return free_port(own + 1, used)
    return own


def rest() -> list[str]:
    """Disable the nodes that `up` has added and nobody has edited, as their simulators do not run; lines to tell."""
    ours = [node for node in Node.objects.filter(enabled=True) if is_simulated(node)]
    unedited = [node for node in ours if is_unedited(node)]
    for node in unedited:
        node.labels = {**node.labels, PAUSED: "yes"}
        node.save()
    disable(unedited)
    lines = []
    if unedited:
        names = ", ".join(node.name for node in unedited)
        lines.append(f"SOLLOL_NODES is set: the simulated nodes stay in the database, disabled: {names}")
    lines += [
        f"the simulated node {node.name} was edited and stays as it is, but its simulator does not run"
        for node in ours
        if node not in unedited
    ]
    return lines


def is_unedited(node: Node) -> bool:
    """Whether the row is as `up` has made it; the port may differ."""
    made = parse(FLEET[node.labels[LABEL]].entry(urlsplit(node.url).port or 0))
    own = {"id", "created_at", "changed_at"}
    columns = [field.attname for field in Node._meta.concrete_fields if field.attname not in own]  # noqa: SLF001
    return all(getattr(node, column) == getattr(made, column) for column in columns)
