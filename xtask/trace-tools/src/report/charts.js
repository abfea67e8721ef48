// What all pictures are made of: elements, units, scales, and a frame that draws anew when the width
// changes, and that tells what is under the pointer or the arrow keys.

const $ = id => document.getElementById(id);
const html = (tag, parent, text, attributes = {}) => {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  parent?.append(element);
  return element;
};
const svg = (tag, parent, attributes = {}, text) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  parent?.append(element);
  return element;
};
const number = value => value.toLocaleString("en");
const sum = list => list.reduce((all, value) => all + value, 0);
const greatest = list => list.reduce((most, value) => Math.max(most, value), 0);
const round = value => Math.round(value * 100) / 100;
/** Nanoseconds in a unit that suits them, or that suits `like`. */
const time = (ns, like = ns, digits = 3) => {
  const [unit, name] = like < 1e3 ? [1, "ns"] : like < 1e6 ? [1e3, "µs"] : like < 1e9 ? [1e6, "ms"] : [1e9, "s"];
  return Number((ns / unit).toPrecision(digits)) + " " + name;
};
const size = bytes => {
  const [unit, name] = bytes < 1 << 20 ? [1 << 10, "KiB"] : bytes < 2 ** 30 ? [1 << 20, "MiB"] : [2 ** 30, "GiB"];
  return Number((bytes / unit).toPrecision(3)) + " " + name;
};
const address = value => "0x" + value.toString(16);
/** Round values from 0 to `most`, about so many. */
const ticks = (most, about) => {
  const raw = most / about, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find(factor => factor * power >= raw) * power;
  const list = [];
  for (let value = 0; value <= most * 1.0001 && list.length < 40; value += step) list.push(value);
  return list;
};

/** Shows some text beside a place on the screen. */
const tip = (text, x, y) => {
  const box = $("tip");
  box.hidden = !text;
  if (!text) return;
  box.textContent = text;
  const left = x + 14 + box.offsetWidth > innerWidth ? x - 14 - box.offsetWidth : x + 14;
  box.style.left = Math.max(4, left) + "px";
  box.style.top = Math.min(y + 14, innerHeight - box.offsetHeight - 4) + "px";
};

/**
 * A picture in `parent`: `draw` fills the area `{g, width, height}` right of `left(width)` pixels, `steps` says in how
 * many columns and rows the pointer and the arrow keys move over it, and `tell` what to say of one of them.
 */
function picture(parent, { label, height, left, right, bottom = 22, draw, steps, tell }) {
  const figure = html("figure", parent);
  const root = svg("svg", figure, { role: "img", "aria-label": label, tabindex: 0 });
  let area = { width: 0, height: 0, x: 0 }, at = [0, 0];
  const render = () => {
    const whole = figure.clientWidth || 320, x = left(whole), tall = height(whole);
    if (whole === area.whole) return;
    root.replaceChildren();
    root.setAttribute("viewBox", `0 0 ${whole} ${tall + bottom}`);
    root.setAttribute("height", tall + bottom);
    const g = svg("g", root, { transform: `translate(${x} 0)` });
    area = { g, root, whole, x, width: Math.max(40, whole - x - right(whole)), height: tall };
    draw(area);
    area.cross = svg("path", g, { class: "cross", d: "" });
  };
  const show = (x, y) => {
    const [columns, rows] = steps(), inside = x >= 0 && y >= 0 && x < columns && y < rows;
    const text = inside ? tell(x, y) : "";
    const middle = round((x + .5) * area.width / columns);
    area.cross.setAttribute("d", text ? `M${middle} 0V${area.height}` : "");
    const box = root.getBoundingClientRect();
    tip(text, box.left + area.x + middle, box.top + (y + .5) * area.height / rows);
  };
  const place = event => {
    const box = root.getBoundingClientRect(), [columns, rows] = steps();
    at = [Math.floor((event.clientX - box.left - area.x) / area.width * columns),
      Math.floor((event.clientY - box.top) / area.height * rows)];
    show(...at);
  };
  const hide = () => { area.cross.setAttribute("d", ""); tip(""); };
  root.addEventListener("pointermove", place);
  root.addEventListener("pointerdown", place);
  root.addEventListener("pointerleave", hide);
  root.addEventListener("blur", hide);
  root.addEventListener("keydown", event => {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!move) return;
    event.preventDefault();
    at = at.map((value, axis) => Math.max(0, Math.min(steps()[axis] - 1, value + move[axis])));
    show(...at);
  });
  render();
  new ResizeObserver(render).observe(figure);
}

/** The scale of time below an area, with lines up through it. */
function timeAxis({ g, width, height }) {
  const all = D.nanoseconds || 1;
  for (const at of ticks(all, Math.max(2, Math.floor(width / 110)))) {
    const x = round(at / all * width);
    svg("path", g, { class: "grid", d: `M${x} 0V${height + 4}` });
    if (x < width - 12 || width < 200)
      svg("text", g, { x, y: height + 17, "text-anchor": at ? "middle" : "start" }, at ? time(at, all) : "0");
  }
}

/** A legend: pairs of classes or colours and words. */
function key(parent, entries) {
  const list = html("ul", parent, undefined, { class: "key" });
  for (const [colours, words] of entries) {
    const item = html("li", list), mark = svg("svg", item, { width: colours.length * 8 + 6, height: 14, "aria-hidden": true });
    mark.style.width = colours.length * 8 + 6 + "px";
    colours.forEach((colour, index) => svg("rect", mark, { x: index * 8, width: index === colours.length - 1 ? 14 : 8, height: 14, fill: `var(${colour})` }));
    item.append(words);
  }
}

/** Bars of counts as one path, from the bottom of a strip that is `height` tall. */
const bars = (counts, most, width, bottom, height) => {
  const step = width / counts.length, wide = Math.max(.6, step - .5);
  return counts.map((count, index) => {
    if (!count) return "";
    const tall = Math.max(1, count / most * height);
    return `M${round(index * step)} ${round(bottom - tall)}h${round(wide)}v${round(tall)}h${round(-wide)}z`;
  }).join("");
};
