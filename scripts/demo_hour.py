"""An hour of made-up history and two teams for the pictures, in the database of `SOLLOL_DATA_DIR`; tells their keys."""

import json
import math
import os
import random
from datetime import timedelta

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sollol_site.settings")
django.setup()

from django.utils import timezone  # noqa: E402 (Django must be set up first)

from fleet.models import ApiKey, PriorityPolicy, Quota, RequestRecord, Team  # noqa: E402
from fleet.services.keys import issue  # noqa: E402
from routing.core.records import Outcome  # noqa: E402

MINUTES = 60
TASKS = ("chat", "chat", "generation", "summarization", "classification", "extraction", "analysis")
MODELS = (("llama3.2:3b", 90.0), ("llama3.1:8b", 45.0))


def request(number: int, ended_minutes_ago: float, load: float, chance: random.Random) -> RequestRecord:
    """One request of an hour in which the load swings; the busier, the longer the wait."""
    model, speed = chance.choice(MODELS)
    queue = max(0.0, chance.gauss(900 * (load - 0.55), 350))
    first = queue + chance.lognormvariate(5.6, 0.35)
    tokens = int(chance.lognormvariate(4.6, 0.5))
    total = first + 1000 * tokens / speed * chance.uniform(0.8, 1.4)
    failed = chance.random() < 0.004 + 0.03 * (load > 1.3)  # noqa: PLR2004 (the hour's peak)
    return RequestRecord(
        request_id=f"demo-{number:06}",
        started_at=timezone.now() - timedelta(minutes=ended_minutes_ago, milliseconds=total),
        route="/api/chat",
        model=model,
        task_type=chance.choice(TASKS),
        complexity="medium",
        priority=chance.choice((3, 5, 5, 5, 8)),
        stream=True,
        outcome=Outcome.FAILED if failed else Outcome.SERVED,
        status=503 if failed else 200,
        node_name=chance.choice(("ant", "ant", "bee")),
        attempts=1,
        queue_ms=queue,
        first_byte_ms=first,
        total_ms=total,
        prompt_tokens=40,
        output_tokens=tokens,
    )


def past_hour(chance: random.Random) -> list[RequestRecord]:
    rows = []
    for step in range(MINUTES * 4):
        ago = MINUTES - step / 4
        load = 0.9 + 0.45 * math.sin(step / 22) + 0.15 * math.sin(step / 5)
        count = round(100 * load * chance.uniform(0.85, 1.15))
        rows += [request(len(rows) + more, ago, load, chance) for more in range(count)]
    return rows


def team(name: str, amount: float) -> str:
    """A team with a soft quota for a day; the plain text of its key."""
    made = Team.objects.create(name=name)
    policy, _ = PriorityPolicy.objects.get_or_create(team=made)
    Quota.objects.create(policy=policy, measure="requests", window="day", amount=amount, breach="demote")
    return issue(ApiKey(name=name, team=made, scopes=["inference"]))


def main() -> None:
    RequestRecord.objects.bulk_create(past_hour(random.Random(7)), batch_size=500)
    print(json.dumps([team("Bees", 100), team("Cats", 1000)]))


if __name__ == "__main__":
    main()
