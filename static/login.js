// The login page: shows one ticket's code, watches what the phone makes of it, and collects the login.
//
// All texts are in the page. `data-state` on the root says which of them are seen (saoma.css).

const page = document.getElementById("login");
const code = page.querySelector(".code");
const announcement = document.getElementById("announcement");
const onward = document.getElementById("continue");
const retry = document.getElementById("retry");

const LIVE = ["WAITING", "SCANNED"];
const HELD_SECONDS = 20; // how long the server may hold a long poll
const LEAST_HELD = 5000; // ms; one that is answered unchanged before that was cut by something on the way
const LONGEST_PAUSE = 5000; // ms between attempts while the server is away
const SILENT_RENEWALS = 3;
const EXCHANGE_PATIENCE = 60000; // ms that the server lets us repeat an exchange
const GREETING = 1500; // ms for reading who is logged in

const after = (seconds) => Date.now() + Number(seconds) * 1000;
const jittered = (ms) => ms * (0.5 + Math.random() / 2);
const growing = (attempt) => jittered(Math.min(LONGEST_PAUSE, 500 * 2 ** attempt));

const ticket = {
  id: page.dataset.ticket,
  state: null, // as last heard from the server
  deadline: after(page.dataset.expiresIn),
  interval: Number(page.dataset.interval) * 1000,
};
let renewals = 0; // silent ones since somebody last asked for a code
let work = new AbortController(); // whatever is going on: one thing at a time
let watching = false; // and that is waiting for the phone
let ending; // timer for the ticket's end
let departure; // timer for going on to `next`

// ---- What is seen

function show(state, more = "") {
  if (page.dataset.state === state) return;
  const focused = page.contains(document.activeElement) ? document.activeElement : null;
  page.dataset.state = state;
  const heading = page.querySelector(`section[data-for~="${state}"] h2`);
  announcement.textContent = `${heading.textContent} ${more}`;
  // The pressed button is gone: the keyboard goes on from the news, not from the top of the page.
  if (focused && getComputedStyle(focused).visibility === "hidden") heading.focus();
}

function offline(isOffline) {
  if (page.hasAttribute("data-offline") === isOffline) return;
  page.toggleAttribute("data-offline", isOffline);
  if (isOffline) announcement.textContent = document.getElementById("offline").textContent;
}

function harmless(address) {
  try {
    const url = new URL(address, location.href);
    return address.startsWith("data:image/") || (url.origin === location.origin && url.protocol === location.protocol);
  } catch {
    return false;
  }
}

// Names and pictures are from strangers: text stays text, and pictures come from here.
function greet(user) {
  const name = page.querySelector(".name");
  const initial = page.querySelector(".initial");
  const picture = page.querySelector(".picture");
  name.textContent = user?.name || name.dataset.neutral;
  initial.textContent = [...name.textContent][0].toUpperCase();
  const usable = typeof user?.picture === "string" && user.picture !== "" && harmless(user.picture);
  const portray = (hasPicture) => {
    picture.hidden = !hasPicture;
    initial.hidden = hasPicture;
  };
  picture.onerror = () => portray(false);
  portray(usable);
  if (usable) picture.src = user.picture;
  else picture.removeAttribute("src");
}

function fail(reason, waitSeconds = 0) {
  begin();
  const reasons = [...page.querySelectorAll("[data-reason]")];
  const chosen = reasons.find((text) => text.dataset.reason === reason) ?? reasons[0];
  for (const text of reasons) text.classList.toggle("chosen", text === chosen);
  offline(false);
  show("FAILED", chosen.textContent);
  countDown(waitSeconds);
}

function countDown(seconds) {
  retry.disabled = seconds > 0;
  retry.dataset.wait = seconds || "";
  if (seconds > 0) setTimeout(countDown, 1000, seconds - 1);
}

// ---- Talking to the server

// Ends what was going on; the signal is for what comes instead.
function begin() {
  work.abort();
  work = new AbortController();
  watching = false;
  clearTimeout(ending);
  clearTimeout(departure);
  return work.signal;
}

function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

// Throws when there is no answer. `answer` is null when it is not JSON, as from a proxy in front of us.
async function call(path, signal, options = {}, seconds = 8) {
  const limit = new AbortController();
  const stop = () => limit.abort();
  const timer = setTimeout(stop, seconds * 1000);
  signal.addEventListener("abort", stop);
  if (signal.aborted) stop();
  try {
    const response = await fetch(path, { cache: "no-store", ...options, signal: limit.signal });
    const answer = await response.json().catch(() => null);
    return { status: response.status, answer, retryAfter: Number(response.headers.get("Retry-After")) || 0 };
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", stop);
  }
}

