// The machine, as far as it tells.

import { get } from "../../lib/api.js";
import { h } from "../../lib/dom.js";
import { bytes, number, unknown } from "../../lib/format.js";
import { badge, card, facts, notice } from "../../lib/parts.js";

export async function hardwareCard() {
  let told;
  try {
    told = await get("/hardware");
  } catch (error) {
    return card("Machine", notice("bad", error.message));
  }
  const why = (name) => told.unknown[name] ?? "the machine doesn't tell";
  const said = (value, name) => value ?? unknown(why(name));
  return card(
    told.label ? `Machine: ${told.label}` : "Machine",
    h(
      "div",
      { class: "stack" },
      h("div", { class: "grid" }, processor(told, said, why), memory(told, said, why), graphics(told, said), system(told, said)),
      told.overridden.length ? h("p", { class: "muted small" }, `In the owner's words (models.yaml): ${told.overridden.join(", ")}.`) : null,
    ),
  );
}

function part(name, pairs) {
  return h("section", { class: "stack tight" }, h("h3", {}, name), facts(pairs));
}

function processor({ processor: cpu }, said, why) {
  const of = (name) => said(cpu[name], `processor.${name}`);
  const fast = cpu.performance_cores === null ? null : `${cpu.performance_cores} fast, ${cpu.efficiency_cores} slow`;
  const mhz = cpu.max_mhz === null ? unknown(why("processor.max_mhz")) : `${cpu.min_mhz === null ? "" : `${number(cpu.min_mhz)} to `}${number(cpu.max_mhz)} MHz`;
  return part("Processor", [
    ["Name", cpu.name],
    ["Maker", of("vendor")],
    ["Cores", [of("physical_cores"), ` (${cpu.logical_cores} threads)`]],
    ["Kinds", fast],
    ["To be used", number(cpu.available_cores)],
    ["Clock", mhz],
    ["Instructions", cpu.instruction_sets.length ? h("span", { class: "chips" }, cpu.instruction_sets.map((one) => badge(one))) : unknown(why("processor.instruction_sets"))],
  ]);
}

function memory({ memory: held }, said, why) {
  const modules = held.modules?.map((one) => [bytes(one.size_bytes), one.kind, one.speed_mts && `${one.speed_mts} MT/s`, one.manufacturer].filter(Boolean));
  return part("Memory", [
    ["Size", bytes(held.total_bytes)],
    ["Swap", bytes(held.swap_bytes)],
    ["In words", held.description],
    ["Modules", modules ? h("ul", { class: "plain" }, modules.map((one) => h("li", {}, one.flatMap((text, at) => (at ? [" ", text] : [text]))))) : unknown(why("memory.modules"))],
  ]);
}

function graphics({ gpus }, said) {
  if (!gpus.length) return part("GPU", [["Found", said(null, "gpus")]]);
  return h("section", { class: "stack tight" }, h("h3", {}, gpus.length === 1 ? "GPU" : "GPUs"), gpus.map((gpu) => facts([
    ["Name", gpu.name],
    ["Maker", gpu.vendor],
    ["Memory", gpu.memory_bytes === null ? "shared with the processor" : bytes(gpu.memory_bytes)],
    ["Driver", gpu.driver],
    ["Cores", gpu.cores],
    ["Capability", gpu.compute_capability],
    ["Power limit", gpu.power_limit_watts === null ? null : `${number(gpu.power_limit_watts)} W`],
  ])));
}

function system({ system: os, machine, firmware, engines }, said) {
  const engine = (one) => (one ? `${one.version}${one.uses_gpu ? ", built for GPUs" : ""}` : null);
  return part("System", [
    ["Machine", said(machine, "machine")],
    ["Firmware", said(firmware, "firmware")],
    ["System", os.distribution ?? os.name],
    ["Kernel", os.kernel],
    ["Python", os.python],
    ["llama.cpp", engine(engines.llama_cpp)],
    ["MLX", engine(engines.mlx)],
  ]);
}
