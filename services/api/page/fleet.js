// The fleet: what is in use, how far learning is, what is left of the findings, and where to begin.

import { get, query } from "./api.js";
import { bar, learned, learningText, progress, severityDots, statusBar } from "./charts.js";
import { asRow, choice, debounce, h, link, longTable, redraw, section, show, table } from "./dom.js";
import {
  cveLink, epss, exploited, imageLink, namespaceName, number, percent, plural, severity, SEVERITIES,
  short, STATES, STATUS, STATUSES,
} from "./format.js";
import { pagedList } from "./list.js";
import { problem } from "./problem.js";

const COLUMNS = ["Image", "Learning", "Statements", ["Affected", "num"], ["Open", "num"],
  "Open by severity", ["EPSS", "num"]];
const PAGE = 50;
const MOST_AT_ONCE = 20;

/** `asked` holds what the address asks for: q, namespace, package, status, state, learning. */
export function fleet(asked) {
  const summary = h("div", { class: "summary", "aria-busy": "true" });
  const matches = h("div", { class: "matches" });
  const body = h("tbody");
  const chosen = {
    namespace: choice("Namespace", "any namespace", [], reload),
    learning: choice("Learning", "any learning", [["complete", "learning complete"], ["incomplete", "still learning"]], reload),
    status: choice("Status", "any status", STATUSES.map((key) => [key, `has ${STATUS[key]}`]), reload),
    state: choice("State", "any state", Object.entries(STATES), reload),
  };
  namespaces(chosen.namespace, {}, asked.namespace);
  for (const [name, select] of Object.entries(chosen)) select.value = asked[name] || "";
  const list = pagedList({
    body, empty: () => query(filters()) ? "No image fits." : "No image yet.",
    row: imageRow, key: (image) => image.config_digest,
    told: (page, status) => { status.textContent = plural(page.images, "image"); },
  });

  function filters() {
    const made = { q: asked.q, package: asked.package };
    for (const [name, select] of Object.entries(chosen)) made[name] = select.value || asked[name];
    return made;
  }

  function reload() {
    for (const [name, select] of Object.entries(chosen)) asked[name] = select.value;
    const words = query(filters());
    history.replaceState(null, "", words ? `#/?${words}` : "#/");
    return list.load(`fleet/images?${query({ ...filters(), limit: PAGE })}`);
  }

  async function figures() {
    const found = await get("fleet");
    summary.removeAttribute("aria-busy");
    redraw(summary, found.images ? [headline(found), severities(found), urgent(found)] : [welcome()]);
    namespaces(chosen.namespace, found.namespaces, chosen.namespace.value);
  }

  async function look() {
    matches.replaceChildren();
    if (asked.package) matches.append(chip(`package ${asked.package}`, { ...asked, package: "" }));
    if (!asked.q) return;
    const found = await get(`search?${query({ q: asked.q })}`);
    matches.append(chip(`“${asked.q}”`, { ...asked, q: "" }),
      ...found.vulnerabilities.map((id) => h("span", { class: "chip" }, cveLink(id))),
      ...found.packages.map((name) => h("span", { class: "chip" }, "package ", link(`#/?${query({ package: name })}`, name))),
      ...found.namespaces.map((name) => h("span", { class: "chip" }, "namespace ", link(`#/?${query({ namespace: name })}`, namespaceName(name)))));
  }

  const pending = new Set();
  async function refresh() {
    const changed = [...pending];
    pending.clear();
    if (!searching) await figures();
    // A list that has been read on is not taken away: then only some of its rows are redrawn.
    if (changed.length > MOST_AT_ONCE && window.scrollY < 200) {
      list.changed();
      return;
    }
    for (const digest of changed.filter(list.has).slice(0, MOST_AT_ONCE)) {
      const page = await get(`fleet/images?${query({ q: digest, limit: 1 })}`);
      if (page.items.length) list.put(page.items[0]);
    }
  }

  const searching = Boolean(asked.q || asked.package);
  const again = debounce(() => refresh().catch(() => {}), 700);
  show(
    h("h1", { class: searching ? null : "hidden" }, searching ? "Search" : "Fleet"),
    searching ? null : summary,
    section("Images", {},
      h("div", { class: "filters" }, Object.values(chosen), list.anew), matches,
      longTable("Images, the most urgent first", COLUMNS, body, "images"), list.foot));
  const failed = async (error) => {
    await loaded; // what keeps the list away too is said there, once
    summary.removeAttribute("aria-busy");
    summary.replaceChildren(...list.failed() ? [] : [problem(error)]);
  };
  let loaded = reload();
  if (!searching) figures().catch(failed);
  else get("fleet").then((found) => namespaces(chosen.namespace, found.namespaces, chosen.namespace.value)).catch(() => {});
  look().catch(() => {});
  return {
    stop: () => { again.stop(); list.end(); },
    onEvent(kind, data) {
      if (kind === "reset") { loaded = reload(); figures().catch(failed); return; }
      if (kind === "deleted") { list.drop(data.config_digest); }
      pending.add(data.config_digest);
      again();
    },
  };
}

