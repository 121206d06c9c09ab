/* The validation subjects under two starts: scores against each other, with the diagonal. */

const pair = { x: 0, y: 0 };

function scoresBySubject() {
  const by = new Map();
  const [model, subject, score] = ['model', 'subject', 'score'].map((name) => column(DATA.subjectScores, name));
  model.forEach((name, i) => {
    if (!by.has(name)) by.set(name, new Map());
    by.get(name).set(subject[i], num(score[i]));
  });
  return by;
}

/* Both starts of each subject that has a score under either. */
function pairedScores(by) {
  const names = [...by.keys()];
  const [x, y] = [by.get(names[pair.x]), by.get(names[pair.y])];
  return [...x.keys()].filter((subject) => Number.isFinite(x.get(subject)) && Number.isFinite(y.get(subject)))
    .map((subject) => ({ subject, x: x.get(subject), y: y.get(subject) }));
}

function pickStart(label, names, side, again) {
  const select = h('select', { onchange: (event) => { pair[side] = Number(event.target.value); again(); } },
    names.map((name, index) => h('option', { value: index, selected: index === pair[side] }, name)));
  return h('label', null, `${label} `, select);
}

function subjectPanel() {
  const by = scoresBySubject();
  const names = [...by.keys()];
  if (names.length < 2) return [];
  /* The first two are the start to use and what it is compared with. */
  [pair.y, pair.x] = [0, 1];
  const told = h('p', { class: 'note', role: 'status' });
  const figure = chart('Subject by subject', () => {
    const rows = pairedScores(by);
    const [low, high] = extent(rows.flatMap((row) => [row.x, row.y]));
    const room = (high - low) * 0.05;
    const range = { min: low - room, max: high + room };
    const at = (x) => rows.filter((row) => row.x === x).map((row) => row.subject);
    return {
      x: { label: `score, ${names[pair.x]}`, ...range }, y: { label: `score, ${names[pair.y]}`, ...range, format: fmtScore },
      series: [
        { name: 'as good', colour: '#8a8f98', dash: '4 4', plain: true, points: [[range.min, range.min], [range.max, range.max]] },
        { name: names[pair.y], colour: DATA.colours[0], dots: true, points: rows.map((row) => [row.x, row.y]) },
      ],
      height: 380, name: (x) => (at(x).length ? `${at(x).join(', ')}: ${fmtScore(x)} under ${names[pair.x]}` : ''),
    };
  }, {});
  const tell = () => {
    const rows = pairedScores(by);
    const better = rows.filter((row) => row.y > row.x).length;
    told.textContent = `Above the line ${names[pair.y]} is better: ${better} of ${count(rows.length, 'subject')}.`;
  };
  const again = () => { tell(); figure.redraw(true); };
  tell();
  return [h('div', { class: 'box square' },
    h('div', { class: 'tools' }, pickStart('Up', names, 'y', again), pickStart('Across', names, 'x', again)), figure, told)];
}
