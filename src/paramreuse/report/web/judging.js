/* The rule of paramreuse.judge, so that another tolerance needs no new run. */

const state = { source: 0, tolerance: 0.02 };

function trial(ends, spread) {
  const [mean, low, high] = ends.map(num);
  const [error, skew, subjects] = spread.map(num);
  return { mean, low, high, error, skew, subjects, tooFew: subjects > 0 && subjects < DATA.fewestSubjects };
}

/* A control that breaks the network fails at any tolerance. */
const BROKEN = { mean: Infinity, low: Infinity, high: Infinity, error: 0, skew: 0, subjects: 0, tooFew: false };

/* A missing end is NaN, and every comparison with NaN is false: nothing is decided by it. */
function prepare(source) {
  if (!source.sweep) return;
  source.sweep.intervals = source.sweep.subjects.length > 0;
  source.sweep.bySite = new Map();
  for (const swap of source.sweep.swaps) {
    [swap.lent, ...swap.controls] = swap.judged.map((ends, r) => (r && swap.notFinite[r] ? BROKEN : trial(ends, swap.spread[r])));
    /* A control that puts in the same values as the source shows nothing. */
    swap.telling = swap.controls.filter((_, index) => !swap.alike[index]);
    swap.single = swap.set === 'single';
    if (swap.set === 'single') source.sweep.bySite.set(swap.site, swap);
  }
  source.sweep.kernels = source.sweep.swaps.filter((swap) => swap.kernel);
}

/* On which side of the tolerance a mean drop lies, as far as its interval tells. */
function sideOf(drop, tolerance) {
  const limit = tolerance + DATA.rounding;
  if (drop.tooFew) return 'open';
  if (drop.low > limit) return 'above';
  return drop.high <= limit ? 'below' : 'open';
}

function controlSide(swap, tolerance) {
  if (swap.controls.length && !swap.telling.length) return 'open';
  const sides = swap.telling.map((control) => sideOf(control, tolerance));
  if (sides.includes('below')) return 'below';
  return sides.includes('open') ? 'open' : 'above';
}

function judgeSwap(swap, tolerance) {
  if (swap.identical) return 'identical';
  if (swap.notFinite[0]) return 'not finite';
  if (swap.lent.tooFew) return 'too few subjects';
  const side = sideOf(swap.lent, tolerance);
  if (side === 'above') return 'not reusable';
  const control = controlSide(swap, tolerance);
  if (side === 'open' || control === 'open') return 'undecided';
  return control === 'below' ? 'indifferent' : 'reusable';
}

function judgeByPapers(swap, tolerance) {
  return swap.lent.mean <= tolerance + DATA.rounding ? 'reusable' : 'not reusable';
}

function canBeLoaded(word) {
  return word === 'reusable' || word === 'identical';
}

function controlDrop(swap) {
  const least = Math.min(...swap.telling.map((control) => control.mean));
  return Number.isFinite(least) ? least : NaN;
}

/* The share of reusable kernels among those where the control fails, and what undecided ones leave
   possible: as in paramreuse.reuse.network. */
function shareOf(kernels, tolerance) {
  let reusable = 0;
  let failing = 0;
  let [gained, lost, unsure] = [0, 0, 0];
  for (const swap of kernels) {
    const word = judgeSwap(swap, tolerance);
    const side = swap.notFinite[0] ? 'above' : sideOf(swap.lent, tolerance);
    const control = controlSide(swap, tolerance);
    if (canBeLoaded(word)) reusable += 1;
    else if (control === 'above' || word === 'too few subjects') {
      failing += 1;
      if (side === 'open') gained += 1; else if (side === 'above') lost += 1;
    } else if (control === 'open') {
      if (side !== 'below') unsure += 1;
      if (side !== 'above') gained += 1;
    }
  }
  const part = (some, others) => (some ? some / (some + others) : kernels.length ? 0 : NaN);
  return { share: part(reusable, failing), low: part(reusable, failing + unsure), high: part(reusable + gained, lost) };
}

function tally(swaps, tolerance) {
  const words = Object.fromEntries(VERDICTS.map((word) => [word, 0]));
  let papers = 0;
  for (const swap of swaps) {
    words[judgeSwap(swap, tolerance)] += 1;
    papers += judgeByPapers(swap, tolerance) === 'reusable';
  }
  return { words, papers, loadable: words.reusable + words.identical, total: swaps.length, ...shareOf(swaps, tolerance) };
}

