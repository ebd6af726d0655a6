"""What batch jobs look like as JSON, and the forms in which they come in."""

from typing import Any, ClassVar

from django.utils import timezone
from rest_framework import serializers
from rest_framework.exceptions import APIException
from rest_framework.parsers import BaseParser, JSONParser, MultiPartParser

from fleet.api.filters import NewestFirst
from fleet.models import BatchJob, Team
from fleet.models.policy import HIGHEST, LOWEST
from fleet.selectors import batch
from fleet.services.batch import callbacks
from fleet.services.batch.intake import text_fault

#: Bytes of a body with texts in it, which is held in memory; more wants to be a file.
INLINE = 32 << 20


class TooLarge(APIException):
    status_code = 413
    default_code = "too_large"


class OrderParser(JSONParser):
    """JSON with the texts in it, of a bounded size."""

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        length = stream.META.get("CONTENT_LENGTH", "") if hasattr(stream, "META") else ""
        if str(length).isdigit() and int(length) > INLINE:
            raise TooLarge(f"Texts in the body may take {INLINE >> 20} MiB; send more as a file of JSON lines.")
        return super().parse(stream, media_type, parser_context)


class OrderForm(MultiPartParser):
    """A form with the JSON lines in the file `file`."""


class LineParser(BaseParser):
    """JSON lines as they are: the view reads them one by one."""

    media_type = "application/x-ndjson"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        return stream


class Order(serializers.Serializer[Any]):
    """An embedding job to be made; members beside these are those of `/api/embed`."""

    model = serializers.CharField(max_length=255)
    texts = serializers.ListField(child=serializers.CharField(trim_whitespace=False), required=False, min_length=1)
    options = serializers.JSONField(required=False)
    dimensions = serializers.IntegerField(required=False, min_value=1, max_value=1_000_000)
    truncate = serializers.BooleanField(required=False)
    keep_alive = serializers.CharField(required=False, max_length=32)
    priority = serializers.IntegerField(required=False, min_value=LOWEST, max_value=HIGHEST)
    callback_url = serializers.CharField(required=False, max_length=1000)
    metadata = serializers.JSONField(required=False)
    team: Any = serializers.SlugRelatedField(slug_field="name", queryset=Team.objects.all(), required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """What nobody knows is refused: a misspelt member would be left out without a word."""
        unknown, known = set(self.initial_data) - set(self.fields), ", ".join(self.fields)
        if unknown:
            raise serializers.ValidationError({name: [f"There are: {known}."] for name in sorted(unknown)})
        return attrs

    def validate_model(self, value: str) -> str:
        if fault := text_fault(value):
            raise serializers.ValidationError(fault)
        return value

    def validate_options(self, value: Any) -> Any:
        return self.plain(value)

    def validate_metadata(self, value: Any) -> Any:
        return self.plain(value)

    def plain(self, value: Any) -> Any:
        """An object that any database takes."""
        if not isinstance(value, dict):
            raise serializers.ValidationError("This is an object.")
        if any(text_fault(text) not in ("", "this text is empty.") for text in texts_in(value)):
            raise serializers.ValidationError("A text in it has null characters or half a surrogate pair.")
        return value

    def validate_callback_url(self, value: str) -> str:
        if fault := callbacks.fault(value):
            raise serializers.ValidationError(fault)
        return value


def texts_in(value: Any) -> Any:
    """All texts of a JSON value, names of members among them."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, list):
            waiting += one


class Failure(serializers.Serializer[Any]):
    reason = serializers.CharField()
    items = serializers.IntegerField()


class JobSerializer(serializers.ModelSerializer[BatchJob]):
    """A job: `rate` in items per second, `eta_s` in seconds; both null where they are not known."""

    id = serializers.CharField(source="public_id", read_only=True)
    team: Any = serializers.SlugRelatedField(slug_field="name", read_only=True)
    callback_url = serializers.CharField(read_only=True, allow_blank=True)
    progress = serializers.SerializerMethodField()
    rate = serializers.SerializerMethodField()
    eta_s = serializers.SerializerMethodField()
    failures = serializers.SerializerMethodField()

    class Meta:
        model = BatchJob
        fields: ClassVar[Any] = (
            "id", "state", "reason", "team", "key_prefix", "endpoint", "model", "parameters", "metadata", "priority",
            "total", "completed", "failed", "progress", "rate", "eta_s", "tokens", "failures", "created_at",
            "started_at", "ended_at", "expires_at", "callback_url", "callback_error",
        )  # fmt: skip
        read_only_fields = fields

    def get_progress(self, job: BatchJob) -> float:
        return round(batch.progress(job, timezone.now()).part, 4)

    def get_rate(self, job: BatchJob) -> float | None:
        rate = batch.progress(job, timezone.now()).rate
        return None if rate is None else round(rate, 2)

    def get_eta_s(self, job: BatchJob) -> float | None:
        left = batch.progress(job, timezone.now()).left_s
        return None if left is None else round(left, 1)

    def get_failures(self, job: BatchJob) -> list[dict[str, Any]]:
        """Why items have failed, the most frequent reason first; told of one job, not in lists."""
        if not self.context.get("details") or not job.failed:
            return []
        return [{"reason": reason, "items": count} for reason, count in batch.failures(job)]


class JobsFirst(NewestFirst):
    ordering = ("-created_at", "-id")
