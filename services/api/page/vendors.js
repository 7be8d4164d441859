// The documents of vendors that were given: what holds of each, and who takes one back.

import { query, withdraw } from "./api.js";
import { statusBar } from "./charts.js";
import { rights } from "./decide.js";
import { asRow, debounce, h, link, longTable, section, show, toast, webLink } from "./dom.js";
import { number, plural, short, status, STATUSES, time } from "./format.js";
import { pagedList } from "./list.js";

const COLUMNS = ["", "Document", "Version", "Given", "Holds", ["Statements", "num"], ["Superseded", "num"], "State"];
const FORMATS = { openvex: "OpenVEX", csaf: "CSAF" };

/** `asked` holds what the address asks for: name. */
export function vendors(asked) {
  const body = h("tbody");
  const find = h("input", { type: "search", id: "find", "aria-label": "Find documents by id or author", placeholder: "id or author", maxlength: "300", value: asked.name || "" });
  const nameless = h("p", { class: "sub" });
  const list = pagedList({
    body, row, key: (one) => `${one.format} ${one.author} ${one.document}`,
    empty: () => find.value.trim() ? "No document fits." : "No document of a vendor was given yet.",
    told: (page, said) => {
      said.textContent = plural(page.documents, "document");
      const left = page.statements_without_document;
      nameless.textContent = left ? `${plural(left, "statement")} more ${left === 1 ? "holds" : "hold"}, of documents without an id, which are in no list.` : "";
    },
  });

  function reload() {
    const words = query({ name: find.value.trim() });
    history.replaceState(null, "", words ? `#/vendors?${words}` : "#/vendors");
    return list.load(`vendor-vex?${query({ name: find.value.trim(), limit: 100 })}`);
  }

  function row(one) {
    const opened = h("button", { type: "button", class: "open", "aria-expanded": "false", "aria-label": `More of ${one.document}` });
    const made = h("tr", { class: "vendor" },
      h("td", { class: "opener" }, opened),
      h("td", {}, h("span", { class: "mono" }, webLink(one.document, one.document)), h("div", { class: "sub" }, h("bdi", {}, one.author), ` · ${FORMATS[one.format]}`)),
      h("td", { "data-label": "Version" }, one.version, one.issued_at ? h("div", { class: "sub" }, time(one.issued_at)) : null),
      h("td", { "data-label": "Given" }, one.given_at ? time(one.given_at) : h("span", { class: "dim" }, "–"), one.given_by ? h("div", { class: "sub" }, `by ${one.given_by}`) : null),
      h("td", { "data-label": "Holds" }, one.holding ? [statusBar(one.statuses), h("div", { class: "sub" }, number(one.holding))] : h("span", { class: "dim" }, "nothing")),
      h("td", { class: "num", "data-label": "Statements" }, one.statements === null ? h("span", { class: "dim" }, "–") : number(one.statements)),
      h("td", { class: "num", "data-label": "Superseded" }, number(one.superseded)),
      h("td", { "data-label": "State" }, state(one)));
    opened.addEventListener("click", () => list.unfold(made, opened, () => detail(one, list)));
    return asRow(made);
  }

  const search = debounce(reload);
  find.addEventListener("input", () => { list.waiting(); search(); });
  show(h("h1", {}, "Vendors' documents"),
    section("Given", {}, h("div", { class: "filters" }, find, list.anew),
      longTable("Vendors' documents", COLUMNS, body, "vendors"), list.foot, nameless));
  list.waiting();
  reload();
  return { stop: () => { search.stop(); list.end(); }, onEvent() {} };
}

function state(one) {
  if (one.withdrawal) return ["withdrawn", h("div", { class: "sub" }, time(one.withdrawal.at), ` by ${one.withdrawal.by}`)];
  if (one.in_doubt) return h("span", { class: "under_investigation" }, `${number(one.in_doubt)} in doubt`);
  return one.holding ? "holds" : h("span", { class: "dim" }, "nothing of it holds");
}

function detail(one, list) {
  const place = h("div", { class: "actions" });
  const draw = async () => {
    const mine = await rights().catch(() => ({ scopes: [] }));
    const may = !one.withdrawal && mine.scopes.includes("vendor-vex");
    place.replaceChildren(...may ? [withdrawButton(one, () => list.changed())] : []);
  };
  draw();
  const counts = STATUSES.filter((name) => one.statuses[name]).map((name, at) => [at ? " · " : "", status(name), ` ${number(one.statuses[name])}`]);
  const images = one.images.map((digest) => h("li", {}, link(`#/image/${digest}`, short(digest), { class: "mono", title: digest })));
  const more = one.image_count - one.images.length;
  return asRow(h("tr", { class: "detail" }, h("td", { colspan: COLUMNS.length },
    h("div", { class: "evidence", role: "region", "aria-label": `More of ${one.document}` },
      h("p", { class: "verdict" }, one.holding ? counts : "Nothing of it holds."),
      one.every_image ? h("p", {}, "Says something of packages in every image.") : null,
      one.in_doubt ? h("p", {}, `In the place of ${plural(one.in_doubt, "statement")} is a record that cannot be read: they rule nothing out.`) : null,
      images.length ? [h("h3", {}, plural(one.image_count, "image")), h("ul", { class: "digests" }, images, more ? h("li", { class: "dim" }, `and ${number(more)} more`) : null)] : null,
      place))));
}

/** Asks once more before it withdraws. */
export function withdrawButton({ document: id, author, format }, done) {
  const publisher = format === "csaf" ? author : "";
  const button = h("button", { type: "button", class: "withdraw", on: { click: async () => {
    const sure = `Withdraw ${id} for every image`;
    if (button.textContent !== sure) {
      button.textContent = sure;
      return;
    }
    try {
      await withdraw(`vendor-vex?${query({ document: id, publisher })}`);
      toast("Withdrawn: its statements follow observation again.");
      done();
    } catch (error) {
      toast(error.message);
    }
  } } }, "Withdraw the vendor's document");
  return button;
}
