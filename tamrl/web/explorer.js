// What the explorers of towers and of regions share: numbers, axes, a map that clicks and keys choose on.
const MINUS = "\u2212";
const SVG = "http://www.w3.org/2000/svg";
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

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

// Buttons for parts of the map; the first is pressed.
function mapParts(group, parts, look) {
  for (const name of Object.keys(parts)) {
    const button = group.appendChild(document.createElement("button"));
    button.type = "button";
    button.textContent = name;
    button.addEventListener("click", () => {
      for (const b of group.children) b.setAttribute("aria-pressed", String(b === button));
      look(parts[name]);
    });
  }
  group.firstChild.click();
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

