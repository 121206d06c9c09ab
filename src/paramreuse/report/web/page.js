/* Puts the parts together and keeps them in step with source and tolerance. */

const parts = { live: [], bySource: [] };

function pickSource(index) {
  state.source = index;
  refresh(true);
  say(`Source ${currentSource().name}`);
}

function pickTolerance(value) {
  if (!Number.isFinite(value) || value < 0) return;
  state.tolerance = value;
  byId('slider').value = value;
  byId('slider').setAttribute('aria-valuetext', `${fmt(value)} ${DATA.score}`);
  if (document.activeElement !== byId('exact')) byId('exact').value = value;
  refresh(false);
}

/* With another tolerance only words, colours and marks change; with another source everything. */
function refresh(everything) {
  writeAnswer();
  writeSources();
  writeCards();
  paintMap();
  writeBar();
  for (const update of parts.live) update();
  fillPanel();
  if (!everything) return;
  /* The answer and the map are there at once; what lies further down follows a moment later. */
  requestAnimationFrame(() => {
    for (const update of parts.bySource) update();
    redrawCharts(true);
  });
}

function writeBar() {
  const { sweep } = currentSource() || {};
  if (!sweep) return;
  const counts = tally(sweep.swaps.filter((swap) => swap.set === 'single'), state.tolerance);
  byId('counts').textContent = VERDICTS.filter((word) => counts.words[word]).map((word) => `${counts.words[word]} ${word}`).join(' · ');
}

/* The slider's end: far enough to see most kernels of the closest source pass, in round steps. */
function toleranceScale() {
  const typical = DATA.sources.filter((source) => source.sweep).map((source) => {
    const judged = source.sweep.kernels.length ? source.sweep.kernels : source.sweep.swaps;
    const drops = judged.map((swap) => swap.lent.mean).filter((drop) => drop > 0).sort((a, b) => a - b);
    return drops.length ? drops[Math.floor(0.8 * (drops.length - 1))] : 0;
  });
  const wanted = Math.max(5 * state.tolerance, Math.min(...typical)) || 0.1;
  const step = 10 ** Math.floor(Math.log10(wanted / 150));
  const top = ticks(0, wanted * 1.2, 4).pop();
  return { most: Math.max(top, state.tolerance), step: Number(step.toPrecision(1)) };
}

function buildBar() {
  const bar = byId('bar');
  const { most, step } = parts.scale;
  bar.hidden = false;
  bar.append(h('label', { for: 'slider', title: DATA.words.tolerance }, 'Tolerance'),
    h('input', { id: 'slider', type: 'range', min: 0, max: most, step, value: state.tolerance, 'aria-valuetext': `${fmt(state.tolerance)} ${DATA.score}`, oninput: (event) => pickTolerance(Number(event.target.value)) }),
    h('label', { for: 'exact', class: 'unseen' }, 'Tolerance, exactly'),
    h('input', { id: 'exact', type: 'number', min: 0, step: 'any', value: state.tolerance, oninput: (event) => event.target.value !== '' && pickTolerance(Number(event.target.value)) }),
    h('button', { type: 'button', class: 'quiet', onclick: () => pickTolerance(currentSource().tolerance) }, 'Reset'),
    h('output', { id: 'counts', for: 'slider exact' }));
}

function buildTheme() {
  const button = byId('theme');
  const root = document.documentElement;
  const dark = () => (root.dataset.theme || (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light')) === 'dark';
  const name = () => { button.textContent = dark() ? 'Light' : 'Dark'; button.setAttribute('aria-label', `Switch to ${dark() ? 'light' : 'dark'} colours`); };
  try {
    const kept = localStorage.getItem('paramreuse-theme');
    if (kept) root.dataset.theme = kept;
  } catch { /* a page opened from a file may have no storage */ }
  button.hidden = false;
  button.addEventListener('click', () => {
    root.dataset.theme = dark() ? 'light' : 'dark';
    try { localStorage.setItem('paramreuse-theme', root.dataset.theme); } catch { /* the page works without */ }
    name();
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', name);
  name();
}

function buildNav() {
  const nav = byId('nav');
  for (const section of document.querySelectorAll('main section[id]')) {
    const title = section.querySelector('h1, h2');
    if (title && section.id !== 'cards') nav.append(h('a', { href: `#${section.id}` }, section.dataset.short || title.textContent));
  }
}

function start() {
  DATA.sources.forEach(prepare);
  const first = DATA.sources.findIndex((source) => source.sweep);
  state.source = Math.max(0, first);
  if (DATA.sources.length) state.tolerance = currentSource().tolerance;
  const swept = first >= 0;
  parts.scale = toleranceScale();
  buildTheme();
  buildCopy();
  buildSources();
  if (swept) buildBar();
  buildSections();
  buildNav();
  if (DATA.sources.length) refresh(false);
  else writeAnswer();
  rebuildMap();
  redrawCharts();
  let waiting = 0;
  addEventListener('resize', () => {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(() => {
      rebuildMap();
      redrawCharts();
    });
  });
  addEventListener('scroll', hideTip, { passive: true });
  addEventListener('keydown', (event) => { if (event.key === 'Escape') closePanel(); });
  addEventListener('beforeprint', () => { for (const shut of document.querySelectorAll('.missing, .card details, .fact')) shut.open = true; });
  document.documentElement.dataset.ready = 'yes';
}

start();
