"""Export and import of a list: a text to take away, a text to bring, and what it will change before it does."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget

from fleet.admin.page import button
from fleet.services.imports import PLANS, carry_out
from fleet.services.texts import FORMATS, LARGEST, Row, read, written

TYPES = {"csv": "text/csv; charset=utf-8", "yaml": "application/yaml; charset=utf-8"}


class ImportForm(forms.Form):
    file = forms.FileField(required=False, label="File", help_text="CSV or YAML, as the export writes it.")
    text = forms.CharField(
        required=False,
        strip=False,
        label="or its text",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 10, "spellcheck": "false"}),
    )
    form = forms.ChoiceField(
        choices=[(name, name.upper()) for name in FORMATS], label="Format", widget=UnfoldAdminSelectWidget
    )

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        file = data.get("file")
        if file is not None:
            if file.size > LARGEST:
                raise forms.ValidationError(f"The file is larger than {LARGEST // 2**20} MiB.")
            try:
                data["text"] = file.read().decode("utf-8-sig")
            except UnicodeDecodeError:
                raise forms.ValidationError("The file is no text in UTF-8.") from None
            suffix = file.name.rpartition(".")[2].lower()
            data["form"] = "yaml" if suffix in ("yaml", "yml") else "csv" if suffix == "csv" else data.get("form")
        if not data.get("text", "").strip():
            raise forms.ValidationError("Choose a file, or paste its text.")
        return data


class Transfers:
    """The buttons above a list; a page says what its rows are called and how they are written."""

    #: What services.imports calls these rows.
    transferred = ""
    actions_list = ("export_csv", "export_yaml", "import_rows")

    #: The rows that the person may take away.
    rows: Callable[[HttpRequest], list[Row]]

    admin_site: Any
    opts: Any
    log_addition: Any
    log_change: Any
    message_user: Any
    has_view_permission: Any
    has_add_permission: Any
    has_change_permission: Any

    @button("Export CSV", ("view",), url_path="export-csv")
    def export_csv(self, request: HttpRequest) -> HttpResponse:
        return self.exported(request, "csv")

    @button("Export YAML", ("view",), url_path="export-yaml")
    def export_yaml(self, request: HttpRequest) -> HttpResponse:
        return self.exported(request, "yaml")

    def exported(self, request: HttpRequest, form: str) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        answer = HttpResponse(written(self.rows(request), form), content_type=TYPES[form])
        answer["Content-Disposition"] = f'attachment; filename="{self.transferred}.{form}"'
        return answer

    @button("Import …", ("add", "change"), url_path="import")
    def import_rows(self, request: HttpRequest) -> HttpResponse:
        """The form; then what would change; then, if that is still so, the change."""
        if not (self.has_add_permission(request) and self.has_change_permission(request)):
            raise PermissionDenied
        form = ImportForm(request.POST or None, request.FILES or None)
        plan = None
        if request.method == "POST" and form.is_valid():
            try:
                plan = PLANS[self.transferred](read(form.cleaned_data["text"], form.cleaned_data["form"]))
            except ValueError as error:
                form.add_error(None, f"Nothing was imported: {error}.")
        if plan is not None and request.POST.get("mark") == plan.mark and not plan.faults:
            return self.imported(request, plan)
        if plan is not None and "mark" in request.POST:
            self.message_user(request, "Something has changed meanwhile: please look once more.", messages.WARNING)
        context = {
            **self.admin_site.each_context(request),
            "title": f"Import {self.transferred}",
            "opts": self.opts,
            "form": form,
            "plan": plan,
            "told": [] if plan is None else [(c.name, c.kind, c.lines()) for c in plan.changes if c.kind != "same"],
            "counts": None if plan is None else {kind: plan.count(kind) for kind in ("new", "changed", "same")},
            "list": self.list_address(),
        }
        return TemplateResponse(request, "admin/fleet/import.html", context)

    def imported(self, request: HttpRequest, plan: Any) -> HttpResponse:
        try:
            done = carry_out(plan)
        except ValueError as error:
            self.message_user(request, f"Nothing was imported: {error}.", messages.ERROR)
            return HttpResponseRedirect(self.list_address())
        for change in done:
            note = self.log_addition if change.new else self.log_change
            note(request, change.row, f"Imported: {'; '.join(change.lines())}"[:2000])
        told = f"Imported: {plan.count('new')} new, {plan.count('changed')} changed, {plan.count('same')} as they were."
        self.message_user(request, told, messages.SUCCESS)
        return HttpResponseRedirect(self.list_address())

    def list_address(self) -> str:
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")
