// The page: what is pressed goes to the session, what the session tells is shown.

import { Captions } from "/captions.js";
import { Controls } from "/controls.js";
import { Live, Server } from "/live.js";
import { Microphone } from "/microphone.js";
import { Picture } from "/picture.js";

const SETTLED_MS = 600;
const READ_MS = 1500;
const KEPT_CAPTIONS = "avatarfit-captions";
const KEPT_TOKEN = "avatarfit-token";

const $ = (id) => document.getElementById(id);
const asked = new URLSearchParams(location.search);
const alone = location.pathname === "/obs";
document.documentElement.dataset.view = alone ? "obs" : "page";

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const server = new Server(knownToken());
const live = new Live(server, $("video"), {
  avatar: asked.get("avatar"), session: asked.get("session"), alpha: alone,
});
const picture = new Picture($("picture"), $("video"));

/** From the address, where it does not stay to be seen, or from before in this tab. */
function knownToken() {
  const hash = new URLSearchParams(location.hash.slice(1));
  const token = hash.get("token") ?? asked.get("token") ?? sessionStorage.getItem(KEPT_TOKEN);
  if (token && !alone) {
    sessionStorage.setItem(KEPT_TOKEN, token);
    asked.delete("token");
    history.replaceState(null, "", location.pathname + (asked.size ? `?${asked}` : ""));
  }
  return token;
}

// Picture and sound.

function play() {
  const video = $("video");
  video.play().catch((error) => {
    if (error.name !== "NotAllowedError" || video.muted) return;
    // Browsers want a press before a page may be heard.
    video.muted = true;
    $("unmute").hidden = false;
    showSound();
    play();
  });
}

function hear(on) {
  $("video").muted = !on;
  $("unmute").hidden = true;
  showSound();
}

// Any press will do, not only one on the button that says so.
for (const type of ["pointerdown", "keydown"]) addEventListener(type, () => { if (!$("unmute").hidden) hear(true); });

function showSound() {
  const on = !$("video").muted;
  $("sound").setAttribute("aria-pressed", on);
  $("sound").title = on ? "Turn the sound off" : "Turn the sound on";
}

live.addEventListener("picture", ({ detail }) => {
  picture.layout = detail;
  $("frame").style.setProperty("--shape", detail.width_px / detail.height_px);
  document.documentElement.dataset.drawn = picture.gl ? "canvas" : "video";
  play();
});

// What is the matter.

const USABLE = ["talk", "stop", "share", "file"];
let status = "connecting";

live.addEventListener("status", ({ detail }) => {
  status = detail.status;
  document.documentElement.dataset.status = status;
  for (const id of USABLE) $(id).disabled = status !== "live";
  showVoices();
  // What still comes, black pictures often, belongs to nobody: the last picture stays.
  if (status !== "live") picture.packing = null;
  if (status !== "live") tellState(status === "connecting" ? "connecting" : "not connected");
  // The first moment needs no words: it is over before they are read.
  $("veil").hidden = status === "live";
  $("notice").textContent = sentence(detail.sentence ?? "");
  $("spinner").hidden = !["connecting", "lost"].includes(status);
  $("token-form").hidden = status !== "token";
  $("again").hidden = !["full", "lost"].includes(status);
  $("numbers").hidden = status !== "live";
});

$("again").onclick = () => live.again();
$("token-form").onsubmit = (event) => {
  event.preventDefault();
  server.token = $("token").value.trim();
  sessionStorage.setItem(KEPT_TOKEN, server.token);
  live.again();
};

let stateTimer = null;
function tellState(word) {
  clearTimeout(stateTimer);
  document.documentElement.dataset.state = word;
  // It is read out: a pause between two words is no news.
  stateTimer = setTimeout(() => { $("state").textContent = word; }, word === "idle" ? SETTLED_MS : 0);
}
live.addEventListener("state", ({ detail }) => tellState(detail.state));
live.addEventListener("note", ({ detail }) => { $("say-hint").textContent = sentence(detail.text); });

// Numbers.

let serverMs = null;
live.addEventListener("rates", ({ detail }) => { serverMs = detail.latency_ms; });

async function measure() {
  let before = { shown: picture.shown, at: performance.now(), delay: 0, count: 0 };
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const now = { shown: picture.shown, at: performance.now(), ...(await held()) };
    $("rate").textContent = Math.round((1000 * (now.shown - before.shown)) / (now.at - before.at));
    const waiting = now.count > before.count ? (1000 * (now.delay - before.delay)) / (now.count - before.count) : null;
    const all = serverMs === null || waiting === null ? null : serverMs + waiting + now.way;
    $("latency").textContent = all === null ? "–" : Math.round(all);
    before = now;
  }
}

