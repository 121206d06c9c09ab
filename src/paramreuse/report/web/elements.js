/* Building blocks. Text only ever goes in as text: nothing here reads HTML. */

const SVG = 'http://www.w3.org/2000/svg';
const DATA = JSON.parse(document.getElementById('data').textContent);
/* Okabe and Ito's colours, a little darker on paper and lighter on black: see the style sheet. */
DATA.colours = DATA.colours.map((_, index) => `var(--c${index})`);
const VERDICTS = ['reusable', 'identical', 'indifferent', 'undecided', 'too few subjects', 'not reusable', 'not finite'];
const KINDS = ['W', 'B', 'RM', 'RV', 'RW', 'RB'];

function byId(id) {
  return document.getElementById(id);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name === 'vars') for (const [key, amount] of Object.entries(value)) node.style.setProperty(key, amount);
    else node.setAttribute(name, value === true ? '' : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) node.append(child);
  }
  return node;
}

function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function s(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function num(value) {
  return value === null || value === undefined ? NaN : Number(value);
}

function fmt(value) {
  const x = num(value);
  if (!Number.isFinite(x)) return '–';
  if (x === 0) return '0';
  const size = Math.abs(x);
  if (size >= 1e6 || size < 1e-4) return x.toExponential(2);
  if (size >= 1000) return x.toFixed(0);
  return String(Number(x.toPrecision(size >= 1 ? 4 : 3))).replace('-', '−');
}

/* Drops and scores: three decimals are what a Dice carries; other scales get three digits. */
function fmtScore(value) {
  const x = num(value);
  if (!Number.isFinite(x)) return '–';
  const largest = scoreScale();
  if (largest < 0.05 || largest >= 100) return fmt(x);
  return Math.abs(x) < 0.0005 ? '0.000' : x.toFixed(3).replace('-', '−');
}

function scoreScale() {
  if (scoreScale.largest === undefined) {
    const levels = DATA.sources.flatMap((source) => (source.sweep ? [...source.sweep.baseline, ...source.sweep.swaps.map((swap) => swap.judged[0][0])] : []));
    const all = [...levels, ...Object.values(DATA.baseline), ...DATA.transferSummary.map((row) => row.mean)].map((x) => Math.abs(num(x)));
    scoreScale.largest = Math.max(...extent(all.filter(Number.isFinite)));
  }
  return scoreScale.largest;
}

function interval(low, high) {
  return Number.isFinite(low) && Number.isFinite(high) ? `${fmtScore(low)} to ${fmtScore(high)}` : 'no interval';
}

function percent(share) {
  return Number.isFinite(share) ? `${Math.round(share * 100)} %` : '–';
}

/* What was written as a remark, as a sentence. */
function sentence(text) {
  const ended = /[.!?]$/.test(text) ? text : `${text}.`;
  return ended[0].toUpperCase() + ended.slice(1);
}

function count(number, noun) {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}

function slug(word) {
  return word.replace(/ /g, '-');
}

/* 4, 5, 7, 8, 9 -> "4 5 7–9" */
function ranges(numbers) {
  const sorted = [...new Set(numbers)].sort((a, b) => a - b);
  const parts = [];
  for (let i = 0; i < sorted.length;) {
    let j = i;
    while (j + 1 < sorted.length && sorted[j + 1] === sorted[j] + 1) j += 1;
    parts.push(j - i > 1 ? `${sorted[i]}–${sorted[j]}` : sorted.slice(i, j + 1).join(' '));
    i = j + 1;
  }
  return parts.join(' ');
}

function classColour(foreground, index) {
  if (!foreground[index]) return '#8a8f98';
  const rank = foreground.slice(0, index).filter(Boolean).length;
  return DATA.colours[rank % DATA.colours.length];
}

function dash(index) {
  return ['', '6 3', '2 3', '8 3 2 3'][Math.floor(index / DATA.colours.length) % 4];
}

/* Files out of the page */

function download(name, type, content) {
  const url = URL.createObjectURL(new Blob([content], { type }));
  const link = h('a', { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

function fileName(text, ending) {
  const plain = `${DATA.study}-${text}`.replace(/[^\p{L}\p{N}]+/gu, '-').replace(/^-+|-+$/g, '');
  return `${plain.slice(0, 80).toLowerCase() || 'figure'}.${ending}`;
}

function csvCell(value) {
  if (value === null || value === undefined || (typeof value === 'number' && !Number.isFinite(value))) return '';
  let text = String(value);
  /* A spreadsheet runs a cell that begins like a formula; a number is none. */
  if (/^[=+\-@\t\r]/.test(text) && !Number.isFinite(Number(text))) text = `'${text}`;
  return /[",\n\r]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
}

function saveCsv(name, columns, rows) {
  const lines = [columns, ...rows].map((row) => row.map(csvCell).join(','));
  download(fileName(name, 'csv'), 'text/csv;charset=utf-8', `${lines.join('\r\n')}\r\n`);
}

const DRAWN = ['fill', 'stroke', 'stroke-width', 'stroke-dasharray', 'stroke-linecap', 'stroke-linejoin',
  'opacity', 'paint-order', 'font-family', 'font-size', 'font-weight', 'text-anchor'];

/* A copy that looks the same without this page's style sheet. */
function standalone(svg) {
  const copy = svg.cloneNode(true);
  const from = [svg, ...svg.querySelectorAll('*')];
  const to = [copy, ...copy.querySelectorAll('*')];
  from.forEach((node, index) => {
    const style = getComputedStyle(node);
    for (const name of DRAWN) to[index].setAttribute(name, style.getPropertyValue(name));
    for (const name of ['class', 'tabindex', 'role', 'style']) to[index].removeAttribute(name);
  });
  const [, , width, height] = svg.getAttribute('viewBox').split(' ').map(Number);
  copy.setAttribute('xmlns', SVG);
  copy.setAttribute('width', width);
  copy.setAttribute('height', height);
  const ground = getComputedStyle(document.documentElement).getPropertyValue('color-scheme') === 'dark' ? '#1a1f22' : null;
  const box = svg.closest('.box, .card, .layer-panel') || document.body;
  copy.prepend(s('rect', { width, height, fill: getComputedStyle(box).backgroundColor || ground || '#ffffff' }));
  return { text: new XMLSerializer().serializeToString(copy), width, height };
}

function saveSvg(svg, name) {
  download(fileName(name, 'svg'), 'image/svg+xml', standalone(svg).text);
}

function savePng(svg, name) {
  const { text, width, height } = standalone(svg);
  const image = new Image();
  image.onload = () => {
    const scale = Math.min(2, 16000 / Math.max(width, height));
    const canvas = h('canvas', { width: Math.ceil(width * scale), height: Math.ceil(height * scale) });
    canvas.getContext('2d').drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => download(fileName(name, 'png'), 'image/png', blob), 'image/png');
  };
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
}

function exportButtons(title, svg, csv) {
  const button = (word, run) => h('button', {
    type: 'button', class: 'quiet', 'aria-label': `${word} of ${title}`, onclick: run,
  }, word);
  return h('span', { class: 'export' },
    button('SVG', () => saveSvg(svg(), title)), button('PNG', () => savePng(svg(), title)),
    csv && button('CSV', () => saveCsv(title, ...csv())));
}

/* What the pointer or the keyboard is on */

function showTip(lines, x, y) {
  const tip = byId('tip');
  tip.replaceChildren(...lines);
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const left = Math.max(6, Math.min(x + 14, innerWidth - box.width - 6));
  const below = y + 18 + box.height < innerHeight;
  fill(tip, { vars: { left: `${left}px`, top: `${below ? y + 16 : Math.max(4, y - box.height - 12)}px` } }, []);
}

function hideTip() {
  byId('tip').hidden = true;
}

function say(text) {
  byId('live').textContent = text;
}

function choice(label, options, current, pick) {
  const group = h('span', { class: 'choice', role: 'group', 'aria-label': label });
  for (const [value, text] of options) {
    group.append(h('button', {
      type: 'button', 'aria-pressed': String(value === current),
      onclick: (event) => {
        for (const other of group.children) other.setAttribute('aria-pressed', 'false');
        event.currentTarget.setAttribute('aria-pressed', 'true');
        pick(value);
      },
    }, text));
  }
  return group;
}
