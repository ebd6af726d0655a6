"""An API key: who calls, and what they may do."""

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.db.models.functions import Length
from django.utils import timezone

from fleet.models.revision import Routed
from fleet.models.team import Team

models.CharField.register_lookup(Length)

PREFIX_LENGTH = 8
DIGEST_LENGTH = 64
NAME_TAKEN = "This team has a key of this name; choose another name or revoke that one."


class Scope(models.TextChoices):
    INFERENCE = "inference", "inference: use models"
    MODELS = "models", "models: pull, create, delete"
    MANAGE = "manage", "manage: the control plane"


def default_scopes() -> list[str]:
    return [Scope.INFERENCE.value]


def check_scopes(scopes: object) -> None:
    if (
        not isinstance(scopes, list)
        or not scopes
        or not set(scopes) <= set(Scope.values)
        or len(set(scopes)) < len(scopes)
    ):
        raise ValidationError(f"Scopes are a list of one or more of: {', '.join(Scope.values)}.")


class ApiKey(Routed):
    """A key of a team. The key itself is not kept: `digest` is its hex SHA-256, `prefix` shows which one it is."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="keys")
    name = models.CharField(max_length=64, help_text="What uses it, for example chat-ui.")
    prefix = models.CharField(max_length=PREFIX_LENGTH, unique=True, editable=False)
    digest = models.CharField(max_length=DIGEST_LENGTH, unique=True, editable=False)
    scopes = models.JSONField(
        default=default_scopes,
        validators=[check_scopes],
        error_messages={"blank": f"Give one or more of: {', '.join(Scope.values)}."},
    )
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Empty: never.")
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, editable=False, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-created_at",)
        verbose_name = "API key"
        constraints = (
            models.UniqueConstraint(
                fields=("team", "name"),
                condition=Q(revoked_at=None),
                name="apikey_name",
                violation_error_message=NAME_TAKEN,
            ),
            models.CheckConstraint(condition=~Q(name=""), name="apikey_name_given"),
            models.CheckConstraint(condition=Q(prefix__length=PREFIX_LENGTH), name="apikey_prefix"),
            models.CheckConstraint(condition=Q(digest__length=DIGEST_LENGTH), name="apikey_digest"),
        )

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    def clean(self) -> None:
        """Names the field; forms skip the constraint, because its condition is on a column that they do not show."""
        same = ApiKey.objects.filter(team=self.team_id, name=self.name, revoked_at=None).exclude(pk=self.pk)
        if self.revoked_at is None and same.exists():
            raise ValidationError({"name": NAME_TAKEN})

    @property
    def state(self) -> str:
        """`revoked`, `expired` or `active`, at this moment."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= timezone.now() else "active"
