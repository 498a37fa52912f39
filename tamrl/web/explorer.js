// What the explorers of towers and of regions share: numbers, axes, a field that finds, a map that
// clicks and keys choose on, a chart along which pointer and keys go.
const MINUS = "\u2212";
const SVG = "http://www.w3.org/2000/svg";
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const LONG = Array.from({ length: 12 }, (_, m) => new Date(2001, m, 1).toLocaleString("en", { month: "long" }));
const RATE = "gC m\u207b\u00b2 d\u207b\u00b9";
const plain = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
const safe = (text) => text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);

const say = (value, digits = 2) =>
  value === null || Number.isNaN(value) ? "\u2013" : value.toFixed(digits).replace("-", MINUS);

// Round steps of 1, 2 or 5 between which an axis has two to five marks.
function ticks(low, high) {
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= rough);
  const found = [];
  for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-9; v += step) found.push(v);
  return { found, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

// Lines of an axis with their numbers, as SVG; ``y`` places a value.
const axis = (low, high, y, left, right) => {
  const { found, digits } = ticks(low, high);
  return found.map((v) => {
    const zero = Math.abs(v) < 1e-9;
    return `<path class="${zero ? "tp-axis" : "tp-grid"}" d="M${left} ${y(v).toFixed(1)}H${right}"/>` +
      `<text x="${left - 6}" y="${(y(v) + 4).toFixed(1)}" text-anchor="end">${say(zero ? 0 : v, digits)}</text>`;
  }).join("");
};

// Shows a part of the map, and more beside or above it, as the frame is twice as wide as high;
// returns how many map units a pixel is.
function frame(map, [x, y, w, h]) {
  if (w < 2 * h) [x, w] = [x - (2 * h - w) / 2, 2 * h];
  else [y, h] = [y - (w / 2 - h) / 2, w / 2];
  map.setAttribute("viewBox", [x, y, w, h].join(" "));
  return w / Math.max(map.clientWidth, 200);
}

// The nearest place within a finger's width of a touch.
function nearest(map, places, event) {
  const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(map.getScreenCTM().inverse());
  const reach = 22 / map.getScreenCTM().a;
  const [best] = places.map((p) => [Math.hypot(p.x - at.x, p.y - at.y), p.name]).sort((a, b) => a[0] - b[0]);
  return best[0] <= reach ? best[1] : null;
}

// The place that lies best in the direction of an arrow key: near, and not far off to the side.
function beside(places, here, [dx, dy]) {
  const cost = (p) => {
    const along = (p.x - here.x) * dx + (p.y - here.y) * dy;
    const across = Math.abs((p.x - here.x) * dy - (p.y - here.y) * dx);
    return along <= 0 || across > 2 * along ? Infinity : along + 2 * across;
  };
  const [best] = places.map((p) => [cost(p), p.name]).sort((a, b) => a[0] - b[0]);
  return best[0] < Infinity ? best[1] : null;
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// Clicks, touches and arrow keys choose among places {name, x, y}: ``marked`` names what an element
// stands for, ``here`` is the place from which arrows lead.
function onMap(map, places, marked, here, choose) {
  map.addEventListener("click", (event) => {
    const name = marked(event.target) ?? nearest(map, places, event);
    if (name) choose(name);
  });
  map.addEventListener("keydown", (event) => {
    if (!ARROWS[event.key]) return;
    event.preventDefault();
    const name = beside(places, here(), ARROWS[event.key]);
    if (name) choose(name);
  });
  map.setAttribute("tabindex", "0");
}

// A field with a list that typing narrows (the combobox of the ARIA practices).
function finder(field, list, groups, current, choose) {
  for (const [all, names] of groups) {
    const options = names.map((n) => `<div role="option" aria-selected="false" data-name="${safe(n)}">${safe(n)}</div>`);
    list.insertAdjacentHTML("beforeend", `<div role="group" aria-label="${all}"><p role="presentation">${all}</p>${options.join("")}</div>`);
  }
  const options = [...list.querySelectorAll("[role=option]")];
  options.forEach((o, i) => (o.id = `${list.id}-${i}`));
  let active = null;
  const found = () => options.filter((o) => !o.hidden);
  const light = (option) => {
    active?.setAttribute("aria-selected", "false");
    (active = option ?? null)?.setAttribute("aria-selected", "true");
    if (active) field.setAttribute("aria-activedescendant", active.id);
    else field.removeAttribute("aria-activedescendant");
    active?.scrollIntoView({ block: "nearest" });
  };
  const open = (text) => {
    list.hidden = false;
    field.setAttribute("aria-expanded", "true");
    for (const o of options) o.hidden = !plain(o.dataset.name).includes(plain(text));
    for (const g of list.children) g.hidden = ![...g.querySelectorAll("[role=option]")].some((o) => !o.hidden);
    light(text ? found()[0] : null);
  };
  const close = () => {
    list.hidden = true;
    field.setAttribute("aria-expanded", "false");
    light(null);
    field.value = field.placeholder = current();
  };
  const take = (name) => (choose(name), close());
  field.addEventListener("focus", () => field.select());
  field.addEventListener("click", () => {
    if (!list.hidden) return;
    field.value = ""; // the placeholder still names what is shown
    open("");
  });
  field.addEventListener("input", () => open(field.value));
  field.addEventListener("blur", close);
  field.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && list.hidden) open("");
    if (step) light(found().at((found().indexOf(active) + step + (active || step > 0 ? 0 : 1)) % found().length));
    else if (event.key === "Enter" && active) take(active.dataset.name);
    else if (event.key === "Escape") close();
    else return;
    event.preventDefault();
  });
  list.addEventListener("mousedown", (event) => event.preventDefault()); // the field keeps the focus
  list.addEventListener("click", (event) => event.target.dataset.name && take(event.target.dataset.name));
}

