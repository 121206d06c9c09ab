/* The answer in words: what was found, how sure it is, what to do next. */

function networkName() {
  const name = DATA.network || 'This network';
  return name.length > 60 ? `${name.slice(0, 59)}…` : name;
}

function allowed(tolerance) {
  return `at most ${fmt(tolerance)} ${DATA.score}`.trim();
}

const HEADLINES = {
  none: (name) => `${name}: no single kernel was swept, so it is not judged`,
  useless: (name) => `The target is useless: nothing can be said of ${name} here`,
  'too few': (name) => `Too few subjects to judge ${name} here`,
  blind: (name) => `Single swaps cannot tell what ${name} can reuse here`,
  nothing: (name) => `Nothing to tell by: in ${name} any kernels do as well here`,
  reusable: (name) => `${name} is a reusable network here`,
  'not reusable': (name) => `${name} is not a reusable network here`,
};

function headline(source) {
  if (!source || !source.sweep) return `${networkName()} has not been swept yet`;
  return HEADLINES[networkWord(source, state.tolerance)](networkName());
}

/* Why there is no plain answer, and what to do about it. */
function obstacle(source) {
  const { sweep } = source;
  const useless = whyUseless(sweep, state.tolerance);
  return {
    useless: `${useless} Train the target better before anything is judged.`,
    'too few': `${count(sweep.subjects.length, 'subject')} were scored; ${DATA.fewestSubjects} or more are needed for intervals that keep their promise.`,
    blind: `The two networks use different coordinates: ${whyBlind(sweep, state.tolerance)}. That says nothing against the source; ${DATA.whatCanTell}.`,
    nothing: 'Shuffled or random kernels pass wherever the source does.',
  }[networkWord(source, state.tolerance)];
}

function writeAnswer() {
  const source = currentSource();
  const counts = source && source.sweep ? tally(source.sweep.kernels, state.tolerance) : null;
  byId('headline').textContent = headline(source);
  const eyebrow = byId('eyebrow');
  eyebrow.textContent = source ? `Which tensors, and why: ${source.name}` : 'Which tensors, and why';
  eyebrow.className = `eyebrow ${counts ? { reusable: 'good', 'not reusable': 'bad', useless: 'bad' }[networkWord(source, state.tolerance)] || '' : ''}`;
  if (source) byId('lede').replaceChildren(...lede(source, counts).map((p) => (typeof p === 'string' ? h('p', null, p) : p)));
}

function lede(source, counts) {
  if (!source.sweep) return [`What swapping in ${source.name} costs has not been measured; the distance between the two is below.`];
  if (!counts.total) return [`${count(source.sweep.swaps.length, 'swap')} of ${source.name} were measured, none of a single kernel.`];
  const words = counts.words;
  const rest = [
    words.indifferent && `${words.indifferent} ${words.indifferent === 1 ? 'takes' : 'take'} anything, a control as well`,
    words['not reusable'] && `${words['not reusable']} cannot`,
    words.undecided && `${words.undecided} ${words.undecided === 1 ? 'is' : 'are'} undecided`,
    words['not finite'] && `${words['not finite']} ${words['not finite'] === 1 ? 'is' : 'are'} not finite`,
  ].filter(Boolean);
  const same = words.identical ? ` (${words.identical} of them the same in both anyway)` : '';
  const wrong = expectedWrong(source.sweep.swaps, state.tolerance);
  const among = Number.isNaN(counts.share) ? ''
    : ` Of those where the control fails that is ${percent(counts.share)}${counts.high > counts.low ? ` (${percent(counts.low)} to ${percent(counts.high)})` : ''}.`;
  return [
    obstacle(source) && h('p', { class: 'strong' }, obstacle(source)),
    h('p', null, h('strong', null, `${counts.loadable} of ${counts.total} `, term('kernel layer', 'kernel layers')), ` of ${source.name} can be swapped in${same} and cost ${allowed(state.tolerance)}`,
      rest.length ? ['; ', explained(rest.join(', '), ['control', 'undecided', 'not finite']), '.'] : '.',
      explained(among, rest.some((part) => part.includes('control')) ? [] : ['control']), couldTip(counts) && ' The undecided ones could still change the answer.',
      wrong.decided > 0 && source.sweep.subjects.length > 0 && ` Of all ${wrong.decided} verdicts about ${wrong.wrong.toFixed(1)} may be wrong.`),
    h('p', { class: 'aside' }, `By the papers’ rule, which looks at the point estimate and at no control, ${counts.papers} of ${counts.total} pass. `
      + `A network is called reusable when at least ${percent(DATA.share)} of its kernel layers are where the control fails.`),
  ].filter(Boolean);
}

function couldTip(counts) {
  return !(counts.share >= DATA.share) && counts.high >= DATA.share;
}

/* The sources, each with its share: also the switch between them */

const sourceRows = [];

