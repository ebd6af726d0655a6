"""The revision: one number that every change of what routing reads moves on, in the change's own transaction."""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

from django.db import models, router, transaction
from django.db.models import F, Q
from django.db.models.signals import pre_save
from django.dispatch import receiver

M = TypeVar("M", bound=models.Model)


class Revision(models.Model):
    """The single row that gateways poll; a larger number means that their snapshot is old."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    number = models.PositiveBigIntegerField(default=0, editable=False)

    class Meta:
        constraints = (models.CheckConstraint(condition=Q(id=1), name="revision_single_row"),)

    def __str__(self) -> str:
        return str(self.number)


def bump(using: str | None = None) -> None:
    """Move the revision on; call it inside the transaction of the change, before the change.

    Writers therefore take the revision's row first and wait for each other there: in one order, without deadlock.
    """
    rows = Revision.objects.using(using or router.db_for_write(Revision))
    if not rows.filter(pk=1).update(number=F("number") + 1):
        rows.get_or_create(pk=1)
        rows.filter(pk=1).update(number=F("number") + 1)


def lock(using: str | None = None) -> None:
    """Wait for the other writers without moving the revision; call it inside a transaction."""
    rows = Revision.objects.using(using or router.db_for_write(Revision))
    rows.get_or_create(pk=1)
    rows.select_for_update().get(pk=1)


@contextmanager
def change(using: str) -> Iterator[None]:
    with transaction.atomic(using=using):
        bump(using)
        yield


class RoutedQuerySet(models.QuerySet[M]):
    """A queryset whose bulk writes bump the revision as single saves do (`bulk_update` goes through `update`)."""

    @property
    def written_to(self) -> str:
        chosen: str | None = getattr(self, "_db", None)
        return chosen or router.db_for_write(self.model)

    def update(self, **columns: Any) -> int:
        if is_unrouted(self.model, columns):
            return super().update(**columns)
        with change(self.written_to):
            return super().update(**columns)

    def delete(self) -> tuple[int, dict[str, int]]:
        with change(self.written_to):
            return super().delete()

    def bulk_create(self, objs: Iterable[M], *args: Any, **options: Any) -> list[M]:
        rows = list(objs)
        if not rows:
            return rows
        with change(self.written_to):
            return super().bulk_create(rows, *args, **options)

    # Django marks these so that a related manager does not offer what would ignore its filter.
    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]
    update.alters_data = True  # type: ignore[attr-defined]


def is_unrouted(model: type[models.Model], columns: Collection[str] | None) -> bool:
    """Whether a write touches only columns that routing does not read."""
    unrouted: frozenset[str] = getattr(model, "unrouted", frozenset())
    return bool(columns) and unrouted.issuperset(columns or ())


class Routed(models.Model):
    """A row that routing reads: every way of writing it bumps the revision, save for columns named in `unrouted`."""

    #: Columns that the gateway's snapshot leaves out; writing only these does not bump.
    unrouted: ClassVar[frozenset[str]] = frozenset()

    objects = RoutedQuerySet.as_manager()

    class Meta:
        abstract = True

    def save(self, *args: Any, **options: Any) -> None:
        if is_unrouted(type(self), options.get("update_fields")):
            super().save(*args, **options)
            return
        with change(options.get("using") or router.db_for_write(type(self), instance=self)):
            super().save(*args, **options)

    def delete(self, *args: Any, **options: Any) -> tuple[int, dict[str, int]]:
        with change(options.get("using") or router.db_for_write(type(self), instance=self)):
            return super().delete(*args, **options)


@receiver(pre_save)
def bump_for_fixtures(sender: type[models.Model], raw: bool, using: str, **signal: Any) -> None:
    """Fixtures (`loaddata`) skip `save()`; Django tells of them by this signal alone."""
    if raw and issubclass(sender, Routed):
        bump(using)
