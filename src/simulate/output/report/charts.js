// The charts: load, replicas, SLO missed, and the overview of the whole time.

const TOP = 18, LANE = 16, AXIS = 22;
/** Decisions that are marked at once. */
const MARKED = 24;

function timeTicks(frame, data, clock, apart) {
  const seconds = (point) => data.start + point * data.seconds;
  return clock
    .ticks(seconds(frame.from), seconds(frame.to), Math.max(2, Math.floor(frame.inner / apart)))
    .map((tick) => ({ ...tick, point: (tick.at - data.start) / data.seconds }));
}

function timeAxis(frame, ticks, y) {
  let free = -Infinity;
  for (const tick of ticks) {
    const half = frame.ctx.measureText(tick.label).width / 2;
    const x = frame.x(tick.point);
    if (x - half < Math.max(free, 2) || x + half > frame.width) continue;
    text(frame, tick.label, x, y, "center", tick.major ? colours.ink : colours.soft);
    free = x + half + 10;
  }
}

function capacityOf(data, strategy) {
  const values = new Float64Array(data.points);
  for (let i = 0; i < data.points; i++) values[i] = data.capacity[strategy.ready[i]];
  return values;
}

function heights(highest, height) {
  const numbers = roundNumbers(highest, Math.max(2, Math.floor(height / 34)));
  const bottom = height - 6;
  const top = highest > 0 ? highest : 1;
  return { numbers, y: (value) => bottom - (value / top) * (bottom - TOP) };
}

/** The highest number that the load chart has to show. A forecast far above everything is cut off. */
function loadCeiling(frame, state) {
  const [first, end] = shown(frame, state.data.points);
  let highest = highestOf(state.data.demand, first, end);
  if (state.parts.capacity && state.focus) highest = Math.max(highest, highestOf(state.capacity, first, end));
  if (!state.parts.forecast) return highest * 1.04;
  return Math.max(highest, Math.min(highestOf(state.data.upper, first, end), highest * 1.5)) * 1.04;
}

function drawLoad(canvas, state) {
  const { data, clock, parts } = state;
  const frame = prepare(canvas, state.view);
  const { numbers, y } = heights(loadCeiling(frame, state), frame.height);
  backgrounds(frame, data, frame.height, true);
  verticalGrid(frame, timeTicks(frame, data, clock, 90), frame.height);
  horizontalGrid(frame, numbers, y, data.unit);
  clipToPlot(frame, () => {
    if (state.focus) drawMissedTimes(frame, state.focus.missed);
    if (parts.forecast) drawBand(frame, data, y);
    if (parts.capacity && state.focus) {
      stroke(frame, stepsThrough(frame, state.capacity, y), colours[state.focus.name], isDense(frame) ? 1.3 : 1.75);
    }
    stroke(frame, lineThrough(frame, data.demandLow, data.demand, y), colours.load, isDense(frame) ? 1 : 1.5);
  });
}

function drawBand(frame, data, y) {
  const { area, edge } = areaBetween(frame, data.p50, data.upper, data.unforeseen, y);
  frame.ctx.fillStyle = colours.band;
  frame.ctx.fill(area);
  stroke(frame, edge, colours.p50, 1);
}

function drawMissedTimes(frame, runs) {
  const { ctx } = frame;
  eachRun(frame, runs, 2, (left, right) => {
    ctx.fillStyle = colours["missed-area"];
    ctx.fillRect(left, 0, right - left, frame.height);
    ctx.fillStyle = colours.missed;
    ctx.fillRect(left, 0, right - left, 5);
  });
}

/** The shown strategies, the one in focus last and so on top. */
function inDrawingOrder(state) {
  const list = state.data.strategies.filter((s) => state.visible.has(s.name));
  return list.filter((s) => s !== state.focus).concat(list.filter((s) => s === state.focus));
}

function drawReplicas(canvas, state) {
  const { data, clock } = state;
  const frame = prepare(canvas, state.view);
  const list = inDrawingOrder(state);
  const [first, end] = shown(frame, data.points);
  const highest = Math.max(1, ...list.map((s) => Math.max(highestOf(s.desired, first, end), highestOf(s.ready, first, end))));
  const { numbers, y } = heights(highest * 1.04, frame.height);
  backgrounds(frame, data, frame.height, false);
  verticalGrid(frame, timeTicks(frame, data, clock, 90), frame.height);
  horizontalGrid(frame, numbers.filter(Number.isInteger), y, "replicas");
  clipToPlot(frame, () => {
    list.forEach((strategy, i) => drawCourse(frame, state, strategy, y, (i - (list.length - 1) / 2) * 1.5));
    drawDecisions(frame, state, y);
  });
}

