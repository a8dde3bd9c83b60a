// Plays the team's own app. All texts are in the page; `data-state` says which of them are seen (phone.css).
// Everything goes to the app's own backend, which knows who this is and has the token that saoma wants.

const page = document.querySelector("main");
const find = (selector) => document.querySelector(selector);
const language = navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
const UNKNOWN = { zh: "未知", en: "unknown" };
const PATIENCE = 12000; // ms
const LOOK = 200; // ms between two looks through the camera
const PASSING = ["unreachable", "too_many_requests", "store_unavailable"]; // worth another try as it is

let asked = null; // { link, handle } of the code on the screen
let matched = false; // whether the number on the page is asked for
let camera = null; // MediaStream

document.documentElement.lang = language;

function show(state) {
  if (state !== "SCAN") closeCamera();
  page.dataset.state = state;
  page.querySelector(`[data-for="${state}"] h1`).focus();
}

// ---- Talking to the backend

async function call(path, body) {
  const options = body && {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
  page.toggleAttribute("data-busy", true);
  for (const button of page.querySelectorAll("button")) button.disabled = true;
  try {
    const response = await fetch(path, { ...options, signal: AbortSignal.timeout(PATIENCE) });
    const answer = await response.json();
    return response.ok ? { answer } : { problem: String(answer.code ?? ""), left: answer.tries_left };
  } catch {
    return { problem: "unreachable" };
  } finally {
    page.toggleAttribute("data-busy", false);
    for (const button of page.querySelectorAll("button")) button.disabled = false;
  }
}

function fail(problem, again) {
  if (problem === "no_person") return start(); // the backend has forgotten who this is
  const reasons = [...page.querySelectorAll("[data-reason]")];
  const chosen = reasons.find((reason) => reason.dataset.reason === problem) ?? reasons[0];
  for (const reason of reasons) reason.classList.toggle("chosen", reason === chosen);
  const retry = find("#retry");
  retry.hidden = !PASSING.includes(problem);
  retry.onclick = again;
  show("PROBLEM");
}

// ---- Who uses the app

async function start() {
  const { answer, problem } = await call("session");
  if (problem !== undefined) return fail(problem, start);
  choosePerson(answer.people);
  if (answer.name) enter(answer.name);
  else show("PEOPLE");
}

function choosePerson(people) {
  const buttons = Object.entries(people).map(([id, name]) => {
    const button = document.createElement("button");
    button.className = "wide plain";
    button.dataset.person = id;
    button.textContent = name;
    button.onclick = async () => {
      const { answer, problem } = await call("session", { person: id });
      if (problem !== undefined) fail(problem, button.onclick);
      else enter(answer.name);
    };
    return button;
  });
  find("#people").replaceChildren(...buttons);
}

function enter(name) {
  find("#name").textContent = name;
  find("#switch").hidden = false;
  ready();
}

// ---- Finding a code

function ready() {
  asked = null;
  show("SCAN");
}

async function canReadCodes() {
  if (!("BarcodeDetector" in window) || !navigator.mediaDevices) return false;
  return (await BarcodeDetector.getSupportedFormats()).includes("qr_code");
}

async function openCamera() {
  const view = find("#view");
  find("#camera-refused").hidden = true;
  try {
    camera = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    view.srcObject = camera;
    view.hidden = false;
    find("#camera").hidden = true;
    await view.play();
    await look(view, camera);
  } catch {
    if (page.dataset.state === "SCAN") find("#camera-refused").hidden = false;
    closeCamera();
  }
}

async function look(view, stream) {
  const detector = new BarcodeDetector({ formats: ["qr_code"] });
  while (camera === stream) {
    const [code] = await detector.detect(view);
    if (camera !== stream) return;
    if (code) {
      closeCamera();
      return scan(code.rawValue);
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK));
  }
}

function closeCamera() {
  if (!camera) return;
  for (const track of camera.getTracks()) track.stop();
  camera = null;
  find("#view").hidden = true;
  find("#camera").hidden = false;
}

// ---- The login

async function scan(link) {
  const { answer, problem } = await call("scan", { link });
  if (problem !== undefined) return fail(problem, () => scan(link));
  asked = { link, handle: answer.handle };
  matched = answer.number_match === true;
  find("#number-line").hidden = !matched;
  find("#number-wrong").hidden = true;
  find("#number").value = "";
  const time = new Date(answer.created * 1000).toLocaleString(navigator.language);
  for (const place of page.querySelectorAll("[data-seen]")) {
    // What saoma tells is text, whatever is in it.
    place.textContent = { ...answer, time }[place.dataset.seen] || UNKNOWN[language];
  }
  show(answer.state === "SCANNED" ? "ASK" : "CONFIRMED"); // said yes before: nothing is left to ask
}

async function decide(action, state) {
  const number = find("#number");
  if (matched && action === "confirm" && !/^\d\d$/.test(number.value.trim())) return number.focus();
  const { problem, left } = await call(action, { ...asked, number: matched ? number.value.trim() : "" });
  if (problem === "number_wrong" && left > 0) {
    find("#number-wrong").hidden = false;
    find("#tries-left").textContent = left;
    number.value = "";
    number.focus();
  } else if (problem !== undefined) fail(problem, () => decide(action, state));
  else show(state);
}

find("#switch").onclick = () => show("PEOPLE");
find("#camera").onclick = openCamera;
find("#confirm").onclick = () => decide("confirm", "CONFIRMED");
find("#cancel").onclick = () => decide("cancel", "CANCELLED");
for (const button of page.querySelectorAll(".again")) button.onclick = ready;
find("#paste-form").onsubmit = (event) => {
  event.preventDefault();
  const field = find("#link");
  const link = field.value.trim();
  field.value = "";
  scan(link);
};

// A link that opens the app brings the code along, and no more: the person still has to go on.
find("#link").value = new URLSearchParams(location.search).get("code") ?? "";
const readsCodes = await canReadCodes().catch(() => false);
find(readsCodes ? "#camera" : "#no-camera").hidden = false;
start();
