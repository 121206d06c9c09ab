/* Transfer, ranking, claims, learning curves and images. */

function buildTransfer() {
  const rows = DATA.transferSummary;
  const label = (row) => (row.source ? `${row.strategy} · ${row.source}` : row.strategy);
  const number = (name, value, show) => ({ label: name, number: true, value, show: show || ((row) => fmtScore(value(row))) });
  const speeds = Object.keys(rows[0]).filter((name) => /^(epochs|steps)_to/.test(name) && !name.endsWith('_reached'));
  const isLong = 'mean_twice' in rows[0];
  const table = sortable('Transfer', [
    { label: 'start', value: (row) => row.strategy },
    ...(rows.some((row) => row.source) ? [{ label: 'source', value: (row) => row.source }] : []),
    number('subjects', (row) => row.num_subjects, (row) => text(row.num_subjects)), number('seeds', (row) => row.seeds, (row) => String(row.seeds)),
    ...DATA.transferClasses.map((name) => number(name, (row) => num(row[name]))),
    { label: 'mean', number: true, value: (row) => num(row.mean), show: (row) => h('strong', null, fmtScore(row.mean)) },
    { label: 'interval over seeds', value: (row) => num(row.mean_low), show: (row) => interval(num(row.mean_low), num(row.mean_high)) },
    ...(isLong ? [number('mean, twice as long', (row) => num(row.mean_twice)), { label: 'converged', value: (row) => row.converged },
      number('gain', (row) => num(row.gain), (row) => fmtScore(num(row.gain))), number('gain at the end', (row) => num(row.gain_at_end), (row) => fmtScore(num(row.gain_at_end)))] : []),
    ...speeds.map((name) => number(name.replace(/_/g, ' '), (row) => num(row[name]),
      (row) => (row[`${name}_reached`] ? `${fmt(row[name])}${row[`${name}_reached`] < row.seeds ? ` (${row[`${name}_reached`]} of ${row.seeds})` : ''}` : 'never'))),
  ], () => rows);
  const sizes = [...new Set(rows.map((row) => row.num_subjects))].sort((a, b) => a - b);
  const starts = [...new Set(rows.map(label))];
  const figure = chart('Mean score after training', () => {
    const series = sizes.map((size, k) => ({
      name: `${size} subjects`, colour: DATA.colours[k % DATA.colours.length], dots: true,
      points: rows.filter((row) => row.num_subjects === size)
        .map((row) => [starts.indexOf(label(row)) + (k - (sizes.length - 1) / 2) * 0.14, num(row.mean), num(row.mean_low), num(row.mean_high)]),
    }));
    const [low, high] = extent(yValues(series));
    return {
      x: { label: 'start', ticks: starts.map((name, i) => [i, name]), min: -0.5, max: starts.length - 0.5 },
      y: { label: DATA.score || 'score', min: low - (high - low) * 0.05, max: high + (high - low) * 0.05, format: fmtScore }, series, height: 250,
      name: (x) => starts[Math.round(x)],
    };
  }, { legend: true });
  section('transfer', 'What reuse gains', 'Transfer', 'Each start trained and scored on validation subjects; bars are 95 % intervals over seeds.',
    h('div', { class: 'box' }, figure), h('div', { class: 'box' }, table), buildDepth(), buildRewind(), ...subjectPanel(), ...(DATA.transferCurves.rows.length ? curvePanels(DATA.transferCurves) : []), lazyTable('Every training', () => plainTable('Every training', DATA.transfer)));
}

/* Gain over scratch against how much of the network is loaded. */
function buildDepth() {
  if (!DATA.depth.length) return null;
  const many = new Set(DATA.depth.map((row) => row.num_subjects)).size > 1;
  const label = (row) => (many ? `${row.source}, ${row.num_subjects} subjects` : row.source);
  const names = [...new Set(DATA.depth.map(label))];
  return h('div', { class: 'box', id: 'depth' }, chart('How much to load', () => {
    const series = names.map((name, k) => ({
      name, colour: DATA.colours[k % DATA.colours.length], dash: dash(k),
      points: DATA.depth.filter((row) => label(row) === name).sort((a, b) => a.share - b.share)
        .map((row) => [100 * row.share, num(row.gain), num(row.gain_low), num(row.gain_high)]),
    }));
    const [low, high] = extent(yValues(series));
    const room = (high - low) * 0.05 || 0.01;
    return {
      x: { label: 'kernel layers loaded, front to back (%)', min: 0, max: 100 },
      y: { label: `gain in ${DATA.score || 'score'} over scratch`, min: low - room, max: high + room, format: fmtScore },
      series, lines: [{ at: 0, text: 'scratch' }], height: 240,
    };
  }, { legend: true }), h('p', { class: 'note' }, 'Everything up to the cut is loaded and trained along; bars are 95 % intervals.'));
}

