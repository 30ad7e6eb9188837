// Drawing on a canvas. A frame says which points are shown where.

const LEFT = 92, RIGHT = 12;

let colours = {};

function readColours(names) {
  const style = getComputedStyle(document.documentElement);
  const own = ["ink", "soft", "line", "grid", "shade", "card", "mark", "load", "p50", "band", "missed", "missed-area", "span"];
  colours = {};
  for (const name of own.concat(names)) colours[name] = style.getPropertyValue(`--${name}`).trim();
}

/** Gives the canvas a pixel for each of the screen's, and clears it. */
function prepare(canvas, view) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const ratio = window.devicePixelRatio || 1;
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
  const ctx = canvas.getContext("2d");
  ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
  ctx.clearRect(0, 0, width, height);
  ctx.font = `12px ${getComputedStyle(document.body).fontFamily}`;
  ctx.lineJoin = "round";
  return makeFrame(ctx, width, height, view);
}

function makeFrame(ctx, width, height, view) {
  const inner = Math.max(1, width - LEFT - RIGHT);
  const scale = inner / (view.to - view.from);
  return {
    ctx, width, height, inner, from: view.from, to: view.to, scale,
    x: (point) => LEFT + (point - view.from) * scale,
    point: (x) => view.from + (x - LEFT) / scale,
  };
}

function clipToPlot(frame, draw) {
  const { ctx } = frame;
  ctx.save();
  ctx.beginPath();
  ctx.rect(LEFT, 0, frame.inner, frame.height);
  ctx.clip();
  draw();
  ctx.restore();
}

/** Calls `each` with the middle of every pixel column and the points in it. */
function eachColumn(frame, points, each) {
  for (let column = 0; column < frame.inner; column++) {
    const first = Math.max(0, Math.floor(frame.from + column / frame.scale));
    const end = Math.min(points, Math.max(first + 1, Math.floor(frame.from + (column + 1) / frame.scale)));
    if (first < end) each(LEFT + column + 0.5, first, end);
  }
}

const isDense = (frame) => frame.scale < 1;

/** The points shown, with one more at either side. */
function shown(frame, points) {
  return [Math.max(0, Math.floor(frame.from) - 1), Math.min(points, Math.ceil(frame.to) + 1)];
}

function lowestOf(values, first, end) {
  let lowest = Infinity;
  for (let i = first; i < end; i++) if (values[i] < lowest) lowest = values[i];
  return lowest;
}

function highestOf(values, first, end) {
  let highest = 0;
  for (let i = first; i < end; i++) if (values[i] > highest) highest = values[i];
  return highest;
}

/** The outline of `low` to `high` where several points share a pixel; a line through the middles otherwise. */
function lineThrough(frame, low, high, y) {
  const path = new Path2D();
  if (isDense(frame)) {
    eachColumn(frame, high.length, (x, first, end) => {
      path.lineTo(x, y(highestOf(high, first, end)));
      path.lineTo(x, y(lowestOf(low, first, end)));
    });
    return path;
  }
  const [first, end] = shown(frame, high.length);
  for (let i = first; i < end; i++) path.lineTo(frame.x(i + 0.5), y(high[i]));
  return path;
}

/** Like `lineThrough`, for values that hold for a whole step, with level parts on whole pixels. */
function stepsThrough(frame, values, height) {
  const y = (value) => Math.round(height(value)) + 0.5;
  if (isDense(frame)) return lineThrough(frame, values, values, y);
  const path = new Path2D();
  const [first, end] = shown(frame, values.length);
  for (let i = first; i < end; i++) {
    path.lineTo(frame.x(i), y(values[i]));
    path.lineTo(frame.x(i + 1), y(values[i]));
  }
  return path;
}

