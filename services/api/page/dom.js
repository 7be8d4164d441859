// Elements. Whatever comes from the API is put into the page as text, never as markup: names of
// files, packages and images are chosen by strangers.

// What moves a cursor or turns text round: with it a name could look like another.
const UNSEEN = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/g;
export const plain = (text) => text.replace(UNSEEN, "\ufffd");

const READ = new Set(["title", "aria-label"]);
const SVG = "http://www.w3.org/2000/svg";

/** Makes an element. Attributes that are null, undefined or false are left out; `on` holds
 * listeners; a child that is null is left out; texts become text. Names beginning with "svg:" are
 * of SVG. */
export function h(name, attributes = {}, ...children) {
  const made = name.startsWith("svg:")
    ? document.createElementNS(SVG, name.slice(4))
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "on") {
      for (const [event, react] of Object.entries(value)) made.addEventListener(event, react);
    } else if (value !== null && value !== undefined && value !== false) {
      made.setAttribute(key, value === true ? "" : READ.has(key) ? plain(String(value)) : value);
    }
  }
  made.append(...children.flat(3).filter((child) => child !== null && child !== undefined)
    .map((child) => typeof child === "string" ? plain(child) : child));
  return made;
}

export const main = document.getElementById("main");

export function show(...content) {
  main.replaceChildren(...content.filter(Boolean));
}

export const link = (to, text, attributes = {}) => h("a", { href: to, ...attributes }, text);

/** A link to an address that the API gave: only to the web, never to a script. */
export const webLink = (address, text) =>
  /^https?:\/\//.test(address) ? link(address, text, { rel: "noreferrer" }) : text;

export function section(title, attributes, ...content) {
  const id = `s-${title.toLowerCase().replace(/[^a-z]+/g, "-")}`;
  return h("section", { class: "card", "aria-labelledby": id, ...attributes },
    h("h2", { id }, title), ...content);
}

/** A table that scrolls within itself; `columns` are texts, or [text, class]. */
export function table(caption, columns, body, attributes = {}) {
  return scrolling(caption, h("table", attributes, ...head(caption, columns), body));
}

/** The same for lists of thousands: its rows are grids (style.css), whose roles have to be said. */
export function longTable(caption, columns, body, kind) {
  body.setAttribute("role", "rowgroup");
  const made = h("table", { class: `long ${kind}`, role: "table" }, ...head(caption, columns), body);
  made.tHead.setAttribute("role", "rowgroup");
  for (const row of made.tHead.rows) asRow(row, "columnheader");
  return scrolling(caption, made);
}

/** Says the roles of a row of a long table. */
export function asRow(row, role = "cell") {
  row.setAttribute("role", "row");
  for (const cell of row.cells) cell.setAttribute("role", role);
  return row;
}

function scrolling(caption, made) {
  return h("div", { class: "scroll", role: "region", "aria-label": caption, tabindex: "0" }, made);
}

function head(caption, columns) {
  return [
    h("caption", { class: "hidden" }, caption),
    h("thead", {}, h("tr", {}, columns.map((column) => {
      const [text, kind] = Array.isArray(column) ? column : [column, null];
      return h("th", { scope: "col", class: kind }, text || h("span", { class: "hidden" }, "More"));
    }))),
  ];
}

let toastTimer = 0;

/** Says something for a moment. */
export function toast(text) {
  const where = document.getElementById("toast");
  where.textContent = plain(text);
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { where.textContent = ""; }, 6000);
}

export function copyButton(text, what) {
  return h("button", {
    type: "button", class: "quiet copy", "aria-label": `Copy ${what}`, title: `Copy ${what}`,
    on: { click: async () => {
      try {
        await navigator.clipboard.writeText(text);
        toast(`Copied: ${what}.`);
      } catch {
        toast("The browser does not let the page copy; select the text instead.");
      }
    } },
  }, "Copy");
}

/** Reacts once it is quiet; `stop` takes back what was asked for and has not happened. */
export function debounce(react, milliseconds = 180) {
  let timer = 0;
  const later = () => {
    clearTimeout(timer);
    timer = setTimeout(react, milliseconds);
  };
  later.stop = () => clearTimeout(timer);
  return later;
}

/** Makes the children of a place these. One that is among them already is not moved without need:
 * what the reader points at, has focused or opened stays under the pointer. */
export function arrange(place, wanted) {
  const kept = new Set(wanted);
  for (const node of [...place.children]) if (!kept.has(node)) node.remove();
  let at = place.firstElementChild;
  for (const node of wanted) {
    if (node === at) at = at.nextElementSibling;
    else place.insertBefore(node, at);
  }
}

/** The same for a few newly made nodes: one that is there and looks alike is kept for it. */
export function redraw(place, made) {
  const old = [...place.children];
  arrange(place, made.map((node) => {
    const at = old.findIndex((one) => one.isEqualNode(node));
    return at < 0 ? node : old.splice(at, 1)[0];
  }));
}

/** A select with a label that only screen readers get. */
export function choice(label, any, options, react) {
  const made = h("select", { "aria-label": label, on: { change: react } },
    h("option", { value: "" }, any), options.map(([value, text]) => h("option", { value }, text)));
  return made;
}
