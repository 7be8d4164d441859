// What did not work, and what to do about it.

import { AWAY, token } from "./api.js";
import { h } from "./dom.js";

export function problem(error, heading = "h2") {
  const refused = error.status === 401 || error.status === 403;
  return h("section", { class: error.status === AWAY ? "card error away" : "card error", role: "alert" },
    h(heading, {}, refused ? "A token is needed" : "This did not work"),
    h("p", {}, error.message),
    refused ? h("button", { type: "button", on: { click: askForToken } }, "Enter a token")
      : h("button", { type: "button", on: { click: () => window.dispatchEvent(new Event("again")) } }, "Try again"));
}

/** Asks for the token; it is kept for this tab alone. Resolves when the dialog has closed. */
export function askForToken() {
  const input = h("input", { id: "token-value", type: "password", autocomplete: "off", value: "" });
  const close = (value) => {
    if (value !== undefined) token.set(value);
    dialog.close();
    if (value !== undefined) window.dispatchEvent(new Event("token"));
  };
  const dialog = h("dialog", { "aria-labelledby": "token-title", on: { close: () => dialog.remove() } },
    h("form", { on: { submit: (event) => { event.preventDefault(); close(input.value.trim()); } } },
      h("h2", { id: "token-title" }, "Token"),
      h("p", {}, "Kept for this tab alone, until it is closed. Reading may need the scope ",
        h("code", {}, "read"), ", deciding needs ", h("code", {}, "decide"), "."),
      h("label", { for: "token-value" }, "Token"), input,
      h("div", { class: "actions" },
        h("button", { type: "submit", class: "main" }, "Use it"),
        token.get() ? h("button", { type: "button", on: { click: () => close("") } }, "Forget it") : null,
        h("button", { type: "button", class: "quiet", on: { click: () => dialog.close() } }, "Cancel"))));
  document.body.append(dialog);
  dialog.showModal();
  input.focus();
}
