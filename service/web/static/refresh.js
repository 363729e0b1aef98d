// Keeps the overview up to date: asks for the fragment every few seconds while the page is visible,
// and swaps it in only when it has changed.
"use strict";

const EVERY_MS = 3000;
const region = document.getElementById("overview");
const connection = document.getElementById("connection");
let tag = null;

function say(sentence) {
  if (connection.textContent !== sentence) connection.textContent = sentence;
}

function swap(html) {
  const open = [...region.querySelectorAll("details[open]")].map((element) => element.id);
  const focused = region.contains(document.activeElement) ? document.activeElement.id : "";
  region.innerHTML = html;
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  if (focused && focused !== region.id) document.getElementById(focused)?.focus({ preventScroll: true });
}

async function refresh() {
  const headers = tag ? { "If-None-Match": tag } : {};
  const answer = await fetch(region.dataset.source, { headers, signal: AbortSignal.timeout(10000) });
  if (answer.status === 200) {
    swap(await answer.text());
    tag = answer.headers.get("ETag");
  } else if (answer.status !== 304) {
    throw new Error(`status ${answer.status}`);
  }
}

async function keepFresh() {
  if (!document.hidden) {
    try {
      await refresh();
      say("");
    } catch {
      say("The service does not answer; what you see is old. Trying again.");
    }
  }
  setTimeout(keepFresh, EVERY_MS);
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) refresh().catch(() => {});
});
setTimeout(keepFresh, EVERY_MS);
