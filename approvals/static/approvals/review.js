// Live pages for reviewers. Everything works without this file; it only saves reloads, clicks and waiting.
"use strict";

const PREVIEW_DELAY_MS = 500;
const RECONNECT_MS = 2000;

function listen() {
  const place = document.querySelector("[data-live]");
  if (!place) return;
  const url = new URL(place.dataset.live, location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  const socket = new WebSocket(url);
  socket.onmessage = (event) => show(JSON.parse(event.data), place);
  // 4403: may not read it (any more); asking again would not help.
  socket.onclose = (event) => { if (event.code !== 4403) setTimeout(listen, RECONNECT_MS); };
}

function show(state, place) {
  if (state.type === "inbox") return reloadOrTell();
  const pill = document.querySelector("[data-status]");
  pill.textContent = state.status;
  pill.className = `pill ${state.status}`;
  if (`${state.status}:${state.round}:${state.votes}` !== place.dataset.shown) reloadOrTell();
}

// A page somebody is typing into is never taken away; they are told, and cannot decide on a text that is gone.
// What was just said to them is said again on the renewed page.
function reloadOrTell() {
  const form = document.querySelector("[data-decide]");
  const typed = form && [...form.querySelectorAll("textarea")].some((area) => area.value !== area.defaultValue);
  if (!typed) {
    const said = document.querySelector("main > .banner.success");
    if (said) sessionStorage.setItem("said", said.textContent);
    return location.reload();
  }
  document.querySelector("[data-changed]").hidden = false;
  form.querySelectorAll("button").forEach((button) => { button.disabled = true; });
}

function sayAgain() {
  const said = sessionStorage.getItem("said");
  sessionStorage.removeItem("said");
  if (!said || document.querySelector("main > .banner.success")) return;
  const banner = document.createElement("p");
  banner.className = "banner success";
  banner.setAttribute("role", "status");
  banner.textContent = said;
  document.querySelector("main").prepend(banner);
}

function countDown() {
  const places = [...document.querySelectorAll("[data-remaining]")];
  const from = Date.now();
  const starts = places.map((place) => Number(place.dataset.remaining));
  if (places.length) setInterval(() => places.forEach((place, i) => {
    const left = Math.max(0, starts[i] - Math.floor((Date.now() - from) / 1000));
    place.textContent = span(left);
    place.classList.toggle("urgent", left < 300);
  }), 1000);
}

function span(seconds) {
  const units = [[Math.floor(seconds / 86400), "d"], [Math.floor(seconds / 3600) % 24, "h"],
                 [Math.floor(seconds / 60) % 60, "min"], [seconds % 60, "s"]];
  while (units.length > 1 && units[0][0] === 0) units.shift();
  return units.slice(0, 2).filter(([n]) => n).map(([n, unit]) => `${n} ${unit}`).join(" ") || "0 s";
}

// a: approve, d: deny, e: edit; in the inbox j and k. The first press asks for the reason; nothing is decided without
// one. ?: shows the keys.
function takeKeys() {
  document.addEventListener("keydown", (event) => {
    const typing = /^(TEXTAREA|INPUT|SELECT)$/.test(document.activeElement.tagName);
    if (typing && event.key === "Escape") return document.activeElement.blur();
    if (!typing && (event.key === "j" || event.key === "k")) return move(event.key === "j" ? 1 : -1);
    if (!typing && event.key === "?") return document.querySelectorAll("[data-keys]").forEach((e) => { e.hidden = !e.hidden; });
    const target = document.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
    if (typing || !target || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    if (target.tagName === "SUMMARY") {
      target.parentElement.open = true;
      return target.parentElement.querySelector("textarea").focus();
    }
    const reason = document.getElementById("reason");
    if (reason.value.trim()) target.focus(); else reason.focus();
  });
}

function move(step) {
  const rows = [...document.querySelectorAll("a.row")];
  const at = rows.indexOf(document.activeElement);
  const next = rows[Math.min(rows.length - 1, Math.max(0, at + step))];
  if (next) next.focus();
}

function previewEdits() {
  const area = document.querySelector("[data-edit]");
  if (!area) return;
  const out = document.querySelector("[data-preview]");
  const approve = area.form.querySelector("[data-key=a]");
  let timer = 0;
  let latest = 0;
  area.addEventListener("input", () => {
    clearTimeout(timer);
    out.textContent = "";
    approve.disabled = area.value !== area.defaultValue; // it would approve the text as it was asked
    if (area.value !== area.defaultValue) timer = setTimeout(() => ask(++latest), PREVIEW_DELAY_MS);
  });
  async function ask(number) {
    const body = new FormData(area.form);
    body.set("decision", "preview");
    const address = document.querySelector("[data-analysis]").dataset.analysis;
    const answer = await fetch(address, { method: "POST", body, credentials: "same-origin" });
    // Rendered and escaped by the server; an answer to an older text is dropped.
    if (answer.ok && number === latest) out.innerHTML = await answer.text();
  }
}

function needReason() {
  const form = document.querySelector("[data-decide]");
  if (!form) return;
  form.addEventListener("submit", (event) => {
    const reason = document.getElementById("reason");
    const decides = event.submitter && event.submitter.value !== "preview";
    reason.setCustomValidity("");
    if (decides && !reason.value.trim()) {
      event.preventDefault();
      reason.setCustomValidity("Say why: the requester and the auditors read it.");
      reason.reportValidity();
    }
  });
  document.getElementById("reason").addEventListener("input", (event) => event.target.setCustomValidity(""));
}

sayAgain();
listen();
countDown();
takeKeys();
previewEdits();
needReason();
