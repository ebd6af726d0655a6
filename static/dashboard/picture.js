// The picture as the gateway tells it: whole at first, then what has changed. docs/dashboard.md tells the form.

const KEPT = 50;

export const picture = { gateway: null, sections: null, number: 0, offset: 0 };

/** Epoch seconds by the gateway's clock. */
export const now = () => Date.now() / 1000 + picture.offset;

/** Take one message. Returns the names of the sections that differ now; null if a message is missing before this one. */
export function take(message) {
  picture.offset = message.at - Date.now() / 1000;
  picture.gateway = message.gateway;
  if (message.whole) {
    picture.sections = message.whole;
  } else if (!message.gateway) {
    picture.sections = null;
  } else if (message.change) {
    if (picture.sections === null || message.number !== picture.number + 1) return null;
    for (const [name, change] of Object.entries(message.change)) merge(name, change);
  }
  picture.number = message.number;
  return new Set(Object.keys(message.whole || message.change || {}));
}

function merge(name, change) {
  const sections = picture.sections;
  if (name === "nodes" || name === "series") {
    for (const key of change.gone || []) delete sections[name][key];
    for (const [key, row] of Object.entries(change.set)) {
      const known = sections[name][key];
      if (name === "nodes" && known) Object.assign(known, row);
      else sections[name][key] = row;
    }
  } else if (name === "requests") {
    sections.requests = [...change, ...sections.requests].slice(0, KEPT);
  } else {
    sections[name] = change;
  }
}