/** Lines that would hide each other are set apart by a pixel or two. */
function drawCourse(frame, state, strategy, y, apart) {
  const moved = (value) => y(value) - apart;
  const own = strategy === state.focus;
  if (state.parts.desired && !isDense(frame)) {
    stroke(frame, stepsThrough(frame, strategy.desired, moved), colours[strategy.name], own ? 1.75 : 1.25, [2, 2]);
  }
  const width = isDense(frame) ? 1.3 : own ? 2.5 : 1.5;
  stroke(frame, stepsThrough(frame, strategy.ready, moved), colours[strategy.name], width);
  if (state.parts.desired && isDense(frame)) {
    frame.ctx.globalAlpha = 0.5;
    stroke(frame, stepsThrough(frame, strategy.desired, moved), colours[strategy.name], 1);
    frame.ctx.globalAlpha = 1;
  }
}

/** The largest decisions in a time, largest first. */
function decisionsWithin(data, from, to) {
  const size = (decision) => Math.abs(decision.to - decision.from);
  return data.decisions.filter((d) => d.at >= from && d.at < to).sort((a, b) => size(b) - size(a) || a.at - b.at);
}

function drawDecisions(frame, state, y) {
  state.markers = [];
  if (!state.visible.has(state.data.decidedBy)) return;
  const { ctx } = frame;
  for (const decision of decisionsWithin(state.data, frame.from, frame.to).slice(0, MARKED)) {
    const [x, middle] = [frame.x(decision.at), y(decision.to)];
    state.markers.push({ x, decision });
    ctx.beginPath();
    ctx.arc(x, middle, 4, 0, 2 * Math.PI);
    ctx.fillStyle = decision === state.selected ? colours[state.data.decidedBy] : colours.card;
    ctx.strokeStyle = colours[state.data.decidedBy];
    ctx.lineWidth = 2;
    ctx.fill();
    ctx.stroke();
  }
}

function drawMissed(canvas, state) {
  const list = state.data.strategies.filter((s) => state.visible.has(s.name));
  const height = `${Math.max(1, list.length) * LANE + AXIS + 4}px`;
  if (canvas.style.height !== height) canvas.style.height = height;
  const frame = prepare(canvas, state.view);
  const bottom = frame.height - AXIS;
  const ticks = timeTicks(frame, state.data, state.clock, 90);
  backgrounds(frame, state.data, bottom, false);
  verticalGrid(frame, ticks, bottom);
  list.forEach((strategy, i) => drawLane(frame, strategy, 4 + i * LANE));
  timeAxis(frame, ticks, frame.height - AXIS / 2);
}

function drawLane(frame, strategy, top) {
  const { ctx } = frame;
  text(frame, strategy.name, LEFT - 8, top + LANE / 2, "right", colours.ink);
  ctx.fillStyle = colours[strategy.name];
  ctx.fillRect(LEFT - 4, top + 3, 3, LANE - 6);
  ctx.fillStyle = colours.grid;
  ctx.fillRect(LEFT, top + LANE - 1, frame.inner, 1);
  ctx.fillStyle = colours.missed;
  eachRun(frame, strategy.missed, 2, (left, right) => ctx.fillRect(left, top + 3, right - left, LANE - 6));
}

function drawOverview(canvas, state) {
  const { data } = state;
  const frame = prepare(canvas, { from: 0, to: data.points });
  const bottom = frame.height - 16;
  const highest = highestOf(data.demand, 0, data.points) || 1;
  const { ctx } = frame;
  backgrounds(frame, data, bottom, false);
  ctx.fillStyle = colours.soft;
  eachColumn(frame, data.points, (x, first, end) => {
    const height = (highestOf(data.demand, first, end) / highest) * (bottom - 10);
    ctx.fillRect(x - 0.5, bottom - height, 1, height);
  });
  if (state.focus) {
    ctx.fillStyle = colours.missed;
    eachRun(frame, state.focus.missed, 2, (left, right) => ctx.fillRect(left, 0, right - left, 6));
  }
  timeAxis(frame, timeTicks(frame, data, state.clock, 90), frame.height - 7);
  text(frame, "overview", LEFT - 8, bottom / 2, "right");
  drawWindow(frame, state.view, bottom);
}

function drawWindow(frame, view, bottom) {
  const { ctx } = frame;
  const [left, right] = [frame.x(view.from), frame.x(view.to)];
  ctx.globalAlpha = 0.55;
  ctx.fillStyle = colours.card;
  ctx.fillRect(LEFT, 0, left - LEFT, bottom);
  ctx.fillRect(right, 0, LEFT + frame.inner - right, bottom);
  ctx.globalAlpha = 1;
  ctx.strokeStyle = colours.mark;
  ctx.lineWidth = 1.5;
  ctx.strokeRect(left, 0.75, Math.max(2, right - left), bottom - 1.5);
  ctx.fillStyle = colours.mark;
  for (const x of [left, right]) ctx.fillRect(x - 2, bottom / 2 - 8, 4, 16);
}
