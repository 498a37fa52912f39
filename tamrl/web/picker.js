// The tower explorer: chooses towers by typing, list, map, keyboard or address, and draws their series.
const PANEL = 132; // px, height of a flux
const NEARBY = [320, 160]; // map units, tenths of a degree of latitude, of the map around a tower
const [OBSERVED, LOWER, UPPER, MODEL] = [0, 1, 2, 3]; // lines of a flux, then one a model

// Whole numbers of 16 bits to fluxes, [season, year][line][flux][step]; NaN where nothing is known.
function unpack(text, data) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  let at = -2;
  const value = () => {
    const whole = view.getInt16((at += 2), true);
    return whole === data.missing ? NaN : whole * data.step;
  };
  const row = (n, of) => Array.from({ length: n }, of);
  return data.steps.map((steps) => row(MODEL + data.models.length, () => row(data.fluxes.length, () => row(steps, value))));
}

// Share of the year that has gone by in the middle of a step: of twelve months, or of eight days.
const middle = (data, scale, k) => (scale ? Math.min(1, (data.days * (k + 0.5)) / 365) : (k + 0.5) / 12);
const date = (day) => `${new Date(2001, 0, day).getDate()} ${MONTHS[new Date(2001, 0, day).getMonth()]}`;
const named = (data, tower, scale, k) =>
  scale ? `${date(data.days * k + 1)} to ${date(Math.min(365, data.days * (k + 1)))} ${tower.year}` : LONG[k];

// Points of which all values are known, in runs without a gap.
function runs(steps, known) {
  const found = [[]];
  for (let k = 0; k < steps; k++) {
    if (known(k)) found.at(-1).push(k);
    else if (found.at(-1).length) found.push([]);
  }
  return found.filter((run) => run.length);
}

function panels(data, lines, scale, at, width) {
  const left = 40, right = 8, top = 22, steps = data.steps[scale];
  const x = (k) => left + middle(data, scale, k) * (width - left - right);
  const span = (fluxes) => {
    const all = lines.flatMap((line) => fluxes.flatMap((f) => line[f])).filter((v) => !Number.isNaN(v));
    const [low, high] = [Math.min(0, ...all), Math.max(0.5, ...all)];
    return [low - 0.04 * (high - low), high + 0.04 * (high - low)];
  };
  const parts = data.fluxes.map((flux, f) => {
    const base = f * PANEL;
    const [low, high] = span(f < 2 ? [0, 1] : [2]); // GPP and RECO on one scale
    const y = (v) => base + top + ((high - v) / (high - low)) * (PANEL - top - 6);
    const point = (v, k) => `${x(k).toFixed(1)} ${y(v).toFixed(1)}`;
    const path = (line) => runs(steps, (k) => !Number.isNaN(line[k])).map((run) => `M${run.map((k) => point(line[k], k)).join("L")}`).join("");
    const [lower, upper] = [lines[LOWER][f], lines[UPPER][f]];
    const band = runs(steps, (k) => !Number.isNaN(lower[k] + upper[k]))
      .map((run) => `M${[...run.map((k) => point(upper[k], k)), ...run.reverse().map((k) => point(lower[k], k))].join("L")}z`);
    const drawn = data.models.map((name, m) => `<path class="tp-line tp-of-${m}" style="stroke:var(--tp-${name})" d="${path(lines[MODEL + m][f])}"/>`);
    const dots = lines[OBSERVED][f].map((v, k) => (Number.isNaN(v) ? "" : `<circle cx="${x(k).toFixed(1)}" cy="${y(v).toFixed(1)}" r="${k === at ? 4 : scale ? 2.2 : 3}"/>`));
    return `${axis(low, high, y, left, width - right)}<path class="tp-at" d="M${x(at).toFixed(1)} ${base + top}V${base + PANEL - 6}"/>` +
      `<path class="tp-band" style="fill:var(--tp-${data.models[0]})" d="${band.join("")}"/>${drawn.reverse().join("")}` +
      `<g class="tp-observed">${dots.join("")}</g><text x="${left}" y="${base + 14}" font-weight="700">${flux}</text>` +
      `<text x="${width - right}" y="${base + 14}" text-anchor="end">${f ? "" : RATE}</text>`;
  });
  const bottom = data.fluxes.length * PANEL;
  const months = MONTHS.map((name, m) => {
    const from = left + (m / 12) * (width - left - right), to = left + ((m + 1) / 12) * (width - left - right);
    return `<path class="tp-axis" d="M${from.toFixed(1)} ${bottom - 4}v5"/><text x="${((from + to) / 2).toFixed(1)}" y="${bottom + 12}" text-anchor="middle">${width < 480 ? name[0] : name}</text>`;
  });
  const step = (px) => {
    const share = (px - left) / (width - left - right);
    return Math.min(steps - 1, Math.max(0, Math.floor(scale ? (share * 365) / data.days : share * 12)));
  };
  return { step, svg: `<svg xmlns="${SVG}" viewBox="0 0 ${width} ${bottom + 18}" aria-hidden="true">${parts.join("")}${months.join("")}</svg>` };
}

