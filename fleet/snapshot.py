"""What routing reads from the database, as one immutable snapshot. The runtime calls these in a thread of its own."""

from collections import defaultdict
from collections.abc import Mapping
from types import MappingProxyType

from fleet.models import Node, NodeModel, PrefillProbe, Quota, Revision, RoutingRule, RoutingStrategy, Team
from fleet.models.node import GIB
from fleet.models.policy import Concurrency
from fleet.selectors.keys import usable
from routing.core import snapshot
from routing.core.resuming import Behaviour, OnBreak
from routing.core.snapshot import FleetSnapshot, InstalledModel, Key, NodeSpec, StrategySpec, TeamPolicy
from routing.core.strategies import Kind


def current_revision() -> int:
    """The number that every change moves on; 0 before the first change."""
    return Revision.objects.filter(pk=1).values_list("number", flat=True).first() or 0


def load_snapshot() -> FleetSnapshot:
    """Everything routing reads, in nine queries however large the fleet.

    The revision is read first: a change that comes between the queries makes the next poll load again. Disabled nodes
    are part of it; revoked and expired keys are not.
    """
    revision = current_revision()
    limits = quotas()
    teams = MappingProxyType(
        {team.pk: team_policy(team, tuple(limits.get(team.pk, ()))) for team in Team.objects.select_related("policy")}
    )
    models = installed_models()
    nodes = tuple(
        node_spec(node, tuple(models.get(node.pk, ())))
        for node in Node.objects.select_related("observation").order_by("pk")
    )
    keys = {key.digest: key for key in all_keys() if key.team_id in teams}
    strategies = list(RoutingStrategy.objects.order_by("name"))
    return FleetSnapshot(
        revision,
        nodes,
        teams,
        MappingProxyType(keys),
        MappingProxyType({row.name: strategy_spec(row) for row in strategies}),
        rules(),
        next((row.name for row in strategies if row.is_default), Kind.FASTEST.value),
        prefills(),
    )


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
        relearn_at=0.0 if node.relearn_at is None else node.relearn_at.timestamp(),
    )


def quotas() -> Mapping[int, list[snapshot.Quota]]:
    """The quotas of each team that has some."""
    found: defaultdict[int, list[snapshot.Quota]] = defaultdict(list)
    for row in Quota.objects.select_related("policy").order_by("pk"):
        found[row.policy.team_id].append(
            snapshot.Quota(
                id=row.pk,
                measure=snapshot.Measure(row.measure),
                window=snapshot.Window(row.window),
                amount=row.amount,
                breach=snapshot.Breach(row.breach),
                from_priority=row.from_priority,
            )
        )
    return found


def team_policy(team: Team, quotas: tuple[snapshot.Quota, ...]) -> TeamPolicy:
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
        concurrent_breach=(
            snapshot.Breach.DEMOTE if policy.concurrent_breach == Concurrency.DEMOTE else snapshot.Breach.REFUSE
        ),
        quotas=quotas,
        on_break=OnBreak(policy.on_break),
        hedge=policy.hedge,
        join_embeddings=policy.join_embeddings,
        split_embeddings=policy.split_embeddings,
        cache_embeddings=policy.cache_embeddings,
    )


def prefills() -> Mapping[str, snapshot.Prefill]:
    """What probes have found, by digest."""
    rows = PrefillProbe.objects.values_list("digest", "behaviour", "probed_at", "again")
    return MappingProxyType(
        {digest: snapshot.Prefill(Behaviour(kind), at.timestamp(), again) for digest, kind, at, again in rows}
    )


def strategy_spec(row: RoutingStrategy) -> StrategySpec:
    weights = {term: float(weight) for term, weight in row.weights.items()}
    return StrategySpec(row.name, row.kind, MappingProxyType(weights), tuple(row.preferred))


def rules() -> tuple[snapshot.RoutingRule, ...]:
    """The rules in the order in which they count: of a team and a model, of a team, of a model, of all."""
    rows = sorted(
        RoutingRule.objects.filter(enabled=True), key=lambda row: (row.team_id is None, not row.model, row.pk)
    )
    return tuple(
        snapshot.RoutingRule(row.team_id, row.model, row.strategy, MappingProxyType(dict(row.labels)), row.num_ctx)
        for row in rows
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
