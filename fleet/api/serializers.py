"""What the control plane's objects look like as JSON."""

from collections.abc import Callable
from copy import copy
from functools import cached_property
from typing import Any, ClassVar

from django.contrib.auth.models import User
from django.core.exceptions import NON_FIELD_ERRORS
from django.core.exceptions import ValidationError as Unfit
from django.db import transaction
from django.db.models import Model
from django.utils import timezone
from rest_framework import serializers

from fleet.models import (
    ApiKey,
    LearnedSpeed,
    Node,
    NodeEvent,
    NodeModel,
    NodeObservation,
    PrefillProbe,
    PriorityPolicy,
    Quota,
    RequestRecord,
    Rollup,
    RoutingRule,
    RoutingStrategy,
    Scope,
    Team,
    UsageDay,
)
from fleet.models.policy import HIGHEST, TAKEN
from fleet.selectors import access
from fleet.selectors.routing import Known, doubts, known
from fleet.selectors.usage import taken
from fleet.services import quotas


class Checked(serializers.ModelSerializer[Any]):
    """Runs the model's own validation, constraints included, so that REST refuses exactly what admin refuses."""

    #: Columns that are filled after validation.
    unchecked: ClassVar[tuple[str, ...]] = ()

    def person(self) -> Any:
        """Who is logged in and asks; None for a key, which may do everything here."""
        request = self.context.get("request")
        return None if request is None or isinstance(request.auth, ApiKey) else request.user

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        model: type[Model] = self.Meta.model
        many = {field.name for field in model._meta.many_to_many}  # noqa: SLF001 (Django's public name for it)
        row = copy(self.instance) if self.instance is not None else model()
        for name in attrs.keys() - many:
            setattr(row, name, attrs[name])
        try:
            row.full_clean(exclude=self.unchecked)
        except Unfit as error:
            faults = {
                "non_field_errors" if name == NON_FIELD_ERRORS else name: told
                for name, told in error.message_dict.items()
            }
            raise serializers.ValidationError(faults) from None
        return attrs | {name: getattr(row, name) for name in attrs.keys() - many}


class ObservationSerializer(serializers.ModelSerializer[NodeObservation]):
    class Meta:
        model = NodeObservation
        fields = ("reachable", "checked_at", "last_seen", "last_error", "latency_ms", "version", "vram_used")


class NodeSerializer(Checked):
    """A node as configured; `observed` is what the last look found (memory in bytes). Credentials are write-only."""

    observed = ObservationSerializer(source="seen", read_only=True)
    installed = serializers.IntegerField(read_only=True, default=0)
    resident = serializers.IntegerField(read_only=True, default=0)

    class Meta:
        model = Node
        fields = (
            "id", "name", "url", "region", "labels", "enabled", "draining", "cloud", "weight", "cost_per_hour",
            "node_class", "slots", "max_loaded", "gpu", "vram_gb", "ram_gb", "cores", "header_name", "header_value",
            "created_at", "changed_at", "relearn_at", "installed", "resident", "observed",
        )  # fmt: skip
        extra_kwargs = {"header_value": {"write_only": True}}  # noqa: RUF012 (DRF's own form)


class NodeModelSerializer(serializers.ModelSerializer[NodeModel]):
    """A model on a node; sizes in bytes."""

    node: Any = serializers.SlugRelatedField(slug_field="name", read_only=True)

    class Meta:
        model = NodeModel
        fields = (
            "id", "node", "name", "key", "digest", "installed", "size", "capabilities", "parameters_b", "quantization",
            "context_length", "resident", "size_loaded", "size_vram", "loaded_context", "expires_at",
        )  # fmt: skip


class TeamSerializer(Checked):
    members = serializers.SlugRelatedField(
        slug_field="username",
        many=True,
        required=False,
        queryset=User.objects.all(),
    )

    class Meta:
        model = Team
        fields = ("id", "name", "description", "members", "created_at")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Who leads a team says what it is for; its name and who belongs to it are the operators' matter."""
        person = self.person()
        if person is not None and not access.changes_all(person):
            theirs = sorted(attrs.keys() - {"description"})
            if theirs:
                raise serializers.ValidationError({name: ["Only operators may change this."] for name in theirs})
        return super().validate(attrs)


