/* The sections of the page, each built only where its data are there. */

const view = { sweep: 'score', control: false, distance: 'relative_rmse', kind: 'W' };

function section(id, title, short, about, ...content) {
  byId('sections').append(h('section', { id, 'aria-labelledby': `${id}-title`, 'data-short': short },
    h('h2', { id: `${id}-title` }, title), about && h('p', { class: 'about' }, about), ...content));
}

function sourceColour(index) {
  return DATA.colours[index % DATA.colours.length];
}

function buildSections() {
  buildShare();
  if (DATA.sites.length) buildMapSection();
  if (DATA.transfer.rows.length) buildTransfer();
  if (DATA.examples.length) buildExamples();
  if (DATA.sources.some((source) => source.sweep)) {
    buildSweeps();
    buildSets();
  }
  if (DATA.sources.some((source) => source.comparison.rows.length)) buildDistance();
  if (DATA.sources.some((source) => source.batchnorm.rows.length)) buildBatchNorm();
  buildTables();
  if (DATA.curves.rows.length) buildCurves();
}

function buildShare() {
  const swept = DATA.sources.filter((source) => source.sweep && source.sweep.kernels.length);
  if (!swept.length) return;
  const { most } = parts.scale;
  const steps = new Map(swept.map((source) => [source, [ourSteps(source, most), paperSteps(source, most)]]));
  const figure = chart('Share of kernel layers that can be reused', () => {
    const series = swept.map((source) => ({
      name: source.name, colour: sourceColour(DATA.sources.indexOf(source)), step: true,
      width: source === currentSource() ? 2.6 : 1.6, points: steps.get(source)[0],
    }));
    const own = steps.get(currentSource());
    if (own) series.push({ name: `${currentSource().name}, the papers’ rule`, colour: '#8a8f98', dash: '3 3', step: true, points: own[1] });
    return {
      x: { label: `tolerance, drop in ${DATA.score || 'score'}`, min: 0, max: most }, y: { label: 'share', min: 0, max: 1, format: percent },
      series, lines: [{ at: DATA.share, text: 'a reusable network' }], marker: state.tolerance, height: 250,
      onpick: (x) => pickTolerance(Number((Math.round(x / parts.scale.step) * parts.scale.step).toPrecision(6))),
    };
  }, { legend: true });
  byId('share').append(h('div', { class: 'box' }, figure,
    h('p', { class: 'note' }, 'Click to set the tolerance. The line can fall: where a larger drop is allowed, a control passes too.')));
  parts.live.push(() => figure.redraw(true));
}

function buildMapSection() {
  const host = h('div', { class: 'scroll', id: 'map-host' });
  const glyph = (word) => h('span', { class: 'key' }, s('svg', { width: 20, height: 20, viewBox: '0 0 20 20', 'aria-hidden': 'true' },
    s('g', { class: `v-${slug(word)}` }, s('rect', { x: 1, y: 1, width: 18, height: 18, rx: 4 }), s('path', { class: 'glyph', d: GLYPHS[word], transform: 'translate(10 10)' }))), word === 'none' ? 'not swept' : term(word));
  const table = DATA.sources.some((source) => source.sweep) && siteTable();
  const about = DATA.edges ? 'Front to back; height is the number of channels, arcs are connections that skip layers or branch off. A column is a layer, a cell one of its tensors (a site). Open one for its numbers.'
    : 'Front to back in order of execution; height is the number of channels. How the layers are connected was not recorded. A column is a layer, a cell one of its tensors (a site). Open one for its numbers.';
  const named = () => document.querySelector('#map-svg');
  section('map', 'The network', 'Network', about,
    h('div', { class: 'box' },
      h('figcaption', null, h('span', { class: 'legend' }, [...VERDICTS, 'none'].map(glyph)), exportButtons('network map', named, null)),
      host, h('p', { class: 'note', id: 'kinds' }, KINDS.filter((kind) => DATA.sites.some((site) => site.kind === kind)).map((kind, i) => [i ? ' · ' : '', h('b', null, kind), ` ${DATA.words[kind]}`]))),
    table && h('details', { class: 'box' }, h('summary', null, 'The same as a table'), table));
  wireMap(host);
  if (!table) return;
  const details = table.closest('details');
  const update = () => { if (details.open) table.update(); };
  details.addEventListener('toggle', update);
  parts.live.push(update);
}

