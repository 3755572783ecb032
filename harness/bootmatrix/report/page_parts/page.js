"use strict";
(() => {
const $ = (id) => document.getElementById(id);
const index = JSON.parse($("index").textContent);
const { words, columns, firmware, short, marks, worst, telling } = index;
const total = columns.id.length;
const pieces = document.getElementsByClassName("piece");
const el = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") node.className = value;
    else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
};
const natural = new Intl.Collator("en", { numeric: true }).compare;
const colour = (name) => {
  const at = firmware.indexOf(name);
  if (at < 0 || name === "nothing seen") return "#8a93a1";
  // No plain red or green: those say how a cell ended. Beyond the list, the golden angle.
  const hue = [212, 28, 275, 178, 325, 55][at] ?? at * 137.5;
  return `hsl(${hue % 360} 65% 52%)`;
};
const shortOf = (name) => short[firmware.indexOf(name)] ?? name ?? "nothing";

// ---- filters ---------------------------------------------------------------------------------
const value = {
  source: (n) => words[columns.hosts[n][0]], destination: (n) => words[columns.hosts[n][1]] ?? "none",
  QEMU: (n) => columns.qemus[n].map((word) => words[word]),
  firmware: (n) => columns.ran[n].map((at) => firmware[at]),
};
for (const key of [...index.axes, "verdict", "outcome"]) {
  value[key] = (n) => words[columns[key][n]];
}
const axes = ["scenario", "machine", "source", "destination", ...index.axes.slice(2), "QEMU", "firmware", "verdict"];
const chosen = {}, selects = {};
let outcomes = new Set(), text = "";
for (const axis of axes) {
  const found = new Set();
  for (let n = 0; n < total; n++) for (const one of [value[axis](n)].flat()) found.add(one);
  if (found.size < 2) continue;
  const select = el("select", { "data-axis": axis, onchange: () => { chosen[axis] = select.value; filtered(); } },
    el("option", { value: "" }, axis === "scenario" ? `all ${found.size} scenarios` : "all"),
    ...[...found].sort(natural).map((one) => el("option", { value: one }, one || "none")));
  selects[axis] = select;
  $("filters").append(el("label", {}, axis, select));
}
$("filters").addEventListener("submit", (event) => event.preventDefault());
let waiting = 0;
$("search").addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => { text = $("search").value.toLowerCase().trim(); filtered(); }, 80);
});
for (const chip of document.querySelectorAll(".chip")) {
  chip.addEventListener("click", () => {
    const name = chip.dataset.outcome;
    outcomes.has(name) ? outcomes.delete(name) : outcomes.add(name);
    filtered();
  });
}

// ---- the address: #cell=ID&policy=stock&outcome=failed,error&search=q35 -----------------------
function address(cell) {
  const told = cell === null ? [] : [["cell", columns.id[cell]]];
  for (const axis in chosen) if (chosen[axis]) told.push([axis, chosen[axis]]);
  if (outcomes.size) told.push(["outcome", [...outcomes].join(",")]);
  if (text) told.push(["search", text]);
  return told.length ? "#" + told.map(([name, one]) => `${name}=${encodeURIComponent(one)}`).join("&") : "";
}
const place = (cell) => location.pathname + location.search + address(cell);
function filtered() {
  history.replaceState(null, "", place(current));
  for (const chip of document.querySelectorAll(".chip")) chip.setAttribute("aria-pressed", String(outcomes.has(chip.dataset.outcome)));
  draw();
}
function asked() {
  const told = new Map();
  for (const part of location.hash.slice(1).split("&")) {
    const [name, one] = part.split(/=(.*)/s);
    try { told.set(name, decodeURIComponent(one ?? "")); } catch { told.set(name, one); /* as it is */ }
  }
  told.delete("");
  return told;
}
function filter(told) {
  for (const axis in selects) {
    selects[axis].value = told.get(axis) ?? "";
    chosen[axis] = selects[axis].value; // none, if it has no such value
  }
  outcomes = new Set((told.get("outcome") ?? "").split(",").filter((one) => marks[one]));
  $("search").value = text = (told.get("search") ?? "").toLowerCase().trim();
}
const hay = [];
const matches = (n) => {
  if (outcomes.size && !outcomes.has(value.outcome(n))) return false;
  for (const axis in chosen) {
    if (chosen[axis] && ![value[axis](n)].flat().includes(chosen[axis])) return false;
  }
  if (!text) return true;
  hay[n] ??= [columns.id[n], words[columns.reason[n]], value.verdict(n), ...value.QEMU(n), ...value.firmware(n)].join(" ").toLowerCase();
  return text.split(/\s+/).every((word) => hay[n].includes(word));
};

