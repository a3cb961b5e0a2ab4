// Numbers of what has come so far. Pure.

const LEAST = { 0.5: 1, 0.9: 20, 0.95: 20, 0.99: 100 };

/** A quantile by nearest rank; null where there are too few values for it, as in the reports. */
export function quantile(sorted, share) {
  if (sorted.length < LEAST[share]) return null;
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
}

/** How many values a quantile needs. */
export const leastOf = (share) => LEAST[share];

/** Sorted values of one field of points that ended well and count. */
export function measured(points, field) {
  return points
    .filter((point) => point.phase === "measure" && point.outcome === "ok" && point[field] !== null)
    .map((point) => point[field])
    .sort((a, b) => a - b);
}

/** Values in bins of equal width: `[{from, to, count}]`, none where there are no values. */
export function bins(sorted, most = 24) {
  if (!sorted.length) return [];
  const [low, high] = [sorted[0], sorted[sorted.length - 1]];
  const number = Math.max(1, Math.min(most, Math.ceil(Math.sqrt(sorted.length)) * 2));
  const width = (high - low) / number || Math.max(1, low * 0.1);
  const made = Array.from({ length: number }, (_, at) => ({ from: low + at * width, to: low + (at + 1) * width, count: 0 }));
  for (const value of sorted) made[Math.min(number - 1, Math.floor((value - low) / width))].count += 1;
  return made;
}

/** Per second, of the points that ended in the last seconds: requests and tokens; null where there is nothing to divide. */
export function rates(points, window = 10) {
  const ended = points.filter((point) => point.at !== null && point.outcome === "ok");
  if (!ended.length) return { requests: null, tokens: null };
  const end = largest(ended.map((point) => point.at));
  const start = Math.max(0, end - window);
  if (end <= start) return { requests: null, tokens: null };
  const within = ended.filter((point) => point.at > start);
  const tokens = within.some((point) => point.tokens === null) ? null : within.reduce((sum, point) => sum + point.tokens, 0);
  return { requests: within.length / (end - start), tokens: tokens === null ? null : tokens / (end - start) };
}

/** The tokens of answers that ended in each slice of time: `[{at, value}]`, value per second. */
export function course(points, slices = 60) {
  const ended = points.filter((point) => point.at !== null && point.tokens !== null && point.outcome === "ok");
  if (ended.length < 2) return [];
  const end = largest(ended.map((point) => point.at));
  const width = Math.max(0.5, end / slices);
  const made = Array.from({ length: Math.ceil(end / width) }, (_, at) => ({ at: (at + 0.5) * width, value: 0 }));
  for (const point of ended) made[Math.min(made.length - 1, Math.floor(point.at / width))].value += point.tokens / width;
  return made;
}

/** The largest of the values, 0 where none is above it. Not by Math.max(...values): a run has more than a function takes. */
export function largest(values) {
  return values.reduce((most, value) => Math.max(most, value), 0);
}

/** Seconds that are left, by the pace so far; null where nothing is done yet. */
export function remaining(share, elapsed) {
  return share > 0.01 && share <= 1 ? (elapsed * (1 - share)) / share : null;
}
