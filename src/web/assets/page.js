// Shows times in the visitor's time zone, reloads what is shown, and follows a run.
// Without it the pages lack only the lines of a run while it goes on.
"use strict";

// --- times

const units = [["d", 86400], ["h", 3600], ["min", 60]];

function ago(seconds) {
  for (const [unit, length] of units) {
    if (seconds >= length) return `${Math.floor(seconds / length)} ${unit} ago`;
  }
  return seconds < -60 ? "in the future" : "just now";
}

function ahead(seconds) {
  for (const [unit, length] of units) {
    if (seconds >= length) return `in ${Math.floor(seconds / length)} ${unit}`;
  }
  return seconds > 0 ? "in a moment" : "now";
}

function tellTimes(root) {
  const now = Date.now();
  for (const time of root.querySelectorAll("time")) {
    const then = new Date(time.dateTime);
    const seconds = (now - then) / 1000;
    const clock = then.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    const day = then.toLocaleDateString([], { day: "numeric", month: "short", year: seconds > 2e7 ? "numeric" : undefined });
    if (time.className === "ahead") time.textContent = `${ahead(-seconds)} (${clock})`;
    else if (time.closest(".t")) time.textContent = ago(seconds);
    else time.textContent = seconds < 86400 ? `${ago(seconds)} (${clock})` : `${ago(seconds)} (${day}, ${clock})`;
    time.title = then.toLocaleString([], { dateStyle: "full", timeStyle: "long" });
  }
}

// --- reload what is shown while the page is visible

const main = document.getElementById("main");
const EVERY = 10_000;
let shown = "";
let wait = null;

function isBusy() {
  const focus = document.activeElement;
  const isBegun = [...main.querySelectorAll("input[type=text]")].some((one) => one.value !== one.defaultValue);
  const isOpen = main.querySelector("details[open]") !== null;
  return isBegun || isOpen || (focus && /^(INPUT|TEXTAREA)$/.test(focus.tagName)) || !document.getSelection().isCollapsed;
}

function place(content) {
  const focus = document.activeElement;
  const at = main.contains(focus) ? [...main.querySelectorAll("a, button")].indexOf(focus) : -1;
  const key = at < 0 ? "" : focus.href || focus.form?.action || "";
  main.replaceChildren(...content.childNodes);
  if (at < 0) return;
  const all = [...main.querySelectorAll("a, button")];
  (all.find((one) => (one.href || one.form?.action) === key) || all[at])?.focus({ preventScroll: true });
}

async function renew() {
  clearTimeout(wait);
  if (document.hidden) return;
  const said = document.getElementById("renewed");
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (answer.redirected) return location.reload();
    if (answer.status === 200 || answer.status === 503) {
      const text = await answer.text();
      const page = new DOMParser().parseFromString(text, "text/html");
      const fresh = page.getElementById("main");
      if (fresh && text !== shown && !isBusy()) {
        shown = text;
        document.title = page.title;
        document.querySelector("link[rel=icon]").href = page.querySelector("link[rel=icon]").href;
        place(fresh);
      }
      if (said) said.textContent = "";
    }
  } catch {
    if (said) said.textContent = "This page cannot be reached at the moment, and may show old data. ";
  }
  tellTimes(document);
  wait = setTimeout(renew, EVERY);
}

// --- follow a run

function follow(log) {
  const state = document.getElementById("state");
  const bar = document.getElementById("progress");
  const again = document.getElementById("follow");
  const MOST = 5000;
  let last = "";
  let follows = true;
  let later = [];

  const isAtEnd = () => log.scrollHeight - log.scrollTop - log.clientHeight < 24;
  const toEnd = () => { log.scrollTop = log.scrollHeight; };
  const show = (on) => { follows = on; again.hidden = on; if (on) toEnd(); };
  log.addEventListener("scroll", () => { if (isAtEnd() !== follows) show(isAtEnd()); });
  again.addEventListener("click", () => show(true));

  // Lines that come together are shown together.
  const draw = () => {
    const items = later.map(({ class: kind, text }) => {
      const item = document.createElement("li");
      item.className = kind;
      item.textContent = text;
      return item;
    });
    later = [];
    log.append(...items);
    while (log.childElementCount > MOST) log.firstElementChild.remove();
    if (follows) toEnd();
  };
  const add = (line) => { if (later.push(line) === 1) setTimeout(draw, 50); };

  const open = () => {
    const source = new EventSource(log.dataset.events + (last ? `?after=${encodeURIComponent(last)}` : ""));
    const take = (event) => { last = event.lastEventId || last; };
    source.onopen = () => { if (!state.dataset.step) state.textContent = "Following."; };
    source.onmessage = (event) => {
      take(event);
      const line = JSON.parse(event.data);
      add(line);
      bar.hidden = true;
      if (line.step) { state.textContent = line.text; state.dataset.step = "1"; }
    };
    source.addEventListener("nothing", take);
    source.addEventListener("progress", (event) => {
      take(event);
      const { text, done, total } = JSON.parse(event.data);
      state.textContent = text;
      bar.hidden = false;
      if (total) { bar.max = total; bar.value = done; } else { bar.removeAttribute("value"); }
    });
    source.addEventListener("again", () => { later = []; log.replaceChildren(); });
    // The reloaded page shows how the run ended; the daemon needs a moment to record it.
    source.addEventListener("end", () => { source.close(); draw(); setTimeout(() => location.reload(), 300); });
    source.onerror = () => {
      state.textContent = "The connection is lost. Connecting again.";
      if (source.readyState !== EventSource.CLOSED) return;
      // Refused: there are too many streams, or the session has ended.
      setTimeout(open, 5000);
    };
    addEventListener("pagehide", () => source.close(), { once: true });
  };
  open();
}

// --- begin

tellTimes(document);
document.addEventListener("submit", (event) => {
  const sure = event.submitter?.dataset.sure;
  if (sure && !confirm(sure)) event.preventDefault();
});
if ("renews" in main.dataset) {
  wait = setTimeout(renew, EVERY);
  document.addEventListener("visibilitychange", renew);
} else {
  setInterval(() => { if (!document.hidden) tellTimes(document); }, 30_000);
}
// A click on a link in a mail or a chat comes without the cookie (SameSite), although the visitor has signed in.
const sign = document.querySelector("form.sign");
if (sign && !document.getElementById("wrong")) {
  const to = sign.elements.to.value;
  fetch(to, { method: "HEAD" }).then((answer) => { if (answer.ok && !answer.redirected) location.replace(to); }, () => {});
}
const log = document.getElementById("log");
if (log) follow(log);
