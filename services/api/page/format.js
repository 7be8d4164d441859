// Words and figures: how statuses, severities, times and digests are written.

import { h, link } from "./dom.js";

export const STATUSES = ["affected", "under_investigation", "not_affected", "fixed"];
export const STATUS = {
  affected: "affected", under_investigation: "under investigation",
  not_affected: "not affected", fixed: "fixed",
};
export const SEVERITIES = ["critical", "high", "medium", "low", "negligible", "unknown"];
export const STATES = {
  document: "document", no_findings: "no findings",
  awaiting_scan: "awaiting scan", scan_failed: "scan failed",
};

/** Why an image has no statement. */
export const nothingStated = ({ state, failure }) => ({
  no_findings: "The scan reports no vulnerability.",
  awaiting_scan: "The image waits for its scan; nothing is stated yet.",
  scan_failed: `The scan failed${failure ? ` (${failure})` : ""}; nothing is stated.`,
}[state] || "Nothing is stated yet.");

export const number = (value) => value.toLocaleString("en");
export const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;
export const words = (name) => name.replaceAll("_", " ");
export const short = (digest) => `${digest.slice(0, 19)}…`;

/** The readable end of an image's name, and what comes before it. */
export function nameParts(image) {
  const name = image.names?.[0];
  if (!name) return ["", short(image.config_digest)];
  const cut = name.lastIndexOf("/") + 1;
  return [name.slice(0, cut), name.slice(cut)];
}

export function imageLink(image) {
  const [host, name] = nameParts(image);
  return link(`#/image/${image.config_digest}`, [h("span", { class: "dim" }, host), h("bdi", {}, name)], { class: "name" });
}

export const cveLink = (id) => link(`#/cve/${encodeURIComponent(id)}`, id, { class: "cve" });

/** name@version of a purl, with the whole of it as title. */
export function packageName(purl) {
  const [path] = purl.split("?");
  const last = path.slice(path.lastIndexOf("/") + 1);
  let text = last;
  try { text = decodeURIComponent(last); } catch { /* shown as it stands */ }
  const kind = /^pkg:([a-z]+)\//.exec(purl)?.[1];
  return h("span", { title: purl }, h("span", { class: "mono" }, text), kind ? [" ", h("span", { class: "kind" }, kind)] : null);
}

const SHORT_TIME = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "short" });
const EXACT_TIME = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "long" });

export const when = (text) => SHORT_TIME.format(new Date(text));
export const time = (text) => h("time", { datetime: text, title: EXACT_TIME.format(new Date(text)) }, when(text));

/** A length of time in the unit that fits: 90 min, 29 h, 3 d. */
export function span(seconds) {
  const units = [[172800, 86400, "d"], [7200, 3600, "h"], [120, 60, "min"]];
  for (const [least, size, unit] of units) {
    if (seconds >= least) return `${Math.floor(seconds / size)} ${unit}`;
  }
  return `${Math.max(0, Math.round(seconds))} s`;
}

export const ago = (text) => `${span((Date.now() - Date.parse(text)) / 1000)} ago`;

export const status = (name) => h("span", { class: `status ${name}` }, STATUS[name] || name);
export const severity = (name) => h("span", { class: `severity ${name}` }, name);
export const exploited = () => h("abbr", { class: "kev", title: "CISA's catalogue lists it as known to be exploited" }, "KEV");

/** EPSS as a percentage; a dash when there is none. */
export function epss(score) {
  if (score === null || score === undefined) return h("span", { class: "dim" }, "–");
  const percent = score * 100;
  const text = percent >= 10 ? percent.toFixed(0) : percent >= 0.1 ? percent.toFixed(1) : "<0.1";
  return h("span", { class: score >= 0.1 ? "epss hot" : "epss", title: "Probability that it is exploited within 30 days (EPSS)" }, `${text} %`);
}

/** Of a cluster's id, which is a UUID, the first part, as in the documents' texts. */
export function namespaceName(name) {
  return name.replace(/^([0-9a-f]{8})(-[0-9a-f]{4}){3}-[0-9a-f]{12}(?=\/|$)/, "$1") || "(none)";
}

export function percent(part, whole) {
  if (!whole) return "–";
  const share = (100 * part) / whole;
  // Never 100 % while something is left, nor 0 % while there is something.
  if (part > 0 && share < 0.5) return "<1 %";
  if (part < whole && share > 99.4) return ">99 %";
  return `${Math.round(share)} %`;
}
