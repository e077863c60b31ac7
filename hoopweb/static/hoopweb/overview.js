// Keeps the overview up to date: asks for the page again when something happened, and puts its new content in place.
"use strict";
(() => {
  const SETTLE_MS = 1000; // many events in a moment are one look
  const LOOK_MS = 15000; // for who may not listen to events, and where nothing tells of time passing
  let due = 0;
  let delay = 500;

  async function look() {
    due = 0;
    const here = document.getElementById("overview");
    // What somebody reads or is about to follow stays where it is.
    if (document.hidden || here.contains(document.activeElement) || String(getSelection())) { soon(LOOK_MS); return; }
    const answer = await fetch(location.href, { redirect: "error", headers: { "X-Refreshed-By-Page": "1" } }).catch(() => null);
    if (!answer || !answer.ok) { soon(LOOK_MS); return; }
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById("overview");
    if (fresh && fresh.innerHTML !== here.innerHTML) here.replaceWith(fresh);
    soon(LOOK_MS);
  }

  function soon(within_ms) {
    const at = Date.now() + within_ms;
    if (due && due.at <= at) return;
    if (due) window.clearTimeout(due.timer);
    due = { at, timer: window.setTimeout(look, within_ms) };
  }

  function listen() {
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws/v1/events/`);
    socket.onopen = () => { delay = 500; };
    socket.onmessage = (message) => { if (JSON.parse(message.data).type === "entries") soon(SETTLE_MS); };
    socket.onclose = (closed) => {
      if ([4401, 4403].includes(closed.code)) return;
      window.setTimeout(listen, delay);
      delay = Math.min(delay * 2, 10000);
    };
  }

  if (document.getElementById("overview").dataset.live === "yes") listen();
  soon(LOOK_MS);
})();