// ---- the heat map ----------------------------------------------------------------------------
const BATCH = 120;
let tiles = [], order = [], generation = 0, current = null;
function rowsOf() {
  const rows = new Map();
  for (let n = 0; n < total; n++) {
    if (!matches(n)) continue;
    const heading = [value.machine(n), ...telling.map((axis) => value[axis](n))].join(", ");
    const key = heading + "\0" + columns.hosts[n].join(",") + "\0" + columns.qemus[n].join(",");
    let row = rows.get(key);
    if (!row) rows.set(key, row = { heading, first: n, name: columns.hosts[n].map((w) => words[w]).join(" → "),
      versions: columns.qemus[n].map((w) => words[w]).join(" → "), cells: new Map() });
    const policy = value.policy(n);
    if (!row.cells.has(policy)) row.cells.set(policy, []);
    row.cells.get(policy).push(n);
  }
  return [...rows.values()].sort((a, b) => natural(a.heading, b.heading) || natural(a.versions, b.versions) || natural(a.name, b.name));
}
function draw() {
  const mine = ++generation, grid = $("grid"), rows = rowsOf();
  const used = index.policies.filter((policy) => rows.some((row) => row.cells.has(policy)));
  grid.replaceChildren();
  tiles = []; order = [];
  for (const row of rows) for (const policy of used) for (const n of row.cells.get(policy) ?? []) order.push(n);
  $("shown").textContent = order.length === total ? `${total} cells` : `${order.length} of ${total} cells`;
  grid.style.setProperty("--columns", used.length || 1);
  if (!rows.length) { grid.append(el("p", {}, "No cell matches. Take a filter away.")); return; }
  grid.append(el("div", { class: "row head", role: "row" }, el("span", { role: "columnheader" }, "hosts"),
    ...used.map((policy) => el("span", { role: "columnheader" }, policy))));
  let above = null, at = 0;
  const batch = (until) => {
    if (mine !== generation) return;
    const part = document.createDocumentFragment();
    for (; at < Math.min(until, rows.length); at++) {
      const row = rows[at];
      if (row.heading !== above) part.append(el("div", { class: "group" }, above = row.heading));
      const line = [];
      part.append(el("div", { class: "row", role: "row" },
        el("span", { class: "name", role: "rowheader" }, row.name, el("small", {}, row.versions)),
        ...used.map((policy) => {
          const cells = row.cells.get(policy);
          const tile = cells ? tileOf(cells) : el("div", { class: "none", role: "gridcell" });
          line.push(cells ? tile : null);
          return tile;
        })));
      tiles.push(line);
    }
    grid.append(part);
    if (at === Math.min(until, rows.length) && tiles.length && !grid.querySelector("[tabindex='0']")) {
      (tiles.flat().find((tile) => tile) ?? {}).tabIndex = 0;
    }
  };
  batch(BATCH);
  const rest = () => {
    if (mine !== generation || at >= rows.length) return;
    batch(at + BATCH);
    (window.requestIdleCallback ?? setTimeout)(rest);
  };
  if (at < rows.length) (window.requestIdleCallback ?? setTimeout)(rest);
  all = () => { while (mine === generation && at < rows.length) batch(rows.length); };
}
let all = () => {};
addEventListener("beforeprint", () => all());
function tileOf(cells) {
  const rank = (n) => worst.indexOf(value.outcome(n));
  const n = cells.reduce((a, b) => (rank(b) < rank(a) ? b : a));
  const outcome = value.outcome(n), alike = cells.filter((m) => value.outcome(m) === outcome).length;
  const ran = columns.ran[n], strip = el("i");
  strip.style.background = ran.length < 2 ? (ran.length ? colour(firmware[ran[0]]) : "none")
    : `linear-gradient(90deg, ${ran.map((f, i) => `${colour(firmware[f])} ${(100 * i) / ran.length}% ${(100 * (i + 1)) / ran.length}%`).join(", ")})`;
  const label = cells.length === 1 ? words[columns.text[n]]
    : alike === cells.length && outcome === "passed" ? "" : words[columns.text[n]];
  const tile = el("button", { class: `tile o-${outcome}`, type: "button", role: "gridcell", tabindex: "-1",
    "data-cell": columns.id[n], title: words[columns.reason[n]],
    "aria-label": `${outcome}: ${words[columns.text[n]]}, ${value.policy(n)}, ${columns.hosts[n].map((w) => words[w]).join(" to ")}`,
    onclick: () => cells.length === 1 ? go(n) : pick(cells) },
    `${marks[outcome]} ${label}`, cells.length === 1 ? null
      : el("small", {}, alike === cells.length ? `×${cells.length}` : `${alike} of ${cells.length}`), strip);
  tile.cells = cells;
  return tile;
}
for (const name of firmware) {
  if (name === "nothing seen") continue;
  const swatch = el("i");
  swatch.style.background = colour(name);
  $("legend").append(el("span", { title: name }, swatch, shortOf(name)));
}

