// The live page: figures come in, history grows, everything is drawn.
import { format } from './format.js';
import { History } from './history.js';
import { render } from './render.js';
import { Source } from './source.js';
import { draw } from './spark.js';

const history = new History();
let instance = null;
let asking = false;

function drawAll() {
  for (const figure of document.querySelectorAll('figure.spark')) draw(figure, history);
  document.getElementById('span').textContent = history.span === 60 ? 'minute' : `${history.span / 60} minutes`;
}

/** The ten minutes before this page was opened, or what it missed. */
async function fetchHistory() {
  if (asking) return;
  asking = true;
  try {
    const answer = await fetch('history', { cache: 'no-store' });
    if (answer.ok) history.replace(await answer.json());
    drawAll();
  } catch {
    // The next figures grow a history of their own.
  } finally {
    asking = false;
  }
}

function notice(text, alarm = false) {
  const place = document.getElementById('notice');
  place.textContent = text;
  place.hidden = text === '';
  place.classList.toggle('alarm', alarm);
}

function onStatus(status) {
  if (instance !== null && instance !== status.service.instance) {
    notice(`The service was started again; counters began anew ${format('duration', status.service.uptime_seconds)} ago.`);
    setTimeout(() => notice(''), 20000);
    history.replace({ ticks: [], columns: {} });
  }
  const first = instance !== status.service.instance;
  instance = status.service.instance;
  if (first || status.tick > history.newest + 3) fetchHistory();
  history.add(status.tick, status.last);
  render(status);
  drawAll();
}

const words = { live: 'live', polling: 'every 2 s', lost: 'no answer' };

function onState(state) {
  const link = document.getElementById('link');
  if (link.dataset.state === state) return;
  if (state === 'lost') notice('The service does not answer. What is shown is old; this page goes on trying.', true);
  if (link.dataset.state === 'lost') notice('');
  link.dataset.state = state;
  link.textContent = words[state];
}

new Source(onStatus, onState).start();
