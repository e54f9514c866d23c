/** What the palette finds: which of many things fit what was typed, best first. */

export interface Thing {
  readonly key: string;
  readonly title: string;
  readonly note: string;
  /** More words by which it is found. */
  readonly words?: string;
  /** The kind of thing: of two that fit alike, that of the lower one comes first. */
  readonly rank: number;
}

/** How well one word fits a text: 0, not at all; 4, it is the text. */
function fit(text: string, word: string): number {
  const at = text.indexOf(word);
  if (at < 0) return 0;
  if (text === word) return 4;
  if (at === 0) return 3;
  return /[^a-z0-9]/.test(text[at - 1] ?? "") ? 2 : 1;
}

/** How well all words fit; 0: one of them does not. */
export function score(thing: Thing, words: readonly string[]): number {
  const title = thing.title.toLowerCase();
  const more = `${thing.note} ${thing.words ?? ""}`.toLowerCase();
  let sum = 0;
  for (const word of words) {
    const best = Math.max(2 * fit(title, word), Math.min(1, fit(more, word)));
    if (best === 0) return 0;
    sum += best;
  }
  return sum;
}

export function wordsOf(text: string): string[] {
  return text.toLowerCase().split(/\s+/).filter((one) => one !== "");
}

/** The best of what fits, at most `max`; without words the first by rank. */
export function best<T extends Thing>(things: readonly T[], text: string, max: number): T[] {
  const words = wordsOf(text);
  return things
    .map((thing, index) => ({ thing, index, score: words.length === 0 ? 1 : score(thing, words) }))
    .filter((one) => one.score > 0)
    .sort((a, b) => b.score - a.score || a.thing.rank - b.thing.rank || a.index - b.index)
    .slice(0, max)
    .map((one) => one.thing);
}

/** Hex digits with which an id or a condition may begin; null: it is none, or too short. */
export function digitsOf(text: string): string | null {
  const digits = text.trim().toLowerCase();
  return /^[0-9a-f]{4,64}$/.test(digits) ? digits : null;
}