// ---- stories ---------------------------------------------------------------------------------
async function unpacked(packed) {
  const bytes = Uint8Array.from(atob(packed.textContent), (char) => char.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).text();
}
const opened = new Map();
async function story(n) {
  const piece = Math.floor(n / index.piece);
  if (!opened.has(piece)) opened.set(piece, JSON.parse(await unpacked(pieces[piece])));
  return opened.get(piece)[n % index.piece];
}
const table = (head, rows) => el("div", { class: "scroll" }, el("table", {},
  el("thead", {}, el("tr", {}, ...head.map((one) => el("th", {}, one)))),
  el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row)))));
// A word without a place to break, such as a digest, is broken anywhere.
const long = (what) => /[^\s-]{16}/.test(what ?? "");
const td = (what, off) => el("td", { class: [off ? "off" : "", long(what) ? "long" : ""].join(" ").trim() }, what ?? "-");
const copyable = (content) => el("div", {}, el("button", { class: "copy", type: "button" }, "copy"), el("pre", {}, content));
// "copied" is said only of what was: over plain http a page has no clipboard, and asks by the old way.
async function copy(button) {
  const from = button.parentNode.querySelector("pre, code"), range = document.createRange();
  let done = false;
  try {
    await navigator.clipboard.writeText(from.textContent);
    done = true;
  } catch {
    range.selectNodeContents(from);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    done = document.execCommand("copy");
  }
  button.textContent = done ? "copied" : "selected: press Ctrl-C";
}
addEventListener("click", (event) => { if (event.target.matches?.("button.copy")) copy(event.target); });
const clock = (wall) => wall ? ` (${seconds(wall)} by the clock)` : ""; // where it has notably more than QEMU was able to run
const seconds = (number) => (number === null || number === undefined ? "" : number < 1 ? `${Math.round(number * 1000)} ms` : `${number.toFixed(1)} s`);
function marked(said) {
  const pre = el("pre", { class: "console", tabindex: "0" });
  let from = 0;
  for (const found of said.matchAll(new RegExp(index.marked, "g"))) {
    pre.append(said.slice(from, found.index), el("mark", {}, found[0]));
    from = found.index + found[0].length;
  }
  pre.append(said.slice(from));
  return pre;
}
// A line without what is another in each boot: the guest's random number, and how many dots came.
const steady = (line) => line.replace(/\bnonce=\d+/g, "nonce=").replace(/\.+$/, "");
// Lines of two texts beside each other, those that only one has apart: by their longest common part.
function pairs(one, other) {
  const n = one.length, m = other.length, found = [], a = one.map(steady), b = other.map(steady);
  if (n * m > 4e6) return [...Array(Math.max(n, m)).keys()].map((at) => [one[at], other[at], a[at] !== b[at]]);
  const longest = Array.from({ length: n + 1 }, () => new Uint16Array(m + 1));
  for (let i = n - 1; i >= 0; i--) for (let j = m - 1; j >= 0; j--) {
    longest[i][j] = a[i] === b[j] ? longest[i + 1][j + 1] + 1 : Math.max(longest[i + 1][j], longest[i][j + 1]);
  }
  for (let i = 0, j = 0; i < n || j < m;) {
    if (i < n && j < m && a[i] === b[j]) found.push([one[i++], other[j++], false]);
    else {
      let left = i, right = j; // what differs at one place stands side by side
      while (left < n || right < m) {
        if (left < n && right < m && a[left] === b[right]) break;
        if (right >= m || (left < n && longest[left + 1][right] >= longest[left][right + 1])) left++; else right++;
      }
      for (; i < left || j < right; i += i < left, j += j < right) found.push([i < left ? one[i] : undefined, j < right ? other[j] : undefined, true]);
    }
  }
  return found;
}
function beside(names, consoles) {
  const logs = consoles.map((said) => (said ?? []).map(([name, log]) => [`-- ${name} --`, log.replace(/\r?\n$/, "").split(/\r*\n/)]));
  const rows = [...Array(Math.max(...logs.map((of) => of.length))).keys()].flatMap((at) => { // QEMU by QEMU
    const [one, other] = logs.map((of) => of[at] ?? [undefined, []]);
    return [[one[0], other[0], one[0] !== other[0]], ...pairs(one[1], other[1])];
  });
  return el("div", { class: "scroll beside" }, el("table", {}, el("thead", {}, el("tr", {}, ...names.map((name) => el("th", {}, name)))),
    el("tbody", {}, ...rows.map((row) => el("tr", {}, ...[0, 1].map((side) =>
      el("td", row[2] && row[side] !== undefined ? { class: "differs" } : {}, row[side] ?? "")))))));
}
function sides(n, told) {
  const others = [];
  if (told.near) others.push([told.near[1], async () => (await story(columns.id.indexOf(told.near[1]))).consoles]);
  if (told.before?.[3]) others.push(["the run before", async () => told.before[3]]);
  return others.map(([name, get]) => el("details", { class: "sides", ontoggle: async (event) => {
    const box = event.target;
    if (box.open && box.children.length === 1) box.append(beside([columns.id[n], name], [told.consoles, await get()]));
  } }, el("summary", {}, `beside that of ${name}`)));
}
function timeline(told) {
  const make = (tag, attributes, content) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, one] of Object.entries(attributes)) node.setAttribute(key, one);
    if (content !== undefined) node.textContent = content;
    return node;
  };
  const steps = told.steps, roles = [];
  for (const [, host] of steps) if (host && !roles.includes(host)) roles.push(host);
  const left = 96, wide = Math.max(118, Math.min(170, 620 / Math.max(steps.length, 1))), high = 58, top = 44;
  const width = left + wide * steps.length + 10, height = top + high * Math.max(roles.length, 1) + 6;
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", style: `max-width:${Math.round(width * 1.15)}px` });
  svg.append(make("title", {}, steps.map(([kind, host, name]) => `${kind}${host ? " on " + host : ""}: ${name ?? "nothing runs"}`).join("; ")));
  roles.forEach((role, at) => {
    const y = top + at * high;
    svg.append(make("line", { x1: left, x2: width, y1: y + 22, y2: y + 22, stroke: "var(--line)" }));
    svg.append(make("text", { x: 0, y: y + 20 }, role));
    const number = role === "source" ? 0 : role === "destination" ? 1 : Number(role.slice(5)) - 1;
    svg.append(make("text", { x: 0, y: y + 35, class: "soft" }, told.hosts[number] ? `${told.hosts[number][0]} ${told.hosts[number][1] ?? ""}` : ""));
  });
  let before = null;
  steps.forEach(([kind, host, name, took, outcome, well, late], at) => {
    const x = left + at * wide, refused = outcome.startsWith("refused");
    svg.append(make("line", { x1: x, x2: x, y1: 34, y2: height, stroke: "var(--line)", "stroke-dasharray": "3 3" }));
    svg.append(make("text", { x: x + 3, y: 14, "font-weight": 600 }, kind));
    svg.append(make("text", { x: x + 3, y: 29, class: "soft" }, refused ? "refused" : seconds(took)));
    if (!host) { before = null; return; }
    const y = top + roles.indexOf(host) * high;
    if (before !== null && before !== y) {
      svg.append(make("path", { d: `M ${x - 4} ${before + 22} C ${x + 12} ${before + 22}, ${x - 14} ${y + 22}, ${x + 3} ${y + 22}`, fill: "none", stroke: "var(--soft)", "stroke-width": 2 }));
    }
    const bad = well === false || late;
    svg.append(make("rect", { x: x + 3, y: y + 9, width: wide - 6, height: 26, rx: 6, fill: name ? colour(name) : "none",
      stroke: bad ? "var(--failed-ink)" : "none", "stroke-width": 2.5, "fill-opacity": bad ? 0.25 : 0.3 }));
    svg.append(make("rect", { x: x + 3, y: y + 9, width: 5, height: 26, rx: 2, fill: name ? colour(name) : "var(--soft)" }));
    const what = refused ? "refused" : name || well !== false ? shortOf(name) : "silent";
    const sign = well === null ? what : `${!well ? "✗" : late ? "late" : "✓"} ${what}`;
    svg.append(make("text", { x: x + 13, y: y + 26 }, sign.length > 22 ? sign.slice(0, 21) + "…" : sign));
    before = y;
  });
  return el("div", { class: "scroll" }, svg);
}
function show(title, ...children) {
  const panel = $("story");
  panel.hidden = false;
  panel.replaceChildren(el("button", { class: "close", type: "button", onclick: close, "aria-label": "close" }, "close"), el("h2", {}, title), ...children.filter((child) => child !== null));
  panel.scrollTop = 0;
  panel.focus({ preventScroll: true });
}
function pick(cells) {
  const rank = (n) => worst.indexOf(value.outcome(n));
  show(`${cells.length} cells`, el("div", { class: "pick" }, ...[...cells].sort((a, b) => rank(a) - rank(b) || natural(columns.id[a], columns.id[b])).map((n) =>
    el("button", { class: `tile o-${value.outcome(n)}`, type: "button", "data-cell": columns.id[n], onclick: () => go(n) },
      `${marks[value.outcome(n)]} ${value.scenario(n)}: ${words[columns.text[n]]}`))));
  $("story").querySelector(".pick button").focus();
}
async function tell(n) {
  current = n;
  const told = await story(n);
  if (current !== n) return;
  if (order.includes(n)) all(); // its tile may be one that is not drawn yet
  for (const tile of document.querySelectorAll("#grid .tile")) tile.classList.toggle("open", tile.cells.includes(n));
  const outcome = value.outcome(n), boots = told.boots;
  show(columns.hosts[n].map((w) => words[w]).join(" → "),
    el("p", { class: "facts" }, el("span", { class: `badge o-${outcome}` }, `${marks[outcome]} ${outcome}${outcome === value.verdict(n) || outcome === "passed" ? "" : ": " + value.verdict(n)}`),
      index.axes.map((axis) => value[axis](n)).filter((one) => one).join(" · "),
      told.engine ? ` · ${told.engine}` : "", told.time ? ` · ${told.time}` : ""),
    el("p", { class: "reason" }, words[columns.reason[n]]),
    told.mismatch ? el("p", { class: "note" }, told.mismatch) : null,
    told.again ? el("p", { class: "note" }, `Run once more, and that counts: ${told.again}`) : null,
    told.near ? el("p", { class: "facts" }, el("a", { href: "#cell=" + encodeURIComponent(told.near[1]) }, told.near[0])) : null,
    told.doing ? el("p", { class: "facts" }, `black box: ${told.doing}`) : null,
    told.box ? el("details", { class: "box" }, el("summary", {}, "All of the black box"), el("pre", { class: "console", tabindex: "0" }, told.box)) : null,
    told.known[0] ? el("p", { class: "note" }, `The matrix declares it: ${told.known[0]} `, told.known[1] ? el("a", { href: told.known[1], rel: "noopener noreferrer" }, told.known[1]) : null) : null,
    told.before ? el("p", { class: "facts" }, `before: ${told.before[0]}, ${told.before[1]}; ran ${told.before[2].join(" → ") || "nothing"}`) : null,
    told.flaky ? el("p", { class: "note" }, `Repeats differ: ${Object.entries(told.flaky).map(([verdict, many]) => `${many} × ${verdict}`).join(", ")}. This is the worst of them.`) : null,
    told.error ? copyable(told.error) : null,
    told.steps.length ? el("h3", {}, "What happened") : null, told.steps.length ? timeline(told) : null,
    boots.length ? el("h3", {}, "Expected, and seen") : null,
    boots.length ? table(["boot", "on", "expected", "console", "ROM", "guest", "disk"], boots.map(
      ([number, step, host, expected, said, rom, up, disk, had, took, usual, wall]) => [td(`${number} ${step}`), td(host), td(expected),
        td(said ?? "nothing", said !== null ? said !== expected && rom !== expected : !up), td(rom, rom !== null && rom !== expected),
        td(`${up ? "up," : "down after"} ${seconds(took)}${clock(wall)}${up && usual ? `: late, usually within ${seconds(usual)}` : ""}`, !up || usual), td(had, up && disk && had !== disk)])) : null,
    el("h3", {}, "Console"),
    ...(told.consoles === null ? [el("p", { class: "facts" }, `The logs are not beside the records: nothing to show.${told.run ? ` The run had them in ${told.run}/${told.artifacts}.` : ""}`)]
      : told.consoles.length ? told.consoles.flatMap(([name, said]) => [el("div", { class: "facts" }, name), said ? marked(said) : el("p", { class: "facts" }, "It said nothing.")])
        : [el("p", { class: "facts" }, "No QEMU was started.")]),
    ...(told.consoles?.length ? sides(n, told) : []),
    told.logs.length ? el("p", { class: "facts" }, "raw: ", ...told.logs.flatMap(([name, href], at) => [at ? ", " : null, el("a", { href }, name)])) : null,
    told.trend.length > 1 ? el("h3", {}, "In earlier runs") : null,
    told.trend.length > 1 ? table(["run", "verdict", "the hosts' own firmware", "seconds"], told.trend.map(([run, verdict, ran, took]) => [td(run), td(verdict, verdict !== "pass"), td(ran), td(took === null ? "" : seconds(took))])) : null,
    el("h3", {}, "Go on"), ...told.deeds.flatMap(([what, command]) => [el("div", { class: "facts" }, what), copyable(command)]), el("p", { class: "facts" }, "artifacts: ", el("code", {}, told.artifacts || "none")),
    told.qemus.length ? el("h3", {}, "QEMU") : null,
    ...told.qemus.flatMap(([name, line]) => [el("details", {}, el("summary", {}, name), copyable(line))]),
    el("h3", {}, "Hosts"), table(["host", "QEMU", "firmware", "build", "digest"], told.hosts.map((host) => host.map((one, at) => td(at === 4 && one ? one.slice(0, 12) : one)))));
  $("story").scrollIntoView({ block: "nearest" });
  document.querySelector("#grid .open")?.scrollIntoView({ block: "nearest", inline: "nearest" });
}
const go = (n) => { const hash = address(n); location.hash === hash ? tell(n) : (location.hash = hash); };
function close() {
  const back = current;
  current = null;
  $("story").hidden = true;
  for (const tile of document.querySelectorAll("#grid .open")) tile.classList.remove("open");
  if (location.hash) history.pushState(null, "", place(null));
  const tile = tiles.flat().find((one) => one && one.cells.includes(back)) ?? document.querySelector("#grid [tabindex='0']");
  if (tile) { rove(tile); }
}
function route() {
  const told = asked(), wanted = told.get("cell");
  // A link within the page names a cell alone: what is filtered stays.
  if (wanted === undefined || told.size > 1) filter(told);
  const n = wanted === undefined ? -1 : columns.id.indexOf(wanted);
  if (n >= 0) current = n;
  filtered();
  if (n >= 0) tell(n);
  else if (wanted !== undefined) show("No such cell", el("p", {}, wanted));
}
addEventListener("hashchange", route);

