"""The Django app of the control plane."""

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class FleetConfig(AppConfig):
    name = "fleet"
    verbose_name = "Fleet"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from fleet import checks  # noqa: F401, PLC0415 (registers the checks)
        from fleet.services.groups import ensure_groups  # noqa: PLC0415 (as below)
        from fleet.services.schedules import ensure_schedules  # noqa: PLC0415 (models must be loaded first)

        post_migrate.connect(ensure_schedules, sender=self, dispatch_uid="fleet.schedules")
        post_migrate.connect(ensure_groups, sender=self, dispatch_uid="fleet.groups")
