"""What the control plane's objects look like as JSON."""

from copy import copy
from typing import Any, ClassVar

from django.contrib.auth.models import User
from django.core.exceptions import NON_FIELD_ERRORS
from django.core.exceptions import ValidationError as Unfit
from django.db.models import Model
from rest_framework import serializers

from fleet.models import ApiKey, Node, NodeEvent, NodeModel, NodeObservation, PriorityPolicy, RequestRecord, Scope, Team


class Checked(serializers.ModelSerializer[Any]):
    """Runs the model's own validation, constraints included, so that REST refuses exactly what admin refuses."""

    #: Columns that are filled after validation.
    unchecked: ClassVar[tuple[str, ...]] = ()

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
            "created_at", "changed_at", "installed", "resident", "observed",
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


class KeySerializer(Checked):
    """A key without its secret; `key` stands in the one answer that creates it."""

    team = serializers.SlugRelatedField(slug_field="name", queryset=Team.objects.all())
    scopes = serializers.ListField(child=serializers.ChoiceField(Scope.choices), allow_empty=False, required=False)
    key = serializers.CharField(read_only=True, required=False)
    unchecked: ClassVar[tuple[str, ...]] = ("prefix", "digest")

    class Meta:
        model = ApiKey
        fields = ("id", "team", "name", "prefix", "scopes", "expires_at", "state", "revoked_at", "created_at", "key")

    def validate_team(self, team: Team) -> Team:
        if self.instance is not None and self.instance.team_id != team.pk:
            raise serializers.ValidationError("A key stays with its team; create another one.")
        return team


class PolicySerializer(Checked):
    team = serializers.SlugRelatedField(slug_field="name", queryset=Team.objects.all())

    class Meta:
        model = PriorityPolicy
        fields = (
            "id", "team", "default_priority", "highest_priority", "batch_priority", "share_weight", "max_concurrent",
            "requests_per_minute", "tokens_per_minute", "tokens_per_day", "gpu_seconds_per_day",
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
            "status", "team", "key_prefix", "node", "attempts", "queue_ms", "first_byte_ms", "total_ms",
            "prompt_tokens", "output_tokens", "error", "decision",
        )  # fmt: skip


class EventSerializer(serializers.ModelSerializer[NodeEvent]):
    node = serializers.CharField(source="node_name")

    class Meta:
        model = NodeEvent
        fields = ("id", "at", "node", "kind", "detail")
