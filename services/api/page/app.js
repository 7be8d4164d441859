// The page of vexstream: fleet, image, vulnerability. Whatever comes from the API is put into the
// page as text, never as markup: names of files and images are chosen by strangers.

const STATUSES = ["affected", "under_investigation", "not_affected", "fixed"];
const LABELS = {
  affected: "affected", under_investigation: "under investigation",
  not_affected: "not affected", fixed: "fixed",
};
const STATES = {
  document: "document", no_findings: "no findings",
  awaiting_scan: "awaiting scan", scan_failed: "scan failed",
};
const main = document.getElementById("main");
const live = document.getElementById("live");
let view = { stop() {}, onEvent() {} };

// --- elements ------------------------------------------------------------------------------

function element(name, attributes = {}, ...children) {
  const made = name.startsWith("svg:")
    ? document.createElementNS("http://www.w3.org/2000/svg", name.slice(4))
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "on") for (const [event, react] of Object.entries(value)) made.addEventListener(event, react);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

const link = (to, text, attributes = {}) => element("a", { href: to, ...attributes }, text);
const imageLink = (digest, text) => link(`#/image/${digest}`, text);
const cveLink = (id) => link(`#/cve/${encodeURIComponent(id)}`, id);
const short = (digest) => `${digest.slice(0, 19)}…`;
const time = (text) => element("time", { datetime: text, title: text }, new Date(text).toLocaleString());
const plural = (count, one, many = `${one}s`) => `${count.toLocaleString()} ${count === 1 ? one : many}`;

function span(seconds) {
  const units = [[172800, 86400, "d"], [3600, 3600, "h"], [60, 60, "min"], [1, 1, "s"]];
  for (const [least, size, unit] of units) if (seconds >= least) return `${Math.floor(seconds / size)} ${unit}`;
  return "0 s";
}

function bar(counts, legend = false) {
  const total = STATUSES.reduce((sum, status) => sum + (counts[status] || 0), 0);
  const said = STATUSES.filter((status) => counts[status]).map((status) => `${counts[status]} ${LABELS[status]}`);
  const drawn = element("div", { class: "bar", role: "img", "aria-label": said.join(", ") || "no statements", title: said.join(", ") });
  for (const status of STATUSES) {
    if (!counts[status]) continue;
    const part = element("i", { class: status });
    part.style.width = `${(100 * counts[status]) / total}%`;
    drawn.append(part);
  }
  if (!legend) return drawn;
  const keys = STATUSES.map((status) => element("span", { class: `dot ${status}` }, `${(counts[status] || 0).toLocaleString()} ${LABELS[status]}`));
  return element("div", {}, drawn, element("div", { class: "legend" }, keys));
}

function share(learning) {
  if (learning.complete) return 1;
  if (!learning.started_at) return 0;
  const passed = (Date.now() - Date.parse(learning.started_at)) / 1000;
  return Math.min(Math.max(passed / learning.required_seconds, 0), 0.99);
}

function progress(learning) {
  const percent = Math.round(share(learning) * 100);
  const done = element("i", { class: "done" });
  done.style.width = `${percent}%`;
  return element("div", { class: "bar", role: "progressbar", "aria-valuenow": percent, "aria-valuemin": 0, "aria-valuemax": 100, "aria-label": "learning period", title: `${percent} %` }, done);
}

const statusText = (status) => element("span", { class: `status dot ${status}` }, LABELS[status] || status);

function show(...content) {
  main.replaceChildren(...content);
}

function problem(error) {
  const card = element("section", { class: "card error", role: "alert" }, element("h1", {}, "This did not work"), element("p", {}, error.message));
  if (error.status === 401 || error.status === 403) {
    const input = element("input", { type: "password", id: "token", autocomplete: "off" });
    card.append(element("form", { class: "filters", on: { submit: (event) => {
      event.preventDefault();
      sessionStorage.setItem("token", input.value);
      route();
      follow();
    } } }, element("label", { for: "token" }, "Token"), input, element("button", {}, "Use it")));
  }
  return card;
}

