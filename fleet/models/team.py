"""A team: the people and programs that share a policy and a history."""

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower

from fleet.models.revision import Routed


class Team(Routed):
    name = models.CharField(max_length=64)
    description = models.CharField(max_length=300, blank=True)
    members = models.ManyToManyField(settings.AUTH_USER_MODEL, blank=True, related_name="teams")
    created_at = models.DateTimeField(auto_now_add=True)

    unrouted: ClassVar[frozenset[str]] = frozenset({"description", "created_at"})

    class Meta:
        ordering = ("name",)
        constraints = (
            models.UniqueConstraint(
                Lower("name"), name="team_name", violation_error_message="A team with this name exists already."
            ),
            models.CheckConstraint(condition=~Q(name=""), name="team_name_given"),
        )

    def __str__(self) -> str:
        return self.name