class KeySerializer(Checked):
    """A key without its secret."""

    team = serializers.SlugRelatedField(slug_field="name", queryset=Team.objects.all())
    scopes = serializers.ListField(child=serializers.ChoiceField(Scope.choices), allow_empty=False, required=False)
    unchecked: ClassVar[tuple[str, ...]] = ("prefix", "digest")

    class Meta:
        model = ApiKey
        fields = ("id", "team", "name", "prefix", "scopes", "expires_at", "state", "revoked_at", "created_at")

    def validate_team(self, team: Team) -> Team:
        if self.instance is not None and self.instance.team_id != team.pk:
            raise serializers.ValidationError("A key stays with its team; create another one.")
        person = self.person()
        if person is not None and not access.changed(person, Team.objects.filter(pk=team.pk), "pk").exists():
            raise serializers.ValidationError("You may give out keys of your own team only.")
        return team

    def validate_scopes(self, scopes: list[str]) -> list[str]:
        person = self.person()
        if person is not None and not access.grantable(person).issuperset(scopes):
            raise serializers.ValidationError("Keys with other scopes than inference are for operators to give out.")
        return scopes


class IssuedKeySerializer(KeySerializer):
    """A key with its secret, in the one answer that gives it out."""

    key = serializers.CharField(read_only=True)

    class Meta(KeySerializer.Meta):
        fields = (*KeySerializer.Meta.fields, "key")  # type: ignore[assignment]  # longer than the other's


class QuotaSerializer(serializers.ModelSerializer[Quota]):
    """A quota; `used` is what is taken of it in this day or month (UTC), or of one of a minute what is not refilled."""

    used = serializers.SerializerMethodField()

    def get_used(self, quota: Quota) -> float:
        return taken(quota, timezone.now())

    class Meta:
        model = Quota
        fields = ("id", "measure", "window", "amount", "breach", "from_priority", "used")


class PolicySerializer(Checked):
    """A team's policy; `quotas` are all that it has, and replace those that it had."""

    team = serializers.SlugRelatedField(slug_field="name", queryset=Team.objects.all())
    quotas = QuotaSerializer(many=True, required=False)

    class Meta:
        model = PriorityPolicy
        fields = (
            "id", "team", "default_priority", "highest_priority", "batch_priority", "share_weight", "max_concurrent",
            "concurrent_breach", "on_break", "hedge", "join_embeddings", "split_embeddings", "cache_embeddings",
            "quotas",
        )  # fmt: skip

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        told = attrs.pop("quotas", None)
        attrs = super().validate(attrs)
        highest = attrs.get("highest_priority", self.instance.highest_priority if self.instance else HIGHEST)
        if told is not None:
            return attrs | {"quotas": checked_quotas(told, highest)}
        for quota in self.instance.quotas.all() if self.instance else ():
            if fault := quota.budget_fault(highest):
                raise serializers.ValidationError({"highest_priority": f"{quota}: {fault}"})
        return attrs

    def create(self, validated_data: dict[str, Any]) -> PriorityPolicy:
        return self.written(super().create, validated_data)

    def update(self, instance: PriorityPolicy, validated_data: dict[str, Any]) -> PriorityPolicy:
        return self.written(lambda columns: super(PolicySerializer, self).update(instance, columns), validated_data)

    def written(self, write: Callable[[dict[str, Any]], PriorityPolicy], data: dict[str, Any]) -> PriorityPolicy:
        wanted = data.pop("quotas", None)
        with transaction.atomic():
            policy = write(data)
            if wanted is not None:
                quotas.replace(policy, wanted)
        return policy


def checked_quotas(told: list[dict[str, Any]], highest: int) -> list[Quota]:
    """The quotas as rows of a policy to come; raises ValidationError with the faults of each."""
    faults: list[dict[str, Any]] = []
    rows: list[Quota] = []
    for columns in told:
        row = Quota(policy=PriorityPolicy(highest_priority=highest), **columns)
        try:
            row.full_clean(exclude=("policy",), validate_unique=False, validate_constraints=False)
            double = any(row.kind == other.kind for other in rows)
            faults.append({"non_field_errors": [TAKEN]} if double else {})
        except Unfit as error:
            faults.append(error.message_dict)
        rows.append(row)
    if any(faults):
        raise serializers.ValidationError({"quotas": faults})
    return rows


