/* The network front to back: a box per layer, arcs for skip connections, a cell per site. */

const GLYPHS = {
  reusable: 'M-5 0 L-1.5 4 L5 -4',
  identical: 'M-4.5 -2.2 H4.5 M-4.5 2.2 H4.5',
  indifferent: 'M0 -4.2 A4.2 4.2 0 1 1 -0.01 -4.2',
  'too few subjects': 'M-5 0 H-3 M-1 0 H1 M3 0 H5',
  undecided: 'M-2.8 -2.6 A2.8 2.8 0 1 1 0.4 0.4 L0 1.8 M0 4.6 V4.7',
  'not reusable': 'M-4 -4 L4 4 M4 -4 L-4 4',
  'not finite': 'M0 -5 V1.5 M0 4.6 V4.7',
  none: 'M-2 0 H2',
};

const mapView = { cells: new Map(), host: null, width: 0, focus: null };

function verdictOf(siteIndex) {
  const { sweep } = currentSource();
  const swap = sweep && sweep.bySite.get(siteIndex);
  return swap ? judgeSwap(swap, state.tolerance) : 'none';
}

function comparisonOf(source, key) {
  if (!source.byKey) {
    const { columns, rows } = source.comparison;
    const at = columns.indexOf('key');
    source.byKey = new Map(rows.map((row) => [row[at], Object.fromEntries(columns.map((name, i) => [name, row[i]]))]));
  }
  return source.byKey.get(key);
}

function siteLines(index) {
  const site = DATA.sites[index];
  const source = currentSource();
  const swap = source.sweep && source.sweep.bySite.get(index);
  const lines = [`${site.name} · ${site.path}${site.output ? ' (output layer, not counted)' : ''}`];
  if (swap) {
    lines.push(`${judgeSwap(swap, state.tolerance)} at ${fmt(state.tolerance)}`);
    lines.push(`drop ${fmtScore(swap.lent.mean)}` + (source.sweep.intervals ? ` (${interval(swap.lent.low, swap.lent.high)})` : ''));
    swap.controls.forEach((control, i) => lines.push(`${source.sweep.controls[i]} control: ${fmtScore(control.mean)}${drawsOf(swap, i)}`));
  } else {
    const skipped = source.sweep && source.sweep.skipped.find(([key]) => key === site.key);
    lines.push(skipped ? `not swept: ${skipped[1]}` : 'not swept');
  }
  const compared = comparisonOf(source, site.key);
  if (compared) lines.push(`relative RMSE ${fmt(compared.relative_rmse)}`);
  return lines;
}

/* How far apart the draws of a control lie, where there were several. */
function drawsOf(swap, control) {
  const draws = swap.draws[control].map(num).filter(Number.isFinite);
  return draws.length > 1 ? ` (${draws.length} draws, ${fmtScore(Math.min(...draws))} to ${fmtScore(Math.max(...draws))})` : '';
}

function presentKinds() {
  const present = new Set(DATA.sites.map((site) => site.kind));
  return KINDS.filter((kind) => present.has(kind));
}

/* Places are told along the network and across it; a narrow screen turns the drawing upright. */
function mapGeometry(width) {
  const upright = width < 620;
  const kinds = presentKinds();
  const units = DATA.units.length;
  const head = 42;
  const room = (width - head - 8) / units;
  const pitch = upright ? 36 : Math.max(19, Math.min(58, room));
  const lane = upright ? Math.min(44, (width - 142) / kinds.length) : 34;
  const gap = pitch < 26 ? 2 : 4;
  return { upright, kinds, units, head, pitch, lane, gap, depth: riseOf(longestSpan()) + 58, label: upright ? 38 : 24 };
}

function riseOf(span) {
  return Math.min(86, 12 + 14 * Math.sqrt(span));
}

function longestSpan() {
  return Math.max(1, ...(DATA.edges || []).map(([from, to]) => Math.abs(to - from)));
}

function drawMap(width) {
  const g = mapGeometry(width);
  const along = g.head + g.units * g.pitch + 6;
  const across = g.depth + g.label + g.kinds.length * g.lane + 6;
  const [w, hgt] = g.upright ? [across, along] : [along, across];
  const svg = s('svg', { viewBox: `0 0 ${w} ${hgt}`, width: w, height: hgt, role: 'grid', id: 'map-svg',
    'aria-label': 'Map of the network: rows are kinds, columns are layers from front to back. Arrow keys move, Enter opens the layer.' });
  const point = (a, c) => (g.upright ? [c, a] : [a, c]);
  svg.append(connections(g, point), unitBoxes(g, point), laneLabels(g, point), ...cellRows(g, point));
  return svg;
}

