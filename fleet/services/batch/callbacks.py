"""Tells who wants to know that a job has ended: only at hosts that the operator has allowed."""

from datetime import timedelta
from urllib.parse import urlsplit

import httpx
from django.conf import settings
from django.utils import timezone

from fleet.models import BatchJob

#: How often a callback is tried, and the seconds until the second try, doubled each time up to an hour.
MOST_TRIES, PAUSE_S, LONGEST_S = 10, 60, 3600
TIMEOUT_S = 10.0
#: Seconds for which one try keeps others from the same callback.
HOLD_S = 60


def fault(url: str) -> str:
    """Why a callback to this address is not allowed; empty if it is."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "This is no address."
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "Give an address that begins with http:// or https://."
    if parts.username is not None or parts.password is not None:
        return "An address with a user or password cannot be used."
    host = parts.hostname.lower()
    names = {host} if port is None else {host, f"{host}:{port}"}
    if names.isdisjoint(allowed.lower() for allowed in settings.ENV.sollol_batch_callback_hosts):
        return f"The host {host} is not allowed; an operator may add it to SOLLOL_BATCH_CALLBACK_HOSTS."
    return ""


def notify(job_id: int, transport: httpx.BaseTransport | None = None) -> str:
    """Try a job's callback if it is due; one that fails is due again later. Returns a line that tells."""
    now = timezone.now()
    due = BatchJob.objects.filter(pk=job_id, callback_due_at__lte=now)
    if not due.update(callback_due_at=now + timedelta(seconds=HOLD_S)):
        return "not due"
    job = BatchJob.objects.get(pk=job_id)
    error = fault(job.callback_url) or tell(job, transport)
    tries = job.callback_tries + 1
    pause = min(LONGEST_S, PAUSE_S * 2**job.callback_tries)
    again = error and tries < MOST_TRIES
    BatchJob.objects.filter(pk=job_id).update(
        callback_tries=tries,
        callback_error=error[:500],
        callback_due_at=now + timedelta(seconds=pause) if again else None,
    )
    return error or "told"


def tell(job: BatchJob, transport: httpx.BaseTransport | None) -> str:
    """What went wrong; empty if nothing has."""
    body = {
        "id": job.public_id,
        "state": job.state,
        "reason": job.reason,
        "model": job.model,
        "total": job.total,
        "completed": job.completed,
        "failed": job.failed,
        "metadata": job.metadata,
    }
    try:
        with httpx.Client(transport=transport, trust_env=False, follow_redirects=False, timeout=TIMEOUT_S) as client:
            status = client.post(job.callback_url, json=body).status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"{error or type(error).__name__}"
    return "" if httpx.codes.is_success(status) else f"it answered {status}"