/** How long pictures waited in the browser so far, of how many, and half of the way there and back. */
async function held() {
  const sums = { delay: 0, count: 0, way: 0 };
  for (const report of (await live.peer?.getStats())?.values() ?? []) {
    if (report.type === "inbound-rtp" && report.kind === "video") {
      sums.delay = report.jitterBufferDelay ?? 0;
      sums.count = report.jitterBufferEmittedCount ?? 0;
    }
    if (report.type === "candidate-pair" && report.nominated) sums.way = 500 * (report.currentRoundTripTime ?? 0);
  }
  return sums;
}

// Microphone.

const microphone = new Microphone((level) => $("talk").style.setProperty("--level", level.toFixed(3)));
const mode = () => document.querySelector("input[name=mode]:checked").value;

async function listen(on) {
  $("microphone-hint").textContent = "";
  try {
    if (on) await microphone.open(() => listen(false));
    else microphone.close();
    await live.speakInto(microphone.track, on ? mode() : "off");
  } catch (problem) {
    microphone.close();
    $("microphone-hint").textContent = sentence(problem.message);
    on = false;
  }
  $("talk").setAttribute("aria-pressed", on);
}

$("talk").onclick = () => listen($("talk").getAttribute("aria-pressed") !== "true");
$("mode").onchange = () => { if (microphone.track) live.speakInto(microphone.track, mode()).catch(tellSay); };

// Text and files.

let voices = null;

function showVoices() {
  const usable = status === "live" && Boolean(voices?.length);
  $("say-button").disabled = !usable;
  $("voice").disabled = $("text").disabled = voices !== null && !voices.length;
  if (voices && !voices.length) {
    $("say-hint").textContent = "No voice is installed on the server; a sound file or the microphone works. "
      + "With espeak-ng or Piper it reads texts too.";
  }
}

async function askVoices() {
  voices = await server.ask("GET", "voices");
  const wanted = navigator.language.toLowerCase();
  for (const { name, languages } of voices) {
    const group = Object.assign(document.createElement("optgroup"), { label: name });
    for (const language of languages.length ? languages : [""]) {
      const option = new Option(language ? languageName(language) : name, JSON.stringify([name, language || null]));
      option.selected = !$("voice").value && language && wanted.startsWith(language.split("-")[0]);
      group.append(option);
    }
    const sorted = [...group.children].sort((a, b) => a.text.localeCompare(b.text));
    group.replaceChildren(...sorted);
    $("voice").append(group);
  }
  const options = [...$("voice").options];
  const fits = (option) => JSON.parse(option.value)[1] ?? "";
  const best = options.find((option) => fits(option) === wanted)
    ?? options.find((option) => fits(option) === wanted.split("-")[0])
    ?? options.find((option) => fits(option).startsWith(wanted.split("-")[0]));
  if (best) $("voice").value = best.value;
  showVoices();
}

function languageName(code) {
  try {
    return new Intl.DisplayNames([navigator.language], { type: "language" }).of(code) ?? code;
  } catch {
    return code;
  }
}

const tellSay = (problem) => { $("say-hint").textContent = sentence(problem.message); };

$("say").onsubmit = async (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text || $("say-button").disabled) return;
  const [voice, language] = JSON.parse($("voice").value);
  $("say-hint").textContent = "";
  try {
    await live.ask("POST", "say", { text, voice, language });
    if (document.activeElement === $("text")) $("text").select();
  } catch (problem) {
    tellSay(problem);
  }
};
$("text").onkeydown = (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("say").requestSubmit();
};

async function sayFile(file) {
  $("say-hint").textContent = `Sending ${file.name} …`;
  try {
    const { seconds } = await live.ask("POST", "speak", file, file.type || "application/octet-stream");
    $("say-hint").textContent = `${file.name}, ${seconds.toFixed(1)} s.`;
  } catch (problem) {
    tellSay(problem);
  }
}

$("file").onchange = () => { if ($("file").files[0]) sayFile($("file").files[0]); $("file").value = ""; };
// A file that is dropped beside its place shall not replace the page.
for (const type of ["dragover", "dragleave", "drop"]) {
  addEventListener(type, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", type === "dragover");
    if (type === "drop" && event.dataTransfer.files[0] && status === "live") sayFile(event.dataTransfer.files[0]);
  });
}

function interrupt() {
  captions.hide();
  live.ask("POST", "interrupt").catch(tellSay);
}
$("stop").onclick = interrupt;
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && status === "live" && !$("obs").open && !document.fullscreenElement) interrupt();
});

// Captions.

const captions = new Captions($("caption"));
let captionTimer = null;

