// What a statement rests on: the files that were used, or why it is said that none was.

import { get, query } from "./api.js";
import { decisionBox } from "./decide.js";
import { asRow, h } from "./dom.js";
import { number, packageName, plural, span, time, words } from "./format.js";

/** A row under a statement's; it fetches the evidence when it is made. */
export function evidenceRow(digest, statement, columns) {
  const place = h("div", { class: "evidence", role: "region", "aria-label": `Evidence for ${statement.vulnerability}` }, h("p", { class: "dim" }, "Loading."));
  const asked = query({ vulnerability: statement.vulnerability, package: statement.package });
  get(`images/${digest}/usage?${asked}`)
    .then((usage) => place.replaceChildren(...evidence(usage)))
    .catch((error) => place.replaceChildren(h("p", { role: "alert" }, error.message)));
  return asRow(h("tr", { class: "detail" }, h("td", { colspan: String(columns) }, place)));
}

function evidence(usage) {
  const { statement, used } = usage;
  return [
    h("p", { class: "verdict" }, statement.text),
    statement.action && statement.action !== statement.text ? h("p", {}, statement.action) : null,
    used ? usedFiles(used) : notUsed(usage),
    facts(statement, used),
    decisionBox(usage.config_digest, statement),
  ].filter(Boolean);
}

function usedFiles(used) {
  const shown = used.examples.length;
  const rows = used.examples.map((file) => h("tr", {},
    h("td", { class: "mono path" }, file.path),
    h("td", {}, file.use.map(words).join(", ")),
    h("td", { "data-label": "First seen" }, time(file.first_seen_at)),
    h("td", { "data-label": "Last seen" }, file.last_seen_at ? time(file.last_seen_at) : "–"),
    h("td", {}, file.workloads.join(", "))));
  return h("div", {},
    h("h3", {}, `${plural(used.files_used, "file")} of ${number(used.files_observable)} used`),
    h("p", { class: "sub" }, "First ", time(used.first_seen_at), ", the newest ", time(used.last_new_at), `, by ${used.workloads.join(", ") || "workloads that are not listed"}.`),
    h("table", { class: "files" },
      h("caption", { class: "hidden" }, "Files that were used"),
      h("thead", {}, h("tr", {}, ["File", "How", "First seen", "Last seen", "Workloads"].map((text) => h("th", { scope: "col" }, text)))),
      h("tbody", {}, rows)),
    h("p", { class: "sub" }, "Last seen: the hour in which a container last took it into use. Each does so once, and may use it for as long as it runs.",
      used.files_used > shown ? ` The first ${shown} are shown.` : null));
}

function notUsed({ statement, workloads }) {
  const unknown = statement.status === "under_investigation";
  return h("div", {},
    h("h3", {}, "No file of it was seen in use"),
    workloads.length
      ? h("ul", { class: "observed" }, workloads.map((one) => h("li", {},
        h("span", { class: "strong" }, one.workload), ": ",
        one.state === "complete"
          ? ["seen whole for ", span(one.learning_seconds), one.covered_since ? [", complete since ", time(one.covered_since)] : null]
          : one.reason || words(one.state),
        `; ${plural(one.containers, "container")} on ${plural(one.node_count, "node")}, ${plural(one.lost_events, "event")} lost.`)))
      : h("p", {}, "No container of it was observed."),
    unknown && statement.reason ? h("p", { class: "sub" }, `Not settled because: ${words(statement.reason)}.`) : null);
}

function facts(statement, used) {
  const list = h("dl", { class: "facts" });
  const add = (label, value) => { if (value) list.append(h("dt", {}, label), h("dd", {}, value)); };
  add("Package", used ? h("span", {}, packageName(used.purl), h("div", { class: "sub mono" }, used.purl)) : h("span", { class: "mono" }, statement.packages.join(" ")));
  add("Aliases", statement.aliases.join(", "));
  add("Justification", statement.justification && words(statement.justification));
  add("Since", statement.since && time(statement.since));
  add("Decided", statement.decided);
  return list;
}