const post = (path, signal) =>
  call(path, signal, { method: "POST", headers: { "X-XSRFToken": page.dataset.xsrf } });

const ticketPath = (rest = "") => `/api/v1/tickets/${encodeURIComponent(ticket.id)}${rest}`;

// ---- Watching a ticket

function watch() {
  const signal = begin();
  watching = true;
  ending = setTimeout(end, ticket.deadline - Date.now(), signal);
  follow([bySocket, byLongPoll, byPoll], signal);
}

// Each way answers whether it did what it promises. When it did not, a plain question tells whether the way is
// at fault (twice in a row: take the next one) or the server is away (wait, and keep the way).
async function follow(ways, signal) {
  let faults = 0;
  let absences = 0;
  while (!signal.aborted) {
    if (await ways[0](signal)) {
      faults = 0;
      // Everybody's socket breaks when a server restarts: they do not all come back in one instant.
      await pause(jittered(300), signal);
      continue;
    }
    try {
      await ask(signal);
      absences = 0;
      faults += 1;
      if (faults === 2 && ways.length > 1) {
        ways.shift();
        faults = 0;
      }
    } catch (trouble) {
      if (signal.aborted) return;
      offline(true);
      await pause(Math.max(growing(absences), trouble.retryAfter ?? 0), signal);
      absences += 1;
    }
  }
}