$("captions").checked = localStorage.getItem(KEPT_CAPTIONS) === "on";
$("captions").onchange = () => {
  localStorage.setItem(KEPT_CAPTIONS, $("captions").checked ? "on" : "off");
  captions.hide();
};
live.addEventListener("saying", ({ detail }) => captions.begin(detail));
live.addEventListener("word", ({ detail }) => { if ($("captions").checked) captions.word(detail); });
live.addEventListener("state", ({ detail }) => {
  clearTimeout(captionTimer);
  if (detail.state !== "speaking") captionTimer = setTimeout(() => captions.hide(), READ_MS);
});
live.addEventListener("session", () => captions.hide());

// The picture's looks.

$("sound").onclick = () => hear($("video").muted);
$("unmute").onclick = () => $("sound").focus();
$("whole").onclick = () => (document.fullscreenElement ? document.exitFullscreen() : $("frame").requestFullscreen());

function showBehind() {
  const kind = document.querySelector("input[name=behind]:checked").value;
  const frame = $("frame");
  frame.dataset.behind = kind;
  $("colour-row").hidden = kind !== "colour";
  $("image-row").hidden = kind !== "image";
  frame.style.setProperty("--colour", $("colour").value);
  const alpha = kind !== "own";
  if (live.wish.alpha !== alpha) live.change({ alpha });
}

$("behind").onchange = showBehind;
$("colour").oninput = showBehind;
$("image").onchange = () => {
  const file = $("image").files[0];
  if (file) $("frame").style.setProperty("--image", `url("${URL.createObjectURL(file)}")`);
};
// A session of somebody else stays as it is.
$("behind-card").hidden = asked.has("session");
if (!picture.gl) {
  for (const radio of document.querySelectorAll("input[name=behind]:not([value=own])")) radio.disabled = true;
}

// The driver's controls: one request at a time, with all that was turned meanwhile.

let turned = {};
let sending = false;
const kept = {};

async function send() {
  if (sending) return;
  sending = true;
  try {
    while (Object.keys(turned).length) {
      const values = turned;
      turned = {};
      await live.ask("PATCH", "controls", values);
    }
  } catch (problem) {
    tellSay(problem);
  }
  sending = false;
}

const controls = new Controls($("controls"), (name, value) => {
  turned[name] = kept[name] = value;
  send();
});
live.addEventListener("controls", ({ detail }) => {
  // What was turned here since then is newer, and a new session takes over what was turned in the one before.
  const values = Object.fromEntries(Object.entries(detail.values).filter(([name]) => !(name in turned)));
  if (detail.controls) Object.assign(turned, kept);
  $("controls-card").hidden = false;
  controls.show({ controls: detail.controls, values: { ...values, ...turned } });
  send();
});
$("reset").onclick = () => {
  for (const name of controls.rows.keys()) turned[name] = kept[name] = null;
  controls.show({ values: turned });
  send();
};

// Who is shown, and OBS.

live.addEventListener("session", ({ detail }) => {
  $("picture").setAttribute("aria-label", `A live picture of ${detail.avatar}`);
});

async function askAvatars() {
  const avatars = await server.ask("GET", "avatars");
  if (avatars.length < 2 || asked.has("session")) return;
  $("avatar").append(...avatars.map(({ name }) => new Option(name, name)));
  if (live.wish.avatar) $("avatar").value = live.wish.avatar;
  document.querySelector(".person").hidden = false;
}
$("avatar").onchange = () => live.change({ avatar: $("avatar").value });

$("share").onclick = () => {
  const address = new URL(`/obs?session=${encodeURIComponent(live.session.id)}`, location.href);
  if (server.token) address.hash = `token=${server.token}`;
  $("obs-address").value = address.href;
  $("obs-hint").textContent = live.session.alpha ? "" : "Now their own background is shown; choose another one here to let OBS see through.";
  $("obs").showModal();
  $("obs-address").select();
};
$("obs-copy").onclick = async () => {
  $("obs-address").select();
  try {
    await navigator.clipboard.writeText($("obs-address").value);
    $("obs-hint").textContent = "Copied.";
  } catch {
    $("obs-hint").textContent = "The browser did not copy it; press Control and C.";
  }
};

// It begins.

addEventListener("pagehide", () => live.close());

if (!("RTCPeerConnection" in window)) {
  $("veil").hidden = false;
  $("spinner").hidden = true;
  $("notice").textContent = "This browser has no WebRTC, by which the picture comes. Chromium and Firefox have it.";
} else {
  showSound();
  let known = false;
  live.addEventListener("session", async () => {
    if (known || alone) return;
    known = true;
    await Promise.all([askVoices(), askAvatars()]).catch(tellSay);
  });
  measure();
  live.run();
}