// A value of a line; that of the first model with its bounds.
function valued(lines, line, f, k) {
  const bounds = [lines[LOWER][f][k], lines[UPPER][f][k]];
  const known = line === MODEL && !bounds.some(Number.isNaN);
  return [say(lines[line][f][k]), known ? `[${bounds.map((v) => say(v, 1)).join(", ")}]` : ""];
}

// Values at one step, and scores of the tower: fluxes down, what is drawn across.
function values(data, tower, lines, scale, at) {
  const dot = `<svg viewBox="0 0 24 10" aria-hidden="true"><circle class="tp-dot" cx="12" cy="5" r="3.5"/></svg>`;
  const line = (name, m) => `<svg viewBox="0 0 24 10" aria-hidden="true"><path class="tp-line tp-of-${m}" style="stroke:var(--tp-${name})" d="M0 5H24"/></svg>`;
  const heads = ["observed", ...data.models].map((name, m) => `<th scope="col">${m ? line(name, m - 1) : dot}${name}</th>`);
  const order = [OBSERVED, ...data.models.map((_, m) => MODEL + m)];
  const body = (title, cell) => `<tbody><tr><th colspan="${order.length + 1}" scope="rowgroup">${title}</th></tr>${data.fluxes
    .map((flux, f) => `<tr><th scope="row">${flux}</th>${order.map((l) => `<td>${cell(f, l)}</td>`).join("")}</tr>`).join("")}</tbody>`;
  const small = ([value, more]) => `${value}${more ? ` <small>${more}</small>` : ""}`;
  const score = (f, l) => (l === OBSERVED ? "" : small([say(tower.r2[l - MODEL][f]), `(${say(tower.rmse[l - MODEL][f])})`]));
  return `<table><thead><tr><td></td>${heads.join("")}</tr></thead>` +
    body(named(data, tower, scale, at), (f, l) => small(valued(lines, l, f, at))) +
    body(`R\u00b2 (RMSE) of ${tower.days.toLocaleString("en")} days`, score) + "</table>";
}

function table(data, tower, lines, scale) {
  const names = ["observed", "lower", "upper", ...data.models];
  const columns = data.fluxes.flatMap((flux, f) => [OBSERVED, ...data.models.map((_, m) => MODEL + m), LOWER, UPPER].map((l) => [`${flux} ${names[l]}`, lines[l][f]]));
  const rows = Array.from({ length: data.steps[scale] }, (_, k) =>
    `<tr><th scope="row">${named(data, tower, scale, k)}</th>${columns.map(([, v]) => `<td>${say(v[k])}</td>`).join("")}</tr>`);
  return `<details><summary>What is drawn as a table</summary><div class="tp-scroll" tabindex="0" role="region" aria-label="Series of ${safe(tower.site)}">` +
    `<table><caption>${safe(tower.site)}, ${RATE}; lower and upper: bounds of the ${data.models[0]}</caption><thead><tr><th scope="col">${scale ? "days" : "month"}</th>` +
    `${columns.map(([name]) => `<th scope="col">${name}</th>`).join("")}</tr></thead><tbody>${rows.join("")}</tbody></table></div></details>`;
}