// --- the API -------------------------------------------------------------------------------

function request(address, options = {}) {
  const token = sessionStorage.getItem("token");
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  return fetch(address, { ...options, headers });
}

async function get(address) {
  const answer = await request(address, { headers: { Accept: "application/json" } });
  const body = await answer.json();
  if (answer.ok) return body;
  throw Object.assign(new Error(body.detail || answer.statusText), { status: answer.status });
}

// The address of a next page names the public host, which may be another than the one we are on.
const here = (address) => address && new URL(address).pathname.replace(/^.*\/(images|vulnerabilities)/, "$1") + new URL(address).search;

async function follow() {
  follow.stop?.abort();
  const stop = (follow.stop = new AbortController());
  let last = null;
  while (!stop.signal.aborted) {
    try {
      const answer = await request("stream", { signal: stop.signal, headers: last ? { "Last-Event-ID": last } : {} });
      if (!answer.ok) throw new Error(answer.statusText);
      live.textContent = "live";
      live.className = "on";
      for await (const event of events(answer.body)) {
        last = event.id ?? last;
        if (event.data) view.onEvent(event.event, JSON.parse(event.data));
      }
    } catch { /* the connection is gone; it is made anew below */ }
    if (stop.signal.aborted) return;
    live.textContent = "not live";
    live.className = "";
    await new Promise((resolve) => setTimeout(resolve, 3000));
  }
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (buffer + value).split("\n\n");
    buffer = parts.pop();
    for (const part of parts) {
      const event = {};
      for (const line of part.split("\n")) {
        const at = line.indexOf(": ");
        if (at > 0) event[line.slice(0, at)] = line.slice(at + 2);
      }
      yield event;
    }
  }
}

// --- the fleet -----------------------------------------------------------------------------

function fleet() {
  const rows = new Map();
  const body = element("tbody");
  const figures = element("div");
  const said = element("p", { class: "dim", role: "status" });
  const name = element("input", { type: "search", id: "name", placeholder: "part of a name or digest" });
  const state = choice("state", "any state", Object.entries(STATES));
  const learning = choice("learning", "any learning", [["complete", "learning complete"], ["incomplete", "still learning"]]);
  const status = choice("status", "any status", STATUSES.map((key) => [key, `has ${LABELS[key]}`]));
  let turn = 0;

  async function load() {
    const mine = ++turn;
    const query = new URLSearchParams({ limit: 200 });
    for (const input of [name, state, learning, status]) if (input.value) query.set(input.id, input.value);
    rows.clear();
    body.replaceChildren();
    said.textContent = "loading";
    let address = `images?${query}`;
    while (address && mine === turn) {
      const page = await get(address);
      if (mine !== turn) return;
      totals(page.counts);
      for (const image of page.items) put(image);
      said.textContent = `${rows.size.toLocaleString()} of ${plural(page.counts.images, "image")}`;
      address = here(page.next);
    }
  }

  function totals(counts) {
    figures.replaceChildren(
      element("div", { class: "figures" },
        figure(counts.images, "images"),
        figure(counts.learning_complete, "learning complete"),
        figure(counts.states.awaiting_scan || 0, "awaiting scan"),
        figure(counts.states.scan_failed || 0, "scan failed")),
      bar(counts.statements, true));
  }

  function put(image, changed = false) {
    const row = element("tr", { class: changed ? "changed" : null },
      element("td", {}, imageLink(image.config_digest, image.names[0] || short(image.config_digest)), element("div", { class: "dim mono" }, short(image.config_digest))),
      element("td", {}, STATES[image.state] || image.state, image.failure ? element("div", { class: "dim" }, image.failure.slice(0, 120)) : null),
      element("td", {}, progress(image.learning), element("div", { class: "dim" }, image.learning.complete ? "complete" : `${Math.round(share(image.learning) * 100)} % of ${span(image.learning.required_seconds)}`)),
      element("td", {}, bar(image.counts)),
      ...STATUSES.map((key) => element("td", { class: image.counts[key] ? key : "dim" }, String(image.counts[key] || 0))));
    rows.get(image.config_digest)?.replaceWith(row);
    if (!rows.has(image.config_digest)) body.append(row);
    rows.set(image.config_digest, row);
  }

  const pending = new Set();
  let timer = 0;
  async function refresh() {
    timer = 0;
    const changed = [...pending].slice(0, 20);
    const many = pending.size > 20;
    pending.clear();
    if (many) return load();
    for (const digest of changed) if (rows.has(digest)) put(await get(`images/${digest}`), true);
    totals((await get("images?limit=1")).counts);
  }

  show(
    element("section", { class: "card" }, element("h1", {}, "Fleet"), figures),
    element("section", { class: "card" },
      element("div", { class: "filters" }, element("label", { for: "name" }, "Images"), name, state, learning, status),
      said,
      element("div", { class: "scroll" }, element("table", {},
        element("thead", {}, element("tr", {}, ...["Image", "State", "Learning", "Statements", "Affected", "Open", "Not affected", "Fixed"].map((text) => element("th", { scope: "col" }, text)))),
        body))));
  const attempt = () => load().catch((error) => show(problem(error)));
  name.addEventListener("input", debounce(attempt));
  for (const input of [state, learning, status]) input.addEventListener("change", attempt);
  attempt();
  return {
    stop() { turn++; clearTimeout(timer); },
    onEvent(kind, data) {
      if (kind === "reset") return attempt();
      if (kind === "deleted") { rows.get(data.config_digest)?.remove(); rows.delete(data.config_digest); return; }
      pending.add(data.config_digest);
      timer ||= setTimeout(() => refresh().catch(() => {}), 1000);
    },
  };
}

