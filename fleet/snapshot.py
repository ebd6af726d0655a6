"""What routing reads from the database, as one immutable snapshot. The runtime calls these in a thread of its own."""

from collections import defaultdict
from collections.abc import Mapping
from types import MappingProxyType

from fleet.models import Node, NodeModel, Revision, Team
from fleet.models.node import GIB
from fleet.selectors.keys import usable
from routing.core.snapshot import FleetSnapshot, InstalledModel, Key, NodeSpec, TeamPolicy


def current_revision() -> int:
    """The number that every change moves on; 0 before the first change."""
    return Revision.objects.filter(pk=1).values_list("number", flat=True).first() or 0


def load_snapshot() -> FleetSnapshot:
    """Everything routing reads, in five queries however large the fleet.

    The revision is read first: a change that comes between the queries makes the next poll load again. Disabled nodes
    are part of it; revoked and expired keys are not.
    """
    revision = current_revision()
    teams = MappingProxyType({team.pk: team_policy(team) for team in Team.objects.select_related("policy")})
    models = installed_models()
    nodes = tuple(
        node_spec(node, tuple(models.get(node.pk, ())))
        for node in Node.objects.select_related("observation").order_by("pk")
    )
    keys = {key.digest: key for key in all_keys() if key.team_id in teams}
    return FleetSnapshot(revision, nodes, teams, MappingProxyType(keys))


def installed_models() -> Mapping[int, list[InstalledModel]]:
    models: defaultdict[int, list[InstalledModel]] = defaultdict(list)
    for row in NodeModel.objects.filter(installed=True).order_by("node_id", "key"):
        models[row.node_id].append(
            InstalledModel(
                key=row.key,
                name=row.name,
                digest=row.digest,
                size=row.size,
                capabilities=frozenset(row.capabilities),
                parameters_b=row.parameters_b,
                context_length=row.context_length,
            )
        )
    return models


def node_spec(node: Node, models: tuple[InstalledModel, ...]) -> NodeSpec:
    return NodeSpec(
        id=node.pk,
        name=node.name,
        url=node.url,
        enabled=node.enabled,
        draining=node.draining,
        node_class=node.node_class,
        slots=node.slots,
        vram_bytes=None if node.vram_gb is None else int(node.vram_gb * GIB),
        ram_bytes=None if node.ram_gb is None else int(node.ram_gb * GIB),
        max_loaded=node.max_loaded,
        weight=node.weight,
        cost_per_hour=node.cost_per_hour,
        region=node.region,
        labels=MappingProxyType(dict(node.labels)),
        headers=((node.header_name, node.header_value),) if node.header_name else (),
        models=models,
        version=node.seen.version,
        cloud=node.cloud,
    )


def team_policy(team: Team) -> TeamPolicy:
    policy = getattr(team, "policy", None)
    if policy is None:
        return TeamPolicy(team.pk, team.name)
    return TeamPolicy(
        id=team.pk,
        name=team.name,
        default_priority=policy.default_priority,
        highest_priority=policy.highest_priority,
        batch_priority=policy.batch_priority,
        share_weight=policy.share_weight,
        max_concurrent=policy.max_concurrent,
    )


def all_keys() -> list[Key]:
    return [
        Key(
            digest=row.digest,
            prefix=row.prefix,
            team_id=row.team_id,
            scopes=frozenset(row.scopes),
            expires_at=None if row.expires_at is None else row.expires_at.timestamp(),
        )
        for row in usable().select_related(None)
    ]
