"""The style sheet of the page."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --line: #dde2e9;
  --paper: #ffffff; --ground: #f4f6f9; --main: #1f6feb; --light: #9cc2f7; --good: #1a7f4b;
  --warn: #b26a00; --bad: #c4314b; --band: #e4eefb; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9f0; --soft: #98a4b3; --line: #313a46;
  --paper: #1a2029; --ground: #12161c; --main: #5aa2ff; --light: #2f5c96; --good: #56c58a;
  --warn: #e0a458; --bad: #f27a8d; --band: #202f45; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 14px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
header, main { max-width: 1240px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 28px; }
h1 { font-size: 24px; margin: 0; overflow-wrap: anywhere; }
header p { margin: 4px 0 0; color: var(--soft); overflow-wrap: anywhere; }
nav { display: flex; flex-wrap: wrap; gap: 4px 16px; margin: 14px 0 0; }
nav a { color: var(--main); text-decoration: none; }
nav a:hover { text-decoration: underline; }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 8px;
  margin: 16px 0; padding: 16px 20px; }
h2 { font-size: 17px; margin: 0 0 4px; }
section > p { margin: 0 0 10px; color: var(--soft); max-width: 90ch; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(160px, 1fr)); gap: 12px;
  margin: 16px 0; }
.card { background: var(--paper); border: 1px solid var(--line); border-radius: 8px;
  padding: 12px 16px; overflow-wrap: anywhere; }
.card b { display: block; font-size: 21px; font-weight: 600; }
.card span { color: var(--soft); font-size: 13px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 5px 14px 5px 0; border-bottom: 1px solid var(--line);
  vertical-align: middle; }
th { font-weight: 600; color: var(--soft); white-space: nowrap; font-size: 13px; }
td.number, th.number { text-align: right; white-space: nowrap; }
td.name { max-width: 300px; overflow-wrap: anywhere; min-width: 130px; }
td code, p code { font: 13px ui-monospace, "DejaVu Sans Mono", monospace; }
tr:last-child td { border-bottom: 0; }
.mark { display: inline-block; border-radius: 4px; padding: 0 7px; font-size: 12px;
  border: 1px solid currentColor; white-space: nowrap; }
.good { color: var(--good); } .warn { color: var(--warn); } .bad { color: var(--bad); }
.soft { color: var(--soft); }
svg { display: block; }
svg text { fill: var(--soft); font-size: 11px; }
.grid { stroke: var(--line); } .whole { stroke: var(--main); fill: none; stroke-width: 2; }
.dot { fill: var(--main); } .bar { fill: var(--light); } .exact { fill: var(--good); }
.hit { fill: transparent; } .hit:hover { fill: var(--ink); fill-opacity: .07; }
.band { fill: var(--band); } .count { fill: var(--main); } .lost { fill: var(--bad); }
.end { stroke: var(--soft); stroke-dasharray: 3 2; }
.legend { display: flex; gap: 18px; color: var(--soft); font-size: 13px; }
.legend i { display: inline-block; width: 12px; height: 12px; margin-right: 6px; border-radius: 2px;
  vertical-align: -1px; }
.legend .l-alone { background: var(--light); } .legend .l-whole { background: var(--main); }
.legend .l-exact { background: var(--good); border-radius: 6px; }
ul.findings { list-style: none; margin: 0; padding: 0; }
ul.findings li { border-bottom: 1px solid var(--line); padding: 7px 0; overflow-wrap: anywhere; }
ul.findings li:last-child { border: 0; }
ul.findings small { display: block; color: var(--soft); font-size: 13px; }
details summary { cursor: pointer; color: var(--main); }
footer { color: var(--soft); padding: 4px 0 28px; }
@media print { body { background: #fff; } section, .card { break-inside: avoid; } }
"""
