// The tower picker: chooses a tower by list, map or keyboard and draws its series. No library, no request.
(() => {
  const UNIT = "gC m\u207b\u00b2 d\u207b\u00b9";
  const PANEL = 132; // px, height of a flux

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
      parts.push(axis(low, high, y, left, width - right));
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
      const name = years === "all" ? tower.first + m : MONTHS[m];
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

    function look(part) {
      const px = frame(map, part);
      for (const m of marks.values()) m.setAttribute("r", (4.5 * px).toFixed(1));
      ring.setAttribute("r", (9 * px).toFixed(1));
    }

    chooser.addEventListener("change", () => choose(chooser.value));
    years.addEventListener("change", redraw);
    const places = data.towers.map((t) => ({ name: t.site, x: t.x, y: t.y }));
    onMap(map, places, (mark) => mark.dataset?.towerMark, () => towers.get(box.dataset.tower), choose);

    const group = box.querySelector(".tp-regions");
    mapParts(group, data.regions, look);
    box.querySelector(".tp-controls").hidden = false;
    box.querySelector(".tp-all").open = false;
    // First the tower with most scored days: there is most to see.
    choose(data.towers.reduce((a, b) => (b.days > a.days ? b : a)).site);
    onWidth(box, () => {
      redraw();
      group.querySelector("[aria-pressed=true]").click();
    });
  }

  for (const box of document.querySelectorAll("[data-tamrl-picker]:not([data-ready])")) start(box);
})();
