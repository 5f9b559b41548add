// What the page plots: ten minutes of columns, by tick. Holes are null and stay holes.

const longest = 600;
const spans = [60, 120, 300, 600];
const mostPoints = 150;

export class History {
  constructor() {
    this.ticks = [];
    this.columns = {};
  }

  /** Takes the whole of /history in place of what was there. */
  replace({ ticks, columns }) {
    this.ticks = ticks;
    this.columns = columns;
  }

  get newest() {
    return this.ticks.length === 0 ? 0 : this.ticks[this.ticks.length - 1];
  }

  /** Adds the newest point. Points that were missed on the way stay holes. */
  add(tick, sample) {
    if (tick <= this.newest) return;
    const from = this.newest === 0 ? tick : Math.max(this.newest + 1, tick - longest + 1);
    for (let at = from; at <= tick; at += 1) {
      this.ticks.push(at);
      for (const name of Object.keys(sample)) {
        (this.columns[name] ??= []).push(at === tick ? sample[name] : null);
      }
    }
    const excess = this.ticks.length - longest;
    if (excess <= 0) return;
    this.ticks.splice(0, excess);
    for (const values of Object.values(this.columns)) values.splice(0, excess);
  }

  /** How many seconds are worth showing: a young service does not begin with an empty picture. */
  get span() {
    return spans.find((span) => span >= this.ticks.length) ?? longest;
  }

  /** Points over the span, right-aligned: the mean of what was known, or its peak. */
  points(name, peak) {
    const values = this.columns[name] ?? [];
    const count = Math.min(this.span, mostPoints);
    const width = this.span / count;
    const points = new Array(count).fill(null);
    for (let i = 0; i < count; i += 1) {
      // Buckets are bound to ticks, not to the right edge, so that a point never changes while it moves.
      const last = (Math.floor(this.newest / width) - (count - 1 - i) + 1) * width;
      const from = Math.max(0, values.length - (this.newest - last + width));
      const to = Math.min(values.length, values.length - (this.newest - last));
      const known = values.slice(from, Math.max(from, to)).filter((value) => value !== null);
      if (known.length === 0) continue;
      points[i] = peak ? Math.max(...known) : known.reduce((sum, value) => sum + value, 0) / known.length;
    }
    return points;
  }
}