/** Before the first image. */
function welcome() {
  return section("No image yet", { class: "card welcome" },
    h("p", {}, "An image is here seconds after a collector has seen a program start in one of its containers."),
    h("p", {}, "For the containers of this machine: ", h("code", {}, "vexstream up"), ". On a cluster the collector runs on each node, and its log says what it sees."));
}

function namespaces(select, found, wanted) {
  const names = Object.keys(found);
  if (wanted && !names.includes(wanted)) names.unshift(wanted);
  select.replaceChildren(h("option", { value: "" }, "any namespace"),
    ...names.map((name) => h("option", { value: name }, namespaceName(name))));
  select.value = wanted || "";
}

function chip(text, rest) {
  const words = query(rest);
  return h("span", { class: "chip on" }, text, " ",
    link(words ? `#/?${words}` : "#/", "×", { "aria-label": `Remove ${text}` }));
}

function imageRow(image) {
  const open = image.counts.under_investigation || 0;
  const affected = image.counts.affected || 0;
  return asRow(h("tr", { "data-digest": image.config_digest },
    h("td", {}, imageLink(image),
      h("div", { class: "sub" }, image.namespaces.length ? [image.namespaces.map((name, at) => [at ? ", " : null, h("bdi", {}, namespaceName(name))]), " · "] : null,
        h("span", { class: "mono" }, short(image.config_digest)))),
    h("td", { "data-label": "Learning" }, image.state === "document" || image.state === "no_findings"
      ? [progress(learned(image.learning), "learning period"), h("div", { class: "sub" }, learningText(image.learning))]
      : h("span", { class: "state", title: image.failure }, STATES[image.state] || image.state)),
    h("td", { "data-label": "Statements" }, image.state === "document" ? statusBar(image.counts) : h("span", { class: "dim" }, image.state === "no_findings" ? "no findings" : "–")),
    h("td", { class: "num", "data-label": "Affected" }, h("span", { class: affected ? "affected strong" : "dim" }, number(affected))),
    h("td", { class: "num", "data-label": "Open" }, h("span", { class: open ? "under_investigation" : "dim" }, number(open))),
    h("td", { "data-label": "Open by severity" }, severityDots(image.open_severities),
      image.open_exploited ? [" ", exploited()] : null),
    h("td", { class: "num", "data-label": "EPSS" }, epss(image.open_epss))));
}

