// The style of the element. A style sheet that is adopted is no inline style, so `style-src 'self'` allows it.

export const CSS = `
:host { display: block; --_ink: var(--job-progress-ink, light-dark(#13241f, #e6eeeb)); --_soft: var(--job-progress-soft, light-dark(#4f625b, #a3b4ad));
  --_line: var(--job-progress-line, light-dark(#c6d1cc, #3f4f4a)); --_accent: var(--job-progress-accent, light-dark(#0f5c4f, #7cd6bf));
  --_on-accent: var(--job-progress-on-accent, light-dark(#fff, #06211b)); --_good: var(--job-progress-good, light-dark(#17693a, #86dba6));
  --_warn: var(--job-progress-warn, light-dark(#80500a, #f1c883)); --_bad: var(--job-progress-bad, light-dark(#a3261f, #ffaaa2));
  --_tone: var(--_accent); color: var(--_ink); line-height: 1.5; overflow-wrap: break-word; }
:host([hidden]), [hidden] { display: none !important; }
:host([phase="success"]) { --_tone: var(--_good); }
:host([phase="delayed"]) { --_tone: var(--_warn); }
:host([phase="failed"]), :host([phase="ended"]) { --_tone: var(--_bad); }
* { box-sizing: border-box; margin: 0; padding: 0; }
svg { width: 60%; fill: none; stroke: currentColor; stroke-width: 2; stroke-linecap: round; stroke-linejoin: round; }
[part~="badge"] { position: relative; display: grid; place-items: center; width: 3.5rem; height: 3.5rem; color: var(--_tone); border-radius: 50%;
  background: color-mix(in srgb, var(--_tone) 13%, transparent); }
[part~="busy"]::after { content: ""; position: absolute; inset: 0; border: 3px solid transparent; border-top-color: var(--_tone); border-radius: 50%; animation: turn 1.4s linear infinite; }
[part~="title"] { margin-top: 1.1rem; font-size: 1.5rem; line-height: 1.25; font-weight: 650; text-wrap: balance; outline: none; }
[part~="message"] { margin-top: .5rem; font-size: 1.0625rem; }
[part~="eta"], [part~="hint"] { margin-top: .5rem; color: var(--_soft); font-variant-numeric: tabular-nums; }
[part~="urgent"], [part~="trouble"] { color: var(--_bad); }
[part~="trouble"]:not(:empty) { margin-top: .5rem; }
[part~="action"] { min-height: 3rem; margin-top: 1.25rem; padding: .5rem 1.4rem; font: inherit; font-weight: 600; cursor: pointer;
  color: var(--_on-accent); background: var(--_accent); border: 1px solid var(--_accent); border-radius: var(--job-progress-radius, .8rem); }
[part~="action"][aria-disabled="true"] { color: var(--_soft); background: none; border-color: var(--_line); cursor: default; font-variant-numeric: tabular-nums; }
:focus-visible { outline: 3px solid var(--_accent); outline-offset: 2px; }
[part~="bar"] { height: 4px; margin: 1.75rem 0 1.25rem; overflow: hidden; background: var(--_line); border-radius: 2px; }
[part~="fill"] { height: 100%; background: var(--_tone); border-radius: 2px; transition: inline-size .4s; }
ol { list-style: none; container-type: inline-size; }
li { position: relative; display: flex; align-items: center; gap: .9rem; min-height: 2.9rem; padding-block: .3rem; }
li + li::before { content: ""; position: absolute; inset-inline-start: .8125rem; top: calc(.875rem - 50%); bottom: calc(50% + .875rem); width: 2px; background: var(--_line); }
:is([part~="step-success"], [part~="step-skipped"]) + li::before { background: var(--_good); }
[part~="dot"] { display: grid; place-items: center; flex: none; width: 1.75rem; height: 1.75rem; border: 2px solid var(--_line); border-radius: 50%; }
li > span + span { display: flex; flex: 1; flex-wrap: wrap; justify-content: space-between; align-items: baseline; gap: 0 .5rem; min-width: 0; }
[part~="step-state"] { font-size: .875rem; color: var(--_soft); }
[part~="step-pending"], [part~="step-never"] { color: var(--_soft); }
[part~="step-in-progress"] { font-weight: 600; }
[part~="step-in-progress"] [part~="dot"] { border-top-color: var(--_accent); animation: turn 1s linear infinite; }
[part~="step-success"] [part~="dot"] { color: var(--_on-accent); background: var(--_good); border-color: var(--_good); }
[part~="step-later"] :is([part~="dot"], [part~="step-state"]) { color: var(--_warn); border-color: currentColor; }
[part~="step-failed"] :is([part~="dot"], [part~="step-state"]) { color: var(--_bad); border-color: currentColor; }
.said { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
@container (max-width: 19rem) { li > span + span { flex-direction: column; } }
@container (max-width: 26rem) { :lang(vi) li > span + span { flex-direction: column; } }
@keyframes turn { to { transform: rotate(1turn); } }
@media (prefers-reduced-motion: reduce) { *, ::after { animation: none !important; transition: none !important; } }
@media (forced-colors: active) { [part~="badge"] { border: 2px solid; } [part~="fill"] { background: CanvasText; } }
`;
