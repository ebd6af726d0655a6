"""Probes' results: written by gateways, asked for anew by operators."""

from collections.abc import Iterable
from datetime import UTC, datetime

from django.db import transaction

from fleet.models import PrefillProbe, lock
from fleet.services.probe import clean
from routing.core.resuming import Probed

LONGEST_DIGEST, LONGEST_MODEL, LONGEST_NODE, LONGEST_DETAIL = 128, 600, 64, 2000


def save_prefills(probed: Iterable[Probed]) -> None:
    """Keep each result in place of an older one of the same model; it is no longer to be probed again."""
    with transaction.atomic():
        lock()
        for one in probed:
            at = datetime.fromtimestamp(one.at, UTC)
            values = {
                "model": clean(one.model, LONGEST_MODEL),
                "behaviour": one.behaviour.value,
                "detail": clean(one.detail, LONGEST_DETAIL),
                "node_name": clean(one.node, LONGEST_NODE),
                "probed_at": at,
                "again": False,
            }
            PrefillProbe.objects.update_or_create(digest=clean(one.digest, LONGEST_DIGEST), defaults=values)


def probe_again(probes: Iterable[PrefillProbe]) -> int:
    """Have gateways probe these models as soon as they are loaded and a slot is free. Returns how many there are."""
    return PrefillProbe.objects.filter(pk__in=[probe.pk for probe in probes]).update(again=True)