function bySocket(signal) {
  return new Promise((resolve) => {
    const since = Date.now();
    const socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/websocket/${encodeURIComponent(ticket.id)}`);
    let spoke = false;
    const finish = () => {
      clearTimeout(silence);
      signal.removeEventListener("abort", finish);
      socket.onmessage = socket.onclose = null;
      socket.close();
      resolve(spoke && Date.now() - since > 1000);
    };
    // The state comes at once; proxies exist that let a socket open and then pass nothing.
    const silence = setTimeout(finish, 5000);
    signal.addEventListener("abort", finish);
    socket.onclose = finish;
    socket.onmessage = ({ data }) => {
      spoke = true;
      clearTimeout(silence);
      heard(JSON.parse(data));
    };
  });
}

async function byLongPoll(signal) {
  const since = Date.now();
  const known = ticket.state;
  try {
    await ask(signal, HELD_SECONDS);
  } catch {
    return false;
  }
  return ticket.state !== known || Date.now() - since >= LEAST_HELD;
}

async function byPoll(signal) {
  await pause(ticket.interval, signal);
  try {
    await ask(signal);
  } catch {
    return false;
  }
  return true;
}

// Throws when the server does not tell the state.
async function ask(signal, held = 0, patience = 8) {
  const query = held ? `?wait=${held}&state=${ticket.state ?? page.dataset.state}` : "";
  const { answer, retryAfter } = await call(ticketPath(query), signal, {}, held + patience);
  if (signal.aborted || !answer?.state) throw Object.assign(new Error("no state"), { retryAfter: retryAfter * 1000 });
  heard(answer);
}

function heard({ state, user, expires_in: expiresIn }) {
  offline(false);
  const former = ticket.state;
  if (LIVE.includes(state) && expiresIn !== undefined) {
    ticket.deadline = after(expiresIn);
    clearTimeout(ending);
    ending = setTimeout(end, ticket.deadline - Date.now(), work.signal);
  }
  if (state === former) return;
  ticket.state = state;
  if (LIVE.includes(state)) {
    if (state === "SCANNED") greet(user);
    show(state);
  } else if (state === "CONFIRMED") {
    greet(user);
    collect();
  } else if (state === "CONSUMED") {
    // Another tab of this browser has collected it: this one is logged in as well.
    begin();
    greet(user);
    show("CONFIRMED");
    depart();
  } else if (state === "CANCELLED") {
    begin();
    show("CANCELLED");
  } else {
    expire(former);
  }
}

// The ticket's time is up by our clock. A scan may have given it more while the server was out of reach: ask once.
async function end(signal) {
  await ask(signal, 0, 2).catch(() => {});
  if (!signal.aborted && Date.now() >= ticket.deadline) expire(ticket.state);
}

// A ticket that nobody scanned is replaced without a word while somebody looks at it. One that was unknown from the
// start is not: a browser that keeps no cookies would ask for ever.
function expire(former) {
  ticket.state = "INVALID";
  begin();
  const silently = former === "WAITING" && renewals < SILENT_RENEWALS;
  ticket.unseen = silently && document.hidden;
  if (silently && !document.hidden) {
    renewals += 1;
    renew();
  } else {
    show("INVALID");
  }
}

// ---- A fresh code

async function renew() {
  const signal = begin();
  const body = JSON.stringify({ method: page.dataset.method, next: page.dataset.next });
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body };
  for (let attempt = 0; ; attempt += 1) {
    const { status, answer, retryAfter } = await call("/api/v1/tickets", signal, options).catch(() => ({}));
    if (signal.aborted) return;
    if (status === 201 && answer) {
      await replaceCode(answer, signal);
      return;
    }
    // A problem is the server's own refusal; anything else is a server on its way down or up.
    if (answer?.code || retryAfter) {
      fail(answer?.code, retryAfter);
      return;
    }
    show("INVALID");
    offline(true);
    await pause(growing(attempt), signal);
  }
}

async function replaceCode(fresh, signal) {
  const image = new Image();
  image.alt = code.getAttribute("aria-label");
  image.src = `/api/v1/tickets/${encodeURIComponent(fresh.id)}/qr.svg`;
  const drawn = await image.decode().then(() => true, () => false);
  if (signal.aborted) return;
  if (!drawn) {
    fail("");
    return;
  }
  const demo = page.querySelector(".demo");
  if (demo) {
    demo.hidden = !demo.href.includes(ticket.id);
    demo.href = demo.href.replace(ticket.id, fresh.id);
  }
  code.replaceChildren(image);
  Object.assign(ticket, { id: fresh.id, state: null, deadline: after(fresh.expires_in), unseen: false });
  ticket.interval = fresh.interval * 1000;
  page.dataset.ticket = fresh.id;
  offline(false);
  show("WAITING");
  watch();
}

// ---- Collecting the login

async function collect() {
  const signal = begin();
  show("CONFIRMED");
  const patience = Date.now() + EXCHANGE_PATIENCE;
  for (let attempt = 0; Date.now() < patience; attempt += 1) {
    const { status, answer, retryAfter } = await post(ticketPath("/exchange"), signal).catch(() => ({}));
    if (signal.aborted) return;
    if (status === 200 && answer) {
      offline(false);
      greet(answer.user);
      page.dataset.next = answer.next || page.dataset.next;
      ticket.state = "CONSUMED";
      show("SUCCESS");
      depart();
      return;
    }
    if (status >= 400 && status < 500 && status !== 429) {
      fail(answer?.code);
      return;
    }
    offline(true);
    await pause(Math.max(growing(attempt), (retryAfter ?? 0) * 1000), signal);
  }
  fail("ticket_unknown");
}

function depart() {
  const target = new URL(page.dataset.next || "/", location.href);
  if (!/^https?:$/.test(target.protocol)) target.href = location.origin;
  onward.href = target.href;
  departure = setTimeout(() => location.assign(target.href), GREETING);
}

// ---- What people do

const actions = {
  renew() {
    renewals = 0;
    renew();
  },
  // Lost or refused, nobody will collect the old ticket: a fresh one is what was asked for.
  async abandon() {
    const signal = begin();
    await post(ticketPath("/abandon"), signal).catch(() => {});
    if (!signal.aborted) actions.renew();
  },
  // Whoever says "not me" must not stay logged in: without a yes, the browser sends the form and shows what comes.
  async logout(form) {
    const { status } = await post("/logout", begin()).catch(() => ({}));
    if (status < 400) location.reload();
    else form.submit();
  },
};

page.addEventListener("submit", (event) => {
  event.preventDefault();
  actions[event.target.dataset.action](event.target);
});

// ---- Coming and going

// Sockets die unnoticed while a machine sleeps or changes its network.
function back() {
  if (document.hidden) return;
  if (watching) watch();
  else if (ticket.unseen) expire("WAITING");
}

document.addEventListener("visibilitychange", back);
addEventListener("online", back);
addEventListener("pagehide", begin);
addEventListener("pageshow", ({ persisted }) => {
  if (!persisted) return;
  if (ticket.state === null || LIVE.includes(ticket.state)) watch();
  else location.reload();
});

watch();
