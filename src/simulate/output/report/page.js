// Everything together: what is shown, and what people do with it.

const began = performance.now();
const find = (id) => document.getElementById(id);
const data = decode(JSON.parse(find("data").textContent));
const plot = find("plot"), overview = find("overview"), tip = find("tip"), cursor = find("cursor"), select = find("select");
/** The shortest time shown, in points. */
const SHORTEST = Math.min(data.points, 10);
const pointsIn = (seconds) => seconds / data.seconds;

const state = {
  data, clock: makeClock(data.zone), view: { from: 0, to: data.points }, visible: new Set(), focus: null, capacity: null,
  parts: { forecast: true, capacity: true, desired: true }, list: "decisions", order: "size", inView: false,
  missedTimes: [], markers: [], selected: null, reading: null,
};

let waiting = 0;
function draw() {
  waiting = 0;
  drawMissed(find("missed"), state);
  drawLoad(find("load"), state);
  drawReplicas(find("replicas"), state);
  drawOverview(overview, state);
  placeCursor();
}
function redraw() {
  if (!waiting) waiting = requestAnimationFrame(draw);
}

// What is shown.

function setView(from, to) {
  const length = Math.min(data.points, Math.max(SHORTEST, to - from));
  const middle = (from + to) / 2;
  const start = Math.min(data.points - length, Math.max(0, to - from === length ? from : middle - length / 2));
  state.view = { from: start, to: start + length };
  describeView();
  if (state.inView) refreshList();
  redraw();
}

function describeView() {
  const { from, to } = state.view;
  const range = `${timeAt(state, from)} – ${timeAt(state, to)} (${state.clock.name})`;
  find("range").textContent = range;
  overview.setAttribute("aria-valuenow", String(Math.round((from / data.points) * 100)));
  overview.setAttribute("aria-valuetext", range);
  for (const button of document.querySelectorAll("[data-days], [data-go=scored], [data-go=all]")) {
    const [a, b] = targetOf(button);
    const same = Math.abs(a - from) < 1 && Math.abs(b - to) < 1;
    button.setAttribute("aria-pressed", String(button.dataset.days ? Math.abs(to - from - (b - a)) < 1 : same));
  }
}

/** The time that a button of the bar shows: so many days around the middle, or a part of the whole. */
function targetOf(button) {
  const { from, to } = state.view;
  if (button.dataset.days) {
    const length = Math.min(data.points, pointsIn(button.dataset.days * DAY));
    const start = Math.min(Math.max(0, (from + to - length) / 2), data.points - length);
    return [start, start + length];
  }
  return button.dataset.go === "scored" ? [data.scored, data.points] : [0, data.points];
}

function zoom(factor, around) {
  const { from, to } = state.view;
  const length = Math.min(data.points, Math.max(SHORTEST, (to - from) * factor));
  const share = (around - from) / (to - from);
  setView(around - share * length, around + (1 - share) * length);
}

function pan(share) {
  const { from, to } = state.view;
  const by = Math.min(data.points - to, Math.max(-from, (to - from) * share));
  setView(from + by, to + by);
}

/** The last week, or all that is scored if that is less. */
function reset() {
  state.selected = null;
  setView(Math.max(Math.min(data.scored, data.points - SHORTEST), data.points - pointsIn(7 * DAY)), data.points);
  refreshList();
}

function setFocus(name) {
  state.focus = data.strategies.find((s) => s.name === name) || null;
  if (state.focus) {
    state.capacity = capacityOf(data, state.focus);
    document.documentElement.style.setProperty("--focus", `var(--${name})`);
    find("focus-name").textContent = name;
  }
  state.missedTimes = missedTimes(state);
  refreshList();
  redraw();
}

function show(name, on) {
  if (on) state.visible.add(name);
  else state.visible.delete(name);
  redraw();
}

function choose(item) {
  state.selected = item;
  const around = Math.max(pointsIn(3 * HOUR), pointsIn(6 * data.lead), SHORTEST);
  const end = item.end || item.at;
  setView(item.at - around, end + around);
  readAt(Math.min(data.points - 1, Math.floor(item.at)));
  for (const button of document.querySelectorAll("#list button")) button.removeAttribute("aria-current");
  const { items } = listed(state);
  const entry = find("list").children[items.indexOf(item)];
  if (entry) entry.firstChild.setAttribute("aria-current", "true");
}

function refreshList() {
  fillList(state, choose);
}

// The reading line.

function readAt(point, near) {
  state.reading = point === null ? null : { point, near };
  placeCursor();
}

function placeCursor() {
  const hidden = state.reading === null || state.reading.point + 1 < state.view.from || state.reading.point > state.view.to;
  cursor.hidden = tip.hidden = hidden;
  if (hidden) return;
  const { point, near } = state.reading;
  const frame = makeFrame(null, plot.clientWidth, 0, state.view);
  const x = Math.min(LEFT + frame.inner, Math.max(LEFT, frame.x(point + 0.5)));
  cursor.style.left = `${x}px`;
  const marker = state.markers.find((m) => Math.abs(m.x - (near === undefined ? x : near)) < 7);
  fillTip(tip, state, point, marker && marker.decision);
  const right = x > plot.clientWidth / 2;
  tip.style.left = right ? "auto" : `${x + 12}px`;
  tip.style.right = right ? `${plot.clientWidth - x + 12}px` : "auto";
  tip.style.top = "8px";
}