function start(root) {
  root.dataset.ready = "yes";
  const data = JSON.parse(root.querySelector("[data-tamrl-data]").textContent);
  const towers = new Map(data.towers.map((t) => [t.site, t]));
  const marks = new Map([...root.querySelectorAll("[data-tower-mark]")].map((m) => [m.dataset.towerMark, m]));
  const [map, ring, chart, field] = [".tp-map", ".tp-ring", ".tp-chart", "input"].map((s) => root.querySelector(s));
  const [parts, scales, fluxes] = [".tp-parts", ".tp-scales", ".tp-fluxes"].map((s) => root.querySelector(s));
  let tower = towers.get(data.start), series = unpack(tower.data, data), scale = 0, drawn, seen = [0, 0, 0, 0];
  const at = data.steps.map((n) => n >> 1);

  function draw() {
    const lines = series[scale];
    drawn = panels(data, lines, scale, at[scale], Math.max(280, chart.clientWidth));
    chart.innerHTML = drawn.svg;
    root.querySelector(".tp-values").innerHTML = values(data, tower, lines, scale, at[scale]);
    const words = data.fluxes.map((flux, f) => `${flux}: ${["observed", ...data.models].map((name, m) => `${name} ${valued(lines, m ? MODEL + m - 1 : OBSERVED, f, at[scale]).join(" ").trim()}`).join(", ")}`);
    stand(chart, at[scale], data.steps[scale], `${named(data, tower, scale, at[scale])}. ${words.join("; ")} ${RATE}`);
  }

  function show() {
    draw();
    scales.lastChild.textContent = `Year ${tower.year}`;
    root.querySelector(".tp-numbers").innerHTML = table(data, tower, series[scale], scale);
  }

  // The map shows part of the world, or what lies around the tower, and never leaves that outside.
  function look(part) {
    const [w, h] = NEARBY;
    const px = frame(map, part ?? [tower.x - w / 2, tower.y - h / 2, w, h]);
    seen = map.getAttribute("viewBox").split(" ").map(Number);
    for (const m of marks.values()) m.setAttribute("r", (4.5 * px).toFixed(1));
    ring.setAttribute("r", (8 * px).toFixed(1));
  }

  function choose(site, linked = true) {
    marks.get(tower.site).setAttribute("aria-selected", "false");
    tower = towers.get(site);
    root.dataset.tower = field.value = field.placeholder = site;
    const mark = marks.get(site);
    mark.setAttribute("aria-selected", "true");
    map.setAttribute("aria-activedescendant", mark.id);
    ring.setAttribute("cx", tower.x);
    ring.setAttribute("cy", tower.y);
    const [x, y, w, h] = seen;
    const inside = tower.x > x && tower.x < x + w && tower.y > y && tower.y < y + h;
    if (!inside || parts.lastChild.getAttribute("aria-pressed") === "true") parts.lastChild.click();
    series = unpack(tower.data, data);
    const where = `${say(Math.abs(tower.lat), 1)}\u00b0\u00a0${tower.lat < 0 ? "S" : "N"}, ${say(Math.abs(tower.lon), 1)}\u00b0\u00a0${tower.lon < 0 ? "W" : "E"}`;
    root.querySelector(".tp-title").textContent =
      `${site}${data.virtual ? " (virtual)" : ""}: ${tower.biome}, ${tower.climate.toLowerCase()} climate, ${where}`;
    show();
    if (linked) address(encodeURIComponent(site));
  }

  const linked = () => {
    const name = decodeURIComponent(location.hash.slice(1));
    return data.towers.find((t) => plain(t.site) === plain(name))?.site;
  };
  const biomes = new Map();
  for (const t of data.towers) biomes.set(t.biome, [...(biomes.get(t.biome) ?? []), t.site]);
  finder(field, root.querySelector(".tp-list"), biomes, () => tower.site, choose);
  const places = data.towers.map((t) => ({ name: t.site, x: t.x, y: t.y }));
  onMap(map, places, (mark) => mark.dataset?.towerMark, () => tower, choose);
  root.querySelectorAll(".tp-controls, .tp-scales, .tp-chart, .tp-fluxes").forEach((e) => (e.hidden = false));
  buttons(parts, { ...data.regions, Nearby: null }, look);
  buttons(scales, { "Mean season": 0, Year: 1 }, (to) => ((scale = to), show()));
  buttons(fluxes, Object.fromEntries(data.fluxes.map((flux, f) => [flux, f])), (f) => {
    for (const t of data.towers) marks.get(t.site).dataset.skill = data.skill.filter((limit) => t.r2[0][f] >= limit).length;
  }, data.fluxes.indexOf(data.first));
  chart.setAttribute("aria-label", "Step of the series");
  slide(chart, (px) => drawn.step(px), () => [at[scale], data.steps[scale]], (to) => ((at[scale] = to), draw()));
  root.querySelector(".tp-all").open = false;
  choose(linked() ?? data.start, false);
  if (linked()) root.scrollIntoView();
  window.addEventListener("hashchange", () => linked() && choose(linked(), false));
  onWidth(root, () => (draw(), parts.querySelector("[aria-pressed=true]").click()));
}

for (const root of document.querySelectorAll("[data-tamrl-picker]:not([data-ready])")) start(root);
