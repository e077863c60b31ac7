// Open sessions, kept up to date by ws/v1/events/. The log is the record; this is a window.
"use strict";
(() => {
  const MOST_EVENTS = 200;
  const table = document.getElementById("live");
  const body = table.tBodies[0];
  const events = document.getElementById("live-events");
  const state = document.getElementById("live-state");
  const none = document.getElementById("live-none");
  let delay = 500;

  const cell = (row, text) => { const td = row.insertCell(); td.textContent = text || ""; return td; };
  const clock = (at_us) => new Date(at_us / 1000).toISOString().slice(11, 19);
  const row = (id) => [...body.rows].find((r) => r.dataset.session === id);

  function opened(told) {
    if (row(told.session)) return;
    const added = body.insertRow(0);
    added.dataset.session = told.session;
    const link = document.createElement("a");
    link.href = table.dataset.sessionUrl.replace("SESSION", told.session);
    link.textContent = clock(told.at_us);
    cell(added, "").append(link);
    cell(added, told.subject + (told.actor ? ` through ${told.actor}` : ""));
    cell(added, `${told.connection} (${told.protocol})`);
    cell(added, told.client_address);
    cell(added, "0").dataset.count = "statements";
    cell(added, "0").dataset.count = "rows";
    cell(added, "").dataset.last = "";
    if (!table.dataset.mayKill) return;
    const button = document.createElement("button");
    Object.assign(button, { type: "button", className: "danger", textContent: "End" });
    button.dataset.kill = told.session;
    cell(added, "").append(button);
  }

  function add(shown, name, amount) {
    const td = shown.querySelector(`[data-count=${name}]`);
    td.textContent = String(Number(td.textContent) + amount);
  }

  function take(told) {
    if (told.event === "session.opened") opened(told);
    const shown = told.session && row(told.session);
    if (told.event === "session.closed" && shown) shown.remove();
    else if (shown) {
      if (["statement.authorised", "statement.denied"].includes(told.event)) add(shown, "statements", 1);
      if (told.event === "statement.completed") add(shown, "rows", Number(told.rows || 0));
      shown.querySelector("[data-last]").textContent = words(told);
    }
    none.hidden = body.rows.length > 0;
    const line = events.insertRow(0);
    cell(line, clock(told.at_us));
    cell(line, words(told));
    cell(line, told.subject || told.claimed_subject);
    cell(line, told.connection);
    const last = cell(line, "");
    if (told.session) {
      const link = document.createElement("a");
      link.href = table.dataset.sessionUrl.replace("SESSION", told.session) + (told.statement ? `?statement=${told.statement}#st-${told.statement}` : "");
      link.textContent = "replay";
      last.append(link);
    }
    while (events.rows.length > MOST_EVENTS) events.deleteRow(-1);
  }

  function words(told) {
    const parts = [told.event.replace("statement.", "").replace(".", " "), (told.kind || "").replaceAll("_", " "), told.status, told.code, told.reason];
    if (told.rule) parts.push(`by ${told.rule}`);
    if (told.masked) parts.push(`${told.masked} columns masked`);
    return parts.filter(Boolean).join(" · ");
  }

  function connect() {
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws/v1/events/`);
    socket.onopen = () => { state.textContent = "live"; delay = 500; };
    socket.onmessage = (message) => {
      const event = JSON.parse(message.data);
      if (event.type !== "entries") return;
      event.entries.forEach(take);
      if (event.dropped) state.textContent = `live; ${event.dropped} events were too many to show`;
    };
    socket.onclose = (closed) => {
      if ([4401, 4403].includes(closed.code)) { state.textContent = "you may not watch live events"; return; }
      state.textContent = "connection lost, trying again …";
      window.setTimeout(connect, delay);
      delay = Math.min(delay * 2, 10000);
    };
  }
  connect();
})();