function moveReading(by) {
  const { from, to } = state.view;
  const now = state.reading === null ? Math.floor((from + to) / 2) : state.reading.point + by;
  const point = Math.min(data.points - 1, Math.max(0, now));
  if (point < from || point >= to) pan(by > 0 ? 0.25 : -0.25);
  readAt(point);
  find("said").textContent = spoken(state, point);
}

// Mouse, touch and pen on the charts.

const pointers = new Map();
let grip = null;

function frameOf(element, view) {
  return makeFrame(null, element.clientWidth, 0, view);
}

const xOf = (event, element) => event.clientX - element.getBoundingClientRect().left;

plot.addEventListener("pointerdown", (event) => {
  if (event.button > 0) return;
  plot.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, xOf(event, plot));
  grip = { x: xOf(event, plot), view: state.view, selecting: event.shiftKey, moved: false };
});

plot.addEventListener("pointermove", (event) => {
  const x = xOf(event, plot);
  if (!pointers.has(event.pointerId)) {
    hover(x);
    return;
  }
  const before = [...pointers.values()];
  pointers.set(event.pointerId, x);
  if (pointers.size === 2) pinch(before, [...pointers.values()]);
  else if (grip) drag(x);
});

function hover(x) {
  const frame = frameOf(plot, state.view);
  const point = Math.floor(frame.point(x));
  const inside = x >= LEFT && x <= LEFT + frame.inner;
  readAt(inside ? Math.min(data.points - 1, Math.max(0, point)) : null, x);
}

function drag(x) {
  if (Math.abs(x - grip.x) > 3) grip.moved = true;
  if (!grip.moved) return;
  readAt(null);
  if (grip.selecting) {
    select.hidden = false;
    select.style.left = `${Math.min(x, grip.x)}px`;
    select.style.width = `${Math.abs(x - grip.x)}px`;
    return;
  }
  plot.classList.add("dragging");
  const by = (grip.x - x) / frameOf(plot, grip.view).scale;
  const { from, to } = grip.view;
  const kept = Math.min(data.points - to, Math.max(-from, by));
  setView(from + kept, to + kept);
}

function pinch(before, now) {
  grip = null;
  const apart = ([a, b]) => Math.max(20, Math.abs(a - b));
  zoom(apart(before) / apart(now), frameOf(plot, state.view).point((now[0] + now[1]) / 2));
}

function release(event) {
  pointers.delete(event.pointerId);
  plot.classList.remove("dragging");
  select.hidden = true;
  if (!grip) return;
  const x = xOf(event, plot);
  if (grip.selecting && grip.moved && event.type === "pointerup") {
    const frame = frameOf(plot, state.view);
    setView(frame.point(Math.min(x, grip.x)), frame.point(Math.max(x, grip.x)));
  }
  // A finger does not hover: its tap reads.
  if (!grip.moved && event.pointerType === "touch" && event.type === "pointerup") hover(x);
  grip = null;
}
plot.addEventListener("pointerup", release);
plot.addEventListener("pointercancel", release);
plot.addEventListener("pointerleave", (event) => { if (event.pointerType !== "touch") readAt(null); });

plot.addEventListener("dblclick", (event) => zoom(0.4, frameOf(plot, state.view).point(xOf(event, plot))));

function wheel(event) {
  if (Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey) {
    event.preventDefault();
    pan(Math.sign(event.deltaX || event.deltaY) * 0.1);
    return;
  }
  const all = state.view.to - state.view.from >= data.points;
  // Where all is shown already, the page scrolls.
  if (event.deltaY === 0 || (event.deltaY > 0 && all)) return;
  event.preventDefault();
  const lines = event.deltaMode === 1 ? 33 : event.deltaMode === 2 ? 300 : 1;
  const amount = Math.max(-300, Math.min(300, event.deltaY * lines));
  zoom(2 ** (amount / 250), frameOf(plot, state.view).point(Math.max(LEFT, xOf(event, plot))));
}
plot.addEventListener("wheel", wheel, { passive: false });

// The overview: drag the window, its edges, or a new one.

let hold = null;
const whole = () => frameOf(overview, { from: 0, to: data.points });
const within = (point) => Math.min(data.points, Math.max(0, point));

function holdAt(x) {
  const frame = whole();
  const { from, to } = state.view;
  const [left, right] = [frame.x(from), frame.x(to)];
  if (Math.abs(x - left) < 7) return { fixed: to };
  if (Math.abs(x - right) < 7) return { fixed: from };
  const point = within(frame.point(x));
  return x > left && x < right ? { offset: point - from, length: to - from } : { fixed: point, fresh: true };
}

