// What the builder holds, and the spec that it makes of it. Pure: nothing here asks the server or draws.

/** Tiers of context, in tokens. */
export const TIERS = [1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072];
/** Tokens that an answer behind a tier's prompt has. */
export const TIER_OUTPUT = 64;

export const LOAD_KINDS = [
  ["closed", "Clients, each in turn"],
  ["poisson", "Requests/s, at random (Poisson)"],
  ["constant", "Requests/s, evenly"],
  ["gamma", "Requests/s, in bursts (gamma)"],
  ["ramp", "Requests/s, rising (ramp)"],
  ["max", "All at once"],
  ["sweep", "Sweep: from one to the most"],
];

/** Traffic of each task where nothing else is said. */
export const USUAL = { chat: "D(100,100)", completion: "D(100,100)", embeddings: "E(256)", rerank: "R(256,32,8)", "image-text": "I(512,512)" };
/** Tasks whose prompts can be of any length, so that tiers make sense. */
export const TIERED = new Set(["chat", "completion"]);
/** Tasks that one's own prompts can be sent for. */
export const OWN_PROMPTS = new Set(["chat", "completion", "embeddings"]);

/** What a builder begins with. */
export function fresh() {
  return {
    name: "",
    targets: {},
    task: "chat",
    scenarios: ["D(100,100)"],
    tiers: [],
    prompts: [],
    promptTokens: "",
    count: "user",
    cache: ["warm"],
    forceLength: true,
    options: '{"temperature": 0}',
    salt: "",
    seed: "1",
    loads: [load()],
    requests: "20",
    duration: "",
    warmup: "",
    repeats: "1",
    timeout: "300",
    drain: "60",
    stall: "60",
    cooldown: "0",
    parallel: "host",
    slo: { ttft: "", tpot: "", itl: "", e2e: "" },
    calibrate: true,
    pull: false,
  };
}

/** A load as the builder holds it. */
export function load(kind = "closed", levels = "1, 4") {
  return { kind, levels, burstiness: "0.5", from: "0", seconds: "30" };
}

/** The traffic of a tier: its prompt and answer fill it. */
function tierScenario(tokens) {
  return `D(${tokens - TIER_OUTPUT},${TIER_OUTPUT})`;
}

/** "1k", "128k". */
export function tierLabel(tokens) {
  return `${tokens / 1024}k`;
}

/** The spec that a draft says. What is no number is left to the server, which says what is wrong with it. */
export function specOf(draft) {
  const own = draft.prompts.length && OWN_PROMPTS.has(draft.task);
  const tiers = TIERED.has(draft.task) ? draft.tiers : [];
  const spec = {
    name: draft.name.trim() || undefined,
    targets: Object.values(draft.targets).filter((target) => target.on).map(targetOf),
    task: draft.task,
    scenarios: [...draft.scenarios, ...tiers.map(tierScenario), ...(own ? ["dataset"] : [])],
    dataset: own ? { prompts: draft.prompts, ...(draft.promptTokens.trim() ? { output_tokens: numeric(draft.promptTokens) } : {}) } : undefined,
    count: draft.count,
    loads: draft.loads.map(loadOf),
    requests: numeric(draft.requests),
    duration_seconds: numeric(draft.duration),
    warmup_requests: numeric(draft.warmup),
    repeats: numeric(draft.repeats),
    cache: draft.cache,
    force_length: draft.forceLength,
    options: json(draft.options),
    salt: draft.salt || undefined,
    seed: numeric(draft.seed),
    timeout_seconds: numeric(draft.timeout),
    drain_seconds: numeric(draft.drain),
    stall_seconds: numeric(draft.stall),
    cooldown_requests: numeric(draft.cooldown),
    parallel: draft.parallel,
    slo: limits(draft.slo),
  };
  return Object.fromEntries(Object.entries(spec).filter(([, value]) => value !== undefined));
}