// A chart becomes a slider: the pointer, or the keys, go to one of its steps. ``place`` finds that of
// a distance from the left (px), ``now`` gives the present one and how many there are.
function slide(chart, place, now, go) {
  chart.setAttribute("role", "slider");
  chart.setAttribute("tabindex", "0");
  for (const kind of ["pointermove", "pointerdown"])
    chart.addEventListener(kind, (event) => go(place(event.clientX - chart.getBoundingClientRect().left)));
  chart.addEventListener("keydown", (event) => {
    const [at, count] = now();
    const to = { ArrowLeft: at - 1, ArrowDown: at - 1, ArrowRight: at + 1, ArrowUp: at + 1, Home: 0, End: count - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    go((to + count) % count);
  });
}

// Says at which step a chart stands.
function stand(chart, at, count, words) {
  const said = { "aria-valuemin": 1, "aria-valuemax": count, "aria-valuenow": at + 1, "aria-valuetext": words };
  for (const [key, value] of Object.entries(said)) chart.setAttribute(key, String(value));
}

// Puts what is shown into the page's address, to be passed on.
function address(words) {
  try {
    history.replaceState(null, "", `#${words}`);
  } catch {} // a notebook's frame has no address of its own
}

// Buttons of which one is pressed, at first the ``first``; each picks its value of ``all``.
function buttons(group, all, pick, first = 0) {
  for (const name of Object.keys(all)) {
    const button = group.appendChild(document.createElement("button"));
    button.type = "button";
    button.textContent = name;
    button.addEventListener("click", () => {
      for (const b of group.children) b.setAttribute("aria-pressed", String(b === button));
      pick(all[name]);
    });
  }
  group.children[first].click();
}

// Draws anew when the width changes, and not when the height does.
function onWidth(box, redraw) {
  let last = box.clientWidth;
  new ResizeObserver(() => {
    if (box.clientWidth === last) return;
    last = box.clientWidth;
    redraw();
  }).observe(box);
}