/* What is found of a source's network; what stands in the way of a verdict comes first. */
function networkWord(source, tolerance) {
  const { kernels } = source.sweep;
  if (!kernels.length) return 'none';
  if (whyUseless(source.sweep, tolerance)) return 'useless';
  if (kernels.some((swap) => judgeSwap(swap, tolerance) === 'too few subjects')) return 'too few';
  if (shareOf(kernels, tolerance).share >= DATA.share) return 'reusable';
  if (whyBlind(source.sweep, tolerance)) return 'blind';
  const tells = (swap) => canBeLoaded(judgeSwap(swap, tolerance)) || controlSide(swap, tolerance) !== 'below';
  return kernels.some(tells) ? 'not reusable' : 'nothing';
}

function whyUseless(sweep, tolerance) {
  const baseline = num(sweep.judgedBaseline);
  const constant = num(sweep.constant);
  if (!sweep.subjects.length || baseline < 0) return '';
  if (baseline <= tolerance) {
    return `Its mean score is ${baseline.toFixed(3)}, so that no swap can cost more than the tolerance of ${fmt(tolerance)}.`;
  }
  if (baseline <= constant + tolerance) {
    return `Its mean score of ${baseline.toFixed(3)} is within the tolerance of ${fmt(tolerance)} of the ${constant.toFixed(3)} that predicting one class everywhere gives.`;
  }
  return '';
}

function whyBlind(sweep, tolerance) {
  if (sweep.lineage === 'independent') return 'they were started independently';
  const told = sweep.kernels.filter((swap) => controlSide(swap, tolerance) === 'above' && swap.telling.length);
  const better = told.some((swap) => canBeLoaded(judgeSwap(swap, tolerance)) || swap.lent.mean <= DATA.better * controlDrop(swap));
  return told.length && !better ? 'at no kernel layer does the source save half of what its shuffled values cost' : '';
}

/* The tail of Student's distribution with a whole number of degrees of freedom. Source: Abramowitz
   and Stegun (1964), 26.7.3 and 26.7.4. */
function studentTail(quantile, freedom) {
  if (!Number.isFinite(quantile)) return 0;
  const angle = Math.atan(quantile / Math.sqrt(freedom));
  const odd = freedom % 2;
  let term = odd ? Math.cos(angle) : 1;
  let sum = freedom === 1 ? 0 : term;
  for (let power = odd ? 3 : 2; power <= freedom - 2; power += 2) {
    term *= Math.cos(angle) ** 2 * ((power - 1) / power);
    sum += term;
  }
  const inside = odd ? (2 / Math.PI) * (angle + Math.sin(angle) * sum) : Math.sin(angle) * sum;
  return (1 - inside) / 2;
}

/* The chance that a mean lies on the other side of the tolerance than it seems to: Means.doubt. */
function doubtOf(drop, tolerance) {
  const bound = tolerance + DATA.rounding;
  const above = drop.mean > bound;
  const steps = drop.error === 0 ? Infinity : Math.abs(bound - drop.mean) / drop.error;
  const skew = above ? -drop.skew : Math.max(drop.skew, (2 * DATA.leastSkewness) / (3 * Math.sqrt(Math.max(drop.subjects, 1))));
  const curved = Math.abs(skew) < 1e-9 ? 1e-9 : skew;
  const straightened = -Math.expm1(-curved * steps) / curved - curved / 4;
  const most = above ? DATA.mostReach[0] : DATA.mostReach[1];
  return studentTail(Math.max(Math.min(steps, straightened), steps / most), Math.max(drop.subjects - 1, 1));
}

/* How many words are expected to be wrong, of how many that decide something. */
function expectedWrong(swaps, tolerance) {
  let [wrong, decided] = [0, 0];
  for (const swap of swaps) {
    const word = judgeSwap(swap, tolerance);
    if (!['reusable', 'indifferent', 'not reusable'].includes(word)) continue;
    decided += 1;
    wrong += doubtOf(swap.lent, tolerance);
    const doubts = swap.telling.map((control) => [sideOf(control, tolerance), doubtOf(control, tolerance)]);
    if (word === 'reusable') for (const [, doubt] of doubts) wrong += doubt;
    if (word === 'indifferent') wrong += Math.min(...doubts.filter(([side]) => side === 'below').map(([, doubt]) => doubt));
  }
  return { wrong, decided };
}

