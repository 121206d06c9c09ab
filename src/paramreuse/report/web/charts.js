/* Line charts: axes, series with intervals, a cursor for pointer and keyboard, export. */

const charts = new Set();

function ticks(low, high, wanted) {
  const span = high - low || Math.abs(high) || 1;
  const raw = span / Math.max(1, wanted);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((m) => m >= raw * 0.999);
  const places = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i += 1) places.push(i * step);
  return places;
}

function extent(values, include) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of [...(include || [])].concat(values)) {
    if (!Number.isFinite(value)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low > high) return [0, 1];
  if (low === high) return [low - (Math.abs(low) || 1) * 0.1, high + (Math.abs(high) || 1) * 0.1];
  return [low, high];
}

function yValues(series) {
  return series.flatMap((one) => one.points.flatMap((p) => [p[1], p[2], p[3]])).map(num).filter(Number.isFinite);
}

function swatch(one) {
  const line = s('line', { x1: 0, x2: 22, y1: 6, y2: 6, stroke: one.colour || 'currentColor', 'stroke-width': one.width || 2, 'stroke-dasharray': one.dash });
  return s('svg', { width: 22, height: 12, viewBox: '0 0 22 12', 'aria-hidden': 'true' }, !one.dots && line,
    (one.dots || one.hollow) && s('circle', { cx: 11, cy: 6, r: 4, fill: one.hollow ? 'none' : one.colour, stroke: one.colour, 'stroke-width': 2 }));
}

function legend(series) {
  return h('ul', { class: 'legend' }, series.map((one) => h('li', null, swatch(one), one.name)));
}

/*
 * make() returns { x: {label, ticks: [[at, text]], min, max}, y: {label, min, max, format},
 *   series: [{name, colour, dash, width, step, dots, points: [[x, y, low, high]]}],
 *   lines: [{at, text}], marker: x, onpick: (x) => ..., height, name: (x) => text }
 */
function chart(title, make, options) {
  const settings = { ...options };
  const place = h('div', { class: 'plot' });
  const figure = h('figure', null,
    h('figcaption', null, h('b', null, title), exportButtons(title, () => place.querySelector('svg'), () => {
      const spec = make();
      const rows = spec.series.flatMap((one) => one.points.map((p) => [one.name, ...p.slice(0, 4).map(num)]));
      return [['series', spec.x.label, spec.y.label, 'low', 'high'], rows];
    })), settings.legend && legend(make().series), place);
  let drawn = 0;
  figure.redraw = (force) => {
    const width = Math.floor(place.clientWidth);
    if (!width || (width === drawn && !force)) return;
    drawn = width;
    place.replaceChildren(plot(title, make(), width));
  };
  charts.add(figure);
  return figure;
}

function redrawCharts(force) {
  for (const figure of charts) {
    if (figure.isConnected) figure.redraw(force);
    else charts.delete(figure);
  }
}

function frameOf(spec, width) {
  const height = spec.height || 220;
  const format = spec.y.format || fmt;
  const yTicks = ticks(spec.y.min, spec.y.max, Math.max(2, Math.floor(height / 48)));
  const tick = format === fmtScore ? fmt : format;
  const widest = Math.max(...yTicks.map((t) => tick(t).length), 2);
  const area = { left: 14 + widest * 6.6, right: width - 10, top: 12, bottom: height - 36 };
  const span = (low, high) => (high - low) || 1;
  return {
    width, height, area, yTicks, format, tick,
    px: (x) => area.left + ((x - spec.x.min) / span(spec.x.min, spec.x.max)) * (area.right - area.left),
    py: (y) => area.bottom - ((y - spec.y.min) / span(spec.y.min, spec.y.max)) * (area.bottom - area.top),
  };
}

