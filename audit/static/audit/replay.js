// Plays a session as it happened: statements appear at their moment. Texts and results come over audited POSTs.
"use strict";
(() => {
  const SILENCE_MS = 3000; // longer pauses are cut to this while playing
  const LONG_CHARS = 60; // such a value is broken into lines
  const moments = JSON.parse(document.getElementById("moments").textContent);
  const replay = document.getElementById("replay");
  const act = (name) => document.querySelector(`[data-act=${name}]`);
  const item = (id) => document.getElementById(`st-${id}`);
  const token = () => document.querySelector("[name=csrfmiddlewaretoken]").value;
  const [play, seek, clock, speed, search, count] = ["play", "seek", "clock", "speed", "search", "count"].map(act);
  let now = Number(seek.max), playing = false, last = 0, current = -1;

  async function post(url, fields) {
    const answer = await fetch(url, {
      method: "POST", credentials: "same-origin", body: new URLSearchParams(fields), headers: { "X-CSRFToken": token() },
    });
    const content = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(content.problem || `the server answered ${answer.status}`);
    return content;
  }

  function complain(error) {
    const problem = act("problem");
    problem.hidden = false;
    problem.textContent = error.message;
  }

  function element(name, text, properties) {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    return Object.assign(made, properties || {});
  }

  function show(ms, follow) {
    now = Math.max(0, Math.min(ms, Number(seek.max)));
    seek.value = String(now);
    clock.textContent = `${Math.floor(now / 60000)}:${String(((now % 60000) / 1000).toFixed(1)).padStart(4, "0")}`;
    let at = -1;
    moments.forEach((moment, index) => {
      const past = moment.at <= now;
      item(moment.id).classList.toggle("future", !past);
      if (past) at = index;
    });
    if (at === current) return;
    current = at;
    moments.forEach((moment, index) => item(moment.id).classList.toggle("now", index === at));
    if (at < 0 || !follow) return;
    item(moments[at].id).scrollIntoView({ block: "center", behavior: "smooth" });
    if (act("results") && act("results").checked && moments[at].recorded) open(moments[at].id, 0);
  }

  function frame(time) {
    if (!playing) return;
    const next = moments.find((moment) => moment.at > now);
    if (next && next.at - now > SILENCE_MS * Number(speed.value)) show(next.at - SILENCE_MS, true);
    else show(now + (time - last) * Number(speed.value), true);
    last = time;
    if (now >= Number(seek.max) || !next) { if (!next) show(Number(seek.max), false); stop(); return; }
    window.requestAnimationFrame(frame);
  }

  function stop() { playing = false; play.textContent = "Play"; play.setAttribute("aria-pressed", "false"); }

  play.addEventListener("click", () => {
    if (playing) { stop(); return; }
    if (now >= Number(seek.max)) { current = -2; show(0, false); }
    playing = true;
    play.textContent = "Pause";
    play.setAttribute("aria-pressed", "true");
    last = performance.now();
    window.requestAnimationFrame(frame);
  });
  seek.addEventListener("input", () => show(Number(seek.value), true));
  act("next").addEventListener("click", () => jump(current + 1));
  act("previous").addEventListener("click", () => jump(current - 1));
  function jump(index) { if (moments[index]) { stop(); show(moments[index].at, true); } }

  search.addEventListener("input", () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const shown = moments.filter((moment) => {
      const li = item(moment.id);
      const text = li.textContent.toLowerCase();
      li.hidden = !words.every((word) => text.includes(word));
      return !li.hidden;
    });
    count.textContent = words.length ? `${shown.length} of ${moments.length}` : "";
  });

  if (act("texts")) act("texts").addEventListener("click", async (event) => {
    event.target.disabled = true;
    try {
      const texts = await post(replay.dataset.textsUrl, {});
      moments.forEach((moment) => {
        const holder = item(moment.id).querySelector("[data-texts]");
        holder.replaceChildren(...(texts[moment.id] || []).flatMap(written));
      });
      event.target.remove();
    } catch (error) { event.target.disabled = false; complain(error); }
  });

  // An entry with nothing sealed beside it, such as an end that went well, has nothing to show here.
  function written(text) {
    if (!text.statement && !text.justification && !text.parameters.length) return [];
    const parts = [element("p", `${text.kind}, log entry ${text.entry}`, { className: "quiet" })];
    if (text.statement) parts.push(element("pre", text.statement));
    if (text.justification) parts.push(element("p", `“${text.justification}”`));
    text.parameters.forEach((value, index) => parts.push(element("p", `$${index + 1} = ${value === null ? "NULL" : value}`)));
    return parts;
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-open]");
    if (button) open(button.dataset.open, Number(button.dataset.offset || 0));
  });

  async function open(id, offset) {
    const holder = item(id).querySelector("[data-result]");
    if (!holder) return;
    try {
      holder.replaceChildren(...result(id, await post(replay.dataset.rowsUrl.replace("STATEMENT", id), { offset: String(offset) })));
    } catch (error) { complain(error); }
  }

  function result(id, page) {
    const masked = page.columns.filter((column) => column.mask);
    const parts = [element("p", masked.length
      ? `Marked columns were masked: ${masked.map((column) => `${column.name}: ${column.mask.why}`).join("; ")}.`
      : "Nothing in this result was masked.", { className: "quiet" })];
    const scroll = element("div", undefined, { className: "scroll", tabIndex: 0, role: "region", ariaLabel: "Result" });
    const table = element("table");
    const head = table.createTHead().insertRow();
    page.columns.forEach((column) => {
      const th = element("th", column.name + (column.mask ? ` (${column.mask.technique})` : ""));
      if (column.mask) Object.assign(th, { className: "masked", title: column.mask.why });
      head.append(th);
    });
    const body = table.createTBody();
    page.rows.forEach((values) => {
      const row = body.insertRow();
      values.forEach((value, index) => {
        const td = row.insertCell();
        td.textContent = value === null ? "NULL" : value;
        const mask = page.columns[index] && page.columns[index].mask;
        td.className = [mask && "masked", value === null && "null", String(value).length > LONG_CHARS && "long"].filter(Boolean).join(" ");
        if (mask) td.title = mask.why;
      });
    });
    scroll.append(table);
    const pager = element("div", undefined, { className: "pager" });
    pager.append(element("span", `Rows ${page.rows.length ? page.offset + 1 : 0} to ${page.offset + page.rows.length}`, { className: "quiet" }));
    if (page.offset) pager.append(opener(id, Math.max(0, page.offset - page.page), "Earlier rows"));
    if (page.more) pager.append(opener(id, page.offset + page.page, "Later rows"));
    return [...parts, scroll, pager];
  }

  function opener(id, offset, text) {
    const button = element("button", text, { type: "button" });
    Object.assign(button.dataset, { open: id, offset: String(offset) });
    return button;
  }

  const wanted = decodeURIComponent(location.hash).replace("#st-", "");
  const found = moments.findIndex((moment) => moment.id === wanted);
  if (found >= 0) show(moments[found].at, true);
  else show(Number(seek.max), false);
})();