function centre(g, unit) {
  return g.head + (unit + 0.5) * g.pitch;
}

function boxSize(g, unit) {
  g.sizes = g.sizes || extent(DATA.units.map((one) => Math.log2(one.channels + 1)));
  const rank = (Math.log2(DATA.units[unit].channels + 1) - g.sizes[0]) / (g.sizes[1] - g.sizes[0]);
  return 12 + 26 * rank;
}

function connections(g, point) {
  const group = s('g', { 'aria-hidden': 'true' });
  const axis = g.depth - 26;
  const edges = DATA.edges || DATA.units.slice(1).map((_, i) => [i, i + 1]);
  for (const [from, to] of edges) {
    const [a, b] = [centre(g, from), centre(g, to)];
    if (to === from + 1) {
      const [[x1, y1], [x2, y2]] = [point(a, axis), point(b, axis)];
      group.append(s('line', { class: DATA.edges ? 'link' : 'link guess', x1, y1, x2, y2 }));
      continue;
    }
    const start = axis - boxSize(g, from) / 2;
    const end = axis - boxSize(g, to) / 2;
    const rise = riseOf(Math.abs(to - from)) * 1.2;
    const path = [point(a, start), point(a, start - rise), point(b, end - rise), point(b, end)].map((p) => p.map((v) => v.toFixed(1)).join(' '));
    group.append(s('path', { class: 'arc', d: `M${path[0]}C${path[1]} ${path[2]} ${path[3]}` },
      s('title', null, `connection from layer ${DATA.units[from].name} to layer ${DATA.units[to].name}`)));
  }
  return group;
}

/* A click on a box does what Enter on one of its cells does, so readers without a pointer lose nothing. */
function unitBoxes(g, point) {
  const group = s('g', { 'aria-hidden': 'true' });
  const axis = g.depth - 26;
  let last = -Infinity;
  DATA.units.forEach((unit, index) => {
    const size = boxSize(g, index);
    const thick = Math.max(6, Math.min(18, g.pitch - 9));
    const [x, y] = point(centre(g, index), axis);
    const [w, hgt] = g.upright ? [size, thick] : [thick, size];
    const box = s('g', { class: 'unit pick', 'data-unit': index, onclick: () => openLayer(index) },
      s('title', null, `layer ${unit.name}: ${unit.path}, ${unit.channels} channels${unit.output ? ', output layer' : ''}`),
      s('rect', { x: x - w / 2, y: y - hgt / 2, width: w, height: hgt, rx: 3 }));
    const text = unit.output ? 'out' : unit.name.replace('conv_transpose', 'T').replace('linear', 'L').replace('norm', 'n').replace('embedding', 'E');
    const room = g.upright ? 14 : text.length * 6.5 + 3;
    const at = centre(g, index);
    if (at - last >= room) {
      last = at;
      const [tx, ty] = point(at, g.upright ? g.depth + g.label / 2 - 4 : g.depth + 10);
      box.append(s('text', { x: tx, y: ty + (g.upright ? 4 : 0), 'text-anchor': 'middle' }, text));
    }
    group.append(box);
  });
  return group;
}

function laneLabels(g, point) {
  return s('g', { 'aria-hidden': 'true' }, g.kinds.map((kind, row) => {
    const across = g.depth + g.label + (row + 0.5) * g.lane;
    const [x, y] = g.upright ? [across, g.head - 12] : [g.head - 10, across + 4];
    return s('text', { class: 'strong', x, y, 'text-anchor': g.upright ? 'middle' : 'end' }, kind);
  }));
}

function cellRows(g, point) {
  mapView.cells.clear();
  mapView.grid = g.kinds.map(() => new Map());
  const rows = g.kinds.map((kind) => s('g', { role: 'row', 'aria-label': kind }));
  DATA.units.forEach((unit, column) => {
    const taken = new Map();
    for (const index of unit.sites) {
      const row = g.kinds.indexOf(DATA.sites[index].kind);
      const share = taken.get(row) || 0;
      taken.set(row, share + 1);
      const twins = unit.sites.filter((other) => DATA.sites[other].kind === DATA.sites[index].kind).length;
      const cell = drawCell(g, point, { index, column, row, share, twins });
      rows[row].append(cell);
      mapView.grid[row].set(column + share / twins, index);
    }
  });
  return rows;
}

