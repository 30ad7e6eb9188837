// Times in the policy's time zone, and numbers as people read them.

const MINUTE = 60, HOUR = 3600, DAY = 86400;
const WEEKDAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const TICKS = [
  MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE,
  HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY, 14 * DAY,
];
/** 1970 began on a Thursday; weeks begin on Mondays. */
const MONDAY = 4 * DAY;

const two = (number) => String(number).padStart(2, "0");

function makeClock(zone) {
  /** The offset from UTC at a time, both in seconds. */
  function offset(seconds) {
    let found = zone.offsets[0][1];
    for (const [from, value] of zone.offsets) if (from <= seconds) found = value;
    return found;
  }
  /** A date whose UTC parts are the local ones. */
  const local = (seconds) => new Date((seconds + offset(seconds)) * 1000);
  const time = (d) => `${two(d.getUTCHours())}:${two(d.getUTCMinutes())}`;
  const day = (d) => `${WEEKDAYS[d.getUTCDay()]} ${d.getUTCDate()} ${MONTHS[d.getUTCMonth()]}`;

  function text(seconds) {
    const d = local(seconds);
    const rest = d.getUTCSeconds() ? `:${two(d.getUTCSeconds())}` : "";
    return `${day(d)} ${d.getUTCFullYear()}, ${time(d)}${rest}`;
  }

  /** From when the local clock shows `localSeconds`. */
  function fromLocal(localSeconds) {
    const guess = localSeconds - offset(localSeconds);
    return localSeconds - offset(guess);
  }

  function monthTicks(from, to, months) {
    const first = local(from);
    const ticks = [];
    let month = first.getUTCFullYear() * 12 + first.getUTCMonth();
    month -= month % months;
    for (;; month += months) {
      const at = fromLocal(Date.UTC(Math.floor(month / 12), month % 12, 1) / 1000);
      if (at > to) return ticks;
      const label = month % 12 ? MONTHS[month % 12] : String(month / 12);
      if (at >= from) ticks.push({ at, label: months < 12 ? label : String(Math.floor(month / 12)), major: month % 12 === 0 });
    }
  }

  /** Ticks at round local times, at most `most` of them. */
  function ticks(from, to, most) {
    const step = TICKS.find((s) => (to - from) / s <= most);
    if (!step) {
      const months = [1, 2, 3, 6, 12, 24, 60, 120].find((m) => (to - from) / (m * 30 * DAY) <= most) || 240;
      return monthTicks(from, to, months);
    }
    const base = step >= 7 * DAY ? MONDAY : 0;
    const first = Math.ceil((from + offset(from) - HOUR - base) / step) * step + base;
    const found = [];
    for (let at = first; ; at += step) {
      const seconds = fromLocal(at);
      if (seconds > to) return found;
      const midnight = at % DAY === 0;
      const d = new Date(at * 1000);
      if (seconds >= from) found.push({ at: seconds, label: midnight ? day(d) : time(d), major: midnight && step < DAY });
    }
  }
  return { text, ticks, name: zone.name };
}

function spanText(seconds) {
  const parts = [[DAY, "d"], [HOUR, "h"], [MINUTE, "min"], [1, "s"]];
  const texts = [];
  for (const [length, unit] of parts) {
    const count = Math.floor(seconds / length + 1e-9);
    seconds -= count * length;
    if (count > 0) texts.push(`${count} ${unit}`);
  }
  return texts.slice(0, 2).join(" ") || "0 s";
}

function numberText(value) {
  if (value >= 1e15) return value.toExponential(2);
  const digits = value >= 1000 ? 0 : value >= 100 ? 1 : value >= 1 ? 2 : 4;
  const text = value.toFixed(digits);
  const short = digits ? text.replace(/\.?0+$/, "") : text;
  return short.replace(/\B(?=(\d{3})+$)/g, digits ? "" : ",");
}

/** About `most` round numbers from 0 to `highest`. */
function roundNumbers(highest, most) {
  if (!(highest > 0)) return [0];
  const rough = highest / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((n) => n * power).find((n) => n >= rough) || rough;
  const numbers = [];
  for (let i = 0; i <= 2 * most && i * step <= highest * (1 + 1e-9); i++) numbers.push(i * step);
  return numbers;
}

function axisText(value) {
  if (value >= 1e15) return value.toExponential(0);
  for (const [size, unit] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (value >= size) return `${+(value / (unit === "k" ? 1e3 : size)).toPrecision(3)}${unit}`;
  }
  return String(+value.toPrecision(3));
}
