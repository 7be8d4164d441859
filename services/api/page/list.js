// A list that the server pages: rows come as the reader nears the end, or by a button.

import { get, here } from "./api.js";
import { arrange, asRow, h } from "./dom.js";
import { problem } from "./problem.js";

// The first page stays one group of rows, in which rows are kept when it is drawn anew; what is read on
// comes in groups of about a screen. The browser looks after groups, not rows: those beyond the
// screen cost nothing, however many they are.
const GROUP = 25;

/** `row(item)` makes the row of an item, `key(item)` tells it from others; `told(page)` hears of the
 * first page of each load. A row whose item has not changed stays, with the detail open below it.
 * `body` is the first group of rows, in its table. */
export function pagedList({ body, key, row, told, empty }) {
  const status = h("p", { class: "dim said", role: "status" });
  const more = h("button", { type: "button", class: "more", hidden: true, on: { click: () => next() } }, "Show more");
  const failed = h("div");
  const foot = h("div", { class: "foot" }, failed, status, more);
  const anew = h("button", { type: "button", class: "quiet anew", hidden: true, on: { click: () => load(shown) } }, "Changed meanwhile: show");
  let shown = null;
  let address = null;
  let stop = new AbortController();
  let busy = false;
  let drawn = new Map();
  let firstPage = 0;
  let place = history.state;

  const watch = new IntersectionObserver((seen) => {
    if (seen.some((one) => one.isIntersecting) && !more.hidden) next();
  }, { rootMargin: "600px" });
  watch.observe(more);

  async function load(wanted) {
    stop.abort();
    const mine = (stop = new AbortController());
    shown = wanted;
    busy = true;
    anew.hidden = true;
    waiting();
    failed.replaceChildren();
    try {
      const page = await get(wanted, mine.signal);
      if (mine.signal.aborted) return;
      told(page, status);
      const former = drawn;
      drawn = new Map();
      firstPage = page.items.length;
      arrange(body, firstPage ? page.items.flatMap((item) => rows(item, former))
        : [asRow(h("tr", {}, h("td", { colspan: "20", class: "dim none" }, empty())))]);
      while (body.nextElementSibling) body.nextElementSibling.remove();
      ended(page);
      if (place) await comeBack(mine.signal);
    } catch (error) {
      if (mine.signal.aborted) return;
      failed.replaceChildren(problem(error));
      ended({ next: null });
    } finally {
      if (!mine.signal.aborted) busy = false;
    }
  }

  async function next() {
    if (busy || !address) return;
    busy = true;
    const mine = stop;
    try {
      await append(mine.signal);
    } catch (error) {
      if (!mine.signal.aborted) status.textContent = error.message;
    } finally {
      if (!mine.signal.aborted) busy = false;
    }
    // Still in sight: the observer tells only of changes.
    if (!mine.signal.aborted && address && more.getBoundingClientRect().top < innerHeight + 600) next();
  }

  async function append(signal) {
    const page = await get(address, signal);
    if (signal.aborted) return;
    body.parentNode.append(...groups(page.items));
    ended(page);
  }

  /** Who comes back in the history finds the list read on as far, and the row where it was. */
  async function comeBack(signal) {
    const { at, top } = place;
    for (const { rows } = place; drawn.size < rows && address;) await append(signal);
    place = null;
    const there = drawn.get(at)?.made;
    if (!there || signal.aborted) return;
    there.scrollIntoView();
    for (let still = 0, frames = 0; still < 3 && frames < 30; frames += 1) {
      await new Promise(requestAnimationFrame); // only now is what is around it laid out
      const off = there.getBoundingClientRect().top - top;
      still = Math.abs(off) < 1 ? still + 1 : 0;
      if (!still) window.scrollBy(0, off);
    }
    there.querySelector("a")?.focus({ preventScroll: true });
  }

  function remember(event) {
    const middle = document.elementFromPoint(innerWidth / 2, innerHeight / 2);
    const rowOf = (node) => node?.closest?.(".long > tbody > tr:not(.detail)");
    const made = rowOf(event.target) || rowOf(middle);
    const [at] = [...drawn].find(([, one]) => one.made === made) || [];
    if (at) history.replaceState({ rows: drawn.size, at, top: made.getBoundingClientRect().top }, "");
  }
  const leaving = new AbortController();
  document.addEventListener("click", remember, { capture: true, signal: leaving.signal });
  window.addEventListener("pagehide", remember, { signal: leaving.signal });

  function groups(items) {
    const made = [];
    for (let at = 0; at < items.length; at += GROUP) {
      made.push(h("tbody", { class: "later", role: "rowgroup" }, items.slice(at, at + GROUP).map((item) => rows(item, drawn))));
    }
    return made;
  }

  /** The row of an item, the former one if it says the same, and what is open below that. */
  function rows(item, former) {
    const text = JSON.stringify(item);
    const known = former.get(key(item));
    const made = known?.text === text ? known.made : row(item);
    drawn.set(key(item), { text, made });
    const below = made.nextElementSibling;
    return below?.classList.contains("detail") ? [made, below] : [made];
  }

  /** Says that the list is about to change. */
  function waiting() {
    foot.setAttribute("aria-busy", "true");
  }

  /** Whoever reads evidence, or has read on beyond the first page, is not interrupted. */
  const isRead = () => drawn.size > firstPage || body.parentNode.querySelector(".detail") !== null;

  /** What the list shows has changed on the server. */
  function changed() {
    if (isRead()) anew.hidden = false;
    else if (shown) load(shown);
  }

  /** Redraws the row of an item that is shown, where it is. */
  function put(item) {
    const former = drawn.get(key(item));
    const text = JSON.stringify(item);
    if (!former || former.text === text) return;
    const made = row(item);
    made.classList.add("changed");
    const focused = former.made.contains(document.activeElement);
    former.made.replaceWith(made);
    if (focused) made.querySelector("a, button")?.focus();
    drawn.set(key(item), { text, made });
  }

  function drop(gone) {
    drawn.get(gone)?.made.remove();
    drawn.delete(gone);
  }

  /** Opens or closes what `detail()` makes, below a row. */
  function unfold(row, opener, detail) {
    const below = row.nextElementSibling;
    const isOpen = below?.classList.contains("detail");
    opener.setAttribute("aria-expanded", String(!isOpen));
    if (!isOpen) row.after(detail());
    else below.remove();
    if (isOpen && !anew.hidden) changed();
  }

  function ended(page) {
    address = here(page.next);
    more.hidden = !address;
    foot.removeAttribute("aria-busy");
  }

  return { load, waiting, changed, unfold, put, drop, has: (one) => drawn.has(one), failed: () => failed.hasChildNodes(), foot, anew, end: () => { stop.abort(); leaving.abort(); watch.disconnect(); } };
}
