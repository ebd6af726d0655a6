"""A policy's quotas as a whole."""

from collections.abc import Sequence

from django.db import transaction

from fleet.models import PriorityPolicy, Quota, bump


def replace(policy: PriorityPolicy, wanted: Sequence[Quota]) -> None:
    """Make these the policy's quotas. One that it has of the same kind is changed: what is taken of it stays."""
    with transaction.atomic():
        bump()
        present = {quota.kind: quota for quota in Quota.objects.filter(policy=policy)}
        for quota in wanted:
            kept = present.pop(quota.kind, None) or Quota(
                policy=policy, measure=quota.measure, window=quota.window, from_priority=quota.from_priority
            )
            kept.amount, kept.breach = quota.amount, quota.breach
            kept.save()
        Quota.objects.filter(pk__in=[quota.pk for quota in present.values()]).delete()
