// The data: long series come as differences of whole numbers in base64 (see encode.rs).

function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

/** Calls `each` with every number of the text. Numbers have seven bits a byte, the lowest first. */
function eachNumber(base64, each) {
  let number = 0, factor = 1;
  for (const byte of bytesOf(base64)) {
    number += (byte & 0x7f) * factor;
    factor *= 128;
    if (byte < 0x80) {
      each(number);
      number = 0;
      factor = 1;
    }
  }
}

/** 0, 1, 2, 3, … stand for 0, −1, 1, −2, … */
const signed = (number) => (number % 2 ? -(number + 1) / 2 : number / 2);

function decodeLevels(levels, points) {
  const values = new Float64Array(points);
  let at = 0, level = 0;
  eachNumber(levels.values, (number) => {
    level += signed(number);
    values[at++] = (level / 65535) * levels.scale;
  });
  return values;
}

function decodeCounts(base64, points) {
  const values = new Uint16Array(points);
  let at = 0, count = 0, length = -1;
  eachNumber(base64, (number) => {
    if (length < 0) {
      length = number;
      return;
    }
    count += signed(number);
    values.fill(count, at, at + length);
    at += length;
    length = -1;
  });
  return values;
}

/** The marked runs as a flat list of starts and ends. */
function decodeMarks(base64) {
  const runs = [];
  let at = 0, marked = false;
  eachNumber(base64, (length) => {
    if (marked && length > 0) runs.push(at, at + length);
    at += length;
    marked = !marked;
  });
  return runs;
}

/** The place in `runs` of the first run that ends after `point`. */
function firstRun(runs, point) {
  let low = 0, high = runs.length / 2;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (runs[2 * middle + 1] > point) high = middle;
    else low = middle + 1;
  }
  return low;
}

function isMarked(runs, point) {
  const run = firstRun(runs, point);
  return run * 2 < runs.length && runs[2 * run] <= point;
}

function decode(raw) {
  const points = raw.points;
  const demand = decodeLevels(raw.demand, points);
  const strategies = raw.strategies.map((course) => ({
    name: course.name,
    ready: decodeCounts(course.ready, points),
    desired: decodeCounts(course.desired, points),
    missed: decodeMarks(course.missed),
  }));
  const decisions = raw.decisions.list.map(([step, from, to, reasons]) => ({
    at: step / raw.per, from, to, reasons: reasons.map((place) => raw.reasons[place]),
  }));
  const seconds = raw.step * raw.per;
  return {
    start: raw.start, seconds, points, per: raw.per, step: raw.step, scored: raw.scored / raw.per, zone: raw.zone,
    unit: raw.unit, lead: raw.lead, limit: raw.limit, capacity: raw.capacity, strategies, decisions,
    decidedBy: raw.decisions.by, decisionsTotal: raw.decisions.total,
    demand, demandLow: raw.demand_low ? decodeLevels(raw.demand_low, points) : demand,
    p50: decodeLevels(raw.p50, points), upper: decodeLevels(raw.upper, points),
    unforeseen: decodeMarks(raw.unforeseen), unknown: decodeMarks(raw.unknown),
    spans: raw.spans.map((s) => ({ name: s.name, from: (s.from - raw.start) / seconds, to: (s.to - raw.start) / seconds })),
  };
}
