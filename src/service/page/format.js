// Figures as text. A figure that cannot be known (null) is a dash, never a zero.

const dash = '–';

/** Three significant digits, as long as there is a point to write. */
function digits(value) {
  const size = Math.abs(value);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2);
}

function scaled(value, step, units) {
  let unit = 0;
  while (unit + 1 < units.length && Math.abs(value) >= step ** (unit + 1)) unit += 1;
  return unit === 0 ? `${Math.round(value)} ${units[0]}` : `${digits(value / step ** unit)} ${units[unit]}`;
}

const kinds = {
  percent: (value) => `${(100 * value).toFixed(1)} %`,
  bytes: (value) => scaled(value, 1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']),
  rate: (value) => scaled(value, 1000, ['B/s', 'kB/s', 'MB/s', 'GB/s', 'TB/s']),
  count: (value) => Math.round(value).toLocaleString('en-US'),
  whole: (value) => Math.round(value).toLocaleString('en-US'),
  each: (value) => `${value >= 10 || value === 0 ? Math.round(value).toLocaleString('en-US') : value.toFixed(1)} /s`,
  seconds: (value) => value >= 1 ? `${digits(value)} s`
    : value >= 1e-3 ? `${digits(value * 1e3)} ms` : `${digits(value * 1e6)} µs`,
  duration: (value) => {
    const s = Math.round(Math.abs(value));
    const text = s < 60 ? `${s} s`
      : s < 3600 ? `${Math.floor(s / 60)} min ${s % 60} s`
      : s < 86400 ? `${Math.floor(s / 3600)} h ${Math.floor(s % 3600 / 60)} min`
      : `${Math.floor(s / 86400)} d ${Math.floor(s % 86400 / 3600)} h`;
    return value < 0 && s > 0 ? `−${text}` : text;
  },
};

export function format(kind, value) {
  return value === null || value === undefined || Number.isNaN(value) ? dash : kinds[kind](value);
}