class Doubted(Checked):
    """`doubts` are what will not do what the operator may expect, as the fleet is now."""

    doubts = serializers.SerializerMethodField()

    def get_doubts(self, row: RoutingStrategy | RoutingRule) -> list[str]:
        fleet: Doubted = self.parent.child if isinstance(self.parent, serializers.ListSerializer) else self  # type: ignore[assignment]
        return doubts(row, fleet.known)

    @cached_property
    def known(self) -> Known:
        return known()


class StrategySerializer(Doubted):
    """A strategy; `rules` is the number of rules that name it."""

    rules = serializers.IntegerField(read_only=True, default=0)

    class Meta:
        model = RoutingStrategy
        fields = ("id", "name", "kind", "weights", "preferred", "is_default", "note", "rules", "doubts")
        extra_kwargs = {"is_default": {"validators": ()}}  # noqa: RUF012 (DRF's own form; the model's words are better)


class RuleSerializer(Doubted):
    """A rule; no team is every team, no model every model. `model` is told as the canonical name."""

    team = serializers.SlugRelatedField(
        slug_field="name", queryset=Team.objects.all(), required=False, allow_null=True, default=None
    )
    model = serializers.CharField(required=False, allow_blank=True, max_length=600, default="")

    class Meta:
        model = RoutingRule
        fields = ("id", "team", "model", "strategy", "labels", "num_ctx", "enabled", "note", "doubts")
        validators = ()


class SpeedSerializer(serializers.ModelSerializer[LearnedSpeed]):
    """A learned speed, of one request alone: seconds per prompt token, per answer token, per load; seen 0: a guess."""

    node: Any = serializers.SlugRelatedField(slug_field="name", read_only=True)

    class Meta:
        model = LearnedSpeed
        fields = (
            "id", "node", "model", "weights", "prompt_s", "prompt_seen", "output_s", "output_seen", "load_s",
            "load_seen", "updated_at",
        )  # fmt: skip


class PrefillSerializer(serializers.ModelSerializer[PrefillProbe]):
    """What a probe found a model to do with an unfinished assistant message; `again`: it is to be probed anew."""

    node = serializers.CharField(source="node_name")

    class Meta:
        model = PrefillProbe
        fields = ("id", "digest", "model", "behaviour", "detail", "node", "probed_at", "again")


class UsageSerializer(serializers.ModelSerializer[UsageDay]):
    """What a team used on one day (UTC) at one priority."""

    team: Any = serializers.SlugRelatedField(slug_field="name", read_only=True)

    class Meta:
        model = UsageDay
        fields = ("team", "day", "priority", "requests", "tokens_in", "tokens_out", "gpu_seconds")


class RollupSerializer(serializers.ModelSerializer[Rollup]):
    """Ended requests of an hour or a day, by team, model, node and task; times in seconds."""

    team = serializers.CharField(source="team_name")
    node = serializers.CharField(source="node_name")
    task = serializers.CharField(source="task_type")

    class Meta:
        model = Rollup
        fields = (
            "span", "begins", "team", "model", "node", "task", "requests", "errors", "refused", "cancelled", "retries",
            "resumed", "tokens_in", "tokens_out", "seconds", "queue_seconds", "first_byte_seconds", "first_bytes",
        )  # fmt: skip


class RequestSerializer(serializers.ModelSerializer[RequestRecord]):
    """An ended request; times in milliseconds."""

    team = serializers.CharField(source="team_name")
    node = serializers.CharField(source="node_name")
    task = serializers.CharField(source="task_type")

    class Meta:
        model = RequestRecord
        fields = (
            "request_id", "started_at", "route", "model", "task", "complexity", "priority", "stream", "outcome",
            "status", "team", "key_prefix", "node", "attempts", "resumed", "queue_ms", "first_byte_ms",
            "total_ms", "prompt_tokens", "output_tokens", "error", "decision",
        )  # fmt: skip


class EventSerializer(serializers.ModelSerializer[NodeEvent]):
    node = serializers.CharField(source="node_name")

    class Meta:
        model = NodeEvent
        fields = ("id", "at", "node", "kind", "detail")
