// All the parts that pages are made of, on one page.
async () => {
  const {h, replace} = await import("/ui/lib/dom.js");
  const parts = await import("/ui/lib/parts.js");
  const format = await import("/ui/lib/format.js");
  window.done = [];
  const columns = [
    {label: "Name", cell: (row) => row.name, sort: (row) => row.name},
    {label: "Speed", align: "end", cell: (row) => format.rate(row.speed, "tok/s", "not loaded yet"), sort: (row) => row.speed},
  ];
  const rows = [{name: "a", speed: 1.5}, {name: "b", speed: 20}, {name: "c", speed: null}];
  replace(document.querySelector("main"), h("div", {class: "page"},
    parts.heading("Parts", "All of them.", parts.button("Do", () => {}, {kind: "primary", icon: "play"})),
    parts.notice("bad", "bad"), parts.notice("warn", "warn"), parts.notice("good", "good"), parts.notice("info", "info"),
    parts.card("Card", [
      parts.tabs("Tabs", [{name: "one", label: "One", build: () => "first"}, {name: "two", label: "Two", build: () => "second"}]),
      parts.table(columns, rows, {caption: "Rows"}),
      parts.facts([["Model", "a"], ["Nothing", null]]),
      parts.figure("TTFT", format.ms(812), "of 20"),
      parts.bar([{label: "Queue", kind: "queue", value: 1, text: "1 ms"}, {label: "Decode", kind: "decode", value: 5, text: "5 ms"}]),
      parts.chips("Colours", [{value: "red", label: "Red"}, {value: "blue", label: "Blue", note: "the sky's"}], () => {}),
      parts.field("Field", h("input", {}), "with help"),
      parts.field("Switch", h("input", {type: "checkbox"})),
      parts.field("Choice", parts.select(["a", ["b", "B"]], "b")),
      parts.badge("good", "good"), parts.badge("warn", "warn"), parts.badge("bad", "bad"), parts.badge("plain"), parts.badge("accent", "accent"),
      parts.menu("More of it", [{label: "First", action: () => done.push("first")}, {label: "Second", action: () => done.push("second"), kind: "danger"}]),
      format.hint(h("span", {}, "12.5"), {formula: "a / b", n: 20, interval: "12 to 13", note: "of the last hour"}),
      format.when(Date.now() / 1000 - 90),
      parts.empty("Nothing yet", "It would be here."),
    ]),
  ));
}
