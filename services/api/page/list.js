// A list that the server pages: rows come as the reader nears the end, or by a button.

import { get, here } from "./api.js";
import { asRow, h } from "./dom.js";
import { problem } from "./problem.js";

/** `row(item)` makes the rows of an item; `told(page)` hears of the first page of each load. */
export function pagedList({ body, row, told, empty }) {
  const status = h("p", { class: "dim said", role: "status" });
  const more = h("button", { type: "button", class: "more", hidden: true, on: { click: () => next() } }, "Show more");
  const foot = h("div", { class: "foot" }, status, more);
  let address = null;
  let stop = new AbortController();
  let busy = false;

  const watch = new IntersectionObserver((seen) => {
    if (seen.some((one) => one.isIntersecting) && !more.hidden) next();
  }, { rootMargin: "600px" });
  watch.observe(more);

  async function load(wanted) {
    stop.abort();
    const mine = (stop = new AbortController());
    busy = true;
    foot.setAttribute("aria-busy", "true");
    try {
      const page = await get(wanted, mine.signal);
      if (mine.signal.aborted) return;
      told(page, status);
      body.replaceChildren(...page.items.flatMap(row));
      if (!page.items.length) body.append(asRow(h("tr", {}, h("td", { colspan: "20", class: "dim none" }, empty))));
      ended(page);
    } catch (error) {
      if (!mine.signal.aborted) foot.replaceWith(problem(error));
    } finally {
      if (!mine.signal.aborted) busy = false;
    }
  }

  async function next() {
    if (busy || !address) return;
    busy = true;
    const mine = stop;
    try {
      const page = await get(address, mine.signal);
      if (mine.signal.aborted) return;
      body.append(...page.items.flatMap(row));
      ended(page);
    } catch (error) {
      if (!mine.signal.aborted) status.textContent = error.message;
    } finally {
      if (!mine.signal.aborted) busy = false;
    }
    // Still in sight: the observer tells only of changes.
    if (!mine.signal.aborted && address && more.getBoundingClientRect().top < innerHeight + 600) next();
  }

  function ended(page) {
    address = here(page.next);
    more.hidden = !address;
    foot.removeAttribute("aria-busy");
  }

  return { load, foot, end: () => { stop.abort(); watch.disconnect(); } };
}
