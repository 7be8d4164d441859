// Decisions of people on a statement: accept it, override it, comment on it, take it back.

import { get, post, token, withdraw } from "./api.js";
import { h, toast } from "./dom.js";
import { plural, STATUS, STATUSES, time, words } from "./format.js";
import { askForToken } from "./problem.js";
import { withdrawButton } from "./vendors.js";

const JUSTIFICATIONS = [
  "component_not_present", "vulnerable_code_not_present", "vulnerable_code_not_in_execute_path",
  "vulnerable_code_cannot_be_controlled_by_adversary", "inline_mitigations_already_exist",
];

let known = { token: null, answer: null };

/** What our token may do; asked for once a token. */
export async function rights() {
  if (!token.get()) return { name: null, scopes: [] };
  if (known.token !== token.get()) known = { token: token.get(), answer: get("whoami") };
  return known.answer;
}

export function decisionBox(digest, statement) {
  const place = h("div", { class: "decide" });
  const draw = async () => {
    const mine = await rights().catch((error) => ({ name: null, scopes: [], why: error.message }));
    const said = comments(digest, statement);
    place.replaceChildren(said.list, mine.scopes.includes("decide") ? form(digest, statement, mine, said.load) : refusal(mine, draw));
  };
  draw();
  return place;
}

/** The id of the vendor's document that a statement follows; null where a person decided, by a token. */
function vendorsDocument(statement) {
  const said = statement.decided ?? "";
  return said.includes("(token ") ? null : /\(([^()]+) version [^()]*\)/.exec(said)?.[1] ?? null;
}

function refusal(mine, draw) {
  const said = mine.why || (mine.name ? `The token ${mine.name} has no scope decide.` : token.get() ? "The API does not know this token." : "Deciding and commenting need a token with the scope decide.");
  window.addEventListener("token", draw, { once: true });
  return h("p", { class: "sub" }, said, " ", h("button", { type: "button", class: "quiet", on: { click: askForToken } }, "Enter a token"));
}

function comments(digest, statement) {
  const list = h("div", {});
  const asked = new URLSearchParams({ vulnerability: statement.vulnerability, package: statement.package });
  const load = () => get(`vex/${digest}/comments?${asked}`).then(({ items }) => {
    if (!items.length) return;
    list.replaceChildren(h("h3", {}, plural(items.length, "comment")),
      h("ul", { class: "comments" }, items.map((one) => h("li", {}, h("span", { class: "strong" }, one.author), " ", h("span", { class: "sub" }, time(one.written_at)), h("p", {}, one.text)))));
  }).catch(() => {});
  load();
  return { list, load };
}

function form(digest, statement, mine, commented) {
  const id = `d-${Math.random().toString(36).slice(2)}`;
  const kinds = [["accept", `Accept: it stays ${STATUS[statement.status]}`], ["override", "Override"], ["comment", "Comment only"]];
  const radios = kinds.map(([value, text], at) => h("label", {}, h("input", { type: "radio", name: id, value, checked: at === 0, on: { change: adapt } }), text));
  const status = h("select", { id: `${id}-status` }, STATUSES.filter((one) => one !== statement.status).map((one) => h("option", { value: one }, STATUS[one])));
  const justification = h("select", { id: `${id}-why` }, h("option", { value: "" }, "as the reason says"), JUSTIFICATIONS.map((one) => h("option", { value: one }, words(one))));
  const reach = h("select", { id: `${id}-reach` }, h("option", { value: statement.package }, "this package in this image"), h("option", { value: "*" }, "every package of this image"));
  const reason = h("textarea", { id: `${id}-reason`, rows: "2", maxlength: "10000", required: true });
  const author = h("input", { id: `${id}-author`, maxlength: "300", placeholder: mine.name, autocomplete: "name" });
  const field = (label, control) => h("div", { class: "field" }, h("label", { for: control.id }, label), control);
  const fields = { status: field("Status", status), justification: field("Justification", justification), reach: field("For", reach) };
  const warning = h("p", { class: "sub" }, "From then on this statement follows the decision and not the observation, until it is withdrawn: a later use of the package does not change it.");
  const send = h("button", { type: "submit", class: "main" }, "Accept");
  const document_ = vendorsDocument(statement);
  const kind = () => radios.map((one) => one.firstChild).find((one) => one.checked).value;

  function adapt() {
    const chosen = kind();
    const wanted = chosen === "override" ? status.value : statement.status;
    fields.status.hidden = chosen !== "override";
    fields.justification.hidden = chosen === "comment" || wanted !== "not_affected";
    fields.reach.hidden = warning.hidden = chosen === "comment";
    send.textContent = { accept: "Accept", override: "Override", comment: "Comment" }[chosen];
  }

  async function submit(event) {
    event.preventDefault();
    const chosen = kind();
    const said = { vulnerability: statement.vulnerability, text: reason.value.trim(), author: author.value.trim() || null };
    try {
      if (chosen === "comment") {
        await post(`vex/${digest}/comments`, { ...said, package: statement.package });
        toast("Handed on: the comment shows in a moment.");
        setTimeout(commented, 1500);
      } else {
        const wanted = chosen === "override" ? status.value : statement.status;
        const why = wanted === "not_affected" ? justification.value || null : null;
        await post(`vex/${digest}/decisions`, { ...said, package: reach.value, status: wanted, justification: why });
        toast("Handed on: the statement changes when the correlator has taken it in.");
      }
      reason.value = "";
    } catch (error) {
      toast(error.message);
    }
  }

  function undo() {
    const button = (click, text) => h("button", { type: "button", class: "withdraw", on: { click } }, text);
    if (!document_) return statement.decided ? button(takeBack, "Withdraw the decision") : null;
    return mine.scopes.includes("vendor-vex") ? withdrawButton({ document: document_ }, () => {}) : null;
  }

  async function takeBack() {
    try {
      const asked = new URLSearchParams({ vulnerability: statement.vulnerability, package: reach.value });
      await withdraw(`vex/${digest}/decisions?${asked}`);
      toast("Handed on: the statement follows observation again.");
    } catch (error) {
      toast(error.message);
    }
  }

  status.addEventListener("change", adapt);
  const made = h("form", { on: { submit } },
    h("h3", {}, "Decide"),
    h("fieldset", { class: "kinds" }, h("legend", { class: "hidden" }, "What to do"), radios),
    h("div", { class: "fields" }, fields.status, fields.justification, fields.reach, field("Author", author)),
    field("Reason", reason), warning,
    h("div", { class: "actions" }, send,
      undo()));
  adapt();
  return made;
}
