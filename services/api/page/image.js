// One image: its verdict, its learning, its curve; then statements, coverage, history, documents.

import { download, get, getOrNull } from "./api.js";
import { curve, learned, learningText, progress, statusBar } from "./charts.js";
import { copyButton, debounce, h, link, plain, redraw, section, show, table, toast } from "./dom.js";
import { ago, nameParts, nothingStated, number, percent, plural, short, span, STATES, STATUS, STATUSES, time, words } from "./format.js";
import { historyPart } from "./history.js";
import { problem } from "./problem.js";
import { statementsPart } from "./statements.js";

const PARTS = [["statements", "Statements"], ["coverage", "Coverage"], ["history", "History"], ["documents", "Documents"]];
const FORMATS = [["openvex", "OpenVEX 0.2.0"], ["csaf", "CSAF 2.0"], ["cyclonedx", "CycloneDX VEX"], ["cyclonedx-dt", "CycloneDX for Dependency-Track"]];

export function image(digest, wanted, asked) {
  const part = PARTS.some(([name]) => name === wanted) ? wanted : "statements";
  const head = h("div", { class: "imagehead" });
  const place = h("div", { class: "part" });
  let stopped = false;
  let shown = { stop() {}, again() {} };
  let about = null;

  async function load(first) {
    const [found, coverage] = await Promise.all([get(`images/${digest}`), getOrNull(`images/${digest}/coverage`)]);
    if (stopped) return;
    about = found;
    redraw(head, heading(about, coverage, part));
    if (first) {
      document.title = `${plain(nameParts(about)[1]).slice(0, 60)} - vexstream`;
      shown = partOf(part, place, about, coverage, asked);
    } else {
      shown.again(about, coverage);
    }
  }

  const attempt = (first) => load(first).catch((error) => { if (!stopped) show(problem(error, "h1")); });
  show(head, place);
  head.append(h("p", { class: "dim" }, "Loading."));
  attempt(true);
  const again = debounce(() => attempt(false), 500);
  return {
    stop() { stopped = true; again.stop(); shown.stop(); },
    onEvent(kind, data) {
      if (kind === "reset" || data.config_digest === digest || data.manifest_digests?.includes(digest)) again();
    },
  };
}

function partOf(name, place, about, coverage, asked) {
  if (name === "statements") return statementsPart(place, about, asked);
  if (name === "history") return historyPart(place, about);
  const make = name === "coverage" ? coverageCard : documentsCard;
  const again = (image, seen) => redraw(place, [make(image, seen)]);
  again(about, coverage);
  return { stop() {}, again };
}

function heading(about, coverage, part) {
  const [host, name] = nameParts(about);
  const digest = about.config_digest;
  return [
    h("p", { class: "crumb" }, link("#/", "Fleet"), " / image"),
    h("h1", { class: "names" }, h("span", { class: "dim" }, host), h("bdi", {}, name)),
    h("p", { class: "digest mono" }, digest, " ", copyButton(digest, "the digest")),
    about.failure ? h("p", { class: "notice affected" }, `${STATES[about.state] || about.state}: ${about.failure}`) : null,
    h("div", { class: "cards" }, verdictCard(about), learningCard(about), curveCard(coverage)),
    h("nav", { class: "tabs", "aria-label": "Parts of the image" }, PARTS.map(([key, text]) =>
      link(`#/image/${digest}${key === "statements" ? "" : `/${key}`}`, text, { "aria-current": key === part ? "page" : null }))),
  ].filter(Boolean);
}

function verdictCard(about) {
  const count = (status) => about.counts[status] || 0;
  const all = STATUSES.reduce((total, status) => total + count(status), 0);
  if (!all) return section("Verdict", {}, h("p", {}, nothingStated(about)));
  const left = count("affected") + count("under_investigation");
  return section("Verdict", {},
    h("p", { class: "big" }, h("b", {}, number(left)), ` of ${plural(all, "finding")} left to look at `,
      left < all ? h("span", { class: "dim" }, `(${percent(all - left, all)} less)`) : null),
    statusBar(about.counts),
    h("p", { class: "legend" }, STATUSES.filter(count).map((status) => h("span", { class: `key ${status}` }, `${number(count(status))} ${STATUS[status]}`))),
    h("p", { class: "sub" }, about.version ? `Version ${about.version}, ` : null, time(about.issued_at)));
}

function learningCard(about) {
  const { learning } = about;
  const why = learning.reasons.slice(0, 6);
  return section("Learning", {},
    h("p", { class: "big" }, h("b", {}, learning.complete ? "Complete" : learningText(learning))),
    progress(learned(learning), "learning period"),
    h("p", { class: "sub" }, learning.complete
      ? `Every workload was seen whole for ${span(learning.required_seconds)}.`
      : `The period is ${span(learning.required_seconds)}. Until it is over, what was not used is under investigation.`),
    why.length ? h("ul", { class: "sub" }, why.map((one) => h("li", {}, one))) : null,
    learning.reasons.length > why.length ? h("p", { class: "sub" }, `and ${learning.reasons.length - why.length} more: see Coverage.`) : null);
}

function curveCard(coverage) {
  if (!coverage?.growth.length) return section("Files seen in use", {}, h("p", { class: "dim" }, "Nothing was published of it yet."));
  const drawn = curve(coverage);
  const added = plural(drawn.added, "new file");
  return section("Files seen in use", {},
    h("p", { class: "big" }, h("b", {}, drawn.saturated ? "Saturated" : "Still growing"), " ",
      h("span", { class: "dim" }, `${drawn.added ? added : "no new file"} in the last quarter`)),
    drawn.drawn,
    h("p", { class: "sub" }, `${plural(coverage.totals.files, "file")} in ${span((drawn.end - drawn.first) / 1000)}; the newest ${ago(new Date(drawn.last).toISOString())}.`));
}

