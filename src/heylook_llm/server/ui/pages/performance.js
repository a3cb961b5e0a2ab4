// How the server does: now, in a window, and request by request.

import { get, remove } from "../lib/api.js";
import { h } from "../lib/dom.js";
import { downloads } from "./performance/downloads.js";
import { count } from "../lib/format.js";
import { button, confirm, heading, toast } from "../lib/parts.js";
import { liveSection } from "./performance/live.js";
import { profileSection } from "./performance/profile.js";
import { requestsSection } from "./performance/requests.js";
import { windowSection } from "./performance/window.js";

export const title = "Performance";

export async function open(main, route) {
  const models = (await get("/v1/models")).data.map((model) => model.id);
  const requests = requestsSection(models, route.query);
  const now = liveSection({ finished: requests.noteFinished });
  const past = windowSection(route.query);
  const profile = profileSection(route.query);
  async function clear() {
    const text = "Every kept measurement is deleted, but for those of pinned runs. Windows and profile begin anew.";
    if (!(await confirm("Delete the measurements?", text, "Delete"))) return;
    try {
      const { deleted } = await remove("/v1/performance");
      toast(deleted === 1 ? "1 request was deleted" : `${count(deleted)} requests were deleted`, "good");
    } catch (error) {
      toast(error.message, "bad");
    }
    await Promise.all([past.load(), profile.load(), requests.load()]);
  }
  const actions = [downloads(() => requests.filters()), button("Clear", clear, { icon: "trash" })];
  main.append(
    h(
      "div",
      { class: "page" },
      heading("Performance", "What this server does now, and what it measured of every request it answered.", actions),
      now.element,
      past.element,
      profile.element,
      requests.element,
    ),
  );
  await Promise.all([past.load(), profile.load(), requests.load()]);
  return () => {
    now.close();
    past.close();
  };
}
