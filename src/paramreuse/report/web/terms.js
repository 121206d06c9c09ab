/* What a word means, shown where the pointer or the keyboard is on it. */

function term(word, shown) {
  const meaning = DATA.words[word];
  if (!meaning) return shown || word;
  const node = h('span', { class: 'term', tabindex: 0, role: 'note', 'aria-label': `${shown || word}: ${meaning}` }, shown || word);
  const show = () => {
    const box = node.getBoundingClientRect();
    showTip([h('b', null, word), meaning], box.left, box.bottom - 10);
  };
  node.addEventListener('pointerenter', show);
  node.addEventListener('focus', show);
  node.addEventListener('pointerleave', hideTip);
  node.addEventListener('blur', hideTip);
  return node;
}

/* A sentence with the first of each of its words explained. */
function explained(text, words) {
  const parts = [text];
  for (const word of words) {
    const at = parts.findIndex((part) => typeof part === 'string' && part.includes(word));
    if (at < 0) continue;
    const [before, ...after] = parts[at].split(word);
    parts.splice(at, 1, before, term(word), after.join(word));
  }
  return parts;
}
