/* Tables that sort and can be taken away. */

const FIRST_ROWS = 150;

function compareCells(a, b) {
  const empty = (x) => x === null || x === undefined || (typeof x === 'number' && Number.isNaN(x));
  if (empty(a) || empty(b)) return Number(empty(a)) - Number(empty(b));
  if (typeof a === 'number' && typeof b === 'number') return a - b;
  return String(a).localeCompare(String(b), 'en', { numeric: true });
}

/*
 * columns: [{ label, value: (row) => plain value, show: (row) => node or text, number: boolean }].
 * The table's update() shows new rows and keeps the order that the reader chose.
 */
function sortable(title, columns, makeRows, first = FIRST_ROWS) {
  const view = { by: null, down: false, all: false };
  const body = h('tbody', null);
  const more = h('div', { class: 'note' });
  const heads = columns.map((column, index) => h('th', { scope: 'col', class: column.number ? 'number' : null },
    h('button', { type: 'button', onclick: () => {
      view.down = view.by === index && !view.down;
      view.by = index;
      update();
    } }, column.label)));
  const node = h('div', null,
    h('figcaption', null, h('b', null, title), h('span', { class: 'export' }, h('button', {
      type: 'button', class: 'quiet', 'aria-label': `CSV of ${title}`,
      onclick: () => saveCsv(title, columns.map((c) => c.label), makeRows().map((row) => columns.map((c) => c.value(row)))),
    }, 'CSV'))),
    h('div', { class: 'scroll' }, h('table', { 'aria-label': title }, h('thead', null, h('tr', null, heads)), body)), more);

  function sorted() {
    const rows = [...makeRows()];
    if (view.by === null) return rows;
    const { value } = columns[view.by];
    const empty = (row) => value(row) === null || (typeof value(row) === 'number' && Number.isNaN(value(row)));
    rows.sort((a, b) => compareCells(value(a), value(b)) * (view.down && !empty(a) && !empty(b) ? -1 : 1));
    return rows;
  }

  function update() {
    const rows = sorted();
    const shown = view.all ? rows : rows.slice(0, first);
    body.replaceChildren(...shown.map((row) => h('tr', null, columns.map((column) => h('td', { class: column.number ? 'number' : null },
      column.show ? column.show(row) : text(column.value(row), column.number))))));
    heads.forEach((head, index) => {
      if (index === view.by) head.setAttribute('aria-sort', view.down ? 'descending' : 'ascending');
      else head.removeAttribute('aria-sort');
    });
    more.replaceChildren();
    if (shown.length < rows.length) {
      more.append(`The first ${shown.length} of ${rows.length} rows. `, h('button', { type: 'button', class: 'more', onclick: () => {
        view.all = true;
        update();
      } }, 'Show all'));
    }
  }

  node.update = update;
  update();
  return node;
}

function text(value, number) {
  if (value === null || value === undefined) return '–';
  if (typeof value === 'boolean') return value ? 'yes' : 'no';
  return number && typeof value === 'number' ? fmt(value) : String(value);
}

/* A table as it came: {columns, rows}. */
function plainTable(title, data, show) {
  const columns = data.columns.map((name, index) => ({
    label: name.replace(/_/g, ' '),
    value: (row) => row[index],
    number: data.rows.some((row) => typeof row[index] === 'number') && data.rows.every((row) => row[index] === null || typeof row[index] === 'number' || row[index] === '∞'),
    show: show && show(name, index),
  }));
  return sortable(title, columns, () => data.rows);
}

function siteTable() {
  const swap = (row) => row.swap;
  const number = (label, value, show) => ({ label, number: true, value, show });
  return sortable('All sites', [
    { label: 'site', value: (row) => swap(row).name },
    { label: 'path', value: (row) => swap(row).path },
    { label: 'verdict', value: (row) => row.word, show: (row) => badge(row.word) },
    { label: 'by the papers’ rule', value: (row) => row.paper },
    number('drop', (row) => swap(row).lent.mean, (row) => fmtScore(swap(row).lent.mean)),
    number('drop low', (row) => row.low, (row) => fmtScore(row.low)),
    number('drop high', (row) => row.high, (row) => fmtScore(row.high)),
    number('control drop', (row) => controlDrop(swap(row)), (row) => fmtScore(controlDrop(swap(row)))),
    number('relative RMSE', (row) => num((row.compared || {}).relative_rmse)),
  ], () => judgedRows((one) => one.set === 'single'));
}

function judgedRows(chosen) {
  const source = currentSource();
  if (!source.sweep) return [];
  return source.sweep.swaps.filter(chosen).map((swap) => ({
    swap,
    word: judgeSwap(swap, state.tolerance),
    paper: judgeByPapers(swap, state.tolerance),
    low: source.sweep.intervals ? swap.lent.low : NaN,
    high: source.sweep.intervals ? swap.lent.high : NaN,
    compared: swap.site >= 0 ? comparisonOf(source, DATA.sites[swap.site].key) : null,
  }));
}
