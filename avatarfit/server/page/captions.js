// Captions: the sentence that is being said, its words so far brighter than those to come.

const WIDEST = 84;
const WIDE = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}]/u;

export class Captions {
  /** In `place`; it is hidden while there is nothing to read. */
  constructor(place) {
    this.place = place;
    this.saying = null;
    this.letters = [];
    this.pieces = [];
  }

  /** A text begins: `saying` is its number. */
  begin({ saying, text }) {
    this.saying = saying;
    // The server counts letters as these are, not as JavaScript's strings do.
    this.letters = [...text];
    this.pieces = inPieces(this.letters);
  }

  /** One of its words begins. */
  word({ saying, text, begin, end }) {
    if (saying !== this.saying) this.begin({ saying, text: "" });
    if (end > this.letters.length) {
      // Of a stream the text comes word by word; of one that had begun before this page came, from here on.
      const before = Array.from({ length: begin }, (_, at) => this.letters[at] ?? " ");
      this.letters = [...before, ...text];
      this.pieces = inPieces(this.letters);
    }
    const [from, to] = this.pieces.find(([, last]) => begin < last);
    const [said, coming] = ["said", "coming"].map((name) => this.place.querySelector(`.${name}`));
    said.textContent = this.letters.slice(from, end).join("").trimStart();
    coming.textContent = this.letters.slice(end, Math.max(to, end)).join("").trimEnd();
    this.place.hidden = false;
  }

  hide() {
    this.place.hidden = true;
  }
}

/** Sentences, and parts of long ones, as [from, to] in letters. */
function inPieces(letters) {
  const pieces = [];
  let from = 0;
  for (const { segment } of new Intl.Segmenter(undefined, { granularity: "sentence" }).segment(letters.join(""))) {
    const end = from + [...segment].length;
    while (from < end) {
      const to = from + fitting(letters.slice(from, end));
      pieces.push([from, to]);
      from = to;
    }
  }
  return pieces;
}

/** How many letters fit into a caption, whole words if it can be. */
function fitting(letters) {
  let width = 0;
  let space = 0;
  for (const [at, letter] of letters.entries()) {
    width += WIDE.test(letter) ? 2 : 1;
    if (/\s/.test(letter)) space = at + 1;
    else if (width > WIDEST) return space || at;
  }
  return letters.length;
}