// All that the page was made from, packed in it: made a file of when somebody wants it.
const download = $("download");
download.hidden = false;
download.addEventListener("click", async (event) => {
  if (download.href.startsWith("blob:")) return;
  event.preventDefault();
  download.href = URL.createObjectURL(new Blob([await unpacked($("records"))], { type: "application/jsonl" }));
  download.click();
});

// ---- keys ------------------------------------------------------------------------------------
function rove(tile) {
  document.querySelector("#grid [tabindex='0']")?.setAttribute("tabindex", "-1");
  tile.tabIndex = 0;
  tile.focus();
}
$("grid").addEventListener("keydown", (event) => {
  const move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
  if (!move) return;
  event.preventDefault();
  let row = tiles.findIndex((line) => line.includes(document.activeElement));
  if (row < 0) return;
  let column = tiles[row].indexOf(document.activeElement);
  for (;;) {
    row += move[0]; column += move[1];
    if (!tiles[row] || column < 0 || column >= tiles[row].length) return;
    if (tiles[row][column]) return rove(tiles[row][column]);
  }
});
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") {
    if (!$("story").hidden) close();
    else if (document.activeElement === $("search")) $("search").blur();
    return;
  }
  if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  if (event.key === "/") { event.preventDefault(); $("search").focus(); return; }
  if (event.key !== "n" && event.key !== "p") return;
  const bad = order.filter((n) => ["failed", "error", "flaky"].includes(value.outcome(n)));
  if (!bad.length) return;
  const at = bad.indexOf(current), step = event.key === "n" ? 1 : -1;
  go(bad[at < 0 ? (step > 0 ? 0 : bad.length - 1) : (at + step + bad.length) % bad.length]);
});

route();
document.documentElement.dataset.ready = String(Math.round(performance.now()));
})();
