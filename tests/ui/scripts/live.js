// Follows the live feed; what came is in `heard`.
async () => {
  const {live} = await import("/ui/lib/live.js");
  window.heard = [];
  window.states = [];
  window.end = live("/v1/performance/ws", (message) => heard.push(message.type), (state) => states.push(state));
}
