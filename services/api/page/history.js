// The versions of an image's document, and what changed between two of them.

import { get, getOrNull, here } from "./api.js";
import { statusBar } from "./charts.js";
import { h, link, section, table } from "./dom.js";
import { cveLink, number, packageName, plural, status, time } from "./format.js";
import { problem } from "./problem.js";

const SHOWN = 200;

export function historyPart(place, about) {
  const digest = about.config_digest;
  const changes = h("div", { class: "diff", role: "region", "aria-label": "Differences", "aria-live": "polite" });
  let stopped = false;
  let shown = 0;

  async function compare(from, to) {
    changes.replaceChildren(h("p", { class: "dim" }, "Loading."));
    const found = await get(`vex/${digest}/diff?from=${from}&to=${to}`);
    if (!stopped) changes.replaceChildren(...difference(found));
  }

  const attempt = (work) => work.catch((error) => { if (!stopped) changes.replaceChildren(problem(error)); });

  async function load() {
    const page = await getOrNull(`vex/${digest}/versions?limit=100`);
    if (stopped) return;
    if (!page?.items.length) {
      place.replaceChildren(section("History", {}, h("p", { class: "dim" }, "There is no document yet.")));
      return;
    }
    shown = page.items[0].version;
    place.replaceChildren(card(page, changes, (from, to) => attempt(compare(from, to))));
    if (page.items.length > 1) await compare(page.items[1].version, page.items[0].version);
    else changes.replaceChildren(h("p", { class: "dim" }, "It has one version so far."));
  }

  attempt(load());
  return { stop() { stopped = true; }, again: (image) => { if (image.version !== shown) attempt(load()); } };
}

function card(page, changes, compare) {
  const digest = page.config_digest;
  const pick = (label, at) => h("select", { "aria-label": label }, page.items.map((one, position) =>
    h("option", { value: String(one.version), selected: position === Math.min(at, page.items.length - 1) }, `version ${one.version}`)));
  const from = pick("From", 1);
  const to = pick("To", 0);
  const body = h("tbody");
  const add = (items) => body.append(...items.map((one) => versionRow(digest, one)));
  add(page.items);
  let next = here(page.next);
  const more = h("button", { type: "button", class: "more", hidden: !next, on: { click: async () => {
    const found = await get(next);
    add(found.items);
    next = here(found.next);
    more.hidden = !next;
  } } }, "Show older versions");
  return section("History", {},
    h("form", { class: "filters", on: { submit: (event) => { event.preventDefault(); compare(from.value, to.value); } } },
      h("span", {}, "From"), from, h("span", {}, "to"), to, h("button", { type: "submit" }, "Compare")),
    changes,
    h("h3", {}, "Versions"),
    table("Versions, newest first", ["Version", "Issued", "Learning", "Statements", ["Affected", "num"], ["Open", "num"]], body), more);
}

function versionRow(digest, one) {
  return h("tr", {},
    h("td", {}, link(`vex/${digest}/versions/${one.version}`, `version ${one.version}`)),
    h("td", { "data-label": "Issued" }, time(one.issued_at)),
    h("td", { "data-label": "Learning" }, one.learning_complete ? "complete" : "going on"),
    h("td", { "data-label": "Statements" }, statusBar(one.counts)),
    h("td", { class: "num", "data-label": "Affected" }, number(one.counts.affected || 0)),
    h("td", { class: "num", "data-label": "Open" }, number(one.counts.under_investigation || 0)));
}

function difference(found) {
  const parts = [["changed", found.changed.length], ["new", found.added.length], ["gone", found.removed.length]];
  const rows = [
    ...found.changed.map((one) => changeRow(one, status(one.before.status), status(one.after.status), one.after.text)),
    ...found.added.map((one) => changeRow(one, "not reported", status(one.status), one.text)),
    ...found.removed.map((one) => changeRow(one, status(one.status), "not reported", "")),
  ];
  return [
    h("h3", {}, `From version ${found.from_version} to ${found.to_version}`),
    h("p", {}, parts.map(([word, count]) => `${number(count)} ${word}`).join(", "), "."),
    rows.length ? table("What changed", ["Vulnerability", "Package", "Before", "After", "Why"], h("tbody", {}, rows.slice(0, SHOWN)))
      : h("p", { class: "dim" }, "No statement says anything else."),
    rows.length > SHOWN ? h("p", { class: "sub" }, `The first ${SHOWN} of ${plural(rows.length, "change")}; /vex/{digest}/diff has all.`) : null,
  ].filter(Boolean);
}

function changeRow(one, before, after, why) {
  return h("tr", {},
    h("td", {}, cveLink(one.vulnerability)), h("td", { "data-label": "Package" }, packageName(one.package)),
    h("td", { "data-label": "Before" }, before), h("td", { "data-label": "After" }, after), h("td", { class: "why" }, why));
}