function buildSources() {
  const group = fill(byId('sources'), { role: 'radiogroup', 'aria-label': 'Source' }, []);
  DATA.sources.forEach((source, index) => {
    const row = h('button', {
      type: 'button', class: 'source', role: 'radio', onclick: () => pickSource(index),
      onkeydown: (event) => {
        const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
        if (!step) return;
        event.preventDefault();
        pickSource((index + step + DATA.sources.length) % DATA.sources.length);
        sourceRows[state.source].focus();
      },
    });
    sourceRows.push(row);
    group.append(row);
  });
}

function writeSources() {
  DATA.sources.forEach((source, index) => {
    const row = sourceRows[index];
    const counts = source.sweep ? tally(source.sweep.kernels, state.tolerance) : null;
    row.setAttribute('aria-checked', String(index === state.source));
    row.setAttribute('tabindex', index === state.source ? 0 : -1);
    const parts = counts ? VERDICTS.filter((word) => counts.words[word]).map((word) => h('i', { class: `fill-${slug(word)}`, vars: { 'flex-grow': counts.words[word] } })) : [];
    row.replaceChildren(
      h('span', null, h('b', null, source.name), h('small', null, source.lineage ? `start: ${source.lineage}` : 'start not compared')),
      h('span', { class: 'stack', 'aria-hidden': 'true' }, parts),
      h('span', { class: 'count' }, counts && counts.total ? `${counts.loadable} of ${counts.total}` : 'not swept'));
  });
}

/* Cards */

function card(title, ...content) {
  return h('article', { class: 'card' }, h('h2', null, title), ...content);
}

function writeCards() {
  const source = currentSource();
  const cards = byId('cards');
  if (!source) {
    cards.replaceChildren();
    return;
  }
  cards.replaceChildren(...[
    source.sweep && nextCard(source),
    source.sweep && sureCard(source),
    source.sweep && surerCard(source),
    lineageCard(source),
  ].filter(Boolean));
}

function nextCard(source) {
  const single = source.sweep.swaps.filter((swap) => swap.single && swap.site >= 0);
  const counted = single.filter((swap) => !DATA.sites[swap.site].output);
  const loads = (swap) => planLoads(source, swap);
  const list = h('dl', { class: 'ranges' });
  for (const kind of KINDS) {
    const ofKind = counted.filter((swap) => swap.kind === kind);
    const numbers = ofKind.filter(loads).map((swap) => swap.layer);
    if (ofKind.length) list.append(h('dt', null, term(kind)), h('dd', null, numbers.length === ofKind.length ? `all ${ofKind.length}` : numbers.length ? trimmed(ranges(numbers)) : 'none'));
  }
  const command = source.planCommand.replaceAll('{tolerance}', String(state.tolerance));
  const moved = source.plan && state.tolerance !== source.tolerance;
  const trial = source.planTrial;
  return card(trial.chosen ? 'What to do next' : 'The plan of single swaps',
    h('p', { class: 'strong', id: 'plan-count' }, single.length ? [`Load ${counted.filter(loads).length} of ${counted.length} `, term('site', counted.length === 1 ? 'site' : 'sites'), ', train the rest'] : 'Sweep single sites to get a plan'),
    single.length > 0 && list,
    single.length > 0 && planWarnings(source, trial).map((text) => h('p', { class: 'warning' }, text)),
    num(source.jointDrop) <= state.tolerance && h('p', null, `Swapped in at once, the plan of the study costs ${fmtScore(source.jointDrop)}.`),
    trial.text && h('p', null, trial.text),
    command && trial.chosen && commandBox(command),
    single.length > 0 && h('p', null, h('button', {
      type: 'button', id: 'save-plan', onclick: () => download(fileName(`plan-${source.name}`, 'yaml'), 'text/yaml;charset=utf-8', planText(source, state.tolerance)),
    }, 'Save this plan (YAML)')),
    source.plan && h('details', null, h('summary', null, `Plan of the study${moved ? `, made at ${fmt(source.tolerance)}` : ''}`), h('pre', { tabindex: 0 }, source.plan)));
}

/* What speaks against the plan: what it costs as a whole, and what training by it came to. */
function planWarnings(source, trial) {
  const warnings = [];
  const cost = num(source.jointDrop);
  if (source.jointMeasured && !Number.isFinite(cost)) warnings.push('Swapped in at once, the plan of the study gives outputs that are not finite.');
  else if (cost > state.tolerance) {
    warnings.push(`Swapped in at once, the plan of the study costs ${fmtScore(cost)}, more than the tolerance of ${fmt(state.tolerance)}: single costs add up.`);
  }
  if (trial.known && !trial.chosen) warnings.push('Not the start to use: see the answer above.');
  else if (!trial.known) warnings.push('Nobody has trained by it yet. What costs nothing when swapped is often not what helps a fresh network.');
  return warnings;
}

