// Status -> page. Every figure that is shown carries its raw value (data-raw), which is exactly that of /status.
import { at, fact, figure, make, plain } from './element.js';
import { format } from './format.js';
import { showTenants } from './tenants.js';

const names = { host: 'Host memory', disk: 'Local disk', remote: 'Remote' };
const from = { host: 'from host memory', disk: 'from disk', remote: 'from remote' };
const directions = {
  host: [['load_bytes_per_second', '↑', 'loaded by engines'], ['store_bytes_per_second', '↓', 'stored by engines']],
  disk: [['promote_bytes_per_second', '↑', 'promoted from disk'], ['demote_bytes_per_second', '↓', 'written to disk']],
};
const latencies = [
  ['match', 'Ask what is there', 'a match'], ['load', 'Load a prefix', 'a load'],
  ['fill', 'Store a block', 'a store'], ['demotion', 'Write a block to disk', 'a write to disk'],
];
const modes = { on: 'on', store_only: 'store only', load_only: 'load only', off: 'off' };
const ofAll = {
  store_only: 'Engines store and load nothing: the mode for all is “store only”.',
  load_only: 'Engines load and store nothing: the mode for all is “load only”.',
  off: 'Engines use no cache: the mode for all is “off”.',
};
const troubles = {
  tiercel_commit_failures_total: 'blocks could not be committed',
  tiercel_checksum_failures_total: 'blocks failed their checksum in memory',
  tiercel_disk_checksum_failures_total: 'blocks from disk failed their checksum',
  tiercel_disk_unreadable_blocks_total: 'blocks on disk could not be read',
  tiercel_disk_lost_blocks_total: 'copies on disk were given up',
  tiercel_disk_read_errors_total: 'reads failed', tiercel_disk_short_reads_total: 'reads met the end of the file',
  tiercel_disk_write_errors_total: 'writes failed', tiercel_disk_deadlines_total: 'disk operations took too long',
  tiercel_disk_breaker_trips_total: 'times a directory was switched off',
  tiercel_demotions_failed_total: 'blocks could not be written to disk',
};
const states = {
  starting: 'starting', on: 'on', read_only: 'read only', off: 'off', refused: 'refused', closed: 'closed',
};

const spark = (column, kind, label, more = {}) =>
  make('figure', { class: 'spark', 'data-column': column, 'data-kind': kind, 'data-label': label, ...more });

function band(tier, index) {
  const path = `tiers.${index}`;
  const disk = tier.name === 'disk';
  return make('article', { class: 'band', 'data-tier': tier.name },
    make('div', { class: 'band-name' }, make('h2', {}, names[tier.name]),
      make('p', { class: 'small' }, fact(`${path}.blocks`, 'count', ' blocks'))),
    make('div', { class: 'band-body' },
      make('div', { class: 'meter-line' },
        make('span', {}, figure(`${path}.used_bytes`, 'bytes'), ' of ', figure(`${path}.capacity_bytes`, 'bytes'))),
      make('div', { class: 'meter', role: 'meter', 'aria-label': `${names[tier.name]} in use`,
        'aria-valuemin': 0, 'data-used': `${path}.used_bytes`, 'data-full': `${path}.capacity_bytes` }, make('i')),
      make('div', { class: 'facts' },
        fact(`now.hit_ratio_${tier.name}`, 'percent', ` of blocks asked for came ${from[tier.name]}`),
        ...(tier.name === 'remote' ? [] : [fact(`now.evicted_blocks_per_second_${tier.name}`, 'each', ' evicted')])),
      ...(disk ? [make('ul', { class: 'list', id: 'disks', 'aria-label': 'Directories' })] : [])));
}

function flow(name) {
  return make('div', { class: 'flow', 'data-tier': name }, ...directions[name].map(([column, arrow, words]) =>
    make('div', {}, make('b', {}, `${arrow} `, plain(`now.${column}`, 'rate')),
      make('span', { class: 'what' }, words), spark(column, 'rate', words, { 'data-tier': name }))));
}

