// The statements of an image: filtered and paged by the server; each opens what it rests on.

import { query } from "./api.js";
import { asRow, debounce, h, longTable, section } from "./dom.js";
import { evidenceRow } from "./evidence.js";
import { cveLink, epss, exploited, nothingStated, number, packageName, plural, severity, SEVERITIES, status, STATUS, STATUSES } from "./format.js";
import { pagedList } from "./list.js";

const COLUMNS = ["", "Vulnerability", "Severity", ["EPSS", "num"], "Package", "Status", "Why"];

export function statementsPart(place, about, asked) {
  const digest = about.config_digest;
  const body = h("tbody");
  const find = h("input", { type: "search", id: "find", placeholder: "CVE, package, words", value: asked.q || "", maxlength: "300", "aria-label": "Find in the statements" });
  const statuses = toggles("status", STATUSES, STATUS, asked.status);
  const severities = toggles("severity", SEVERITIES, {}, asked.severity);
  const only = {
    exploited: toggle("exploited", "known exploited", asked.exploited),
    decided: toggle("decided", "decided", asked.decided),
  };
  const list = pagedList({
    body, row, empty: () => query(filters()) || about.state === "document" ? "No statement fits." : nothingStated(about),
    key: (one) => `${one.vulnerability} ${one.package}`,
    told: (page, said) => {
      const all = !query(filters());
      count(statuses, page.tallies, "status", all);
      count(severities, page.tallies, "severity", all);
      said.textContent = plural(page.tallies.reduce((sum, one) => sum + one.statements, 0), "statement");
    },
  });

  function filters() {
    const on = (boxes) => boxes.filter(({ box }) => box.checked).map(({ box }) => box.value);
    return {
      q: find.value.trim(), status: on(statuses), severity: on(severities),
      exploited: only.exploited.box.checked ? "true" : "", decided: only.decided.box.checked ? "true" : "",
    };
  }

  function reload() {
    again.stop();
    const words = query(filters());
    history.replaceState(null, "", `#/image/${digest}${words ? `?${words}` : ""}`);
    return list.load(`images/${digest}/statements?${query({ ...filters(), limit: 100 })}`);
  }

  function row(one) {
    const opened = h("button", { type: "button", class: "open", "aria-expanded": "false", "aria-label": `Evidence for ${one.vulnerability} in ${one.package}` });
    const made = h("tr", { class: one.decided ? "statement decided" : "statement" },
      h("td", { class: "opener" }, opened),
      h("td", {}, cveLink(one.vulnerability), one.known_exploited ? [" ", exploited()] : null,
        one.aliases.length ? h("div", { class: "sub" }, one.aliases.slice(0, 3).join(", ")) : null),
      h("td", { "data-label": "Severity" }, severity(one.severity)),
      h("td", { class: "num", "data-label": "EPSS" }, epss(one.epss)),
      h("td", { "data-label": "Package" }, packageName(one.package)),
      h("td", { "data-label": "Status" }, status(one.status), one.decided ? h("div", { class: "sub" }, "decided") : null),
      h("td", { class: "why" }, h("div", { class: "clamp" }, one.text || one.action)));
    opened.addEventListener("click", () => list.unfold(made, opened, () => evidenceRow(digest, one, COLUMNS.length)));
    return asRow(made);
  }

  const again = debounce(reload);
  find.addEventListener("input", () => { list.waiting(); again(); });
  for (const { box } of [...statuses, ...severities, ...Object.values(only)]) box.addEventListener("change", reload);
  place.replaceChildren(section("Statements", {},
    h("div", { class: "filters" }, find,
      group("Status", statuses), group("Severity", severities), group("Only", Object.values(only)), list.anew),
    longTable("Statements, the most urgent first", COLUMNS, body, "statements"), list.foot));
  reload();
  return {
    stop: () => { again.stop(); list.end(); },
    again: list.changed,
  };
}

function group(label, boxes) {
  return h("fieldset", {}, h("legend", { class: "hidden" }, label), boxes.map(({ label: shown }) => shown));
}

function toggle(value, text, checked) {
  const box = h("input", { type: "checkbox", value, checked: Boolean(checked) });
  const counted = h("span", { class: "n" });
  return { box, counted, label: h("label", { class: `toggle ${value}` }, box, h("span", {}, text), counted) };
}

function toggles(name, values, texts, asked) {
  const wanted = new Set([asked || []].flat());
  return values.map((value) => toggle(value, texts[value] || value, wanted.has(value)));
}

/** The number beside each toggle: of what fits the other filters too. What the image has none of,
 * when `all` of its statements are told, is not offered. */
function count(boxes, tallies, member, all) {
  const any = boxes.some(({ box }) => box.checked);
  for (const { box, counted, label } of boxes) {
    const found = tallies.filter((one) => one[member] === box.value).reduce((sum, one) => sum + one.statements, 0);
    counted.textContent = any && !box.checked ? "" : number(found);
    if (all) label.hidden = !found;
  }
}