overview.addEventListener("pointerdown", (event) => {
  if (event.button > 0) return;
  overview.setPointerCapture(event.pointerId);
  hold = { ...holdAt(xOf(event, overview)), x: xOf(event, overview) };
});
overview.addEventListener("pointermove", (event) => {
  if (!hold || Math.abs(xOf(event, overview) - hold.x) < 2) return;
  const point = within(whole().point(xOf(event, overview)));
  if (hold.offset === undefined) setView(Math.min(point, hold.fixed), Math.max(point, hold.fixed));
  else moveTo(point - hold.offset, hold.length);
  hold.moved = true;
});
overview.addEventListener("pointerup", () => {
  if (hold && hold.fresh && !hold.moved) {
    const length = state.view.to - state.view.from;
    moveTo(hold.fixed - length / 2, length);
  }
  hold = null;
});
overview.addEventListener("pointercancel", () => { hold = null; });
overview.addEventListener("wheel", wheel, { passive: false });

function moveTo(from, length) {
  const start = Math.min(data.points - length, Math.max(0, from));
  setView(start, start + length);
}

// Keys and controls.

const middle = () => (state.view.from + state.view.to) / 2;
const actions = {
  left: () => pan(-0.25), right: () => pan(0.25), in: () => zoom(0.5, middle()), out: () => zoom(2, middle()), reset,
  first: () => moveTo(0, state.view.to - state.view.from),
  last: () => moveTo(data.points, state.view.to - state.view.from),
};
const keys = {
  ArrowLeft: "left", ArrowRight: "right", ArrowUp: "in", ArrowDown: "out", "+": "in", "=": "in", "-": "out", "0": "reset",
  Home: "first", End: "last",
};

function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const sideways = event.key === "ArrowLeft" ? -1 : event.key === "ArrowRight" ? 1 : 0;
  if (event.key === "Escape") readAt(null);
  else if (event.shiftKey && sideways) moveReading(sideways);
  else if (keys[event.key]) actions[keys[event.key]]();
  else return;
  event.preventDefault();
}
plot.addEventListener("keydown", key);
overview.addEventListener("keydown", key);

for (const button of document.querySelectorAll(".charts button")) {
  const act = actions[button.dataset.go] || (() => setView(...targetOf(button)));
  button.addEventListener("click", act);
}
for (const box of document.querySelectorAll("input[name=part]")) {
  box.checked = true;
  box.addEventListener("change", () => { state.parts[box.value] = box.checked; redraw(); });
}
find("order").addEventListener("change", (event) => { state.order = event.target.value; refreshList(); });
find("in-view").addEventListener("change", (event) => { state.inView = event.target.checked; refreshList(); });

const tabs = [find("tab-decisions"), find("tab-missed")];
function openTab(tab) {
  for (const other of tabs) {
    other.setAttribute("aria-selected", String(other === tab));
    other.tabIndex = other === tab ? 0 : -1;
  }
  find("panel").setAttribute("aria-labelledby", tab.id);
  state.list = tab.id === "tab-missed" ? "missed" : "decisions";
  refreshList();
}
tabs.forEach((tab, i) => {
  tab.addEventListener("click", () => openTab(tab));
  tab.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    tabs[1 - i].focus();
    openTab(tabs[1 - i]);
  });
});

// The start.

/** What is shown at first: the product, the fleet for the peak and the usual autoscaler. */
const FIRST = ["predictive", "static", "hpa"];

function startStrategies() {
  const names = data.strategies.map((s) => s.name);
  const first = FIRST.filter((name) => names.includes(name));
  const focus = names.includes("predictive") ? "predictive" : names[0];
  for (const row of document.querySelectorAll("tr[data-strategy]")) {
    const name = row.dataset.strategy;
    row.style.setProperty("--colour", `var(--${name})`);
    const [box, radio] = row.querySelectorAll("input");
    box.checked = first.length < 2 || first.includes(name);
    show(name, box.checked);
    box.addEventListener("change", () => show(name, box.checked));
    radio.checked = name === focus;
    radio.addEventListener("change", () => {
      box.checked = true;
      show(name, true);
      setFocus(name);
    });
  }
  setFocus(focus);
}

function recolour() {
  readColours(data.strategies.map((s) => s.name));
  redraw();
}

find("band-key").textContent = `forecast of the highest load in the next ${spanText(data.lead)}: median to 99%`;
if (data.per > 1) find("coarse").textContent = ` Charts are drawn in steps of ${spanText(data.seconds)}; scores are from every step.`;
find("list-note").setAttribute("aria-live", "polite");
readColours(data.strategies.map((s) => s.name));
startStrategies();
reset();
draw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
new ResizeObserver(redraw).observe(plot);

/** For tests, and for the curious in the browser's console. */
window.__report = {
  milliseconds: performance.now() - began,
  view: () => ({ ...state.view }),
  setView, data, state,
  colours: () => ({ ...colours }),
  draw,
};