function figure(number, label) {
  return element("div", {}, element("b", {}, number.toLocaleString()), label);
}

function choice(id, any, options) {
  return element("select", { id, "aria-label": id }, element("option", { value: "" }, any), options.map(([value, text]) => element("option", { value }, text)));
}

function debounce(react) {
  let timer = 0;
  return () => { clearTimeout(timer); timer = setTimeout(react, 200); };
}

// --- an image ------------------------------------------------------------------------------

function image(digest) {
  let stopped = false;
  async function load() {
    const about = await get(`images/${digest}`);
    const absent = (error) => { if (error.status === 404 || error.status === 406) return null; throw error; };
    const [vex, evidence, versions, changes] = await Promise.all([
      get(`vex/${digest}`).catch(absent), get(`vex/${digest}/evidence`).catch(absent),
      get(`vex/${digest}/versions?limit=8`).catch(absent), get(`vex/${digest}/diff`).catch(absent),
    ]);
    if (stopped) return;
    const open = new Set([...main.querySelectorAll("details[open]")].map((one) => one.dataset.key));
    const kept = main.querySelector("#find")?.value || "";
    show(heading(about), element("div", { class: "grid" }, learningCard(about, evidence), curveCard(evidence)),
      workloadsCard(evidence), historyCard(about, versions, changes), statementsCard(vex, evidence, open, kept));
  }
  const attempt = () => load().catch((error) => show(problem(error)));
  show(element("p", { class: "dim" }, "loading"));
  attempt();
  const again = debounce(attempt);
  return {
    stop() { stopped = true; },
    onEvent(kind, data) { if (kind === "reset" || data.config_digest === digest || data.manifest_digests?.includes(digest)) again(); },
  };
}

