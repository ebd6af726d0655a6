// Numbers and times in words.

export const NONE = "–";

export const count = (value) => Number(value || 0).toLocaleString("en");

export function rate(value) {
  if (value === null || value === undefined) return NONE;
  return value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 1 : 0 });
}

export function duration(ms) {
  if (ms === null || ms === undefined) return NONE;
  if (ms < 1) return "0 ms";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60000) return `${(ms / 1000).toFixed(ms < 10000 ? 1 : 0).replace(/\.0$/, "")} s`;
  const seconds = Math.round(ms / 1000);
  return seconds < 3600 ? `${Math.floor(seconds / 60)} min ${seconds % 60} s` : `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}

/** How long ago that was, in whole seconds. */
export function age(epoch, now) {
  const seconds = Math.max(0, Math.round(now - epoch));
  return seconds === 0 ? "0 s" : duration(1000 * seconds);
}

export const percent = (part) => (part === null || part === undefined ? NONE : `${(100 * part).toFixed(part > 0.999 || part < 0.1 ? 0 : 1)}%`);

export const gigabytes = (bytes) => ((bytes || 0) / 2 ** 30).toFixed(bytes >= 100 * 2 ** 30 ? 0 : 1);

export const clock = (epoch) => new Date(epoch * 1000).toLocaleTimeString("en-GB");

export const minute = (epoch) => new Date(epoch * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