function plot(title, spec, width) {
  const frame = frameOf(spec, width);
  const svg = s('svg', {
    viewBox: `0 0 ${width} ${frame.height}`, width, height: frame.height, role: 'img', tabindex: 0,
    'aria-label': `${title}. ${describe(spec)} Arrow keys read the values.`,
  });
  svg.append(axes(spec, frame), ...(spec.lines || []).flatMap((line) => ruler(line, frame)),
    s('g', null, spec.series.map((one) => drawSeries(one, spec, frame))));
  if (Number.isFinite(spec.marker)) {
    const x = frame.px(Math.min(spec.marker, spec.x.max));
    svg.append(s('line', { class: 'now', x1: x, x2: x, y1: frame.area.top - 6, y2: frame.area.bottom }));
  }
  addCursor(svg, spec, frame);
  return svg;
}

function describe(spec) {
  const names = spec.series.map((one) => one.name);
  return `${spec.y.label} against ${spec.x.label}, ${count(names.length, 'line')}: ${names.slice(0, 8).join(', ')}.`;
}

function axes(spec, frame) {
  const { area } = frame;
  const group = s('g', null);
  for (const y of frame.yTicks) {
    group.append(s('line', { class: 'grid', x1: area.left, x2: area.right, y1: frame.py(y), y2: frame.py(y) }),
      s('text', { x: area.left - 6, y: frame.py(y) + 4, 'text-anchor': 'end' }, frame.tick(y)));
  }
  for (const [at, text] of thinned(spec.x.ticks || ticks(spec.x.min, spec.x.max, frame.width / 80).map((t) => [t, fmt(t)]), frame)) {
    const x = frame.px(at);
    group.append(s('line', { class: 'axis', x1: x, x2: x, y1: area.bottom, y2: area.bottom + 4 }),
      s('text', { x, y: area.bottom + 16, 'text-anchor': 'middle' }, text));
  }
  group.append(s('line', { class: 'axis', x1: area.left, x2: area.right, y1: area.bottom, y2: area.bottom }),
    s('text', { x: (area.left + area.right) / 2, y: frame.height - 4, 'text-anchor': 'middle' }, spec.x.label),
    s('text', { x: area.left, y: 8, 'text-anchor': 'start' }, spec.y.label));
  return group;
}

/* Every second, fifth, tenth ... tick if they do not all fit. */
function thinned(all, frame) {
  const room = Math.max(...all.map(([, text]) => String(text).length), 1) * 6.4 + 6;
  const fits = Math.max(1, Math.floor((frame.area.right - frame.area.left) / room));
  const stride = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].find((n) => all.length / n <= fits) || all.length;
  /* Layers of one kind may stand close together at one end. */
  let last = -Infinity;
  return all.filter((_, index) => index % stride === 0).filter(([at]) => {
    if (frame.px(at) - last < room) return false;
    last = frame.px(at);
    return true;
  });
}

function ruler(line, frame) {
  const y = frame.py(line.at);
  if (!(y >= frame.area.top - 1 && y <= frame.area.bottom + 1)) return [];
  return [s('line', { class: line.colour ? 'rule own' : 'rule', x1: frame.area.left, x2: frame.area.right, y1: y, y2: y, stroke: line.colour }),
    line.text && s('text', { class: 'halo', x: frame.area.right - 2, y: y - 4, 'text-anchor': 'end' }, line.text)].filter(Boolean);
}

function pathOf(one, frame) {
  let path = '';
  let before = null;
  for (const [x, y] of one.points) {
    if (!Number.isFinite(num(y))) {
      before = null;
      continue;
    }
    const [px, py] = [frame.px(x).toFixed(1), frame.py(y).toFixed(1)];
    path += before === null ? `M${px} ${py}` : one.step ? `H${px}V${py}` : `L${px} ${py}`;
    before = y;
  }
  return path;
}

