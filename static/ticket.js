// A login on a page of ours: shows a ticket's code, watches what the phone makes of it, fetches a fresh one.
// All texts are in the page; the root's `data-state` says which are seen (saoma.css). The rest is its errand's.

export const page = document.getElementById("login");
export const find = (selector) => page.querySelector(selector);
const code = find(".code");
const announcement = find("#announcement");

const LIVE = ["WAITING", "SCANNED"];
const HELD = 20; // seconds that the server may hold a long poll
const LEAST_HELD = 5000; // ms; one answered unchanged before was cut on the way
const LONGEST_PAUSE = 5000; // ms between tries while the server is away
const SILENT_RENEWALS = 3;
const EXCHANGE_PATIENCE = 60000; // ms that an exchange may be repeated

const after = (seconds) => Date.now() + seconds * 1000;
const jittered = (ms) => ms * (0.5 + Math.random() / 2);
const growing = (attempt) => jittered(Math.min(LONGEST_PAUSE, 500 * 2 ** attempt));

const ticket = {
  id: "",
  state: null, // as last heard
  deadline: 0,
  interval: 0, // ms between plain polls
  unseen: false, // ended, never scanned, while nobody looked
};
let errand;
let renewals = 0; // silent ones since somebody last asked for a code
let work = new AbortController(); // what is going on: one thing at a time
let watching = false; // and that is waiting for the phone
let ending; // timer

// The errand:
//   ways               of watching, the best first
//   credentials        as `fetch` takes them
//   proof()            headers of every request
//   fresh(signal)      calls for a ticket
//   picture(answer)    address of that one's code
//   shown(answer)      its code is seen now
//   presumed           state of a fresh ticket; null where the browser may keep no cookie of it
//   told(state)        this state is seen now
//   hesitation         ms that a name is shown before the login is collected
//   welcome(answer)    it has been collected
//   consumed(message)  so it has elsewhere
export function start(theErrand) {
  errand = theErrand;
}

// ---- What is seen

export function show(state, more = "") {
  if (page.dataset.state === state) return;
  const focused = document.activeElement;
  page.dataset.state = state;
  const heading = find(`section[data-for~="${state}"] h2`);
  announce(`${heading.textContent} ${more}`);
  // The pressed button is gone: the keyboard goes on from the news.
  if (page.contains(focused) && getComputedStyle(focused).visibility === "hidden") heading.focus();
  errand.told(state);
}

// Two states may have one text: it is said once.
function announce(news) {
  if (announcement.textContent !== news) announcement.textContent = news;
}

export function offline(isOffline) {
  if (isOffline && !("offline" in page.dataset)) announce(find(".offline").textContent);
  page.toggleAttribute("data-offline", isOffline);
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
  const retry = find("#retry");
  retry.disabled = seconds > 0;
  retry.dataset.wait = seconds;
  if (seconds > 0) setTimeout(countDown, 1000, seconds - 1);
}

// What the person types into the app, where it asks for that; in words, "" where it does not.
function showNumber(number) {
  const line = find(".number");
  line.hidden = !number;
  line.querySelector("strong").textContent = number ?? "";
  return line.hidden ? "" : line.textContent;
}

// Names and pictures are from strangers.
export function greet(user) {
  const name = find(".name");
  const picture = find(".picture");
  name.textContent = user?.name || name.dataset.neutral;
  find(".initial").textContent = [...name.textContent][0].toUpperCase();
  picture.onerror = () => (picture.hidden = true);
  picture.hidden = !isHarmless(user?.picture);
  if (!picture.hidden) picture.src = user.picture;
}

function isHarmless(picture) {
  try {
    return /^data:image\//.test(picture) || (picture && new URL(picture, location).origin === location.origin);
  } catch {
    return false;
  }
}

// ---- Talking to the server

// Ends what was going on; the signal is for what comes instead.
export function begin() {
  work.abort();
  work = new AbortController();
  watching = false;
  clearTimeout(ending);
  return work.signal;
}

function pause(ms, signal) {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
    signal.addEventListener("abort", resolve);
  });
}

// {} when nothing comes in time; `answer` is null when it is not JSON, as from a proxy.
export async function call(path, signal, options = {}, patience = 8) {
  const limit = new AbortController();
  const stop = () => limit.abort();
  const timer = setTimeout(stop, patience * 1000);
  signal.addEventListener("abort", stop);
  try {
    const headers = { ...errand.proof(), ...options.headers };
    const { credentials } = errand;
    const response = await fetch(path, { cache: "no-store", credentials, ...options, headers, signal: limit.signal });
    const answer = await response.json().catch(() => null);
    return { status: response.status, answer, retryAfter: Number(response.headers.get("Retry-After")) || 0 };
  } catch {
    return {};
  } finally {
    clearTimeout(timer);
  }
}

export const post = (path, signal) => call(path, signal, { method: "POST" });

const address = (rest = "") => `/api/v1/tickets/${ticket.id}${rest}`;

// ---- Watching a ticket

export function watch({ id, expires_in: seconds, interval }) {
  const [state, deadline] = [errand.presumed, after(seconds)];
  Object.assign(ticket, { id, state, deadline, interval: interval * 1000, unseen: false });
  rewatch();
}

function rewatch() {
  begin();
  watching = true;
  awaitEnd();
  follow([...errand.ways], work.signal);
}

