"""Quotas on the pages of policies and teams, each with what is taken of it."""

from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest
from django.utils import timezone
from unfold.admin import TabularInline
from unfold.forms import PaginationInlineFormSet

from fleet.admin.bars import bar
from fleet.admin.page import column
from fleet.models import Quota
from fleet.models.policy import TAKEN
from fleet.selectors.usage import taken, with_used
from routing.core.snapshot import Measure, Window

#: So that the widest choice can be read.
WIDTHS = {"measure": "9.5rem", "window": "7rem", "breach": "9.5rem"}
NOTES = {Window.MINUTE.value: "now", Window.DAY.value: "today", Window.MONTH.value: "this month"}


class QuotaForm(ModelForm):  # type: ignore[type-arg]  # not generic at run time
    """Shows whole amounts as whole numbers, and every choice in full."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        amount = self.initial.get("amount")
        if isinstance(amount, float) and amount.is_integer():
            self.initial["amount"] = int(amount)
        for name, width in WIDTHS.items():
            if name in self.fields:  # whoever may only look gets no fields
                self.fields[name].widget.attrs["style"] = f"min-width: {width}"


class QuotaFormSet(PaginationInlineFormSet):  # type: ignore[misc]  # unfold is untyped
    """Refuses two quotas of one kind in one form: the database would, but in no words."""

    def clean(self) -> None:
        super().clean()
        seen = set()
        for form in self.forms:
            if form in self.deleted_forms or not getattr(form, "cleaned_data", None):
                continue
            if form.instance.kind in seen:
                form.add_error(None, ValidationError(TAKEN))
            seen.add(form.instance.kind)


class QuotaInline(TabularInline):  # type: ignore[misc]  # unfold is untyped
    model = Quota
    form = QuotaForm
    formset = QuotaFormSet
    fields = ("amount", "measure", "window", "breach", "from_priority", "so_far")
    readonly_fields = ("so_far",)
    extra = 0
    hide_title = True
    verbose_name_plural = "Quotas"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Quota]:
        return with_used(super().get_queryset(request), timezone.now().date())

    @column("Used")
    def so_far(self, quota: Quota) -> str:
        return "-" if quota.pk is None else used_bar(quota)


def used_bar(quota: Quota) -> str:
    """What is taken of a quota that `with_used` has found, as a bar with numbers."""
    used = taken(quota, timezone.now())
    most = number(quota.amount) + (" s" if quota.measure == Measure.GPU_SECONDS else "")
    return bar(used, quota.amount, f"{number(used)} of {most}", NOTES[quota.window], watched=True)


def number(value: float) -> str:
    """With separators, and decimals only where they tell something."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:,.1f}"  # noqa: PLR2004 (three digits do)
