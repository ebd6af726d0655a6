// Making and changing elements. All text goes in as text, never as markup.

export const byId = (id) => document.getElementById(id);

export function element(tag, { text, className, ...rest } = {}, children = []) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  for (const [name, value] of Object.entries(rest)) if (value !== undefined) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Setting what is there already would make the browser draw it anew. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setClass(node, className) {
  if (node.className !== className) node.className = className;
}

/** Show the first where there is something, else the second. */
export function either(full, empty, some) {
  full.hidden = !some;
  empty.hidden = some;
}