function heading(about) {
  return element("section", { class: "card" },
    element("h1", {}, about.names[0] || short(about.config_digest)),
    element("div", { class: "mono dim" }, about.config_digest),
    about.failure ? element("p", { class: "affected" }, about.failure) : null,
    element("div", { class: "figures" }, figure(about.version, "version"), figure(Object.values(about.counts).reduce((a, b) => a + b, 0), "statements")),
    bar(about.counts, true),
    element("details", {}, element("summary", {}, "Digests and names"),
      element("dl", {}, element("dt", {}, "Names"), element("dd", {}, about.names.join(", ") || "none"),
        element("dt", {}, "Manifests, indexes"), element("dd", { class: "mono" }, about.manifest_digests.join(" ") || "none"),
        element("dt", {}, "Other platforms"), element("dd", {}, about.alternatives.length ? about.alternatives.map((other) => [imageLink(other, short(other)), " "]) : "none"))),
    about.document_url ? element("p", {}, ...["openvex", "csaf", "cyclonedx", "cyclonedx-dt"].map((format) => [link(`vex/${about.config_digest}?format=${format}`, format), " "]).flat()) : null);
}

function learningCard(about, evidence) {
  const { learning } = about;
  const left = learning.started_at ? learning.required_seconds - (Date.now() - Date.parse(learning.started_at)) / 1000 : null;
  return element("section", { class: "card" }, element("h2", {}, "Learning period"), progress(learning),
    element("p", {}, learning.complete ? `Complete: every workload was seen whole for ${span(learning.required_seconds)}.`
      : left === null ? "Not begun." : left > 0 ? `${span(left)} of ${span(learning.required_seconds)} to go.` : "The time is over, and it is not complete:"),
    learning.reasons.length ? element("ul", {}, learning.reasons.slice(0, 20).map((why) => element("li", {}, why))) : null,
    evidence ? element("dl", {},
      element("dt", {}, "Files used"), element("dd", {}, `${evidence.totals.files.toLocaleString()} (${evidence.totals.unowned_files.toLocaleString()} of no package)`),
      element("dt", {}, "Packages used"), element("dd", {}, `${evidence.totals.packages_used.toLocaleString()} of ${evidence.totals.packages.toLocaleString()}`),
      element("dt", {}, "Seen on"), element("dd", {}, `${plural(evidence.totals.containers, "container")}, ${plural(evidence.totals.nodes, "node")}`),
      element("dt", {}, "Events lost"), element("dd", {}, evidence.totals.lost_events.toLocaleString())) : null);
}

