"""System checks: configuration that would only fail later, at work."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004 (Django's own name)


@register()
def check_task_times(app_configs: Any, **options: Any) -> list[CheckMessage]:
    """A task that is handed out again while it still runs would run twice."""
    cluster: dict[str, Any] = settings.Q_CLUSTER
    retry, timeout = cluster.get("retry", 60), cluster.get("timeout")
    if timeout is None:
        return [Error("Q_CLUSTER has no timeout: a hung task would hold its worker forever.", id="fleet.E001")]
    if retry <= timeout:
        hint = f"Set retry above {timeout}."
        return [
            Error(
                f"Q_CLUSTER['retry'] ({retry} s) must be longer than timeout ({timeout} s).", hint=hint, id="fleet.E002"
            )
        ]
    return []


@register()
def check_sweep_fits(app_configs: Any, **options: Any) -> list[CheckMessage]:
    """The health sweep may take as long as its deadline; the worker must not end it before."""
    from fleet.services.health import SWEEP_S  # noqa: PLC0415 (checks load before the models)

    cluster: dict[str, Any] = settings.Q_CLUSTER
    timeout = cluster.get("timeout") or SWEEP_S + 1
    if timeout <= SWEEP_S:
        text = f"Q_CLUSTER['timeout'] ({timeout} s) ends health sweeps, which may take {SWEEP_S:.0f} s."
        return [Warning(text, hint=f"Set it above {SWEEP_S:.0f}.", id="fleet.W001")]
    return []
