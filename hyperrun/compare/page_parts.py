"""What page.py puts into every page: how it looks and what it does. Nothing here depends on the runs."""

STYLE = """
:root { color-scheme: light; --line: #dfe1e5; --soft: #5f6368; --front: #1e6b34; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem clamp(.75rem, 3vw, 2rem) 3rem; max-width: 1280px; background: #fff; color: #202124;
  font: 15px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.4rem; margin: .5rem 0 0; }
h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; }
header p, .note { color: var(--soft); margin: .2rem 0 .6rem; }
.note { font-size: .85rem; margin-top: .4rem; }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1rem; }
a { color: #1558a0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; }
th { text-align: left; border-bottom: 2px solid var(--line); padding: 0; white-space: nowrap; }
th button { all: unset; display: block; width: 100%; box-sizing: border-box; padding: .35rem .7rem; cursor: pointer;
  font-weight: 600; }
th.num button { text-align: right; }
th button:hover { background: #f1f3f4; }
th button:focus-visible { outline: 2px solid #1558a0; outline-offset: -2px; }
/* the second value says nothing aloud: aria-sort does */
th button::after { content: "\\2195"; content: "\\2195" / ""; opacity: .25; margin-left: .35em; }
th[aria-sort=ascending] button::after { content: "\\2191"; content: "\\2191" / ""; opacity: 1; }
th[aria-sort=descending] button::after { content: "\\2193"; content: "\\2193" / ""; opacity: 1; }
td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); vertical-align: top; overflow-wrap: break-word;
  max-width: 30rem; }
td.num { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td.short { white-space: nowrap; }
tr.front { font-weight: 600; color: var(--front); }
tr[data-group]:hover, tr.marked { background: #fff6d6; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr)); gap: 1rem; }
figure { margin: 0; min-width: 0; }
figure svg { width: 100%; max-width: 720px; height: auto; display: block; }
details { margin-top: 1rem; }
summary { cursor: pointer; font-weight: 600; margin-bottom: .4rem; }
.marking [id*="-curve-"], .marking [id*="-point-"] { opacity: .15; }
.marking .marked { opacity: 1; }
.marking [id*="-curve-"].marked path { stroke-width: 2.6 !important; }
@media print { nav, th button::after { display: none; } }
"""

SCRIPT = """
"use strict";
// Sorting: numbers by value, texts by letter, empty cells last; a second click turns the order round.
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = table.tBodies[0];
    const keys = new Map([...body.rows].map(row => [row, row.cells[column].dataset.key]));
    const rows = [...keys.keys()].sort((one, other) => {
      const a = keys.get(one), b = keys.get(other);
      if (a === "" || b === "") return (a === "") - (b === "");
      const order = a - b === a - b ? a - b : a.localeCompare(b, undefined, {numeric: true});
      return down ? -order : order;
    });
    body.append(...rows);
  }));
}
// A row under the pointer shows its point and its curves.
for (const section of document.querySelectorAll("section[data-number]")) {
  const number = section.dataset.number;
  const mark = (group, on) => {
    const point = `[id="p${number}-point-${group}"]`, curves = `[id^="c${number}-curve-${group}-"]`;
    section.classList.toggle("marking", on);
    const parts = section.querySelectorAll(`${point}, ${curves}, tr[data-group="${group}"]`);
    parts.forEach(part => part.classList.toggle("marked", on));
  };
  for (const row of section.querySelectorAll("tr[data-group]")) {
    row.addEventListener("pointerenter", () => mark(row.dataset.group, true));
    row.addEventListener("pointerleave", () => mark(row.dataset.group, false));
  }
}
"""