function curveCard(evidence) {
  const card = element("section", { class: "card" }, element("h2", {}, "Files seen in use, over time"));
  const growth = evidence?.growth || [];
  if (!growth.length) return card.append(element("p", { class: "dim" }, "Nothing published yet.")), card;
  const [wide, high, left, bottom] = [560, 200, 46, 24];
  const times = growth.map((point) => Date.parse(point.at));
  const first = Date.parse(evidence.totals.first_observed_at || growth[0].at);
  const end = Math.max(Date.parse(evidence.totals.last_observed_at || 0), times.at(-1), first + 1);
  const most = growth.at(-1).files;
  const x = (t) => left + ((wide - left - 8) * (Math.max(t, first) - first)) / (end - first);
  const y = (n) => 8 + (high - bottom - 8) * (1 - n / most);
  let path = `M${x(first)},${y(0)}`;
  growth.forEach((point, at) => { path += `H${x(times[at])}V${y(point.files)}`; });
  path += `H${x(end)}`;
  const ticks = [0, Math.round(most / 2), most];
  card.append(element("svg:svg", { viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label": `${most} files by ${new Date(end).toLocaleString()}` },
    ticks.map((n) => [element("svg:line", { class: "axis", x1: left, x2: wide - 8, y1: y(n), y2: y(n) }), element("svg:text", { x: left - 6, y: y(n) + 4, "text-anchor": "end" }, n.toLocaleString())]).flat(),
    element("svg:path", { class: "area", d: `${path}V${y(0)}Z` }), element("svg:path", { class: "curve", d: path }),
    element("svg:text", { x: left, y: high - 6 }, new Date(first).toLocaleTimeString()),
    element("svg:text", { x: wide - 8, y: high - 6, "text-anchor": "end" }, `${new Date(end).toLocaleTimeString()} (${span((end - first) / 1000)})`)));
  card.append(element("p", { class: "dim" }, `Nothing new since ${new Date(times.at(-1)).toLocaleString()}.`));
  return card;
}

function workloadsCard(evidence) {
  if (!evidence?.workloads.length) return null;
  return element("section", { class: "card" }, element("h2", {}, "Workloads"), element("div", { class: "scroll" }, element("table", {},
    element("thead", {}, element("tr", {}, ...["Workload", "Observation", "Containers", "Nodes", "Files", "Lost"].map((text) => element("th", { scope: "col" }, text)))),
    element("tbody", {}, evidence.workloads.map((one) => element("tr", {},
      element("td", {}, one.workload), element("td", {}, one.state.replaceAll("_", " "), one.reason ? element("div", { class: "dim" }, one.reason) : null),
      element("td", {}, `${one.containers_seen_whole} whole of ${one.containers}`), element("td", { title: one.nodes.join(", ") }, String(one.node_count)),
      element("td", {}, one.files.toLocaleString()), element("td", {}, String(one.lost_events))))))));
}

function historyCard(about, versions, changes) {
  if (!versions?.items.length) return null;
  const flips = (changes?.changed || []).slice(0, 12).map((one) => element("li", {}, cveLink(one.vulnerability), " in ", element("span", { class: "mono" }, one.package), ": ", statusText(one.before.status), " to ", statusText(one.after.status)));
  return element("section", { class: "card" }, element("details", { "data-key": "history" }, element("summary", {}, `History: ${plural(versions.items[0].version, "version")}`),
    changes ? element("p", {}, `From version ${changes.from_version} to ${changes.to_version}: ${changes.added.length} new, ${changes.removed.length} gone, ${changes.changed.length} changed.`) : null,
    element("ul", {}, flips),
    element("table", {}, element("tbody", {}, versions.items.map((one) => element("tr", {},
      element("td", {}, link(`vex/${about.config_digest}/versions/${one.version}`, `version ${one.version}`)), element("td", {}, time(one.issued_at)), element("td", {}, bar(one.counts))))))));
}

function statementsCard(vex, evidence, open, kept) {
  const card = element("section", { class: "card" }, element("h2", {}, "Statements"));
  if (!vex) return card.append(element("p", { class: "dim" }, "There is no document yet.")), card;
  const used = new Map((evidence?.packages || []).map((one) => [one.purl.split("?")[0], one]));
  const all = vex.statements.map((one) => {
    const packages = [...new Set(one.products.flatMap((product) => (product.subcomponents || []).map((part) => part["@id"])))];
    return { one, packages, text: `${one.vulnerability.name} ${(one.vulnerability.aliases || []).join(" ")} ${packages.join(" ")} ${one.status_notes || ""}`.toLowerCase() };
  }).sort((a, b) => STATUSES.indexOf(a.one.status) - STATUSES.indexOf(b.one.status));
  const find = element("input", { type: "search", id: "find", placeholder: "CVE, package, reason", value: kept });
  const boxes = STATUSES.map((status) => element("input", { type: "checkbox", checked: "", value: status }));
  const said = element("span", { class: "dim", role: "status" });
  const body = element("tbody");
  const rows = all.map(({ one, packages }) => {
    const key = `${one.vulnerability.name} ${packages[0]}`;
    const why = element("details", { "data-key": key, open: open.has(key) ? "" : null, on: { toggle: (event) => {
      if (event.target.open && event.target.childElementCount === 1) event.target.append(reasons(one, packages, used));
    } } }, element("summary", {}, (one.impact_statement || one.status_notes || one.action_statement || "").replace(/^\[[a-z_]+\] /, "")));
    return element("tr", {}, element("td", {}, cveLink(one.vulnerability.name)), element("td", { class: "mono" }, packages[0] || "every package"), element("td", {}, statusText(one.status)), element("td", {}, why));
  });
  const filter = () => {
    const wanted = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
    const text = find.value.toLowerCase();
    const fitting = rows.filter((_, at) => wanted.has(all[at].one.status) && all[at].text.includes(text));
    body.replaceChildren(...fitting);
    said.textContent = `${fitting.length.toLocaleString()} of ${plural(all.length, "statement")}`;
  };
  find.addEventListener("input", debounce(filter));
  boxes.forEach((box) => box.addEventListener("change", filter));
  filter();
  card.append(
    element("div", { class: "filters" }, element("label", { for: "find" }, "Find"), find, boxes.map((box) => element("label", {}, box, statusText(box.value))), said),
    element("div", { class: "scroll" }, element("table", {}, element("thead", {}, element("tr", {}, ...["Vulnerability", "Package", "Status", "Why"].map((text) => element("th", { scope: "col" }, text)))), body)));
  return card;
}

function reasons(one, packages, used) {
  const found = packages.map((purl) => used.get(purl.split("?")[0])).find(Boolean);
  const list = element("dl", {});
  const add = (label, value) => value && list.append(element("dt", {}, label), element("dd", {}, value));
  add("Aliases", (one.vulnerability.aliases || []).join(", "));
  add("Justification", one.justification);
  add("Action", one.action_statement);
  add("Since", one.timestamp && time(one.timestamp));
  if (!found) add("Files used", "none of this package was seen in use");
  else {
    add("Files used", `${found.files_used} of ${found.files_observable}, by ${found.workloads.join(", ")}; first ${new Date(found.first_seen_at).toLocaleString()}`);
    add("Such as", element("ul", {}, found.examples.map((file) => element("li", {}, element("span", { class: "mono" }, file.path), ` (${file.use.join(", ").replaceAll("_", " ")})`))));
  }
  return list;
}

// --- a vulnerability -----------------------------------------------------------------------

function vulnerability(id) {
  let stopped = false;
  const body = element("tbody");
  const said = element("p", { role: "status" });
  const figures = element("div");
  async function load() {
    let address = `vulnerabilities/${encodeURIComponent(id)}?limit=200`;
    let shown = 0;
    body.replaceChildren();
    while (address && !stopped) {
      const page = await get(address);
      figures.replaceChildren(bar(page.counts.statements, true));
      for (const one of page.items) {
        body.append(element("tr", {}, element("td", {}, imageLink(one.config_digest, one.names[0] || short(one.config_digest))), element("td", { class: "mono" }, one.package), element("td", {}, statusText(one.status)), element("td", {}, one.text)));
        shown++;
      }
      said.textContent = `${plural(shown, "statement")} on ${plural(page.counts.images, "image")}; nothing is known of ${plural(page.counts.images_not_scanned, "image")} without a scan.`;
      address = here(page.next);
    }
  }
  show(element("section", { class: "card" }, element("h1", {}, id), figures, said,
    element("div", { class: "scroll" }, element("table", {}, element("thead", {}, element("tr", {}, ...["Image", "Package", "Status", "Why"].map((text) => element("th", { scope: "col" }, text)))), body))));
  load().catch((error) => show(problem(error)));
  return { stop() { stopped = true; }, onEvent() {} };
}

// --- where we are --------------------------------------------------------------------------

function route() {
  view.stop();
  const [, kind, rest] = location.hash.match(/^#\/(image|cve)\/(.+)$/) || [];
  let wanted = rest;
  try { wanted = decodeURIComponent(rest); } catch { /* shown as it stands */ }
  document.title = kind ? `${wanted.slice(0, 60)} - vexstream` : "vexstream";
  view = kind === "image" ? image(encodeURIComponent(wanted).replaceAll("%3A", ":")) : kind === "cve" ? vulnerability(wanted) : fleet();
}

document.getElementById("jump").addEventListener("submit", (event) => {
  event.preventDefault();
  const wanted = document.getElementById("jump-to").value.trim();
  if (wanted) location.hash = wanted.startsWith("sha256:") ? `#/image/${wanted}` : `#/cve/${encodeURIComponent(wanted)}`;
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  event.preventDefault();
  (main.querySelector("input[type=search]") || document.getElementById("jump-to")).focus();
});
window.addEventListener("hashchange", () => { route(); main.focus({ preventScroll: true }); });
if (location.hash !== "#main") route();
follow();