/* Layers along the x axis: their number if all are of one family, otherwise their place and name. */
function layerAxis(swaps) {
  const families = new Set(swaps.map((swap) => swap.family));
  const simple = families.size <= 1;
  const text = (swap) => (swap.family === 'conv' || swap.family === 'norm' ? String(swap.layer) : `${swap.family[0].toUpperCase()}${swap.layer}`);
  const at = swaps.map((swap, index) => (simple ? swap.layer : index + 1));
  const most = Math.max(...at, 1);
  return { at, ticks: swaps.map((swap, index) => [at[index], text(swap)]), min: Math.min(...at, 1) - 0.5, max: most + 0.5, label: 'layer' };
}

function sweepSeries(sweep, swaps, at) {
  const drop = view.sweep === 'drop';
  const lines = [];
  const names = [...sweep.classes, 'mean'];
  names.forEach((name, k) => {
    const own = k === sweep.classes.length;
    const colour = own ? null : classColour(sweep.foreground, k);
    const base = num(sweep.baseline[k]);
    const shown = (triple) => drop ? [num(triple[0]), num(triple[1]), num(triple[2])] : [base - triple[0], base - triple[2], base - triple[1]];
    const value = (swap, r) => {
      const triple = own ? swap.judged[r] : swap.classes[r][k];
      const [mid, low, high] = triple[0] === null ? [NaN, NaN, NaN] : shown(triple);
      return own && sweep.intervals && triple[1] !== null ? [mid, low, high] : [mid];
    };
    lines.push({ name, colour, dash: own ? '' : dash(Math.max(0, k - 1)), width: own ? 2.4 : 1.6, base, points: swaps.map((swap, i) => [at[i], ...value(swap, 0)]) });
    if (own && view.control) {
      sweep.controls.forEach((control, r) => lines.push({ name: `mean, ${control} control`, colour: '#8a8f98', dash: '4 3', points: swaps.map((swap, i) => [at[i], value(swap, r + 1)[0]]) }));
    }
  });
  return lines;
}

function sweepRange(sweep) {
  const swaps = sweep.swaps.filter((swap) => swap.set === 'single');
  const [low, high] = extent(yValues(sweepSeries(sweep, swaps, swaps.map((_, i) => i))), view.sweep === 'drop' ? [0] : []);
  const room = (high - low) * 0.04;
  return [low - room, high + room];
}

function sweepChart(kind, options) {
  return chart(options.title || kind, () => {
    const { sweep } = currentSource();
    const swaps = sweep.swaps.filter((swap) => swap.set === 'single' && swap.kind === kind);
    const axis = layerAxis(swaps);
    const series = sweepSeries(sweep, swaps, axis.at);
    const [low, high] = sweepRange(sweep);
    const lines = view.sweep === 'drop' ? [{ at: state.tolerance, text: 'tolerance' }]
      : series.filter((one) => one.base !== undefined).map((one) => ({ at: one.base, colour: one.colour }));
    const marked = options.marker ? axis.at[swaps.findIndex((swap) => swap.name === options.marker.name)] : NaN;
    const byAt = new Map(swaps.map((swap, i) => [axis.at[i], swap]));
    return {
      x: axis, y: { label: view.sweep === 'drop' ? 'drop' : DATA.score || 'score', min: low, max: high, format: fmtScore },
      series, lines, marker: marked, height: options.height || 230,
      name: (x) => (byAt.get(x) ? `${byAt.get(x).name} · ${byAt.get(x).path}` : ''),
      onpick: (_, x) => byAt.get(x) && openSite(byAt.get(x).site),
    };
  }, {});
}

