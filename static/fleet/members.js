// The field of a team's members, as those who do not see it need it: its search box gets the field's name. The cross that
// empties all of it at once goes: it stands in a list of members without being one, and each member has a cross already.

const chosen = () => document.querySelectorAll("select.admin-autocomplete[multiple]");

function name() {
  for (const field of chosen()) {
    const label = document.querySelector(`label[for="${field.id}"]`);
    field.parentElement.querySelector(".select2-search__field")?.setAttribute("aria-label", label?.textContent.trim() || field.name);
  }
}

// Before jQuery's own listeners, which make the boxes; what jQuery is asked to do last it does after them.
window.addEventListener("DOMContentLoaded", () => {
  for (const field of chosen()) field.dataset.allowClear = "false";
  window.django?.jQuery?.(name);
}, true);
