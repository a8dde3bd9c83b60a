// What moves on the operator's pages; without this they are as of the load, and complete.

"use strict";

const EVERY = 2000; // milliseconds

// A picture that cannot be had leaves the initial beneath it to be seen.
for (const picture of document.querySelectorAll(".portrait .picture")) {
  const hide = () => { picture.hidden = true; };
  picture.addEventListener("error", hide);
  if (picture.complete && !picture.naturalWidth) {
    hide();
  }
}

// The figures, brought up to date while the page is looked at.
const figures = document.querySelectorAll("[data-now]");
let looking = 0;

async function look() {
  let answer;
  try {
    answer = await fetch("/admin/now", { redirect: "error", cache: "no-store" });
  } catch {
    return true; // the network, maybe the next time
  }
  if (!answer.ok) {
    return answer.status >= 500; // logged out, or no admin any more: there is nothing to wait for
  }
  const now = await answer.json();
  for (const figure of figures) {
    figure.textContent = now[figure.dataset.now];
  }
  return true;
}

async function turn() {
  clearTimeout(looking);
  if (!document.hidden && await look()) {
    clearTimeout(looking);
    looking = setTimeout(turn, EVERY);
  }
}

if (figures.length) {
  document.addEventListener("visibilitychange", turn);
  looking = setTimeout(turn, EVERY);
}