function commandBox(command) {
  return h('div', { class: 'command' }, h('code', null, command), copyButton(command));
}

function copyButton(command) {
  return navigator.clipboard && h('button', {
    type: 'button', class: 'quiet', onclick: () => navigator.clipboard.writeText(command).then(() => say('copied'), () => say('not copied')),
  }, 'Copy');
}

function buildCopy() {
  for (const box of document.querySelectorAll('.command[data-copy]')) {
    const button = copyButton(box.querySelector('code').textContent);
    if (button) box.append(button);
  }
}

function trimmed(text) {
  return text.length > 90 ? `${text.slice(0, text.lastIndexOf(' ', 84))} …` : text;
}

function sureCard(source) {
  const { sweep } = source;
  const judged = sweep.kernels.length ? sweep.kernels : sweep.swaps;
  const noun = sweep.kernels.length ? 'kernel' : 'swap';
  const counts = tally(judged, state.tolerance);
  const settled = counts.total - counts.words.undecided - counts.words['too few subjects'];
  const people = sweep.subjects.length;
  return card('How sure',
    h('p', { class: 'strong' }, `${settled} of ${count(counts.total, noun)} `, term('settled')),
    h('p', null, people > 1 ? `Every drop has a ${fmt(source.confidence * 100)} % interval over ${people} subjects, paired by subject and corrected for skewness. `
      + 'A swap passes when the whole interval is within the tolerance.'
      : people === 1 ? 'There is one subject only, so no interval and nothing can be settled.'
        : 'One number was measured for all subjects together, so there are no intervals, only point estimates.'),
    h('p', null, sweep.controls.length ? [term('control', 'Control'), `: ${sweep.controls.join(', ')}. Where it passes as well, the source is not what helps.`]
      : 'No control was run: a swap that costs nothing proves little.'),
    [...new Set([...sweep.notes, ...source.notes])].map((note) => h('p', null, sentence(note))));
}

function surerCard(source) {
  const { sweep } = source;
  const judged = sweep.kernels.length ? sweep.kernels : sweep.swaps;
  const counts = tally(judged, state.tolerance);
  const needed = subjectsNeeded(source, judged, state.tolerance);
  const tips = [];
  const unsettled = counts.words.undecided + counts.words['too few subjects'];
  if (unsettled && sweep.subjects.length > 1) {
    tips.push(`More subjects: ${count(unsettled, 'kernel').replace('kernel', sweep.kernels.length ? 'kernel' : 'swap')} cannot yet be separated from the tolerance.`
      + (needed > sweep.subjects.length && needed < 1e5 ? ` About ${fmt(Number(needed.toPrecision(2)))} subjects would settle half of them.` : ''));
  }
  if (!sweep.subjects.length) tips.push('Scores per subject: sweep with batches instead of evaluate=, so that there are intervals.');
  if (sweep.subjects.length === 1) tips.push(`More subjects, ${DATA.fewestSubjects} at least: with one, nothing can be settled.`);
  if (whyUseless(sweep, state.tolerance)) tips.unshift('A better target: with this one no verdict means anything.');
  if (networkWord(source, state.tolerance) === 'blind') tips.unshift('Another question: single swaps cannot tell here. Load the network as a whole and train, or sweep the rewind.');
  if (!sweep.controls.length) tips.push('A control: the same swaps with shuffled or re-initialised values.');
  if (!source.lineage || source.lineage === 'undecided') tips.push('The lineage: compare target and source, to know whether they share a start.');
  if (!DATA.transferSummary.length) tips.push('Training: a swap is a forecast, training from each source is the test.');
  else if (Math.min(...DATA.transferSummary.map((row) => row.seeds)) < 3) tips.push('Three seeds or more per training: the intervals over seeds are wide or missing.');
  return tips.length > 0 && card('What would make it surer', h('ul', null, tips.map((tip) => h('li', null, tip))));
}

const LINEAGE = {
  shared: ['They share a start', 'Source and target began from the same weights, so what a swap leaves intact may be the start rather than what the source learned.'],
  independent: ['Independent starts', 'Source and target began from different weights. Raw RMSE then measures permutation and scale; read the relative one.'],
  undecided: ['Undecided', 'Whether source and target share a start could not be determined.'],
};

function lineageCard(source) {
  const [head, meaning] = LINEAGE[source.lineage] || ['Not compared', 'Whether source and target share a start has not been tested.'];
  const same = num(source.identicalShare);
  return card(term('lineage', 'Lineage'), h('p', { class: 'strong' }, head), h('p', null, meaning),
    source.lineageReason && h('p', null, sentence(source.lineageReason)),
    same > 0 && h('p', null, `${fmt(Number((same * 100).toPrecision(2)))} % of the values are identical.`),
    !source.sweep && source.notes.map((note) => h('p', null, sentence(note))));
}
