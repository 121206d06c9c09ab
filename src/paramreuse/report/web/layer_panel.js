/* What is known of one layer: opened from the map, closed with Escape. */

const panel = { node: null, body: null, unit: null, site: null, back: null };

function openLayer(unit, siteIndex) {
  const sites = DATA.units[unit].sites;
  if (!panel.node) panel.back = document.activeElement;
  panel.unit = unit;
  panel.site = siteIndex !== undefined ? siteIndex : sites.find((i) => currentSource().sweep && currentSource().sweep.bySite.has(i));
  if (panel.site === undefined) [panel.site] = sites;
  if (!panel.node) buildPanel();
  fillPanel();
  hideTip();
  panel.node.querySelector('h2').focus();
}

function buildPanel() {
  panel.body = h('div', null);
  const move = (step) => {
    const next = panel.unit + step;
    if (next >= 0 && next < DATA.units.length) openLayer(next, sameKind(next));
  };
  panel.node = h('aside', {
    class: 'layer-panel', role: 'dialog', 'aria-labelledby': 'layer-title',
    onkeydown: (event) => { if (event.key === 'Escape') closePanel(); },
  }, h('header', null,
    h('div', null, h('h2', { id: 'layer-title', tabindex: -1 }), h('p', { class: 'about', id: 'layer-path' })),
    h('nav', { 'aria-label': 'Layers' },
      h('button', { type: 'button', 'aria-label': 'Layer before', onclick: () => move(-1) }, '←'),
      h('button', { type: 'button', 'aria-label': 'Next layer', onclick: () => move(1) }, '→'),
      h('button', { type: 'button', 'aria-label': 'Close', onclick: closePanel }, '✕'))), panel.body);
  document.body.append(panel.node);
}

function sameKind(unit) {
  const kind = DATA.sites[panel.site].kind;
  return DATA.units[unit].sites.find((index) => DATA.sites[index].kind === kind);
}

function closePanel() {
  if (!panel.node) return;
  panel.node.remove();
  panel.node = null;
  for (const box of document.querySelectorAll('.unit.open')) box.classList.remove('open');
  if (mapView.focus !== null && mapView.cells.has(mapView.focus)) focusSite(mapView.focus);
  else if (panel.back) panel.back.focus();
  hideTip();
}

function fillPanel() {
  if (!panel.node) return;
  const unit = DATA.units[panel.unit];
  panel.node.querySelector('h2').textContent = unit.output ? `Output layer ${unit.name}` : `Layer ${unit.name}`;
  byId('layer-path').textContent = `${[...new Set(unit.sites.map((i) => DATA.sites[i].path))].join(' + ')} · ${count(unit.channels, 'channel')} · lent by ${currentSource().name}`;
  for (const box of document.querySelectorAll('.unit')) box.classList.toggle('open', Number(box.dataset.unit) === panel.unit);
  const swept = unit.sites.filter((i) => currentSource().sweep && currentSource().sweep.bySite.has(i));
  const swap = swept.includes(panel.site) ? currentSource().sweep.bySite.get(panel.site) : null;
  panel.body.replaceChildren(layerTable(unit), ...[
    swept.length > 1 && h('div', { class: 'tools' }, 'Show', choice('Kind to show', swept.map((i) => [i, DATA.sites[i].kind]), panel.site, (i) => {
      panel.site = i;
      fillPanel();
    })),
    swap && h('div', { class: 'box' }, classChart(swap)),
    swap && currentSource().sweep.intervals && h('div', { class: 'box' }, subjectChart(swap)),
    swap && h('div', { class: 'box' }, sweepChart(swap.kind, { height: 190, marker: swap, title: `${swap.kind} across the network` })),
    histogramChart(DATA.sites[panel.site].key),
  ].filter(Boolean));
  redrawCharts();
}

