// The decision record of a request, in a dialog that htmx fills.

import { byId, element } from "./dom.js";

const dialog = byId("record");
const body = byId("record-body");

export function openRecord(id) {
  body.replaceChildren(element("p", { text: "Loading …", className: "soft" }));
  if (!dialog.open) dialog.showModal();
  window.history.replaceState(null, "", `#request=${encodeURIComponent(id)}`);
  window.htmx.ajax("GET", dialog.dataset.record.replace("ID", encodeURIComponent(id)), { target: "#record-body", swap: "innerHTML" });
}

function fault(text) {
  body.replaceChildren(element("p", { text, className: "notice", role: "alert" }));
}

dialog.addEventListener("close", () => {
  body.replaceChildren(); // what refreshes itself stops with it
  window.history.replaceState(null, "", window.location.pathname);
});
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
document.body.addEventListener("htmx:beforeSwap", ({ detail }) => { if (detail.xhr.status === 404) detail.shouldSwap = true; });
document.body.addEventListener("htmx:responseError", ({ detail }) => {
  if (detail.xhr.status === 401) fault("You are not logged in as staff any more. Reload the page to log in.");
  else if (detail.xhr.status !== 404) fault(`The record cannot be shown: HTTP ${detail.xhr.status}.`);
});
document.body.addEventListener("htmx:sendError", () => fault("The gateway does not answer. Close this and try again."));

/** A link to the page may name a request. */
export function openLinked() {
  const id = new URLSearchParams(window.location.hash.slice(1)).get("request");
  if (id) openRecord(id);
}