function headline(found) {
  const settled = found.findings - found.still_open;
  const scanned = (found.states.document || 0) + (found.states.no_findings || 0);
  const learning = scanned - Math.min(found.learning_complete, scanned);
  const used = found.tallies.filter((one) => one.known_exploited && one.status === "affected");
  const parts = [["done", scanned - learning], ["going", learning],
    ["waiting", found.states.awaiting_scan || 0], ["failed", found.states.scan_failed || 0]];
  const named = ["learning complete", "still learning", "awaiting scan", "scan failed"];
  const said = parts.map(([, count], at) => `${number(count)} ${named[at]}`);
  return h("section", { class: "card headline", "aria-label": "In short" },
    h("div", { class: "noise" },
      h("b", {}, percent(settled, found.findings)), h("span", {}, "noise removed"),
      h("p", {}, `${number(settled)} of ${plural(found.findings, "finding")} need no look; ${number(found.still_open)} are left.`)),
    h("dl", { class: "figures" },
      figure("Images in use", number(found.images)),
      figure("Affected", number(sum(found.tallies, (one) => one.status === "affected")), "affected"),
      figure("Under investigation", number(sum(found.tallies, (one) => one.status === "under_investigation")), "under_investigation"),
      figure("Exploited and used", number(used.reduce((total, one) => total + one.statements, 0)), used.length ? "affected" : null)),
    h("div", { class: "learning" }, h("h2", {}, "Learning"),
      bar(parts, found.images, said.join(", ")),
      h("p", { class: "legend" }, parts.map(([kind, count], at) => count ? h("span", { class: `key ${kind}` }, said[at]) : null))));
}

const figure = (label, value, kind) => h("div", {}, h("dt", {}, label), h("dd", { class: kind }, value));
const sum = (tallies, wanted) => tallies.filter(wanted).reduce((total, one) => total + one.statements, 0);

function severities(found) {
  const rows = SEVERITIES.map((name) => {
    const own = found.tallies.filter((one) => one.severity === name);
    const of = (status) => sum(own, (one) => one.status === status);
    return { name, before: sum(own, () => true), affected: of("affected"), open: of("under_investigation"), quiet: of("not_affected") + of("fixed") };
  }).filter((row) => row.before);
  const most = Math.max(1, ...rows.map((row) => row.before));
  const all = (member) => number(rows.reduce((total, row) => total + row[member], 0));
  return section("Findings before and after", { class: "card severities" },
    h("table", {},
      h("caption", { class: "hidden" }, "Findings per severity before, and what is left after"),
      h("thead", {}, h("tr", {}, ["Severity", "", "Before", "After"].map((text, at) =>
        h("th", { scope: "col", class: at > 1 ? "num" : null }, text || h("span", { class: "hidden" }, "Share"))))),
      h("tbody", {}, rows.map((row) => h("tr", {},
        h("th", { scope: "row" }, severity(row.name)),
        h("td", { class: "wide" }, bar([["affected", row.affected], ["under_investigation", row.open], ["quiet", row.quiet]], most,
          `${row.name}: ${number(row.affected)} affected, ${number(row.open)} under investigation, ${number(row.quiet)} need no look`)),
        h("td", { class: "num dim" }, number(row.before)),
        h("td", { class: "num strong" }, number(row.affected + row.open)))),
      h("tr", { class: "all" }, h("th", { scope: "row" }, "All"), h("td", {}), h("td", { class: "num" }, all("before")),
        h("td", { class: "num" }, number(found.still_open))))),
    h("p", { class: "legend" },
      h("span", { class: "key affected" }, "affected: used"),
      h("span", { class: "key under_investigation" }, "under investigation"),
      h("span", { class: "key quiet" }, "no look needed")));
}

function urgent(found) {
  const body = h("tbody", {}, found.urgent.map((one) => h("tr", {},
    h("td", {}, cveLink(one.vulnerability), one.known_exploited ? [" ", exploited()] : null),
    h("td", { class: "num" }, epss(one.epss)),
    h("td", {}, severity(one.severity)),
    h("td", { class: "num" }, h("span", { class: one.images.affected ? "affected strong" : "dim" }, number(one.images.affected || 0))),
    h("td", { class: "num" }, number(one.images.under_investigation || 0)))));
  return section("First to look at", { class: "card urgent" },
    found.urgent.length
      ? table("The most urgent vulnerabilities: exploited first, then by EPSS",
        ["Vulnerability", ["EPSS", "num"], "Severity", ["Used in", "num"], ["Open in", "num"]], body)
      : h("p", { class: "dim" }, "Nothing is open."));
}