function layerTable(unit) {
  const source = currentSource();
  const rows = unit.sites.map((index) => {
    const site = DATA.sites[index];
    const swap = source.sweep && source.sweep.bySite.get(index);
    const compared = comparisonOf(source, site.key) || {};
    const cell = (text) => h('td', { class: 'number' }, text);
    return h('tr', null, h('th', { scope: 'row' }, site.name),
      h('td', null, swap ? badge(judgeSwap(swap, state.tolerance)) : 'not swept'),
      cell(swap ? fmtScore(swap.lent.mean) : '–'),
      cell(swap && source.sweep.intervals ? interval(swap.lent.low, swap.lent.high) : '–'),
      cell(swap ? fmtScore(controlDrop(swap)) : '–'), cell(fmt(compared.rmse)), cell(fmt(compared.relative_rmse)));
  });
  const heads = ['Site', 'Verdict', 'Drop', 'Interval', 'Control', 'RMSE', 'relative'];
  return h('div', { class: 'scroll' }, h('table', null, h('caption', null, `At a tolerance of ${fmt(state.tolerance)}`),
    h('thead', null, h('tr', null, heads.map((head, i) => h('th', { scope: 'col', class: i > 1 ? 'number' : null }, head)))),
    h('tbody', null, rows)));
}

function badge(word) {
  return h('span', { class: `badge b-${slug(word)}` }, word);
}

function replacementNames(sweep) {
  return ['source', ...sweep.controls];
}

function classChart(swap) {
  return chart(`${swap.name}: drop by class`, () => {
    const { sweep } = currentSource();
    const names = [...sweep.classes, 'mean'];
    const series = replacementNames(sweep).map((name, r) => ({
      name: r ? `${name} control` : 'source', dots: true, hollow: r > 0, colour: r ? '#8a8f98' : DATA.colours[0],
      points: [...swap.classes[r], swap.judged[r]].map(([drop, low, high], k) => {
        const ends = k < sweep.classes.length || sweep.intervals ? [num(low), num(high)] : [NaN, NaN];
        return [k + (r - (swap.judged.length - 1) / 2) * 0.16, num(drop), ...ends];
      }),
    }));
    const [low, high] = extent(yValues(series), [0, state.tolerance]);
    return {
      x: { label: 'class', ticks: names.map((name, k) => [k, name.length > 12 ? `${name.slice(0, 11)}…` : name]), min: -0.5, max: names.length - 0.5 },
      y: { label: 'drop', min: low, max: high, format: fmtScore }, series, height: 210,
      lines: [{ at: state.tolerance, text: 'tolerance' }], name: (x) => names[Math.round(x)],
    };
  }, { legend: true });
}

function subjectChart(swap) {
  return chart(`${swap.name}: drop by subject`, () => {
    const { sweep } = currentSource();
    const order = sweep.subjects.map((_, i) => i).filter((i) => swap.subjects[0][i] !== null)
      .sort((a, b) => swap.subjects[0][a] - swap.subjects[0][b]);
    const series = replacementNames(sweep).map((name, r) => ({
      name: r ? `${name} control` : 'source', dots: true, hollow: r > 0, colour: r ? '#8a8f98' : DATA.colours[0],
      points: order.map((i, at) => [at + 1, num(swap.subjects[r][i])]),
    })).reverse();
    const [low, high] = extent(yValues(series), [0, state.tolerance]);
    return {
      x: { label: 'subject, from the least drop to the largest', min: 0.5, max: order.length + 0.5 },
      y: { label: 'drop of the mean score', min: low, max: high, format: fmtScore }, series, height: 210,
      lines: [{ at: state.tolerance, text: 'tolerance' }], name: (x) => sweep.subjects[order[x - 1]],
    };
  }, { legend: true });
}

function histogramChart(key) {
  const histogram = currentSource().histograms[key];
  if (!histogram) return null;
  return h('div', { class: 'box' }, chart(`${key}: values`, () => {
    const line = (values) => [...values.map((y, i) => [num(histogram.edges[i]), num(y)]), [num(histogram.edges[histogram.edges.length - 1]), num(values[values.length - 1])]];
    const series = [
      { name: 'target', colour: '#8a8f98', step: true, points: line(histogram.target) },
      { name: 'source', colour: DATA.colours[0], step: true, points: line(histogram.source) },
    ];
    const [, high] = extent(yValues(series), [0]);
    return {
      x: { label: 'value', min: num(histogram.edges[0]), max: num(histogram.edges[histogram.edges.length - 1]) },
      y: { label: 'share of the values', min: 0, max: high }, series, height: 180,
    };
  }, { legend: true }));
}
