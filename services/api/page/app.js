// Where we are, what the keyboard does, the theme, the token, and the stream that keeps it live.

import { follow, query } from "./api.js";
import { debounce, main, plain } from "./dom.js";
import { fleet } from "./fleet.js";
import { image } from "./image.js";
import { askForToken } from "./problem.js";
import { vendors } from "./vendors.js";
import { vulnerability } from "./vulnerability.js";

const THEMES = ["system", "light", "dark"];
const search = document.getElementById("q");
const live = document.getElementById("live");
let view = { stop() {}, onEvent() {} };

/** The parameters of an address; those that come more than once as a list. */
function parameters(text) {
  const made = {};
  for (const [key, value] of new URLSearchParams(text)) {
    made[key] = key in made ? [made[key], value].flat() : value;
  }
  return made;
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function route() {
  view.stop();
  const [path, words = ""] = location.hash.slice(1).split(/\?(.*)/s);
  const asked = parameters(words);
  const [, kind, name = "", part = ""] = path.split("/");
  document.title = name ? `${plain(decoded(name)).slice(0, 60)} - vexstream` : "vexstream";
  window.scrollTo(0, 0);
  if (kind === "image" && name) view = image(decoded(name).replace(/[^A-Za-z0-9:]/g, ""), part, asked);
  else if (kind === "cve" && name) view = vulnerability(decoded(name), asked);
  else if (kind === "vendors") view = vendors(asked);
  else view = fleet(asked);
  if (document.activeElement !== search) search.value = kind ? "" : asked.q || "";
}

function go() {
  const wanted = search.value.trim();
  if (/^sha256:[0-9a-f]{64}$/.test(wanted)) location.hash = `#/image/${wanted}`;
  else location.hash = wanted ? `#/?${query({ q: wanted })}` : "#/";
}

function theme(next) {
  document.documentElement.dataset.theme = next;
  const button = document.getElementById("theme");
  button.textContent = { system: "Auto", light: "Light", dark: "Dark" }[next];
  button.setAttribute("aria-label", `Theme: ${next}`);
}

const listen = () => follow((kind, data) => view.onEvent(kind, data), (on) => {
  live.textContent = on ? "live" : "not live";
  live.className = on ? "on" : "";
  live.title = on ? "Changes show as they happen" : "The connection is gone; it is made anew every few seconds";
  if (on && document.querySelector(".error.away")) route();
});

document.getElementById("search").addEventListener("submit", (event) => { event.preventDefault(); go(); });
search.addEventListener("input", debounce(() => { if (/^(#\/?(\?|$)|$)/.test(location.hash)) go(); }, 250));
document.getElementById("theme").addEventListener("click", () => {
  const next = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length];
  localStorage.setItem("theme", next);
  theme(next);
});
document.getElementById("token").addEventListener("click", askForToken);
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  event.preventDefault();
  search.focus();
  search.select();
});
window.addEventListener("again", route);
window.addEventListener("token", () => { route(); listen(); });
window.addEventListener("hashchange", () => {
  if (location.hash === "#main") return;
  route();
  if (document.activeElement !== search) main.focus({ preventScroll: true });
});

history.scrollRestoration = "manual"; // the lists do it: list.js
theme(document.documentElement.dataset.theme);
route();
listen();