/** The area between two series, in pieces where points are missing, and the lower edge as a line. */
function areaBetween(frame, low, high, missing, y) {
  const area = new Path2D(), edge = new Path2D();
  let upper = [], lower = [];
  const close = () => {
    upper.concat(lower.reverse()).forEach(([x, value], i) => (i ? area.lineTo(x, value) : area.moveTo(x, value)));
    lower.reverse().forEach(([x, value], i) => (i ? edge.lineTo(x, value) : edge.moveTo(x, value)));
    [upper, lower] = [[], []];
  };
  const add = (x, first, end) => {
    if (isMarked(missing, first)) {
      if (upper.length) close();
      return;
    }
    upper.push([x, y(highestOf(high, first, end))]);
    lower.push([x, y(lowestOf(low, first, end))]);
  };
  if (isDense(frame)) eachColumn(frame, high.length, add);
  else {
    const [first, end] = shown(frame, high.length);
    for (let i = first; i < end; i++) add(frame.x(i + 0.5), i, i + 1);
  }
  close();
  return { area, edge };
}

/** Calls `each` with the left and right edge of every marked run that is shown, at least `narrowest` wide. */
function eachRun(frame, runs, narrowest, each) {
  let last = -Infinity;
  for (let run = firstRun(runs, frame.from); run * 2 < runs.length && runs[2 * run] < frame.to; run++) {
    const left = Math.max(frame.x(runs[2 * run]), LEFT);
    const right = Math.max(Math.min(frame.x(runs[2 * run + 1]), LEFT + frame.inner), left + narrowest);
    if (right > last) each(Math.max(left, Math.min(last, right)), right);
    last = Math.max(last, right);
  }
}

function text(frame, content, x, y, align, colour) {
  const { ctx } = frame;
  ctx.fillStyle = colour || colours.soft;
  ctx.textAlign = align;
  ctx.textBaseline = "middle";
  ctx.fillText(content, x, y);
}

function stroke(frame, path, colour, width, dash) {
  const { ctx } = frame;
  ctx.strokeStyle = colour;
  ctx.lineWidth = width;
  ctx.setLineDash(dash || []);
  ctx.stroke(path);
  ctx.setLineDash([]);
}

function verticalGrid(frame, ticks, bottom) {
  const { ctx } = frame;
  for (const tick of ticks) {
    ctx.fillStyle = tick.major ? colours.line : colours.grid;
    ctx.fillRect(Math.round(frame.x(tick.point)), 0, 1, bottom);
  }
}

function horizontalGrid(frame, numbers, y, unit) {
  const { ctx } = frame;
  numbers.forEach((number) => {
    ctx.fillStyle = number === 0 ? colours.line : colours.grid;
    ctx.fillRect(LEFT, Math.round(y(number)), frame.inner, 1);
    text(frame, axisText(number), LEFT - 8, y(number), "right");
  });
  ctx.save();
  ctx.translate(12, (y(0) + y(numbers[numbers.length - 1])) / 2);
  ctx.rotate(-Math.PI / 2);
  text(frame, unit, 0, 0, "center");
  ctx.restore();
}

/** Times that are not scored, have no data or have a name. */
function backgrounds(frame, data, height, labelled) {
  const { ctx } = frame;
  const fill = (from, to, colour) => {
    const left = Math.max(LEFT, frame.x(from)), right = Math.min(LEFT + frame.inner, frame.x(to));
    if (right <= left) return;
    ctx.fillStyle = colour;
    ctx.fillRect(left, 0, right - left, height);
    return [left, right];
  };
  const label = (place, name) => {
    if (place && labelled && ctx.measureText(name).width < place[1] - place[0] - 8) text(frame, name, place[0] + 5, 9, "left");
  };
  label(fill(0, data.scored, colours.shade), "warm-up, not scored");
  for (const span of data.spans) label(fill(span.from, span.to, colours.span), span.name);
  eachRun(frame, data.unknown, 1, (left, right) => {
    ctx.fillStyle = colours.span;
    ctx.fillRect(left, 0, right - left, height);
    label([left, right], "no data");
  });
}