/* What putting each block of a fine-tuned network back costs. */
function buildRewind() {
  if (!DATA.rewind.length) return null;
  const number = (name, key) => ({ label: name, number: true, value: (row) => num(row[key]), show: (row) => `${fmtScore(num(row[key]))} (${interval(num(row[`${key}_low`]), num(row[`${key}_high`]))})` });
  return h('div', { class: 'box', id: 'rewind' }, sortable('What putting blocks back costs', [
    { label: 'source', value: (row) => row.source }, { label: 'subjects', number: true, value: (row) => num(row.num_subjects), show: (row) => text(row.num_subjects) },
    { label: 'block', value: (row) => row.block }, number('back to the source', 'rewind'), number('drawn afresh', 'reinit'),
    { label: 'reads as', value: (row) => row.reading },
  ], () => DATA.rewind), h('p', { class: 'note' }, 'Fine-tuned from everything, each block put back in turn and scored on labelled subjects that were held out.'));
}

function verdictCell(name, index) {
  return (row) => {
    const word = String(row[index] ?? '');
    const fill = { holds: 'reusable', yes: 'reusable', fails: 'not-reusable', no: 'not-reusable' }[word.toLowerCase()];
    const known = fill || ['undecided', 'not checked', 'unclear'].includes(word.toLowerCase());
    return known ? h('span', { class: `badge b-${fill || 'undecided'}` }, word) : text(row[index], typeof row[index] === 'number');
  };
}

function buildTables() {
  if (DATA.ranking.rows.length) {
    section('ranking', 'Which source', 'Ranking', 'Sources for this target, best first.', h('div', { class: 'box' }, plainTable('Ranking', DATA.ranking)));
  }
  if (DATA.claims.rows.length) {
    section('claims', 'Claims checked', 'Claims', 'What the papers say, each by a rule that can fail.', h('div', { class: 'box' }, plainTable('Claims', DATA.claims, verdictCell)));
  }
  const skipped = DATA.sources.filter((source) => source.sweep && source.sweep.skipped.length);
  if (skipped.length) {
    section('skipped', 'Tensors that could not be swapped', 'Skipped', null, ...skipped.map((source) => lazyTable(`${source.name}: ${count(source.sweep.skipped.length, 'tensor')}`,
      () => plainTable(`Skipped of ${source.name}`, { columns: ['key', 'reason'], rows: source.sweep.skipped }))));
  }
}

function buildCurves() {
  const [key, panels] = curvePanels(DATA.curves);
  section('curves', 'Learning curves', 'Learning', null, key, panels);
}

/* Legend and panels of learning curves, one line per model. */
function curvePanels(curves) {
  const models = [...new Set(column(curves, 'model'))];
  const draw = (name, title) => {
    const values = column(curves, name);
    if (!values.some((value) => typeof value === 'number')) return null;
    const of = column(curves, 'model');
    const epoch = column(curves, 'epoch');
    return h('div', { class: 'box' }, chart(title, () => {
      const series = models.map((model, k) => ({
        name: String(model), colour: DATA.colours[k % DATA.colours.length], dash: dash(k), plain: true,
        points: values.map((y, i) => [num(epoch[i]), num(y), i]).filter((p) => of[p[2]] === model && Number.isFinite(p[0]) && Number.isFinite(p[1])).map((p) => [p[0], p[1]]),
      }));
      const [low, high] = extent(yValues(series));
      const [first, last] = extent(series.flatMap((one) => one.points.map((p) => p[0])));
      return { x: { label: 'epoch', min: first, max: last }, y: { label: title.toLowerCase(), min: low, max: high }, series, height: 240 };
    }, {}));
  };
  return [legend(models.map((model, k) => ({ name: String(model), colour: DATA.colours[k % DATA.colours.length], dash: dash(k) }))),
    h('div', { class: 'panels' }, draw('train_loss', 'Training loss'), draw('validation_score', 'Validation score'))];
}

function buildExamples() {
  const key = DATA.classes.slice(1).map((name, k) => ({ name, colour: DATA.colours[k % DATA.colours.length], width: 8 }));
  const score = (picture) => (picture.score === null || picture.score === undefined ? null : h('b', null, `${DATA.score} ${fmtScore(picture.score)}`));
  section('examples', 'What it looks like', 'Images', 'Of each subject the slice with most to see; the score beside a picture is of the whole subject.', legend(key),
    h('div', { class: 'images' }, DATA.examples.map((example) => h('div', { class: 'box' }, h('h3', null, example.name),
      h('div', { class: 'strip', tabindex: 0, role: 'group', 'aria-label': `Pictures of ${example.name}` }, example.pictures.map((picture) => h('figure', null,
        h('img', { src: picture.uri, alt: `${example.name}: ${picture.title}` }), h('figcaption', null, h('span', null, picture.title), score(picture)))))))));
}