/** The parts that depend on which tiers there are; made again only when these change. */
function buildTiers(status) {
  const place = document.getElementById('tiers');
  const shape = status.tiers.map((tier) => tier.name).join();
  if (place.dataset.shape === shape) return;
  place.dataset.shape = shape;
  place.replaceChildren(...status.tiers.flatMap((tier, index) =>
    [...(tier.name in directions ? [flow(tier.name)] : []), band(tier, index)]));
  document.getElementById('latencies').replaceChildren(...latencies
    .filter(([name]) => name !== 'demotion' || status.tiers.some((tier) => tier.name === 'disk'))
    .map(([name, title, label]) => make('tr', {}, make('th', { scope: 'row' }, title),
      make('td', { 'data-figure': `now.${name}_p50_seconds`, 'data-kind': 'seconds' }),
      make('td', { 'data-figure': `now.${name}_p99_seconds`, 'data-kind': 'seconds' }),
      make('td', { class: 'wide' }, spark(`${name}_p99_seconds`, 'seconds', `99 % of ${label} within`, { 'data-peak': 1 })))));
  const dot = (tier) => make('span', { class: 'dot', 'data-tier': tier });
  document.getElementById('sources').replaceChildren(
    ...status.tiers.map((tier) => make('i', { 'data-tier': tier.name })), make('i', { 'data-tier': 'compute' }));
  document.getElementById('legend').replaceChildren(
    ...status.tiers.map((tier) => make('li', {}, dot(tier.name), figure(`now.hit_ratio_${tier.name}`, 'percent'), ` ${from[tier.name]}`)),
    make('li', {}, dot('compute'), make('b', { id: 'computed' }), ' not there, computed'));
}

function engine(report, index) {
  const path = `engines.${index}`;
  const pool = report.kv_pool;
  const head = make('div', { class: 'engine-head' }, make('b', {}, report.engine));
  if (report.mode !== 'on') head.append(make('span', { class: 'chip' }, modes[report.mode] ?? report.mode));
  head.append(make('span', { class: 'small' },
    report.members === 1 ? `process ${report.pid}` : `${report.members} processes, ${report.pid} first`,
    ', connected ', plain(`${path}.connected_seconds`, 'duration')));
  const made = make('div', { class: 'engine' }, head);
  if (pool === null) {
    made.append(make('p', { class: 'small' }, 'does not report its KV pool'));
    return made;
  }
  made.append(make('div', { class: 'meter-line' },
    make('span', {}, figure(`${path}.kv_pool.used_bytes`, 'bytes'), ' of ', figure(`${path}.kv_pool.total_bytes`, 'bytes'), ' KV pool'),
    make('span', { class: 'small' }, plain(`${path}.kv_pool.free_bytes`, 'bytes'), ' free')),
  make('div', { class: 'meter', role: 'meter', 'aria-label': `KV pool of ${report.engine} in use`, 'aria-valuemin': 0,
    'data-used': `${path}.kv_pool.used_bytes`, 'data-full': `${path}.kv_pool.total_bytes` }, make('i')));
  return made;
}

function buildEngines(status) {
  const place = document.getElementById('engine-list');
  const shape = JSON.stringify(status.engines.map((e) => [e.engine, e.pid, e.members, e.mode, e.kv_pool === null]));
  if (place.dataset.shape === shape) return;
  place.dataset.shape = shape;
  place.replaceChildren(...(status.engines.length === 0
    ? [make('p', { class: 'small' }, 'No engine is connected. What it keeps in GPU memory is shown here once one is.')]
    : status.engines.map(engine)));
}