/** A draft with what a preset or an earlier run says; targets stay unless the spec names some. */
export function withSpec(draft, spec) {
  const next = structuredClone(draft);
  if (spec.targets) next.targets = Object.fromEntries(spec.targets.map((one) => [one.url, targetDraft(one)]));
  if (spec.name !== undefined) next.name = spec.name ?? "";
  if (spec.task) next.task = spec.task;
  if (spec.scenarios) splitTiers(next, spec.scenarios);
  if (spec.scenarios || spec.dataset) {
    next.prompts = spec.dataset?.prompts ? [...spec.dataset.prompts] : [];
    next.promptTokens = text(spec.dataset?.output_tokens);
  }
  if (spec.loads) next.loads = spec.loads.map(loadDraft);
  if (spec.requests !== undefined || spec.duration_seconds !== undefined) {
    next.requests = text(spec.requests);
    next.duration = text(spec.duration_seconds);
  }
  const plain = { warmup: "warmup_requests", repeats: "repeats", timeout: "timeout_seconds", drain: "drain_seconds", stall: "stall_seconds", cooldown: "cooldown_requests", seed: "seed", salt: "salt", parallel: "parallel", count: "count" };
  for (const [name, field] of Object.entries(plain)) if (spec[field] !== undefined) next[name] = text(spec[field]);
  if (spec.cache) next.cache = [...spec.cache];
  if (spec.force_length !== undefined) next.forceLength = spec.force_length;
  if (spec.options) next.options = JSON.stringify(spec.options);
  if (spec.slo) next.slo = { ttft: "", tpot: "", itl: "", e2e: "", ...Object.fromEntries(Object.entries(spec.slo).map(([name, value]) => [name === "e2el" ? "e2e" : name, text(value)])) };
  return next;
}

/** A target of a draft. */
export function targetDraft({ url, models = [], key = null, kind = null, name = null, price_in = null, price_out = null }) {
  return { on: true, url, models: [...models], key, kind, name, price_in, price_out };
}

/** What keeps a draft from being asked about: words for its reader, or null. */
export function lacking(draft) {
  const spec = specOf(draft);
  if (!spec.targets.length) return "Choose a server to measure.";
  if (!spec.scenarios.length) return "Choose some traffic: lengths, a context tier or your own prompts.";
  if (!spec.cache.length) return "Choose what caches know: warm, cold or shared.";
  if (!draft.loads.every((one) => one.kind === "max" || levels(one.levels).length)) return "Say how many clients, or how many requests per second.";
  if (spec.requests === undefined && spec.duration_seconds === undefined) return "Say when a cell ends: after how many requests, or seconds.";
  return null;
}

/** "1, 4,16" as numbers; what is none stays text. */
function levels(written) {
  return written.split(/[\s,;]+/).filter(Boolean).map(numeric);
}

function targetOf({ url, models, key, kind, name, price_in, price_out }) {
  const all = { url, models: models.length ? models : undefined, key, kind, name, price_in, price_out };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== null && value !== undefined));
}

function loadOf({ kind, levels: written, burstiness, from, seconds }) {
  const made = { kind, levels: kind === "max" ? [1] : levels(written) };
  if (kind === "gamma") made.burstiness = numeric(burstiness);
  if (kind === "ramp") Object.assign(made, { ramp_from: numeric(from), ramp_seconds: numeric(seconds) });
  return made;
}

function loadDraft({ kind = "closed", levels: numbers = [1], burstiness = 1, ramp_from = 0, ramp_seconds = 0 }) {
  const made = load(kind, numbers.map((number) => text(number ?? 1)).join(", "));
  if (kind === "gamma") made.burstiness = text(burstiness);
  if (kind === "ramp") Object.assign(made, { from: text(ramp_from), seconds: text(ramp_seconds) });
  return made;
}

function splitTiers(draft, scenarios) {
  const tiers = new Map(TIERS.map((tokens) => [tierScenario(tokens), tokens]));
  draft.tiers = scenarios.filter((one) => tiers.has(one)).map((one) => tiers.get(one));
  draft.scenarios = scenarios.filter((one) => !tiers.has(one) && one !== "dataset");
}

function limits(slo) {
  const set = Object.entries(slo).filter(([, value]) => value.trim());
  return set.length ? Object.fromEntries(set.map(([name, value]) => [name, numeric(value)])) : undefined;
}

/** A number; undefined where nothing stands; the text itself where it is no number. */
function numeric(written) {
  const trimmed = String(written).trim();
  if (trimmed === "") return undefined;
  const number = Number(trimmed);
  return Number.isFinite(number) ? number : trimmed;
}

function json(written) {
  const trimmed = written.trim();
  if (trimmed === "") return undefined;
  try {
    return JSON.parse(trimmed);
  } catch {
    return trimmed;
  }
}

function text(value) {
  return value === null || value === undefined ? "" : String(value);
}