/* Several tensors of one kind in one unit (a bare parameter, a tied layer) share the cell's place. */
function drawCell(g, point, { index, column, row, share, twins }) {
  const length = (g.pitch - g.gap) / twins;
  const deep = g.lane - g.gap;
  const a = g.head + column * g.pitch + g.gap / 2 + share * length;
  const c = g.depth + g.label + row * g.lane + g.gap / 2;
  const [x, y] = point(a, c);
  const [w, hgt] = g.upright ? [deep, length] : [length, deep];
  const small = Math.min(w, hgt) < 16 ? 0.7 : 1;
  const cell = s('g', { class: 'cell', role: 'gridcell', tabindex: -1, 'data-site': index },
    s('rect', { x, y, width: Math.max(1, w), height: Math.max(1, hgt), rx: Math.min(5, w / 4) }),
    s('path', { class: 'glyph', transform: `translate(${x + w / 2} ${y + hgt / 2}) scale(${small})` }));
  mapView.cells.set(index, { cell, glyph: cell.lastChild, word: null });
  return cell;
}

/* Only what changed is touched: this runs at every move of the slider. */
function paintMap() {
  for (const [index, mark] of mapView.cells) {
    const word = verdictOf(index);
    if (word !== mark.word) {
      mark.word = word;
      mark.cell.setAttribute('class', `cell v-${slug(word)}`);
      mark.glyph.setAttribute('d', GLYPHS[word]);
    }
    mark.cell.setAttribute('aria-label', `${DATA.sites[index].name}: ${word === 'none' ? 'not swept' : word}`);
  }
}

function rebuildMap(force) {
  const { host } = mapView;
  if (!host) return;
  const width = Math.floor(host.clientWidth);
  if (!width || (width === mapView.width && !force)) return;
  mapView.width = width;
  host.replaceChildren(drawMap(width));
  paintMap();
  const first = mapView.cells.get(mapView.focus) || mapView.cells.values().next().value;
  if (first) first.cell.setAttribute('tabindex', 0);
}

function siteUnder(event) {
  const cell = event.target.closest('.cell');
  return cell ? Number(cell.dataset.site) : null;
}

function tellSite(index, x, y) {
  const [head, ...rest] = siteLines(index);
  showTip([h('b', null, head), ...rest.map((line) => h('div', null, line))], x, y);
}

function moveFocus(from, key) {
  const upright = mapGeometry(mapView.width).upright;
  const turned = { ArrowRight: 'ArrowDown', ArrowLeft: 'ArrowUp', ArrowDown: 'ArrowRight', ArrowUp: 'ArrowLeft' };
  const step = upright ? turned[key] || key : key;
  const row = mapView.grid.findIndex((line) => [...line.values()].includes(from));
  const column = [...mapView.grid[row]].find(([, index]) => index === from)[0];
  const columns = [...mapView.grid[row].keys()].sort((a, b) => a - b);
  const pick = {
    ArrowRight: () => mapView.grid[row].get(columns.find((c) => c > column)),
    ArrowLeft: () => mapView.grid[row].get(columns.filter((c) => c < column).pop()),
    Home: () => mapView.grid[row].get(columns[0]),
    End: () => mapView.grid[row].get(columns[columns.length - 1]),
    ArrowDown: () => mapView.grid.slice(row + 1).map((line) => line.get(column)).find((index) => index !== undefined),
    ArrowUp: () => mapView.grid.slice(0, row).reverse().map((line) => line.get(column)).find((index) => index !== undefined),
  }[step];
  return pick && pick();
}

function focusSite(index) {
  const before = mapView.cells.get(mapView.focus) || mapView.cells.values().next().value;
  if (before) before.cell.setAttribute('tabindex', -1);
  mapView.focus = index;
  const { cell } = mapView.cells.get(index);
  cell.setAttribute('tabindex', 0);
  cell.focus();
}

function wireMap(host) {
  mapView.host = host;
  host.addEventListener('pointermove', (event) => {
    const index = siteUnder(event);
    if (index === null) hideTip();
    else tellSite(index, event.clientX, event.clientY);
  });
  host.addEventListener('pointerleave', hideTip);
  host.addEventListener('focusin', (event) => {
    const index = siteUnder(event);
    if (index === null) return;
    const box = event.target.getBoundingClientRect();
    tellSite(index, box.left + box.width / 2, box.bottom - 8);
    event.target.setAttribute('aria-label', siteLines(index).join(', '));
  });
  host.addEventListener('focusout', hideTip);
  host.addEventListener('click', (event) => {
    const index = siteUnder(event);
    if (index !== null) openSite(index);
  });
  host.addEventListener('keydown', (event) => {
    const index = siteUnder(event);
    if (index === null) return;
    if (event.key === 'Enter' || event.key === ' ') {
      event.preventDefault();
      openSite(index);
      return;
    }
    const next = moveFocus(index, event.key);
    if (next === undefined) return;
    event.preventDefault();
    focusSite(next);
  });
}

function openSite(index) {
  mapView.focus = index;
  openLayer(DATA.units.findIndex((unit) => unit.sites.includes(index)), index);
}