// Each way tells whether it did what it promises. If not, a plain question shows whether the way is at fault
// (twice in a row: take the next one) or the server is away (wait, and keep the way).
async function follow(ways, signal) {
  let faults = 0;
  let absences = 0;
  while (!signal.aborted) {
    if (await ways[0](signal)) {
      faults = 0;
      await pause(jittered(300), signal); // a restart breaks everybody's socket at once
    } else if (await ask(signal)) {
      absences = 0;
      faults += 1;
      if (faults === 2 && ways.length > 1) {
        ways.shift();
        faults = 0;
      }
    } else if (!signal.aborted) {
      offline(true);
      await pause(growing(absences), signal);
      absences += 1;
    }
  }
}

export function bySocket(signal) {
  return new Promise((resolve) => {
    const since = Date.now();
    const socket = new WebSocket(`${location.origin.replace("http", "ws")}/websocket/${ticket.id}`);
    let spoke = false;
    const finish = () => {
      clearTimeout(silence);
      socket.onmessage = socket.onclose = null;
      socket.close();
      resolve(spoke && Date.now() - since > 1000);
    };
    // The state comes at once, unless a proxy lets the socket open and then passes nothing.
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

export async function byLongPoll(signal) {
  const since = Date.now();
  const known = ticket.state;
  const answered = await ask(signal, `?wait=${HELD}&state=${known ?? "WAITING"}`, HELD + 8);
  return answered && (ticket.state !== known || Date.now() - since >= LEAST_HELD);
}

export async function byPoll(signal) {
  await pause(ticket.interval, signal);
  return ask(signal);
}

async function ask(signal, query = "", patience = 8) {
  if (signal.aborted) return false;
  const { answer, retryAfter } = await call(address(query), signal, {}, patience);
  if (signal.aborted) return false;
  if (answer?.state) heard(answer);
  else if (retryAfter) await pause(retryAfter * 1000, signal);
  return Boolean(answer?.state);
}

function heard(message) {
  const { state, user, number, expires_in: seconds } = message;
  const former = ticket.state;
  offline(false);
  if (LIVE.includes(state) && seconds > 0) {
    ticket.deadline = after(seconds);
    awaitEnd();
  }
  if (state === former) return;
  ticket.state = state;
  const toSend = showNumber(number);
  if (state === "CONFIRMED") {
    greet(user);
    collect();
  } else if (state === "CONSUMED") {
    errand.consumed(message);
  } else if (state === "INVALID") {
    expire(former);
  } else {
    if (state === "SCANNED") greet(user);
    if (state === "CANCELLED") begin();
    show(state, toSend);
  }
}

function awaitEnd() {
  clearTimeout(ending);
  ending = setTimeout(end, ticket.deadline - Date.now(), work.signal);
}

// The time is up by our clock. A scan may have given more while the server was out of reach: ask once.
async function end(signal) {
  await ask(signal, "", 2);
  if (!signal.aborted && Date.now() >= ticket.deadline) expire(ticket.state);
}

// A ticket that nobody scanned is replaced without a word while somebody looks. One never known is not.
function expire(former) {
  begin();
  ticket.state = "INVALID";
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

export async function renew() {
  const signal = begin();
  for (let attempt = 0; !signal.aborted; attempt += 1) {
    const { status, answer, retryAfter } = await errand.fresh(signal);
    if (signal.aborted) return;
    if (status === 201 && answer) return replaceCode(answer, signal);
    // A problem is the server's own refusal; anything else, a server on its way down or up.
    if (answer?.code || retryAfter) return fail(answer?.code, retryAfter);
    if (page.dataset.state !== "LOADING") show("INVALID");
    offline(true);
    await pause(growing(attempt), signal);
  }
}

async function replaceCode(answer, signal) {
  const image = new Image();
  image.alt = code.getAttribute("aria-label");
  image.src = errand.picture(answer);
  const drawn = await image.decode().then(() => true, () => false);
  if (signal.aborted) return;
  if (!drawn) return fail();
  code.replaceChildren(image);
  errand.shown(answer);
  page.dataset.ticket = answer.id;
  offline(false);
  show("WAITING");
  watch(answer);
}

// ---- Collecting the login

export async function collect() {
  const signal = begin();
  show("CONFIRMED");
  await pause(errand.hesitation, signal);
  const patience = Date.now() + EXCHANGE_PATIENCE;
  for (let attempt = 0; !signal.aborted && Date.now() < patience; attempt += 1) {
    const { status, answer, retryAfter = 0 } = await post(address("/exchange"), signal);
    if (signal.aborted) return;
    if (status === 200 && answer) return done(answer);
    if (status >= 400 && status < 500 && status !== 429) return fail(answer?.code);
    offline(true);
    await pause(Math.max(growing(attempt), retryAfter * 1000), signal);
  }
  if (!signal.aborted) fail("ticket_unknown");
}

function done(answer) {
  ticket.state = answer.state;
  errand.welcome(answer);
}

// ---- What people do

export const actions = {
  renew() {
    renewals = 0;
    renew();
  },
  // Nobody will collect the old ticket, even if this is lost.
  async abandon() {
    const signal = begin();
    await post(address("/abandon"), signal);
    if (!signal.aborted) actions.renew();
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
  if (watching) rewatch();
  else if (ticket.unseen) expire("WAITING");
}

document.addEventListener("visibilitychange", back);
addEventListener("online", back);
addEventListener("pagehide", begin);
addEventListener("pageshow", ({ persisted }) => {
  if (!persisted) return;
  if (!ticket.id) renew();
  else if (ticket.state === null || LIVE.includes(ticket.state)) rewatch();
  else if (ticket.state === "CONFIRMED") collect();
  else location.reload();
});
