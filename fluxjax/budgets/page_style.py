"""How report.html looks: light and dark, from a phone to a wide screen."""

STYLE = """
:root { color-scheme: light dark; --ink: #222; --soft: #5a5a5a; --paper: #fff; --rule: #ddd;
        --shade: #fff1e4; --mark: #d55e00; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e4e4; --soft: #a8a8a8; --paper: #16181b; --rule: #3a3d42; --shade: #3a2817;
          --mark: #ff7f2a; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 64em; margin: 2em auto; padding: 0 1em;
       color: var(--ink); background: var(--paper); overflow-wrap: break-word; }
h1 { font-size: 1.6em; } h2 { font-size: 1.25em; margin-top: 2em; } h3 { font-size: 1em; }
.headline { font-size: 1.1em; border-left: .25em solid var(--mark); padding-left: .8em; }
figure { margin: 1em 0; } figure img { max-width: 100%; height: auto; }
.plot img { width: 100%; }
figcaption, dt, small, summary { color: var(--soft); } figcaption { font-size: .9em; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1em 1.2em; margin: 1em 0; }
dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
.wide { overflow: auto; max-height: 85vh; width: fit-content; max-width: 100%; margin-top: .5em; }
table { border-collapse: separate; border-spacing: 0; font-variant-numeric: tabular-nums; }
th, td { padding: .2em .7em; text-align: right; white-space: nowrap;
         border-bottom: 1px solid var(--rule); }
th:nth-child(2), th:nth-child(3), td:nth-child(2), td:nth-child(3) { text-align: left; }
th { position: sticky; top: 0; background: var(--paper); }
tr.best td { background: var(--shade); }
#all:not(:checked) ~ .wide .more { display: none; }
label { padding-left: .4em; }
@media (max-width: 40em) {
  body { margin: 1em auto; } th, td { padding: .25em .35em; font-size: .87em; }
  td small { display: block; } td:nth-child(3), th { white-space: normal; }
  dl { grid-template-columns: 1fr; } dd { margin-bottom: .4em; } }
"""
