// Elements of the page. A figure names the place in /status that it shows; render() fills it in.

export function make(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export const figure = (path, kind) => make('b', { 'data-figure': path, 'data-kind': kind });
export const plain = (path, kind) => make('span', { 'data-figure': path, 'data-kind': kind });
export const fact = (path, kind, ...words) => make('span', {}, figure(path, kind), ...words);

export const at = (status, path) => path.split('.').reduce((value, key) => value?.[key], status);
