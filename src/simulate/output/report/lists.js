// The lists of decisions and of missed times, and what is read at a moment.

const MOST_LISTED = 100;

function make(tag, properties, ...children) {
  const element = document.createElement(tag);
  Object.assign(element, properties);
  element.append(...children);
  return element;
}

function timeAt(state, point) {
  return state.clock.text(state.data.start + Math.round(point * state.data.per) * state.data.step);
}

function spanOf(state, points) {
  return spanText(points * state.data.seconds);
}

/** The times at which demand was above the capacity of the strategy in focus, with how far. */
function missedTimes(state) {
  const { data, focus, capacity } = state;
  const found = [];
  for (let run = 0; focus && run < focus.missed.length; run += 2) {
    const [at, end] = [focus.missed[run], focus.missed[run + 1]];
    let worst = at, lack = -Infinity;
    for (let i = at; i < end; i++) {
      if (data.demand[i] - capacity[i] > lack) [worst, lack] = [i, data.demand[i] - capacity[i]];
    }
    found.push({ at, end, demand: data.demand[worst], capacity: capacity[worst] });
  }
  return found;
}

function decisionItem(state, decision) {
  const change = decision.to - decision.from;
  const strong = make("strong", { className: change > 0 ? "up" : "" }, `${decision.from} → ${decision.to}`);
  strong.title = `${change > 0 ? "+" : "−"}${Math.abs(change)} replicas`;
  const reasons = decision.reasons.map((r) => make("span", { className: "reason" }, make("b", {}, r.code), ` ${r.message}`));
  return [strong, timeAt(state, decision.at), ...reasons];
}

function missedItem(state, time) {
  const lack = `load ${numberText(time.demand)} on capacity for ${numberText(time.capacity)} ${state.data.unit}`;
  return [
    make("strong", { className: "short" }, spanOf(state, time.end - time.at)),
    timeAt(state, time.at),
    make("span", { className: "reason" }, lack),
  ];
}

/** What the list has: items in order, and how to show one. */
function listed(state) {
  const { view, data } = state;
  const [from, to] = state.inView ? [view.from, view.to] : [data.scored, data.points];
  const within = (item) => (item.end || item.at) >= from && item.at < to;
  const [items, size, show] = state.list === "missed"
    ? [state.missedTimes, (time) => time.end - time.at, missedItem]
    : [data.decisions, (decision) => Math.abs(decision.to - decision.from), decisionItem];
  const order = state.order === "size" ? (a, b) => size(b) - size(a) || a.at - b.at : (a, b) => a.at - b.at;
  return { items: items.filter(within).sort(order), show };
}

function listNote(state, count) {
  const where = state.inView ? "in the time shown" : "in the scored time";
  const most = count > MOST_LISTED ? `, ${MOST_LISTED} listed` : "";
  if (state.list === "missed") {
    const name = state.focus ? state.focus.name : "";
    return count ? `${count} times ${name} missed the SLO ${where}${most}. Choose one to see it.` : `${name} never missed the SLO ${where}.`;
  }
  const { data } = state;
  if (!data.decidedBy) return "No strategy here explains its decisions; predictive does.";
  const kept = data.decisions.length < data.decisionsTotal ? ` (the largest ${data.decisions.length} of all ${data.decisionsTotal} are kept)` : "";
  return `${count} changes by ${data.decidedBy} ${where}${most}${kept}. Choose one to see it.`;
}

function fillList(state, choose) {
  const { items, show } = listed(state);
  document.getElementById("list-note").textContent = listNote(state, items.length);
  const entries = items.slice(0, MOST_LISTED).map((item) => {
    const button = make("button", { type: "button" }, ...show(state, item));
    if (item === state.selected) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => choose(item));
    return make("li", {}, button);
  });
  document.getElementById("list").replaceChildren(...entries);
}

/** Forecasts are cut off far above everything else. */
function forecastText(data, value) {
  return value >= data.limit * 0.999 && value > 0 ? `over ${numberText(data.limit)}` : numberText(value);
}

/** What is known about a point, for the tip and for screen readers. */
function reading(state, point) {
  const { data } = state;
  const lines = [["load", `${numberText(data.demand[point])} ${data.unit}`]];
  if (isMarked(data.unknown, point)) lines[0][1] = "no data";
  if (!isMarked(data.unforeseen, point)) {
    lines.push([`expected in ${spanText(data.lead)}`, `${forecastText(data, data.p50[point])} to ${forecastText(data, data.upper[point])}`]);
  }
  if (state.focus) lines.push(["capacity", numberText(state.capacity[point])]);
  const replicas = data.strategies.filter((s) => state.visible.has(s.name)).map((s) => {
    const [ready, desired] = [s.ready[point], s.desired[point]];
    return { name: s.name, count: ready === desired ? `${ready}` : `${ready} → ${desired}`, missed: isMarked(s.missed, point) };
  });
  return { time: timeAt(state, point), lines, replicas };
}

function fillTip(tip, state, point, decision) {
  const { time, lines, replicas } = reading(state, point);
  const rows = lines.map(([name, value]) => make("tr", {}, make("th", {}, name), make("td", {}, value)));
  if (replicas.length) rows.push(make("tr", {}, make("th", { className: "soft" }, "replicas"), make("td", { className: "soft" }, "ready → asked for")));
  for (const { name, count, missed } of replicas) {
    const swatch = make("span", { className: "swatch" });
    swatch.style.background = colours[name];
    const mark = make("td", { className: "short" }, missed ? "SLO missed" : "");
    rows.push(make("tr", {}, make("th", {}, swatch, name), make("td", {}, count), mark));
  }
  tip.replaceChildren(make("b", {}, time), make("table", {}, make("tbody", {}, ...rows)));
  if (decision) tip.append(make("p", {}, make("b", {}, `${decision.from} → ${decision.to}: `), decision.reasons.map((r) => r.message).join(" ")));
}

function spoken(state, point) {
  const { time, lines, replicas } = reading(state, point);
  const counts = replicas.map(({ name, count, missed }) => `${name} ${count.replace(" →", " ready of")} replicas${missed ? ", SLO missed" : ""}`);
  return [time, ...lines.map((line) => line.join(" ")), ...counts].join("; ");
}