function buildSweeps() {
  const panels = h('div', { class: 'panels' });
  const key = h('div', null);
  const build = () => {
    const { sweep } = currentSource();
    key.replaceChildren();
    panels.replaceChildren();
    if (!sweep) {
      panels.append(h('p', { class: 'note' }, `${currentSource().name} was not swept.`));
      return;
    }
    const single = sweep.swaps.filter((swap) => swap.set === 'single');
    key.replaceChildren(legend(sweepSeries(sweep, single, single.map((_, i) => i))));
    panels.replaceChildren(...KINDS.filter((kind) => single.some((swap) => swap.kind === kind)).map((kind) => h('div', { class: 'box' }, sweepChart(kind, {}))));
    redrawCharts();
  };
  section('sweeps', 'What each swap costs, layer by layer', 'Sweeps',
    'One tensor of the source at a time, nothing retrained. Dashed: the untouched target. Bars on the mean: its interval.',
    h('div', { class: 'tools' },
      choice('Scores or drops', [['score', 'Score'], ['drop', 'Drop']], view.sweep, (value) => { view.sweep = value; build(); }),
      h('label', null, h('input', { type: 'checkbox', onchange: (event) => { view.control = event.target.checked; build(); } }), ' show the control'), key), panels);
  build();
  parts.bySource.push(build);
  parts.live.push(() => { if (view.sweep === 'drop') for (const figure of panels.querySelectorAll('figure')) figure.redraw(true); });
}

/* Pairs, layers, blocks and growing spans: what single swaps cannot show. */
function buildSets() {
  const several = (swap) => swap.set !== 'single';
  if (!DATA.sources.some((source) => source.sweep && source.sweep.swaps.some(several))) return;
  const number = (label, value) => ({ label, number: true, value, show: (row) => fmtScore(value(row)) });
  const table = sortable('Several sites at once', [
    { label: 'swap', value: (row) => row.swap.name }, { label: 'set', value: (row) => row.swap.set },
    { label: 'sites', number: true, value: (row) => row.swap.count },
    { label: 'verdict', value: (row) => row.word, show: (row) => badge(row.word) },
    number('drop', (row) => row.swap.lent.mean), number('drop low', (row) => row.low), number('drop high', (row) => row.high),
    number('control drop', (row) => controlDrop(row.swap)),
  ], () => judgedRows(several), 12);
  const spans = chart('Swapping more and more of the network', () => {
    const swaps = currentSource().sweep ? currentSource().sweep.swaps : [];
    const series = ['prefix', 'suffix', 'layer', 'block'].map((set, i) => ({
      name: { prefix: 'everything up to here', suffix: 'everything from here on', layer: 'this layer alone', block: 'this block alone' }[set], colour: DATA.colours[i],
      points: swaps.filter((swap) => swap.set === set).map((swap, at) => [at + 1, swap.lent.mean, swap.lent.low, swap.lent.high]),
    })).filter((one) => one.points.length);
    const [low, high] = extent(yValues(series), [0, state.tolerance]);
    return {
      x: { label: 'set, front to back', min: 0.5, max: Math.max(1, ...series.map((one) => one.points.length)) + 0.5 },
      y: { label: 'drop of the mean', min: low, max: high, format: fmtScore }, series, lines: [{ at: state.tolerance, text: 'tolerance' }], height: 240,
    };
  }, { legend: true });
  const growing = DATA.sources.some((source) => source.sweep && source.sweep.swaps.some((swap) => ['prefix', 'suffix', 'layer', 'block'].includes(swap.set)));
  section('sets', 'Several sites at once', 'Sets', 'Errors add up, and tensors that belong together (B and RM, RM and RV, RW and RB) break when only one is swapped.',
    growing && h('div', { class: 'box' }, spans), h('div', { class: 'box' }, table));
  parts.live.push(table.update);
  if (growing) parts.live.push(() => spans.redraw(true));
}

function column(data, name) {
  const at = data.columns.indexOf(name);
  return data.rows.map((row) => (at < 0 ? null : row[at]));
}

