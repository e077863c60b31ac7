// What Django's widgets leave without a name that a screen reader could say.
"use strict";
// After the page's own scripts, some of which wait for `load` themselves.
window.addEventListener("load", () => setTimeout(() => {
  document.querySelectorAll(".help-tooltip[aria-label]").forEach((tip) => tip.setAttribute("role", "img"));
  // An autocompletion hides the select its label is for, and calls itself by its value alone.
  document.querySelectorAll("select.admin-autocomplete[id]").forEach((select) => {
    const [label] = select.labels;
    const value = document.getElementById(`select2-${select.id}-container`);
    if (!label || !value) return;
    label.id ||= `${select.id}_label`;
    value.setAttribute("aria-labelledby", label.id);
    value.closest("[role=combobox]").setAttribute("aria-labelledby", `${label.id} ${value.id}`);
  });
}));
