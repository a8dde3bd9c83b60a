// The login page: a cookie shows that the ticket is this browser's, and another one logs it in.

import * as login from "./ticket.js";

const { find, page } = login;
const GREETING = 1500; // ms
const LATER = "TICKET"; // stands in links for the id of a ticket that is not there yet (handlers/pages.py)

login.start({
  ways: [login.bySocket, login.byLongPoll, login.byPoll],
  credentials: "same-origin",
  proof: () => ({ "X-XSRFToken": page.dataset.xsrf }),
  fresh(signal) {
    const { method, next } = page.dataset;
    const headers = { "Content-Type": "application/json" };
    return login.call("/api/v1/tickets", signal, { method: "POST", headers, body: JSON.stringify({ method, next }) });
  },
  picture: ({ id }) => `/api/v1/tickets/${id}/qr.${page.dataset.picture}`,
  shown({ id, qr }) {
    const former = page.dataset.ticket || LATER;
    for (const link of page.querySelectorAll("[data-follows]")) link.href = link.href.replace(former, id);
    const demo = find(".demo");
    if (demo && page.dataset.method !== "app") demo.href = qr; // the demo's codes are links
  },
  presumed: null,
  told(state) {
    const { activeElement } = document;
    const free = activeElement === document.body || page.contains(activeElement);
    if (state === "INVALID" && free) find(".refresh").focus({ preventScroll: true });
  },
  hesitation: 0,
  welcome,
  consumed: welcome, // another tab has collected it: this one is logged in as well
});

function welcome({ user, next = page.dataset.next }) {
  const signal = login.begin();
  const { protocol, href } = new URL(next || "/", location.href);
  const target = /^https?:$/.test(protocol) ? href : "/";
  find("#continue").href = target;
  login.offline(false);
  login.greet(user);
  login.show("SUCCESS");
  setTimeout(() => signal.aborted || location.assign(target), GREETING);
}

// "Not me" must not be lost: without a yes, the browser sends the form and shows what comes.
login.actions.logout = async (form) => {
  const { status } = await login.post("/logout", login.begin());
  if (status < 400) location.reload();
  else form.submit();
};

const { ticket, expiresIn, interval } = page.dataset;
if (ticket) login.watch({ id: ticket, expires_in: expiresIn, interval });
else login.renew(); // the page did not wait for its code
