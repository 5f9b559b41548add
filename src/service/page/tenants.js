// Who holds what of each tier: a bar as long as the tier, with marks at the tenant's guarantee and its cap.
import { at, fact, make, plain } from './element.js';

const names = { host: 'host memory', disk: 'local disk' };
const several = {
  '(other)': 'all others together',
  '(unnamed)': 'on disk, of tenants not heard of since the start',
};
const shownAtOnce = 8;  // the others unfold

/** With one tenant and no settings there is nothing to compare: that is what the tiers show. */
function worthShowing(tenants) {
  return tenants.some(({ tenant, configured }) => configured || !['default', '(unnamed)'].includes(tenant));
}

const isNear = (tier, size) => tier.cap_bytes < size && tier.used_bytes >= 0.95 * tier.cap_bytes;

function share(tenant, path, tier, full, size) {
  const limits = [];
  if (tier.guarantee_bytes > 0) limits.push(make('span', {}, 'guaranteed ', plain(`${path}.guarantee_bytes`, 'bytes')));
  if (tier.cap_bytes !== null && tier.cap_bytes < size) {
    limits.push(make('span', isNear(tier, size) ? { class: 'near' } : {}, 'at most ', plain(`${path}.cap_bytes`, 'bytes')));
  }
  return make('div', { class: 'share', 'data-tier': tier.name },
    make('div', { class: 'meter-line' }, fact(`${path}.used_bytes`, 'bytes', ` of ${names[tier.name]}`),
      make('span', { class: 'limits' }, ...limits)),
    make('div', { class: 'scale', 'data-share': path, 'data-size': full },
      make('div', { class: 'meter', role: 'meter', 'aria-label': `${names[tier.name]} of ${tenant}`, 'aria-valuemin': 0,
        'data-used': `${path}.used_bytes`, 'data-full': full }, make('i')),
      make('i', { class: 'beyond' }), make('i', { class: 'guarantee' })),
    make('div', { class: 'facts' }, fact(`${path}.hit_blocks`, 'count', ' loaded'),
      fact(`${path}.evicted_blocks`, 'count', ' evicted')));
}

function row(status, index) {
  const report = status.tenants[index];
  const path = `tenants.${index}`;
  const head = make('div', { class: 'tenant-name' }, make('b', {}, report.tenant));
  if (Object.hasOwn(several, report.tenant)) head.append(make('p', { class: 'small' }, several[report.tenant]));
  if (report.pinned_bytes > 0) head.append(make('p', { class: 'small' }, plain(`${path}.pinned_bytes`, 'bytes'), ' pinned'));
  return make('div', { class: 'tenant', 'data-tenant': report.tenant }, head, ...report.tiers.map((tier, i) => {
    const of = status.tiers.findIndex(({ name }) => name === tier.name);
    return share(report.tenant, `${path}.tiers.${i}`, tier, `tiers.${of}.capacity_bytes`, status.tiers[of].capacity_bytes);
  }));
}

/** By name, so that rows do not trade places while their tenants fill: those with settings first, sums last. */
function inOrder(status, indices) {
  const rank = ({ tenant, configured }) => (Object.hasOwn(several, tenant) ? 2 : configured ? 0 : 1);
  return indices.sort((a, b) => {
    const [x, y] = [status.tenants[a], status.tenants[b]];
    return rank(x) - rank(y) || (x.tenant < y.tenant ? -1 : 1);
  });
}

function build(status) {
  const shape = JSON.stringify([status.tiers.map(({ name, capacity_bytes: size }) => [name, size]),
    status.tenants.map((t) => [t.tenant, t.configured, t.pinned_bytes > 0, t.tiers.map((tier) =>
      [tier.name, tier.guarantee_bytes, tier.cap_bytes, isNear(tier, status.tiers.find(({ name }) => name === tier.name).capacity_bytes)])])]);
  const place = document.getElementById('tenant-list');
  if (place.dataset.shape === shape) return;
  place.dataset.shape = shape;
  place.dataset.tiers = status.tenants[0].tiers.length;
  const all = status.tenants.map((_, index) => index);
  const rows = (indices) => inOrder(status, indices).map((index) => row(status, index));
  const more = all.slice(shownAtOnce);
  place.replaceChildren(...rows(all.slice(0, shownAtOnce)));
  const rest = document.getElementById('more-tenants');
  rest.hidden = more.length === 0;
  rest.replaceChildren(make('summary', {}, `${more.length} more`), ...rows(more));
  rest.dataset.tiers = place.dataset.tiers;
}

export function showTenants(status) {
  const section = document.getElementById('tenants');
  section.hidden = !worthShowing(status.tenants);
  if (section.hidden) {
    for (const id of ['tenant-list', 'more-tenants']) document.getElementById(id).replaceChildren();
    delete document.getElementById('tenant-list').dataset.shape;
    return;
  }
  build(status);
  for (const scale of section.querySelectorAll('.scale')) {
    const { guarantee_bytes: guarantee, cap_bytes: cap } = at(status, scale.dataset.share);
    const size = at(status, scale.dataset.size);
    const [beyond, mark] = [scale.querySelector('.beyond'), scale.querySelector('.guarantee')];
    beyond.hidden = cap === null || cap >= size;
    beyond.style.left = `${100 * (cap ?? size) / size}%`;
    mark.hidden = guarantee === 0;
    mark.style.left = `${100 * guarantee / size}%`;
  }
}