function drawSeries(one, spec, frame) {
  const group = s('g', { class: one.colour ? null : 'ink', stroke: one.colour });
  const few = one.points.length <= Math.max(40, (frame.width / 7));
  for (const [x, , low, high] of few ? one.points : []) {
    if (!Number.isFinite(num(low)) || !Number.isFinite(num(high))) continue;
    group.append(s('line', { x1: frame.px(x), x2: frame.px(x), y1: frame.py(low), y2: frame.py(high), 'stroke-width': 1.4, opacity: 0.6 }));
  }
  if (!one.dots) {
    group.append(s('path', { d: pathOf(one, frame), fill: 'none', 'stroke-width': one.width || 1.8, 'stroke-dasharray': one.dash, 'stroke-linejoin': 'round' }));
  }
  if ((one.dots || (few && !one.step)) && !one.plain) {
    for (const [x, y] of one.points) {
      if (!Number.isFinite(num(y))) continue;
      group.append(s('circle', {
        cx: frame.px(x), cy: frame.py(y), r: one.dots ? 3.4 : 2.3, 'stroke-width': 1.2,
        fill: one.hollow ? 'none' : one.colour || 'currentColor', opacity: one.faint ? 0.55 : null,
      }));
    }
  }
  return group;
}

function addCursor(svg, spec, frame) {
  const xs = [...new Set(spec.series.flatMap((one) => one.points.map((p) => p[0])))].sort((a, b) => a - b);
  if (!xs.length) return;
  const cursor = s('line', { class: 'cursor', y1: frame.area.top, y2: frame.area.bottom, visibility: 'hidden' });
  svg.append(cursor);
  let at = -1;
  const show = (index, x, y) => {
    at = index;
    const where = frame.px(xs[at]);
    fill(cursor, { x1: where, x2: where, visibility: 'visible' }, []);
    const lines = readings(spec, frame, xs[at]);
    showTip(lines.map(([text, colour]) => h('div', null, colour && h('i', { vars: { background: colour } }), text)), x, y);
    return lines.map(([text]) => text).join('; ');
  };
  const hide = () => {
    cursor.setAttribute('visibility', 'hidden');
    hideTip();
  };
  const value = (event) => {
    const box = svg.getBoundingClientRect();
    const inside = ((event.clientX - box.left) / box.width) * frame.width;
    return spec.x.min + ((inside - frame.area.left) / (frame.area.right - frame.area.left)) * (spec.x.max - spec.x.min);
  };
  svg.addEventListener('pointermove', (event) => show(nearest(xs, value(event)), event.clientX, event.clientY));
  svg.addEventListener('pointerleave', hide);
  svg.addEventListener('blur', hide);
  svg.addEventListener('keydown', (event) => {
    const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!move) return;
    event.preventDefault();
    const box = svg.getBoundingClientRect();
    const next = Math.max(0, Math.min(xs.length - 1, at + move));
    say(show(next, box.left + frame.px(xs[next]), box.top + 30));
  });
  if (spec.onpick) {
    svg.classList.add('pick');
    svg.addEventListener('click', (event) => spec.onpick(Math.max(spec.x.min, Math.min(spec.x.max, value(event))), xs[at]));
  }
}

function nearest(xs, x) {
  let best = 0;
  for (let i = 1; i < xs.length; i += 1) if (Math.abs(xs[i] - x) < Math.abs(xs[best] - x)) best = i;
  return best;
}

function readings(spec, frame, x) {
  const head = spec.name ? spec.name(x) : `${spec.x.label} ${fmt(x)}`;
  const lines = [];
  for (const one of spec.series) {
    const points = one.step ? one.points.filter((p) => p[0] <= x).slice(-1) : one.points.filter((p) => p[0] === x);
    for (const [, y, low, high] of points.slice(0, 6)) {
      const range = Number.isFinite(num(low)) && Number.isFinite(num(high)) ? ` (${frame.format(low)} to ${frame.format(high)})` : '';
      if (Number.isFinite(num(y))) lines.push([`${one.name}: ${frame.format(num(y))}${range}`, one.colour]);
    }
  }
  return [[head, null], ...lines.slice(0, 14)];
}
