// Ends a session over the REST API. The API decides who may; the button only asks.
"use strict";
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-kill]");
  if (!button || !window.confirm("End this session? Its running statement is cancelled.")) return;
  const holder = document.querySelector("[data-kill-url]");
  const token = document.querySelector("[name=csrfmiddlewaretoken]").value;
  button.disabled = true;
  const answer = await fetch(holder.dataset.killUrl.replace("SESSION", button.dataset.kill), {
    method: "POST", headers: { "X-CSRFToken": token }, credentials: "same-origin",
  }).catch(() => null);
  if (answer && answer.ok) { button.textContent = "Ending …"; return; }
  button.disabled = false;
  const problem = document.querySelector("[data-act=problem]");
  problem.hidden = false;
  problem.textContent = `The session could not be ended (${answer ? answer.status : "no answer"}).`;
});
