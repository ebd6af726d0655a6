"""The form of a node; one that is added is looked at before it is saved."""

from typing import Any

import httpx
from django.forms import ModelForm
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminTextareaWidget

from fleet import live
from fleet.models import Node
from fleet.services.probe import Sighting, look
from routing.upstream.client import MARK

#: The button that saves a node which does not answer.
SAVE_DISABLED = "_save_disabled"
#: What to do about an address that does not answer, after what is wrong with it.
THEN = "Correct the address, or save the node disabled and enable it when it answers."


class NodeForm(ModelForm):  # type: ignore[type-arg]  # not generic at run time
    """Credentials are never sent back to the browser; an empty field keeps them.

    `sighting` is what the look at a node that is added has found; None where nobody looked.
    """

    sighting: Sighting | None = None

    class Meta:
        model = Node
        fields = ()  # the page names them
        widgets = {  # noqa: RUF012 (Django's own form)
            "header_value": UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
            "labels": UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        }

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self.instance.header_value and "header_value" in self.fields:
            self.fields["header_value"].help_text = "Kept. Type to replace it; clear the header's name to remove it."

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if not data.get("header_name"):
            data["header_value"] = ""
        elif not data.get("header_value"):
            data["header_value"] = self.instance.header_value
        if SAVE_DISABLED in self.data:
            data["enabled"] = False
        return data

    def _post_clean(self) -> None:
        """Looks at a new node once everything else is right; only then its address is in its normal form."""
        super()._post_clean()  # type: ignore[misc]  # Django's own hook
        if self.errors or self.instance.pk is not None or not self.instance.enabled:
            return
        with httpx.Client(headers=own_mark(), trust_env=False, follow_redirects=False) as client:
            self.sighting = look(self.instance, client, describing=False)
        if not self.sighting.reachable:
            self.add_error("url", f"{self.instance.url}: {self.sighting.error}. {THEN}")


def own_mark() -> dict[str, str]:
    """The header by which the gateway of this process refuses to be its own node."""
    gateway = live.gateway()
    return {} if gateway is None else {MARK: gateway.mark.decode()}
