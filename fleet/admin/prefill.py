"""What models do with an unfinished assistant message, and whether their streams can go on elsewhere."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from fleet.admin.page import ReadOnlyAdmin, ago, column
from fleet.models import PrefillProbe
from fleet.services.prefill import probe_again
from routing.core.resuming import Behaviour


@admin.register(PrefillProbe)
class PrefillProbeAdmin(ReadOnlyAdmin):
    list_display = ("model", "short_digest", "does", "streams", "node_name", "probed", "wanted")
    list_filter = ("behaviour", "again")
    search_fields = ("model", "digest")
    search_help_text = "Model or digest"
    actions = ("probe_again",)

    def has_probe_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("fleet.change_prefillprobe")

    @column("Digest", ordering="digest")
    def short_digest(self, probe: PrefillProbe) -> str:
        return probe.digest[:12]

    @column(
        "With an unfinished message",
        ordering="behaviour",
        **{
            "continues": "success",
            "trims white space": "warning",
            "starts anew": "warning",
            "unclear": "warning",
        },
    )
    def does(self, probe: PrefillProbe) -> str:
        return str(probe.get_behaviour_display())

    @column("A stream that breaks off", ordering="behaviour")
    def streams(self, probe: PrefillProbe) -> str:
        return "goes on at another node" if probe.behaviour == Behaviour.CONTINUE else "ends with an error"

    @column("Probed", ordering="probed_at")
    def probed(self, probe: PrefillProbe) -> str:
        return ago(probe.probed_at)

    @column("Next")
    def wanted(self, probe: PrefillProbe) -> str:
        return "when it is loaded and a slot is free" if probe.again else "-"

    @admin.action(description="Probe again", permissions=("probe",))
    def probe_again(self, request: HttpRequest, probes: QuerySet[PrefillProbe]) -> None:
        chosen = list(probes)
        count = probe_again(chosen)
        for probe in chosen:
            self.log_change(request, probe, "To be probed again.")
        told = "model is" if count == 1 else "models are"
        self.message_user(
            request,
            f"{count} {told} probed again as soon as loaded with a slot free; until then the last result counts.",
            messages.SUCCESS,
        )
