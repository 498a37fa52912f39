// The tower picker: chooses a tower by list, map or keyboard and draws its series. No library, no request.
(() => {
  const MINUS = "\u2212";
  const UNIT = "gC m\u207b\u00b2 d\u207b\u00b9";
  const PANEL = 132; // px, height of a flux
  const SVG = "http://www.w3.org/2000/svg";

  const say = (value, digits = 2) =>
    value === null || Number.isNaN(value) ? "\u2013" : value.toFixed(digits).replace("-", MINUS);

  // Whole numbers of 16 bits to fluxes, [series][period]; NaN where nothing is known.
  function unpack(tower, data) {
    const bytes = Uint8Array.from(atob(tower.data), (c) => c.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    const rows = bytes.length / 2 / tower.periods;
    return Array.from({ length: rows }, (_, row) =>
      Array.from({ length: tower.periods }, (_, k) => {
        const whole = view.getInt16(2 * (row * tower.periods + k), true);
        return whole === data.missing ? NaN : whole * data.step;
      }),
    );
  }

  // Round steps of 1, 2 or 5 between which an axis has two to five marks.
  function ticks(low, high) {
    const rough = (high - low) / 4;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= rough);
    const found = [];
    for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-9; v += step) found.push(v);
    return { found, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
  }

  function draw(box, data, tower, series, years) {
    const place = box.querySelector("[data-tamrl-series]");
    const width = Math.max(300, place.clientWidth);
    const left = 46, right = 8, top = 22;
    const height = 3 * PANEL + 26;
    const per = data.periods;
    const from = years === "all" ? 0 : (Number(years) - tower.first) * per;
    const to = years === "all" ? tower.periods : from + per;
    const x = (k) => left + ((k + 0.5 - from) / (to - from)) * (width - left - right);
    const parts = [];
    data.fluxes.forEach((flux, f) => {
      const base = f * PANEL;
      const shown = [series[f], series[f + 3]].map((s) => s.slice(from, to));
      const known = shown.flat().filter((v) => !Number.isNaN(v));
      let low = Math.min(0, ...known), high = Math.max(1, ...known);
      const pad = 0.06 * (high - low);
      [low, high] = [low - pad, high + pad];
      const y = (v) => base + PANEL - 8 - ((v - low) / (high - low)) * (PANEL - top - 8);
      const axis = ticks(low, high);
      for (const v of axis.found) {
        parts.push(`<path class="${Math.abs(v) < 1e-9 ? "tp-axis" : "tp-grid"}" d="M${left} ${y(v).toFixed(1)}H${width - right}"/>`);
        const label = say(Math.abs(v) < 1e-9 ? 0 : v, axis.digits);
        parts.push(`<text x="${left - 6}" y="${(y(v) + 4).toFixed(1)}" text-anchor="end">${label}</text>`);
      }
      parts.push(`<text x="${left}" y="${base + 14}" font-weight="600">${flux} (${UNIT})</text>`);
      let path = "", pen = false;
      for (let k = from; k < to; k++) {
        const v = series[f + 3][k];
        path += Number.isNaN(v) ? "" : `${pen ? "L" : "M"}${x(k).toFixed(1)} ${y(v).toFixed(1)}`;
        pen = !Number.isNaN(v);
      }
      const size = to - from > 300 ? 1.3 : 2.2;
      const dots = [];
      for (let k = from; k < to; k++) {
        const v = series[f][k];
        if (!Number.isNaN(v)) dots.push(`<circle cx="${x(k).toFixed(1)}" cy="${y(v).toFixed(1)}" r="${size}"/>`);
      }
      parts.push(`<g class="tp-observed">${dots.join("")}</g><path class="tp-predicted" d="${path}"/>`);
    });
    const bottom = 3 * PANEL;
    parts.push(`<path class="tp-axis" d="M${left} ${bottom - 4}H${width - right}"/>`);
    const marks = years === "all" ? (to - from) / per : 12;
    const every = Math.ceil((marks * 42) / (width - left - right));
    for (let m = 0; m < marks; m += every) {
      const at = left + (m / marks) * (width - left - right);
      const name = years === "all" ? tower.first + m
        : ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"][m];
      parts.push(`<path class="tp-axis" d="M${at.toFixed(1)} ${bottom - 4}v5"/>`);
      if (at + 30 < width) parts.push(`<text x="${at.toFixed(1)}" y="${bottom + 14}">${name}</text>`);
    }
    const span = years === "all" ? `${tower.first} to ${tower.first + tower.periods / per - 1}` : years;
    const words = `Three panels show means of eight days of ${data.fluxes.join(", ")} at ${tower.site}, ${span}: dots are observed, the line is predicted by ${data.model}.`;
    place.innerHTML = `<svg xmlns="${SVG}" viewBox="0 0 ${width} ${height}" role="img" aria-label="${words}">${parts.join("")}</svg>`;
  }

  // Means of the periods in which a flux is both observed and predicted, a row a year.
  function yearly(data, tower, series) {
    const rows = [];
    for (let year = 0; year < tower.periods / data.periods; year++) {
      const cells = data.fluxes.flatMap((_, f) => {
        const both = [];
        for (let k = year * data.periods; k < (year + 1) * data.periods; k++) {
          const pair = [series[f][k], series[f + 3][k]];
          if (!pair.some(Number.isNaN)) both.push(pair);
        }
        return [0, 1].map((i) => (both.length ? both.reduce((sum, p) => sum + p[i], 0) / both.length : NaN));
      });
      rows.push(`<tr><th scope="row">${tower.first + year}</th>${cells.map((v) => `<td>${say(v)}</td>`).join("")}</tr>`);
    }
    const heads = data.fluxes.map((f) => `<th scope="col">${f} observed</th><th scope="col">${f} predicted</th>`).join("");
    return `<details><summary>Yearly means of ${tower.site} as a table</summary><div class="tp-scroll" tabindex="0" role="region" aria-label="Yearly means of ${tower.site}">` +
      `<table><caption>${UNIT}; means of the eight-day periods that are both observed and predicted.</caption>` +
      `<thead><tr><th scope="col">year</th>${heads}</tr></thead><tbody>${rows.join("")}</tbody></table></div></details>`;
  }

  function start(box) {
    box.dataset.ready = "yes";
    const data = JSON.parse(box.querySelector("[data-tamrl-data]").textContent);
    const towers = new Map(data.towers.map((t) => [t.site, t]));
    const map = box.querySelector(".tp-map");
    const marks = new Map([...map.querySelectorAll("[data-tower-mark]")].map((m) => [m.dataset.towerMark, m]));
    const ring = map.querySelector(".tp-ring");
    const [chooser, years] = box.querySelectorAll("select");
    let series = [];

    const biomes = new Map();
    for (const t of data.towers) biomes.set(t.biome, [...(biomes.get(t.biome) ?? []), t]);
    for (const [biome, members] of biomes) {
      const group = chooser.appendChild(document.createElement("optgroup"));
      group.label = biome;
      for (const t of members) group.appendChild(new Option(t.site, t.site));
    }

    const redraw = () => draw(box, data, towers.get(box.dataset.tower), series, years.value);

    function choose(site) {
      const t = towers.get(site);
      marks.get(box.dataset.tower)?.setAttribute("aria-selected", "false");
      box.dataset.tower = chooser.value = site;
      const mark = marks.get(site);
      mark.setAttribute("aria-selected", "true");
      map.setAttribute("aria-activedescendant", mark.id);
      ring.setAttribute("cx", t.x);
      ring.setAttribute("cy", t.y);
      series = unpack(t, data);
      const span = Array.from({ length: t.periods / data.periods }, (_, i) => String(t.first + i));
      const before = years.value;
      years.replaceChildren(new Option("all years", "all"), ...span.map((y) => new Option(y, y)));
      years.value = span.includes(before) ? before : "all";
      const where = `${say(Math.abs(t.lat), 1)}\u00b0 ${t.lat < 0 ? "S" : "N"}, ${say(Math.abs(t.lon), 1)}\u00b0 ${t.lon < 0 ? "W" : "E"}`;
      const r2 = data.fluxes.map((f, i) => `${f} ${say(t.r2[i])}`).join(", ");
      box.querySelector(".tp-title").textContent =
        `${t.site}${data.virtual ? " (virtual)" : ""}: ${t.biome}, ${t.climate.toLowerCase()} climate, ${where}. R\u00b2 of daily fluxes: ${r2}.`;
      box.querySelector(".tp-numbers").innerHTML = yearly(data, t, series);
      redraw();
    }

    function look(name, button) {
      let [x, y, w, h] = data.regions[name];
      // The frame is twice as wide as high: show more beside or above what was asked for.
      if (w < 2 * h) [x, w] = [x - (2 * h - w) / 2, 2 * h];
      else [y, h] = [y - (w / 2 - h) / 2, w / 2];
      map.setAttribute("viewBox", [x, y, w, h].join(" "));
      const px = w / Math.max(map.clientWidth, 200); // map units a pixel
      for (const m of marks.values()) m.setAttribute("r", (4.5 * px).toFixed(1));
      ring.setAttribute("r", (9 * px).toFixed(1));
      for (const b of button.parentNode.children) b.setAttribute("aria-pressed", String(b === button));
    }

    // The nearest tower within a finger's width of a touch.
    function nearest(event) {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(map.getScreenCTM().inverse());
      const reach = 22 / map.getScreenCTM().a;
      const found = data.towers.map((t) => [Math.hypot(t.x - at.x, t.y - at.y), t.site]).sort((a, b) => a[0] - b[0])[0];
      return found[0] <= reach ? found[1] : null;
    }

    // The tower that lies best in the direction of an arrow key: near, and not far off to the side.
    function beside(dx, dy) {
      const here = towers.get(box.dataset.tower);
      const cost = (t) => {
        const along = (t.x - here.x) * dx + (t.y - here.y) * dy;
        const across = Math.abs((t.x - here.x) * dy - (t.y - here.y) * dx);
        return along <= 0 || across > 2 * along ? Infinity : along + 2 * across;
      };
      const [best] = data.towers.map((t) => [cost(t), t.site]).sort((a, b) => a[0] - b[0]);
      return best[0] < Infinity ? best[1] : null;
    }

    chooser.addEventListener("change", () => choose(chooser.value));
    years.addEventListener("change", redraw);
    map.addEventListener("click", (event) => {
      const site = event.target.dataset?.towerMark ?? nearest(event);
      if (site) choose(site);
    });
    const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    map.addEventListener("keydown", (event) => {
      const way = ARROWS[event.key];
      if (!way) return;
      event.preventDefault();
      const site = beside(...way);
      if (site) choose(site);
    });
    map.setAttribute("tabindex", "0");

    const group = box.querySelector(".tp-regions");
    for (const name of Object.keys(data.regions)) {
      const button = group.appendChild(document.createElement("button"));
      button.type = "button";
      button.textContent = name;
      button.addEventListener("click", () => look(name, button));
    }
    box.querySelector(".tp-controls").hidden = false;
    box.querySelector(".tp-all").open = false;
    look("World", group.firstChild);
    // First the tower with most scored days: there is most to see.
    choose(data.towers.reduce((a, b) => (b.days > a.days ? b : a)).site);
    let last = box.clientWidth;
    new ResizeObserver(() => {
      if (box.clientWidth === last) return;
      last = box.clientWidth;
      redraw();
      group.querySelector("[aria-pressed=true]").click();
    }).observe(box);
  }

  for (const box of document.querySelectorAll("[data-tamrl-picker]:not([data-ready])")) start(box);
})();
