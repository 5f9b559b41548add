// Sparklines: one SVG a figure, drawn by hand. The line breaks where nothing is known.
import { format } from './format.js';

const svg = 'http://www.w3.org/2000/svg';
const width = 200;
const height = 40;

function element(name, attributes) {
  const made = document.createElementNS(svg, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function prepare(figure) {
  const drawing = element('svg', { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: 'none', role: 'img' });
  drawing.append(element('line', { class: 'base', x1: 0, x2: width, y1: height, y2: height }),
    element('path', { class: 'area' }), element('path', { class: 'trace' }));
  figure.append(drawing, document.createElement('figcaption'));
}

/** Draws the column that a <figure class="spark"> names. */
export function draw(figure, history) {
  if (figure.childElementCount === 0) prepare(figure);
  const { column, kind, label, top, peak } = figure.dataset;
  const points = history.points(column, peak !== undefined);
  const count = points.length;
  const known = points.filter((value) => value !== null);
  const most = known.length === 0 ? 0 : Math.max(...known);
  const full = Number(top ?? 0) || most || 1;
  const x = (i) => (i / (count - 1) * width).toFixed(1);
  const y = (value) => (height - 1 - Math.min(1, value / full) * (height - 3)).toFixed(1);
  let trace = '';
  let area = '';
  for (let i = 0; i < count; i += 1) {
    if (points[i] === null) continue;
    const first = i === 0 || points[i - 1] === null;
    const last = i === count - 1 || points[i + 1] === null;
    trace += `${first ? 'M' : 'L'}${x(i)} ${y(points[i])}`;
    if (first && last) trace += 'h0.8';
    area += `${first ? `M${x(i)} ${height}` : ''}L${x(i)} ${y(points[i])}${last ? `L${x(i)} ${height}Z` : ''}`;
  }
  figure.querySelector('.trace').setAttribute('d', trace);
  figure.querySelector('.area').setAttribute('d', area);
  const caption = top ? `least ${format(kind, known.length === 0 ? null : Math.min(...known))}` : `peak ${format(kind, known.length === 0 ? null : most)}`;
  figure.querySelector('figcaption').textContent = caption;
  figure.firstElementChild.setAttribute('aria-label', `${label}, last ${format('duration', history.span)}: ${caption}`);
}