function buildDistance() {
  const kinds = KINDS.filter((kind) => DATA.sources.some((source) => column(source.comparison, 'kind').includes(kind)));
  view.kind = kinds.includes('W') ? 'W' : kinds[0];
  const figure = chart('Distance between target and source', () => {
    const series = DATA.sources.filter((source) => source.comparison.rows.length).map((source) => {
      const kind = column(source.comparison, 'kind');
      const rows = kind.map((_, i) => i).filter((i) => kind[i] === view.kind);
      const values = column(source.comparison, view.distance);
      const layers = column(source.comparison, 'layer');
      const unique = new Set(rows.map((i) => layers[i])).size === rows.length;
      return { name: source.name, colour: sourceColour(DATA.sources.indexOf(source)), points: rows.map((i, at) => [unique ? layers[i] : at + 1, num(values[i])]) };
    });
    const relative = view.distance === 'relative_rmse';
    const [, high] = extent(yValues(series), relative ? [0, 1.1] : [0]);
    const xs = series.flatMap((one) => one.points.map((p) => p[0]));
    return {
      x: { label: 'layer', min: 0.5, max: Math.max(1, ...xs) + 0.5, ticks: [...new Set(xs)].sort((a, b) => a - b).map((x) => [x, String(x)]) },
      y: { label: relative ? 'relative RMSE' : 'RMSE', min: 0, max: high * 1.03 }, series, height: 270,
      lines: relative ? [{ at: 1, text: 'unrelated' }] : [], name: (x) => `${view.kind} ${x}`,
    };
  }, { legend: true });
  const again = () => figure.redraw(true);
  section('distance', 'How far the sources are', 'Distance',
    'Relative RMSE is 0 where two tensors are the same and 1 where they have nothing in common. Raw RMSE, the papers’ measure, mixes in scale.',
    h('div', { class: 'tools' },
      choice('Kind', kinds.map((kind) => [kind, kind]), view.kind, (kind) => { view.kind = kind; again(); }),
      choice('Measure', [['relative_rmse', 'Relative RMSE'], ['rmse', 'RMSE'], ['cosine', 'Cosine']], view.distance, (name) => { view.distance = name; again(); })),
    h('div', { class: 'box' }, figure),
    ...DATA.sources.filter((source) => source.comparison.rows.length).map((source) => lazyTable(`Distances to ${source.name}`, () => plainTable(`Distances to ${source.name}`, source.comparison))));
}

/* A long table is built when it is opened. */
function lazyTable(title, make) {
  const details = h('details', { class: 'box' }, h('summary', null, title));
  details.addEventListener('toggle', () => {
    if (details.open && details.children.length === 1) details.append(make());
  });
  return details;
}

const MEASURES = [
  ['mrm', 'MRM: shift caused by the running mean', 0], ['mrb', 'MRB: shift caused by the bias', 0],
  ['mrv', 'MRV: scale caused by the running variance', 1], ['mrw_median', 'MRW: scale caused by the weight (median)', 1],
];

function buildBatchNorm() {
  const withNorms = DATA.sources.filter((source) => source.batchnorm.rows.length);
  const figures = MEASURES.map(([name, title, neutral]) => h('div', { class: 'box' }, chart(title, () => {
    const series = withNorms.map((source) => {
      const layers = column(source.batchnorm, 'layer');
      return { name: source.name, colour: sourceColour(DATA.sources.indexOf(source)), points: column(source.batchnorm, name).map((y, i) => [layers[i], num(y)]) };
    });
    const [low, high] = extent(yValues(series), [neutral]);
    const xs = series.flatMap((one) => one.points.map((p) => p[0]));
    return {
      x: { label: 'normalisation layer', min: 0.5, max: Math.max(1, ...xs) + 0.5, ticks: [...new Set(xs)].sort((a, b) => a - b).map((x) => [x, String(x)]) },
      y: { label: neutral ? 'scale' : 'shift', min: Math.min(low, neutral), max: high * 1.03 }, series, lines: [{ at: neutral, text: neutral ? 'unchanged' : '' }], height: 210,
    };
  }, {})));
  section('batchnorm', 'What the source does to normalisation', 'BatchNorm', 'The shift or scale that each of the source’s BatchNorm tensors would cause, averaged over channels.',
    legend(withNorms.map((source) => ({ name: source.name, colour: sourceColour(DATA.sources.indexOf(source)) }))), h('div', { class: 'panels wide' }, figures),
    ...withNorms.map((source) => lazyTable(`BatchNorm of ${source.name}`, () => plainTable(`BatchNorm of ${source.name}`, source.batchnorm))));
}
