"""Stores what a look at a node found; tells transitions, and moves the revision only if routing reads what changed."""

from collections.abc import Iterable

from django.db import transaction
from django.utils import timezone

from fleet.models import Node, NodeEvent, NodeModel, NodeObservation, bump, lock
from fleet.services.probe import Installed, Resident, Sighting

#: Names of models in one event; beyond that their number tells enough.
NAMED = 12

ROUTED = (
    "name",
    "digest",
    "size",
    "installed",
    "capabilities",
    "parameters_b",
    "context_length",
    "described",
    "quantization",
)
LOADED = ("resident", "size_loaded", "size_vram", "loaded_context", "expires_at")


def store(sighting: Sighting) -> list[NodeEvent]:
    """Write one sighting; returns the transitions it caused.

    A sighting older than what is stored, of a node that has moved to another address or is gone, is dropped. What is
    stored as of a time that has not come was seen by a clock that has been set back since, and is replaced.
    """
    with transaction.atomic():
        lock()  # the same first step as every writer's, so two looks at one node follow each other
        node = Node.objects.filter(pk=sighting.node_id, url=sighting.url).first()
        if node is None:
            return []
        before, _ = NodeObservation.objects.get_or_create(node=node)
        if before.checked_at is not None and sighting.at < before.checked_at <= timezone.now():
            return []
        kinds = reachability(before, sighting)
        if sighting.reachable:
            kinds += version(before, sighting)
            kinds += inventory(node, sighting)
        observe(before, sighting)
        events = [
            NodeEvent(node=node, node_name=node.name, at=sighting.at, kind=kind, detail=detail)
            for kind, detail in kinds
        ]
        NodeEvent.objects.bulk_create(events)
    return events


def observe(row: NodeObservation, sighting: Sighting) -> None:
    row.reachable = sighting.reachable
    row.checked_at = sighting.at
    row.last_error = sighting.error
    row.latency_ms = sighting.latency_ms
    if sighting.reachable:
        row.last_seen, row.version = sighting.at, sighting.version
    elif row.last_seen is not None:
        row.last_seen = min(row.last_seen, sighting.at)  # the clock may have been set back
    if sighting.resident is not None:
        row.vram_used = sum(model.size_vram for model in sighting.resident)
    elif not sighting.reachable:
        row.vram_used = None
    row.save()


def reachability(before: NodeObservation, sighting: Sighting) -> list[tuple[str, str]]:
    if before.reachable == sighting.reachable:
        return []
    return [("up", f"Ollama {sighting.version}")] if sighting.reachable else [("down", sighting.error)]


def version(before: NodeObservation, sighting: Sighting) -> list[tuple[str, str]]:
    if before.version == sighting.version:
        return []
    bump()  # observations do not bump by themselves; the version is the one column of theirs that routing reads
    return [("version", f"{before.version} → {sighting.version}")] if before.version else []


def inventory(node: Node, sighting: Sighting) -> list[tuple[str, str]]:
    """Bring the node's rows in line with what it told; a list that it did not tell leaves its half alone."""
    if sighting.installed is None and sighting.resident is None:
        return []
    rows = {row.key: row for row in NodeModel.objects.filter(node=node)}
    old = {key: (row.name, row.digest) for key, row in rows.items() if row.installed}
    before = {key: state(row) for key, row in rows.items()}
    if sighting.installed is not None:
        apply_installed(node, rows, sighting)
    if sighting.resident is not None:
        apply_resident(node, rows, sighting.resident)
    write(rows, before)
    new = {key: (row.name, row.digest) for key, row in rows.items() if row.installed}
    return difference(old, new)


def apply_installed(node: Node, rows: dict[str, NodeModel], sighting: Sighting) -> None:
    told = {model.key: model for model in sighting.installed or ()}
    for key, row in rows.items():
        row.installed = key in told
    for key, model in told.items():
        row = rows.setdefault(key, NodeModel(node=node, key=key))
        if row.digest != model.digest:
            row.described = False
            row.capabilities, row.parameters_b, row.context_length = [], None, None
        describe(row, model, sighting)


def describe(row: NodeModel, model: Installed, sighting: Sighting) -> None:
    row.name, row.digest, row.size, row.quantization = model.name, model.digest, model.size, model.quantization
    facts = sighting.described.get(model.weights)
    if facts is not None:
        row.described = True
        row.capabilities = list(facts.capabilities)
        row.parameters_b, row.context_length = facts.parameters_b, facts.context_length


def apply_resident(node: Node, rows: dict[str, NodeModel], loaded: Iterable[Resident]) -> None:
    told = {model.key: model for model in loaded}
    for key, row in rows.items():
        if row.resident and key not in told:
            row.resident = False
            row.size_loaded = row.size_vram = row.loaded_context = row.expires_at = None
    for key, model in told.items():
        row = rows.setdefault(key, NodeModel(node=node, key=key, name=model.name, digest=model.digest, installed=False))
        row.resident = True
        row.size_loaded, row.size_vram, row.loaded_context = model.size, model.size_vram, model.context
        row.expires_at = model.expires_at


def state(row: NodeModel) -> dict[str, object]:
    return {name: getattr(row, name) for name in (*ROUTED, *LOADED)}


def write(rows: dict[str, NodeModel], before: dict[str, dict[str, object]]) -> None:
    """Write only what differs, so that an unchanged node costs no write and residency alone moves no revision."""
    gone = [row for row in rows.values() if not row.installed and not row.resident]
    kept = [row for row in rows.values() if row.installed or row.resident]
    known = [row for row in kept if row.key in before]
    NodeModel.objects.bulk_create([row for row in kept if row.key not in before])
    for columns in (ROUTED, LOADED):
        changed = [row for row in known if any(before[row.key][name] != getattr(row, name) for name in columns)]
        if changed:
            NodeModel.objects.bulk_update(changed, columns, batch_size=200)
    if old := [row.pk for row in gone if row.pk is not None]:
        NodeModel.objects.filter(pk__in=old).delete()


def difference(old: dict[str, tuple[str, str]], new: dict[str, tuple[str, str]]) -> list[tuple[str, str]]:
    parts = [
        ("added", [new[key][0] for key in sorted(new.keys() - old.keys())]),
        ("removed", [old[key][0] for key in sorted(old.keys() - new.keys())]),
        ("changed", [new[key][0] for key in sorted(new.keys() & old.keys()) if new[key][1] != old[key][1]]),
    ]
    told = "; ".join(f"{verb} {some(names)}" for verb, names in parts if names)
    return [("inventory", told)] if told else []


def some(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