/* Steps of the share of reusable kernels over the tolerance: [tolerance, share], the share
   from that tolerance on. A kernel can be gained (its source passes) and lost again (its control passes too). */
function shareSteps(kernels, most, shareAt, ends) {
  const at = [...new Set([0, ...kernels.flatMap(ends)])].filter((x) => x >= 0 && x <= most);
  at.sort((a, b) => a - b);
  const steps = [];
  for (const tolerance of at) {
    const share = shareAt(tolerance);
    if (!steps.length || steps[steps.length - 1][1] !== share) steps.push([tolerance, share]);
  }
  steps.push([most, steps[steps.length - 1][1]]);
  return steps;
}

function ourSteps(source, most) {
  const { kernels } = source.sweep;
  return shareSteps(kernels, most, (tolerance) => shareOf(kernels, tolerance).share,
    (swap) => [swap.lent, ...swap.controls].flatMap((drop) => [drop.low, drop.high]));
}

function paperSteps(source, most) {
  const { kernels } = source.sweep;
  const passes = (tolerance) => kernels.filter((swap) => judgeByPapers(swap, tolerance) === 'reusable').length;
  return shareSteps(kernels, most, (tolerance) => passes(tolerance) / kernels.length, (swap) => [swap.lent.mean]);
}

/* Subjects after which half of the swaps would be settled that are not, were their means to stay:
   paramreuse.subjects_needed. */
function subjectsNeeded(source, swaps, tolerance) {
  const limit = tolerance + DATA.rounding;
  const needed = swaps
    .filter((swap) => ['undecided', 'too few subjects'].includes(judgeSwap(swap, tolerance)))
    .map((swap) => Math.max(DATA.fewestSubjects, ...[swap.lent, ...swap.telling]
      .filter((drop) => !(drop.low > limit || drop.high <= limit))
      .map((drop) => {
        const reach = drop.mean > limit ? drop.mean - drop.low : drop.high - drop.mean;
        return drop.subjects * (reach / Math.abs(drop.mean - limit)) ** 2;
      })))
    .filter(Number.isFinite)
    .sort((a, b) => a - b);
  return needed.length ? Math.ceil(needed[Math.floor((needed.length - 1) / 2)]) : NaN;
}

/* Where too few subjects were scored nothing is decided either. */
function isAccepted(source, word) {
  return source.accept.includes(word === 'too few subjects' ? 'undecided' : word);
}

function planLoads(source, swap) {
  return isAccepted(source, judgeSwap(swap, state.tolerance));
}

/* The plan that paramreuse.plan_reuse makes at this tolerance, as YAML. JSON strings are YAML. */
function planText(source, tolerance) {
  const number = (x) => {
    const text = String(x);
    return text.includes('e') && !text.includes('.') ? text.replace('e', '.0e') : text;
  };
  const lines = source.sweep.swaps.filter((swap) => swap.single && swap.site >= 0).map((swap) => {
    const site = DATA.sites[swap.site];
    const word = judgeSwap(swap, tolerance);
    const entry = {
      action: isAccepted(source, word) ? 'load' : 'leave', site: site.name, family: site.family, layer: site.layer,
      kind: site.kind, path: site.path, attribute: site.attribute, shape: site.shape, output: site.output, reason: word,
    };
    return `- {${Object.entries(entry).map(([key, value]) => `${key}: ${JSON.stringify(value)}`).join(', ')}}`;
  });
  return ['# What to do with each tensor of the network; `action` may be edited:',
    '#   load    load it from the source, frozen or trained along as `--mode` says',
    '#   freeze  load it and freeze it        train  load it and train it along',
    "#   leave   keep the fresh model's own", 'paramreuse_plan: 1', `source: ${JSON.stringify(source.name)}`,
    `tolerance: ${number(tolerance)}`, `confidence: ${number(source.confidence)}`, 'sites:', ...lines, ''].join('\n');
}

function currentSource() {
  return DATA.sources[state.source];
}
