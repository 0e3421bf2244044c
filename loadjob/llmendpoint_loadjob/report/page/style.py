"""The style sheet of the page. Colours have a contrast of at least 4.5:1 for text, in both themes."""

from __future__ import annotations

import base64
import hashlib

STYLE = """
:root{color-scheme:light dark;--bg:#fff;--card:#f5f6f8;--text:#1b1f24;--soft:#545d68;--line:#d5dae1;--grid:#e6e9ee;
--s1:#0b5fbf;--s2:#a04a00;--s3:#0a6b4b;--s4:#7a2fa8;--good:#0b6b36;--bad:#b3261e;--warn:#7a5200;--goodbg:#e2f4e8;
--badbg:#fce8e6;--warnbg:#fdf1d6}
@media (prefers-color-scheme:dark){:root{--bg:#12151a;--card:#1c2128;--text:#e8ebef;--soft:#a9b3bf;--line:#3a424d;
--grid:#262c35;--s1:#6cb2ff;--s2:#ffab66;--s3:#5fd6a8;--s4:#d59bff;--good:#6fdc9a;--bad:#ff9d94;--warn:#f5c76a;
--goodbg:#16311f;--badbg:#3b1a18;--warnbg:#352a10}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1.5rem 1rem 4rem;max-width:62rem;background:var(--bg);color:var(--text);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;overflow-wrap:anywhere}
h1{font-size:1.5rem;line-height:1.25;margin:0 0 .25rem}
h2{font-size:1.15rem;margin:2.5rem 0 .75rem;padding-top:1rem;border-top:1px solid var(--line)}
h3{font-size:1rem;margin:1.25rem 0 .5rem}
p{margin:.5rem 0}.soft{color:var(--soft)}
.verdict{display:block;margin:1rem 0;padding:.9rem 1rem;border-radius:.5rem;border-left:.4rem solid var(--line);
background:var(--card)}
.verdict b{font-size:1.2rem}.verdict p{margin:.25rem 0 0}
.verdict.good{border-color:var(--good);background:var(--goodbg)}.verdict.good b{color:var(--good)}
.verdict.bad{border-color:var(--bad);background:var(--badbg)}.verdict.bad b{color:var(--bad)}
.verdict.warn{border-color:var(--warn);background:var(--warnbg)}.verdict.warn b{color:var(--warn)}
.figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(9.5rem,1fr));gap:.6rem;margin:1rem 0;padding:0}
.figures div{background:var(--card);border-radius:.5rem;padding:.6rem .75rem}
.figures dt{color:var(--soft);font-size:.85rem}.figures dd{margin:0;font-size:1.25rem;font-weight:600;
font-variant-numeric:tabular-nums;white-space:nowrap}
.scroll{overflow-x:auto;max-height:26rem;overflow-y:auto;border:1px solid var(--line);border-radius:.5rem;
margin:.75rem 0}
.scroll:focus-visible,summary:focus-visible{outline:2px solid var(--s1);outline-offset:2px}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums;overflow-wrap:normal}
caption{text-align:left;padding:.5rem .75rem;color:var(--soft);font-size:.85rem}
th,td{padding:.4rem .75rem;text-align:right;border-top:1px solid var(--line);white-space:nowrap;vertical-align:top}
thead th{color:var(--soft);font-weight:600;border-top:0;background:var(--card);position:sticky;top:0}
th:first-child,td.words,th.words{text-align:left}
td.words{white-space:normal;min-width:12rem}tbody th{font-weight:600}
tr.better td.mark,.good{color:var(--good)}.bad{color:var(--bad)}.warn{color:var(--warn)}
td.good,td.bad,td.warn{font-weight:600}
figure{margin:1rem 0}figcaption{margin-bottom:.25rem}.title{font-weight:600}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:.1rem 1rem;padding:0;margin:.15rem 0;font-size:.85rem;
color:var(--soft)}
.sample{vertical-align:middle;margin-right:.35rem}
.chart{display:block;max-width:100%;height:auto}.chart.wide{width:100%}.chart.narrow{display:none}
.sides{display:grid;gap:1rem}@media (min-width:700px){.sides{grid-template-columns:1fr 1fr}}
@media (min-width:900px){.pair{display:grid;grid-template-columns:minmax(0,1fr) 17rem;gap:1.5rem;align-items:start}}
@media (max-width:560px){.chart.wide{display:none}.chart.narrow{display:block;width:100%}
th,td{padding:.35rem .5rem}body{padding:1rem .75rem 3rem}}
.label{fill:var(--soft);font-size:12px;font-family:inherit}.label.end{text-anchor:end}.label.middle{text-anchor:middle}
.label.strong{fill:var(--text);font-weight:600}
.grid{stroke:var(--grid)}.axis{stroke:var(--soft)}.threshold{stroke:var(--text);stroke-width:1.5;stroke-dasharray:2 3}
.series{fill:none;stroke-width:2;stroke-linejoin:round}
.series.s1{stroke:var(--s1)}.series.s2{stroke:var(--s2);stroke-dasharray:7 3}
.series.s3{stroke:var(--s3);stroke-dasharray:2 2}.series.s4{stroke:var(--s4);stroke-dasharray:9 3 2 3}
.dot.s1,.f1{fill:var(--s1)}.dot.s2,.f2{fill:var(--s2)}.dot.s3,.f3{fill:var(--s3)}.dot.s4,.f4{fill:var(--s4)}
.outside{fill:var(--grid);opacity:.55}.f5{fill:var(--soft)}.f6{fill:var(--warn)}.failure,.label.missed{fill:var(--bad)}.label.met{fill:var(--good)}.none{fill:none}.whisker{stroke:var(--text);stroke-width:1.5}
pre{background:var(--card);border-radius:.5rem;padding:.75rem;overflow-x:auto;font-size:.85rem;white-space:pre-wrap}
details{margin:.5rem 0}summary{cursor:pointer}
footer{margin-top:3rem;color:var(--soft);font-size:.85rem}
@media print{:root{color-scheme:light;--bg:#fff;--card:#f5f6f8;--text:#000;--soft:#444;--line:#bbb;--grid:#ddd;
--s1:#0b5fbf;--s2:#a04a00;--s3:#0a6b4b;--s4:#7a2fa8;--good:#0b6b36;--bad:#b3261e;--warn:#7a5200;--goodbg:#fff;
--badbg:#fff;--warnbg:#fff}
body{max-width:none;padding:0;font-size:11pt}.scroll{max-height:none;overflow:visible;border:0}
thead th{position:static}figure,.verdict,.figures,tr{break-inside:avoid}h2,h3{break-after:avoid}
th,td{padding:.2rem .4rem}.long tbody tr:nth-child(n+41){display:none}}
"""


def style_hash() -> str:
    """Return the source of the style sheet for the Content-Security-Policy (CSP Level 3, section 2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"
