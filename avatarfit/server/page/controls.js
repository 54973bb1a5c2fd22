// The driver's controls, as the server describes them: sliders for numbers, choices for words.

export class Controls {
  /** `turn(name, value)` is asked for every change; null stands for what the driver does by itself. */
  constructor(place, turn) {
    this.place = place;
    this.turn = turn;
    this.rows = new Map();
  }

  /** Shows what the server tells: `controls` describe, `values` say where they stand. */
  show({ controls, values }) {
    if (controls && !this.rows.size) this.#build(controls);
    for (const [name, value] of Object.entries(values)) this.rows.get(name)?.set(value);
  }

  #build(controls) {
    for (const control of controls) {
      const row = control.choices.length ? choice(control, this.turn) : slider(control, this.turn);
      this.rows.set(control.name, row);
      // What belongs to a choice stands below it, once something is chosen: emotion_strength below emotion.
      const parent = this.rows.get(control.name.split("_")[0]);
      (parent && parent !== row ? parent.below : this.place).append(row.element);
    }
  }
}

function made(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function slider(control, turn) {
  const id = `control-${control.name}`;
  const input = made("input", {
    type: "range", id, min: control.lowest, max: control.highest, step: 0.05, title: control.description,
  });
  const shown = made("output", { htmlFor: id });
  const back = made("button", { className: "back", title: `${control.label}: as usual`, textContent: "×" });
  back.setAttribute("aria-label", `${control.label}: as usual`);
  const set = (value) => {
    input.value = value ?? control.usual;
    shown.textContent = value === null ? "usual" : Number(value).toFixed(2);
    back.style.visibility = value === null ? "hidden" : "visible";
    input.style.setProperty("--share", (input.value - control.lowest) / (control.highest - control.lowest));
    input.setAttribute("aria-valuetext", shown.textContent);
  };
  input.oninput = () => { set(Number(input.value)); turn(control.name, Number(input.value)); };
  back.onclick = () => { set(null); turn(control.name, null); input.focus(); };
  const label = made("label", { htmlFor: id, textContent: control.label });
  return { set, element: made("div", { className: "control" }, label, back, shown, input) };
}

function choice(control, turn) {
  const radios = control.choices.map((word) => made("input", { type: "radio", name: control.name, value: word }));
  const labels = radios.map((radio) => made("label", {}, radio, made("span", { textContent: radio.value })));
  const below = made("div", { className: "below", hidden: true });
  const set = (value) => {
    // Degrees, which a program may ask for, are none of the words.
    for (const radio of radios) radio.checked = radio.value === (value ?? control.usual);
    below.hidden = value === null || value === control.usual;
  };
  for (const radio of radios) {
    radio.onchange = () => {
      const value = radio.value === control.usual ? null : radio.value;
      set(value);
      turn(control.name, value);
    };
  }
  const chips = made("div", { className: "chips" }, ...labels);
  const element = made("fieldset", { className: "control", title: control.description });
  element.append(made("legend", { textContent: control.label }), chips, below);
  return { set, below, element };
}
