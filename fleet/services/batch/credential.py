"""How workers get at the gateway: its address, and the pass that makes a job's calls those of its team."""

import time

from django.conf import settings
from django.utils.crypto import salted_hmac

from fleet.models import BatchJob
from routing.gateway import passes

#: Seconds for which a pass holds: longer than any step.
PASS_S = 3600
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 (what is listened on, not by us)


def secret() -> bytes:
    """What passes are signed with; the same wherever SECRET_KEY is."""
    return salted_hmac("fleet.batch.pass", "", algorithm="sha256").digest()


def headers(job: BatchJob) -> dict[str, str]:
    """What each call of a job carries: team and priority, and that it is to keep out of the way of all others."""
    shown = passes.Pass(job.team_id or 0, job.key_prefix, int(time.time()) + PASS_S)
    return {
        "authorization": f"Bearer {passes.issue(secret(), shown)}",
        "x-sollol-priority": str(job.priority),
        "x-sollol-bulk": "true",
        "content-type": "application/json",
    }


def gateway_url() -> str:
    """The gateway's address as workers see it."""
    env = settings.ENV
    if env.sollol_gateway_url:
        return str(env.sollol_gateway_url).rstrip("/")
    host = WILDCARDS.get(env.sollol_host, env.sollol_host)
    return f"http://[{host}]:{env.sollol_port}" if ":" in host else f"http://{host}:{env.sollol_port}"
