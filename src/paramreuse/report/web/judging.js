/* The rule of paramreuse.judge, so that another tolerance needs no new run. */

const state = { source: 0, tolerance: 0.02 };

function trial(ends) {
  return { mean: num(ends[0]), low: num(ends[1]), high: num(ends[2]) };
}

/* A control that breaks the network fails at any tolerance. */
const BROKEN = { mean: Infinity, low: Infinity, high: Infinity };

/* A missing end is NaN, and every comparison with NaN is false: nothing is decided by it. */
function prepare(source) {
  if (!source.sweep) return;
  source.sweep.intervals = source.sweep.subjects.length > 0;
  source.sweep.bySite = new Map();
  for (const swap of source.sweep.swaps) {
    [swap.lent, ...swap.controls] = swap.judged.map((ends, r) => (r && swap.notFinite[r] ? BROKEN : trial(ends)));
    swap.single = swap.set === 'single';
    if (swap.set === 'single') source.sweep.bySite.set(swap.site, swap);
  }
  source.sweep.kernels = source.sweep.swaps.filter((swap) => swap.kernel);
}

function judgeSwap(swap, tolerance) {
  const limit = tolerance + DATA.rounding;
  if (swap.identical) return 'identical';
  if (swap.notFinite[0]) return 'not finite';
  if (swap.lent.low > limit) return 'not reusable';
  if (!(swap.lent.high <= limit)) return 'undecided';
  if (swap.controls.some((control) => control.high <= limit)) return 'indifferent';
  return swap.controls.every((control) => control.low > limit) ? 'reusable' : 'undecided';
}

function judgeByPapers(swap, tolerance) {
  return swap.lent.mean <= tolerance + DATA.rounding ? 'reusable' : 'not reusable';
}

function canBeLoaded(word) {
  return word === 'reusable' || word === 'identical';
}

function controlDrop(swap) {
  const least = Math.min(...swap.controls.map((control) => control.mean));
  return Number.isFinite(least) ? least : NaN;
}

function tally(swaps, tolerance) {
  const words = Object.fromEntries(VERDICTS.map((word) => [word, 0]));
  let papers = 0;
  for (const swap of swaps) {
    words[judgeSwap(swap, tolerance)] += 1;
    papers += judgeByPapers(swap, tolerance) === 'reusable';
  }
  const loadable = words.reusable + words.identical;
  const share = swaps.length ? loadable / swaps.length : NaN;
  return { words, papers, loadable, total: swaps.length, share, reusableNetwork: share >= DATA.share };
}

/* Steps of the share of reusable kernels over the tolerance: [tolerance, share] from which on it
   holds. A kernel can be gained (its source passes) and lost again (its control passes too). */
function shareSteps(kernels, most, rule, ends) {
  const at = [...new Set([0, ...kernels.flatMap(ends)])].filter((x) => x >= 0 && x <= most);
  at.sort((a, b) => a - b);
  const steps = [];
  for (const tolerance of at) {
    const share = kernels.filter((swap) => canBeLoaded(rule(swap, tolerance))).length / kernels.length;
    if (!steps.length || steps[steps.length - 1][1] !== share) steps.push([tolerance, share]);
  }
  steps.push([most, steps[steps.length - 1][1]]);
  return steps;
}

function ourSteps(source, most) {
  return shareSteps(source.sweep.kernels, most, judgeSwap,
    (swap) => [swap.lent, ...swap.controls].flatMap((held) => [held.low, held.high]));
}

function paperSteps(source, most) {
  return shareSteps(source.sweep.kernels, most, judgeByPapers, (swap) => [swap.lent.mean]);
}

/* Subjects after which half of the undecided swaps would be decided, were their means to stay: an
   interval narrows with the square root of the number of subjects. */
function subjectsNeeded(source, swaps, tolerance) {
  const held = source.sweep.subjects.length;
  const needed = swaps
    .filter((swap) => judgeSwap(swap, tolerance) === 'undecided')
    .map((swap) => Math.max(...[swap.lent, ...swap.controls]
      .filter((t) => t.low <= tolerance && t.high > tolerance)
      .map((t) => {
        const reach = t.mean > tolerance ? t.mean - t.low : t.high - t.mean;
        return held * (reach / Math.abs(t.mean - tolerance)) ** 2;
      })))
    .filter(Number.isFinite)
    .sort((a, b) => a - b);
  return needed.length ? Math.ceil(needed[Math.floor((needed.length - 1) / 2)]) : NaN;
}

function planLoads(source, swap) {
  return source.accept.includes(judgeSwap(swap, state.tolerance));
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
      action: source.accept.includes(word) ? 'load' : 'leave', site: site.name, family: site.family, layer: site.layer,
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
