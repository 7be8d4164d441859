// Bars and the curve, each with its figures in words for those who cannot see it.

import { h } from "./dom.js";
import { number, SEVERITIES, span, STATUS, STATUSES, when } from "./format.js";

/** A bar of parts: [[class, count, label]], each as long as its share of `whole`. */
export function bar(parts, whole, said) {
  const drawn = h("div", { class: "bar", role: "img", "aria-label": said, title: said });
  for (const [kind, count] of parts) {
    if (!count) continue;
    const part = h("i", { class: kind });
    part.style.width = `${(100 * count) / (whole || 1)}%`;
    drawn.append(part);
  }
  return drawn;
}

export function statusBar(counts) {
  const parts = STATUSES.map((status) => [status, counts[status] || 0]);
  const whole = parts.reduce((sum, [, count]) => sum + count, 0);
  const said = parts.filter(([, count]) => count)
    .map(([status, count]) => `${number(count)} ${STATUS[status]}`).join(", ");
  return bar(parts, whole, said || "no statements");
}

export function severityDots(counts) {
  const there = SEVERITIES.filter((severity) => counts[severity]);
  if (!there.length) return h("span", { class: "dim" }, "–");
  return h("span", { class: "dots" }, there.map((severity) =>
    h("span", { class: `count ${severity}`, title: `${number(counts[severity])} ${severity}` },
      h("span", { class: "hidden" }, `${severity} `), number(counts[severity]))));
}

/** How far an image's learning is: 0 to 1. */
export function learned(learning) {
  if (learning.complete) return 1;
  if (!learning.started_at) return 0;
  const passed = (Date.now() - Date.parse(learning.started_at)) / 1000;
  return Math.min(Math.max(passed / learning.required_seconds, 0), 0.99);
}

export function learningText(learning) {
  if (learning.complete) return "complete";
  if (!learning.started_at) return "not begun";
  const left = learning.required_seconds - (Date.now() - Date.parse(learning.started_at)) / 1000;
  return left > 0 ? `${span(left)} to go` : "held up";
}

export function progress(share, label) {
  const percent = Math.round(share * 100);
  const done = h("i", { class: share >= 1 ? "done" : "going" });
  done.style.width = `${percent}%`;
  return h("div", {
    class: "bar thin", role: "progressbar", "aria-label": label,
    "aria-valuenow": percent, "aria-valuemin": 0, "aria-valuemax": 100, title: `${percent} %`,
  }, done);
}

/** Whether the set of used files still grows: what the last quarter of the time has added. */
export function saturation(growth, first, end) {
  const most = growth.at(-1).files;
  const quarter = end - (end - first) / 4;
  const before = growth.filter((point) => Date.parse(point.at) <= quarter).at(-1)?.files ?? 0;
  const added = most - before;
  const share = most ? added / most : 0;
  return { added, share, saturated: share <= 0.01 };
}

/** The number of files seen in use over time, as steps. */
export function curve(evidence) {
  const growth = evidence.growth;
  const times = growth.map((point) => Date.parse(point.at));
  const first = Date.parse(evidence.totals.first_observed_at || growth[0].at);
  const end = Math.max(Date.parse(evidence.totals.last_observed_at || 0), times.at(-1), first + 1);
  const most = growth.at(-1).files;
  const [wide, high, left, bottom, top, right] = [400, 150, 42, 22, 8, 8];
  const x = (t) => left + ((wide - left - right) * (Math.max(t, first) - first)) / (end - first);
  const y = (n) => top + (high - bottom - top) * (1 - n / most);
  let path = `M${x(first)},${y(0)}`;
  growth.forEach((point, at) => { path += `H${x(times[at]).toFixed(1)}V${y(point.files).toFixed(1)}`; });
  path += `H${x(end)}`;
  const lines = [0, 0.5, 1].map((part) => Math.round(most * part));
  const label = `${number(most)} files were seen in use between ${when(first)} and ${when(end)}.`;
  const drawn = h("svg:svg", { viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label": label },
    [...new Set(lines)].map((n) => [
      h("svg:line", { class: "axis", x1: left, x2: wide - right, y1: y(n), y2: y(n) }),
      h("svg:text", { x: left - 6, y: y(n) + 4, "text-anchor": "end" }, number(n))]),
    evidence.workloads.filter((one) => one.state === "complete" && one.covered_since).slice(0, 1)
      .map((one) => mark(x(Math.min(Date.parse(one.covered_since), end)), top, high - bottom)),
    h("svg:path", { class: "area", d: `${path}V${y(0)}Z` }),
    h("svg:path", { class: "curve", d: path }),
    h("svg:text", { x: left, y: high - 7 }, when(first)),
    h("svg:text", { x: wide - right, y: high - 7, "text-anchor": "end" }, when(end)));
  return { drawn, first, end, last: times.at(-1), ...saturation(growth, first, end) };
}

function mark(x, top, bottom) {
  return [h("svg:line", { class: "mark", x1: x, x2: x, y1: top, y2: bottom }),
    h("svg:text", { x: x - 5, y: bottom - 6, "text-anchor": "end" }, "learning complete")];
}
