// Our frame on a site's own page. The script that made it (saoma.js) is told the names of states and, at last, the
// code; by the server's word that goes to the one origin that may show the frame. Nothing is listened to.

import * as login from "./ticket.js";

const { find, page } = login;
let secret = ""; // of the ticket; no cookie is needed, and none is sent

const tell = (saoma, more) => parent.postMessage({ saoma, ...more }, page.dataset.origin);

login.start({
  ways: [login.byLongPoll, login.byPoll].map(whileSeen),
  credentials: "omit",
  proof: () => (secret ? { Authorization: `Ticket ${secret}` } : {}),
  fresh: (signal) => login.post(`/widget/tickets${location.search}`, signal),
  picture: ({ picture }) => picture,
  shown(answer) {
    secret = answer.secret;
    link(find("#app-link"), answer.app_link);
    link(find("#save"), answer.app_link ? "" : answer.picture);
    link(find(".demo"), answer.demo_link);
  },
  presumed: "WAITING",
  told: tell,
  hesitation: 1500, // until then another account costs nothing
  welcome({ authorization }) {
    login.begin();
    login.offline(false);
    login.show("SUCCESS");
    tell("CODE", authorization);
  },
  consumed: login.collect, // by us, and the answer was lost
});

// A browser keeps few connections to one server: a frame out of sight shall not hold one of them.
function whileSeen(way) {
  return async (signal) => {
    while (document.hidden && !signal.aborted) {
      await new Promise((resolve) => {
        document.addEventListener("visibilitychange", resolve, { once: true });
        signal.addEventListener("abort", resolve);
      });
    }
    return way(signal);
  };
}

function link(element, address) {
  if (!element) return;
  element.hidden = !address;
  element.href = address;
}

addEventListener("keydown", ({ key }) => key === "Escape" && tell("CLOSE"));

tell("LOADING");
login.renew();