function coverageCard(about, coverage) {
  if (!coverage) return section("Coverage", {}, h("p", { class: "dim" }, "Nothing was published of what was observed of this image yet."));
  const { totals } = coverage;
  const facts = [["Containers", totals.containers], ["Nodes", totals.nodes], ["Workloads", totals.workloads],
    ["Events lost", totals.lost_events], ["Files used", totals.files], ["of no package", totals.unowned_files],
    ["Packages used", `${number(totals.packages_used)} of ${number(totals.packages)}`]];
  const columns = ["Workload", "Observation", "Period", ["Whole containers", "num"], "Nodes", ["Files", "num"], ["Lost", "num"]];
  return section("Coverage", {},
    h("dl", { class: "figures small" }, facts.map(([label, value]) => h("div", {}, h("dt", {}, label),
      h("dd", { class: label === "Events lost" && value ? "affected" : null }, typeof value === "number" ? number(value) : value)))),
    table("How each workload was observed", columns, h("tbody", {}, coverage.workloads.map(workloadRow))),
    coverage.workloads.length < totals.workloads
      ? h("p", { class: "sub" }, `${number(coverage.workloads.length)} of the workloads are listed, those that were covered least among them.`) : null,
    h("p", { class: "sub" }, "Observed from ", totals.first_observed_at ? time(totals.first_observed_at) : "–", " to ",
      totals.last_observed_at ? time(totals.last_observed_at) : "–",
      coverage.scanned_at ? [". Scanned ", time(coverage.scanned_at)] : null, "."));
}

function workloadRow(one) {
  const start = Date.parse(one.learning_started_at);
  const share = (Date.parse(one.observed_until) - start) / (one.learning_seconds * 1000);
  const whole = one.state === "complete";
  return h("tr", {},
    h("td", {}, h("span", { class: "strong" }, one.workload), h("div", { class: "sub" }, `namespace ${one.namespace || "(none)"}`)),
    h("td", { "data-label": "Observation" }, h("span", { class: `badge ${whole ? "good" : one.state === "learning" ? "going" : "bad"}` }, words(one.state)),
      one.reason ? h("div", { class: "sub" }, one.reason) : null),
    h("td", { "data-label": "Period" }, progress(whole ? 1 : Math.max(0, Math.min(share, 0.99)), `observation of ${one.workload}`),
      h("div", { class: "sub" }, whole && one.covered_since ? ["covered since ", time(one.covered_since)] : `${span((Date.parse(one.observed_until) - start) / 1000)} of ${span(one.learning_seconds)}`)),
    h("td", { class: "num", "data-label": "Whole containers" }, `${number(one.containers_seen_whole)} of ${number(one.containers)}`),
    h("td", { "data-label": "Nodes" }, one.nodes.slice(0, 4).join(", "), one.node_count > 4 ? ` and ${number(one.node_count - 4)} more` : null),
    h("td", { class: "num", "data-label": "Files" }, number(one.files)),
    h("td", { class: "num", "data-label": "Lost" }, h("span", { class: one.lost_events ? "affected strong" : "dim" }, number(one.lost_events))));
}

function documentsCard(about) {
  if (!about.document_url) return section("Documents", {}, h("p", { class: "dim" }, "There is no document yet."));
  const digest = about.config_digest;
  // A name is a stranger's: what a shell could take for more than a word is not offered to copy.
  const reference = about.names.map((name) => name.split("@")[0]).find((name) => /^[\w][\w./:-]*$/.test(name)) || "IMAGE";
  const at = about.manifest_digests[0] ? `${reference}@${about.manifest_digests[0]}` : reference;
  const url = new URL(`vex/${digest}`, document.baseURI).href;
  const commands = [
    ["Fetch the document", `curl -sS -o image.openvex.json '${url}'`],
    ["Leave out of a Grype scan what is not affected", `grype '${at}' --vex image.openvex.json`],
    ["Leave it out of a Trivy scan", `trivy image '${at}' --vex image.openvex.json`],
    ["Verify that a trusted key signed it, to the byte", `vexstream verify '${url}' --key vexstream.pub`],
  ];
  return section("Documents", {},
    h("h3", {}, "Download"),
    h("p", { class: "downloads" }, FORMATS.map(([format, text]) => h("button", {
      type: "button", on: { click: () => download(`vex/${digest}?format=${format}`, `${digest.slice(7, 19)}.${format}.json`).catch((error) => toast(error.message)) },
    }, text))),
    h("h3", {}, "Apply and verify"),
    h("dl", { class: "commands" }, commands.map(([label, command]) => [h("dt", {}, label),
      h("dd", {}, h("code", {}, command), copyButton(command, label.toLowerCase()))])),
    h("h3", {}, "Digests and names"),
    h("dl", { class: "facts" },
      h("dt", {}, "Names"), h("dd", {}, about.names.join(", ") || "none"),
      h("dt", {}, "Config"), h("dd", { class: "mono" }, digest),
      h("dt", {}, "Manifests, indexes"), h("dd", { class: "mono" }, about.manifest_digests.length ? about.manifest_digests.map((one) => h("div", {}, one)) : "none"),
      h("dt", {}, "Other platforms"), h("dd", {}, about.alternatives.length ? about.alternatives.map((one) => [link(`#/image/${one}`, short(one)), " "]) : "none")));
}