function showDisks(status) {
  const place = document.getElementById('disks');
  place?.replaceChildren(...status.disks.map((disk) => {
    const well = ['on', 'starting', 'closed'].includes(disk.state) && disk.cause === '';
    const found = disk.indexed
      ? `, ${format('count', disk.found_blocks)} blocks found warm in ${format('seconds', disk.indexed_seconds)}`
      : disk.state === 'on' || disk.state === 'starting' ? ', being indexed' : '';
    return make('li', well ? {} : { class: 'alarm' },
      `${disk.directory}: ${states[disk.state] ?? disk.state}${disk.cause === '' ? '' : `, ${disk.cause}`}${well ? found : ''}`);
  }));
}

function showHealth(status) {
  const { state, causes } = status.health;
  const line = document.getElementById('health');
  const sentence = state === 'ok' ? 'All is well.' : state === 'closing' ? 'The service is ending.' : `Serving with fewer hits: ${causes.join('; ')}.`;
  if (line.textContent !== sentence) line.textContent = sentence;
  line.classList.toggle('alarm', state !== 'ok');
  const list = Object.entries(troubles).filter(([name]) => status.counters[name] > 0);
  document.getElementById('trouble').classList.toggle('alarm', status.now.errors_per_second > 0 || state === 'degraded');
  document.getElementById('trouble-text').textContent = list.length === 0
    ? 'Nothing has gone wrong since the start.' : status.now.errors_per_second > 0 ? 'Going on now:' : 'Since the start; none in the last seconds:';
  document.getElementById('trouble-list').replaceChildren(
    ...list.map(([name, words]) => make('li', {}, `${format('count', status.counters[name])} ${words}`)));
}

function showMode(status) {
  const line = document.getElementById('mode');
  line.hidden = status.mode === 'on';
  line.textContent = ofAll[status.mode] ?? '';
}

function showSources(status) {
  const shares = status.tiers.map((tier) => status.now[`hit_ratio_${tier.name}`]);
  const known = status.now.hit_ratio !== null;
  const rest = known ? Math.max(0, 1 - status.now.hit_ratio) : null;
  [...document.getElementById('sources').children].forEach((part, i) => {
    const share = i < shares.length ? shares[i] : rest;
    part.hidden = !share;
    part.style.flexGrow = share ?? 0;
  });
  document.getElementById('computed').textContent = format('percent', rest);
  document.getElementById('sources').setAttribute('aria-label',
    known ? `${format('percent', status.now.hit_ratio)} of the blocks asked for were found` : 'nothing was asked for');
}

function showService(status) {
  const { version, pid, uptime_seconds: uptime, config } = status.service;
  document.getElementById('about').textContent = `Version ${version}, process ${pid}, up ${format('duration', uptime)}.`;
  const details = document.getElementById('config');
  details.hidden = config.length === 0;
  if (details.dataset.instance === status.service.instance) return;
  details.dataset.instance = status.service.instance;
  details.querySelector('dl').replaceChildren(...config.flatMap(({ key, value }) => [make('dt', {}, key), make('dd', {}, value)]));
}

export function render(status) {
  buildTiers(status);
  buildEngines(status);
  showTenants(status);
  document.getElementById('saved').hidden = status.seconds_saved === null;
  for (const shown of document.querySelectorAll('[data-figure]')) {
    const raw = at(status, shown.dataset.figure) ?? null;
    const text = format(shown.dataset.kind, raw);
    shown.dataset.raw = JSON.stringify(raw);
    if (shown.textContent !== text) shown.textContent = text;
  }
  for (const meter of document.querySelectorAll('.meter')) {
    const used = at(status, meter.dataset.used);
    const full = at(status, meter.dataset.full);
    meter.setAttribute('aria-valuenow', used);
    meter.setAttribute('aria-valuemax', full);
    meter.setAttribute('aria-valuetext', `${format('bytes', used)} of ${format('bytes', full)}`);
    meter.firstElementChild.style.width = `${full > 0 ? Math.min(100, 100 * used / full) : 0}%`;
  }
  showDisks(status);
  showHealth(status);
  showMode(status);
  showSources(status);
  showService(status);
  document.querySelector('main').hidden = false;
  document.body.dataset.tick = status.tick;
}
