"""The control plane's resources."""

from typing import Any, ClassVar

from django.db.models import Model, ProtectedError, QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, status
from rest_framework.decorators import action
from rest_framework.exceptions import APIException, NotFound, PermissionDenied, ValidationError
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet, ModelViewSet, ReadOnlyModelViewSet

from fleet.api import serializers
from fleet.api.filters import ColumnFilter, NewestEventsFirst, NewestFirst, NewestRollupsFirst
from fleet.models import (
    ApiKey,
    LearnedSpeed,
    Node,
    NodeEvent,
    NodeModel,
    PrefillProbe,
    PriorityPolicy,
    RequestRecord,
    Rollup,
    RoutingRule,
    RoutingStrategy,
    Team,
    UsageDay,
)
from fleet.selectors import access, history, learning, routing, usage
from fleet.selectors.inventory import node_models, with_counts
from fleet.services import calibration, keys, nodes
from fleet.services import learning as learned
from fleet.services import routing as strategies
from fleet.services.health import sweep
from fleet.services.prefill import probe_again


class Rows:
    """Rows of the fleet; `team_path` leads from a row to its team, so that who leads a team sees the own one only."""

    lookup_value_regex = "[^/]+"
    model: ClassVar[type[Model]]
    team_path: ClassVar[str] = ""

    def get_queryset(self) -> QuerySet[Any]:
        return self.mine(super().get_queryset())  # type: ignore[misc]  # of the view set behind it

    def mine(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        request: Request = self.request  # type: ignore[attr-defined]  # of the view set behind it
        if not self.team_path or isinstance(request.auth, ApiKey):
            return rows
        chosen = access.seen if request.method in SAFE_METHODS else access.changed
        return chosen(request.user, rows, self.team_path)


class NothingHere(APIView):
    """Addresses that nobody has, told as everything else here is."""

    permission = "fleet.view_requestrecord"

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        raise NotFound


class NodeViewSet(Rows, ModelViewSet[Node]):
    """Nodes, and what an operator does with them."""

    model = Node
    queryset = with_counts(Node.objects.order_by("name"))
    serializer_class = serializers.NodeSerializer
    filter_backends = (ColumnFilter,)
    filter_columns: ClassVar[dict[str, str]] = {
        "name": "name__iexact",
        "region": "region",
        "class": "node_class",
        "enabled": "enabled__exact",
        "draining": "draining__exact",
        "reachable": "observation__reachable__exact",
    }

    @action(detail=True, methods=["post"])
    def probe(self, request: Request, pk: str | None = None) -> Response:
        """Look at the node now; the answer carries what it said, in `observed`."""
        sweep([self.get_object()])
        return self.fresh()

    @action(detail=True, methods=["post"])
    def enable(self, request: Request, pk: str | None = None) -> Response:
        nodes.enable([self.get_object()])
        return self.fresh()

    @action(detail=True, methods=["post"])
    def disable(self, request: Request, pk: str | None = None) -> Response:
        nodes.disable([self.get_object()])
        return self.fresh()

    @action(detail=True, methods=["post"])
    def drain(self, request: Request, pk: str | None = None) -> Response:
        nodes.drain([self.get_object()])
        return self.fresh()

    @action(detail=True, methods=["post"])
    def resume(self, request: Request, pk: str | None = None) -> Response:
        nodes.resume([self.get_object()])
        return self.fresh()

    @action(detail=True, methods=["post"])
    def forget(self, request: Request, pk: str | None = None) -> Response:
        """Drop what was learned of the node; gateways do so within a second."""
        learned.forget([self.get_object()])
        return self.fresh()

    @extend_schema(responses={202: serializers.NodeSerializer})
    @action(detail=True, methods=["post"])
    def calibrate(self, request: Request, pk: str | None = None) -> Response:
        """Have the background worker measure the node; the result is an event of kind measured or not_measured."""
        calibration.queue([self.get_object()])
        return self.fresh(status.HTTP_202_ACCEPTED)

    def fresh(self, code: int = status.HTTP_200_OK) -> Response:
        return Response(self.get_serializer(self.get_object()).data, status=code)


class NodeModelViewSet(Rows, ReadOnlyModelViewSet[Any]):
    """Models on nodes."""

    model = NodeModel
    queryset = node_models()
    serializer_class = serializers.NodeModelSerializer
    filter_backends = (ColumnFilter,)
    filter_columns: ClassVar[dict[str, str]] = {
        "node": "node__name__iexact",
        "name": "name__iexact",
        "digest": "digest__startswith",
        "installed": "installed__exact",
        "resident": "resident__exact",
    }


class TeamViewSet(Rows, ModelViewSet[Team]):
    model = Team
    team_path = "pk"
    queryset = Team.objects.prefetch_related("members").order_by("name")
    serializer_class = serializers.TeamSerializer
    filter_backends = (ColumnFilter,)
    filter_columns: ClassVar[dict[str, str]] = {"name": "name__iexact", "member": "members__username"}


class KeyViewSet(
    Rows,
    mixins.CreateModelMixin,
    mixins.ListModelMixin,
    mixins.RetrieveModelMixin,
    mixins.UpdateModelMixin,
    GenericViewSet[ApiKey],
):
    """API keys. They are revoked, not deleted, so that history keeps its meaning."""

    model = ApiKey
    team_path = "team"
    queryset = ApiKey.objects.select_related("team").order_by("-created_at", "-id")
    serializer_class = serializers.KeySerializer
    filter_backends = (ColumnFilter,)
    filter_columns: ClassVar[dict[str, str]] = {"team": "team__name__iexact", "name": "name", "prefix": "prefix"}

    def get_serializer_class(self) -> type[BaseSerializer[ApiKey]]:
        issues = self.action in {"create", "rotate"}
        return serializers.IssuedKeySerializer if issues else serializers.KeySerializer

    def perform_create(self, serializer: BaseSerializer[ApiKey]) -> None:
        person = self.request.user if self.request.user.is_authenticated else None
        key = ApiKey(**serializer.validated_data, created_by=person)
        plain = keys.issue(key)
        serializer.instance = key
        key.key = plain  # type: ignore[attr-defined]  # for this answer alone

    @action(detail=True, methods=["post"])
    def revoke(self, request: Request, pk: str | None = None) -> Response:
        """End the key; gateways refuse it within a second."""
        key = self.get_object()
        keys.revoke(key)
        return Response(self.get_serializer(key).data)

    @extend_schema(responses={201: serializers.IssuedKeySerializer})
    @action(detail=True, methods=["post"])
    def rotate(self, request: Request, pk: str | None = None) -> Response:
        """Revoke the key and issue one like it; the answer is the new key, shown once."""
        person = request.user if request.user.is_authenticated else None
        key = self.get_object()
        if person is not None and not access.grantable(person).issuperset(key.scopes):
            raise PermissionDenied("A key with these scopes is for an operator to rotate.")
        try:
            new = keys.rotate(key, created_by=person)
        except ValueError as error:
            raise ValidationError({"non_field_errors": [str(error)]}) from None
        new.key.key = new.plain  # type: ignore[attr-defined]  # for this answer alone
        return Response(self.get_serializer(new.key).data, status=status.HTTP_201_CREATED)


class PolicyViewSet(Rows, ModelViewSet[PriorityPolicy]):
    """Policies, each with its quotas and what is used of them."""

    model = PriorityPolicy
    team_path = "team"
    serializer_class = serializers.PolicySerializer
    filter_backends = (ColumnFilter,)
    filter_columns: ClassVar[dict[str, str]] = {"team": "team__name__iexact"}

    def get_queryset(self) -> QuerySet[PriorityPolicy]:
        return self.mine(usage.policies(timezone.now().date()))

    def perform_create(self, serializer: BaseSerializer[PriorityPolicy]) -> None:
        serializer.instance = self.get_queryset().get(pk=serializer.save().pk)

    perform_update = perform_create


class InUse(APIException):
    status_code = status.HTTP_409_CONFLICT
    default_code = "in_use"


class StrategyViewSet(Rows, ModelViewSet[RoutingStrategy]):
    """The operator's strategies. The kinds exist under their own names without one."""

    model = RoutingStrategy
    queryset = routing.strategies()
    serializer_class = serializers.StrategySerializer
    filter_backends = (ColumnFilter,)
    filter_columns: ClassVar[dict[str, str]] = {
        "name": "name__iexact",
        "kind": "kind",
        "is_default": "is_default__exact",
    }

    def perform_destroy(self, instance: RoutingStrategy) -> None:
        try:
            instance.delete()
        except ProtectedError as error:
            raise InUse(error.args[0]) from None

    @action(detail=True, methods=["post"])
    def make_default(self, request: Request, pk: str | None = None) -> Response:
        """Let it hold wherever no rule names another; the one that did so before no longer does."""
        strategies.make_default(self.get_object())
        return Response(self.get_serializer(self.get_object()).data)


class RuleViewSet(Rows, ModelViewSet[RoutingRule]):
    """What holds for the requests of a team, for a model, or for both."""

    model = RoutingRule
    team_path = "team"
    queryset = routing.rules()
    serializer_class = serializers.RuleSerializer
    filter_backends = (ColumnFilter,)
    filter_columns: ClassVar[dict[str, str]] = {
        "team": "team__name__iexact",
        "model": "model__icontains",
        "strategy": "strategy",
        "enabled": "enabled__exact",
    }


class SpeedViewSet(Rows, ReadOnlyModelViewSet[Any]):
    """What gateways have learned of nodes' speeds, a minute old at most."""

    model = LearnedSpeed
    queryset = learning.speeds()
    serializer_class = serializers.SpeedSerializer
    filter_backends = (ColumnFilter,)
    filter_columns: ClassVar[dict[str, str]] = {
        "node": "node__name__iexact",
        "model": "model__icontains",
        "weights": "weights__startswith",
    }


class PrefillViewSet(Rows, ReadOnlyModelViewSet[PrefillProbe]):
    """What models do with an unfinished assistant message; streams go on elsewhere only of those that continue."""

    model = PrefillProbe
    queryset = PrefillProbe.objects.order_by("model", "digest")
    serializer_class = serializers.PrefillSerializer
    filter_backends = (ColumnFilter,)
    filter_columns: ClassVar[dict[str, str]] = {
        "model": "model__icontains",
        "digest": "digest__startswith",
        "behaviour": "behaviour",
    }

    @extend_schema(responses={202: serializers.PrefillSerializer})
    @action(detail=True, methods=["post"])
    def probe(self, request: Request, pk: str | None = None) -> Response:
        """Have gateways probe the model anew as soon as it is loaded and a slot is free."""
        probe_again([self.get_object()])
        return Response(self.get_serializer(self.get_object()).data, status=status.HTTP_202_ACCEPTED)


class UsageViewSet(Rows, mixins.ListModelMixin, GenericViewSet[Any]):
    """What teams used by day and priority, the newest day first."""

    model = UsageDay
    team_path = "team"
    queryset = usage.usage()
    serializer_class = serializers.UsageSerializer
    filter_backends = (ColumnFilter,)
    filter_columns: ClassVar[dict[str, str]] = {
        "team": "team__name__iexact",
        "day": "day",
        "since": "day__gte",
        "before": "day__lt",
        "priority": "priority",
    }


class RollupViewSet(Rows, mixins.ListModelMixin, GenericViewSet[Any]):
    """The history added up by hour and day (UTC), newest first: what outlives the requests themselves."""

    model = Rollup
    queryset = history.rollups()
    serializer_class = serializers.RollupSerializer
    pagination_class = NewestRollupsFirst
    filter_backends = (ColumnFilter,)
    filter_columns: ClassVar[dict[str, str]] = {
        "span": "span",
        "team": "team_name__iexact",
        "model": "model",
        "node": "node_name__iexact",
        "task": "task_type",
        "since": "begins__gte",
        "before": "begins__lt",
    }

    def get_queryset(self) -> QuerySet[Any]:
        return own_sums(self.request, super().get_queryset())


def own_sums(request: Request, rows: QuerySet[Any]) -> QuerySet[Any]:
    """Of sums, which hold names alone, those that a caller may see."""
    return rows if isinstance(request.auth, ApiKey) else access.seen_by_name(request.user, rows)


class RequestViewSet(Rows, mixins.ListModelMixin, GenericViewSet[Any]):
    """Ended requests, newest first."""

    model = RequestRecord
    team_path = "team"
    serializer_class = serializers.RequestSerializer
    pagination_class = NewestFirst
    filter_backends = (ColumnFilter,)
    filter_columns: ClassVar[dict[str, str]] = {
        "team": "team__name__iexact",
        "node": "node__name__iexact",
        "model": "model",
        "outcome": "outcome",
        "task": "task_type",
        "since": "started_at__gte",
        "before": "started_at__lt",
    }

    def get_queryset(self) -> QuerySet[Any]:
        return self.mine(history.requests())


class EventViewSet(Rows, mixins.ListModelMixin, GenericViewSet[Any]):
    """Nodes' transitions, newest first."""

    model = NodeEvent
    serializer_class = serializers.EventSerializer
    pagination_class = NewestEventsFirst
    filter_backends = (ColumnFilter,)
    filter_columns: ClassVar[dict[str, str]] = {"node": "node__name__iexact", "kind": "kind"}

    def get_queryset(self) -> QuerySet[Any]:
        return history.events()
