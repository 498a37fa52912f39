// The region explorer: chooses regions by typing, list, map, keyboard or address, and draws their seasons.
const YEAR = ["PgC yr\u207b\u00b9", "gC m\u207b\u00b2 yr\u207b\u00b9"];
const MOST = 3; // regions shown beside each other
// Three significant digits of the largest.
const decimals = (...all) => Math.min(4, Math.max(0, 2 - Math.floor(Math.log10(Math.max(1e-9, ...all.map(Math.abs))))));
// A sum of the year and its bounds, to as many decimals.
const sums = (r, f) => {
  const all = [r.total[f], r.lower[f], r.upper[f]].filter((v) => v !== null);
  const [total, ...bounds] = all.map((v) => say(v, decimals(...all)));
  return [total, bounds.length ? `[${bounds.join(", ")}]` : ""];
};
const percent = (share) => `${(100 * share).toFixed(0)} %`;

// Lines by flux and region, with the values of month ``at``; panels beside each other if there is room.
function panels(data, shown, at, width) {
  const beside3 = width >= 560;
  const w = beside3 ? width / 3 : width, h = beside3 ? 220 : 160;
  const left = 40, right = shown.length > 1 ? 18 : 8, top = shown.length > 1 ? 44 : 28, bottom = 20;
  const span = (fluxes) => {
    const all = shown.flatMap((r) => fluxes.flatMap((f) => r.months[f]));
    const [low, high] = [Math.min(0, ...all), Math.max(0.5, ...all)];
    return [low - 0.06 * (high - low), high + 0.06 * (high - low)];
  };
  const x = (m) => left + ((m + 0.5) / 12) * (w - left - right);
  const parts = data.fluxes.map((flux, f) => {
    const [low, high] = span(f < 2 ? [0, 1] : [2]); // GPP and RECO on one scale
    const y = (v) => top + ((high - v) / (high - low)) * (h - top - bottom);
    const values = shown.map((r) => say(r.months[f][at]));
    // Of several regions each value stands after its number, below the name of the flux.
    const words = shown.length > 1 ? `<text x="${left}" y="31">${values.map((v, i) => `<tspan font-weight="700">${i + 1}</tspan>\u2009${v}`).join("\u2003")}</text>` : "";
    const lines = shown.map((r, i) => {
      const points = r.months[f].map((v, m) => `${x(m).toFixed(1)} ${y(v).toFixed(1)}`);
      return `<path class="tr-line tr-${i}" d="M${points.join("L")}"/><circle cx="${x(at)}" cy="${y(r.months[f][at])}" r="4"/>`;
    });
    // Numbers of regions at the ends of their lines, apart from each other.
    let last = -Infinity;
    const ends = shown.map((r, i) => ({ i, y: y(r.months[f][11]) })).sort((a, b) => a.y - b.y)
      .map((e) => `<text x="${w - right + 4}" y="${(last = Math.max(e.y + 4, last + 13))}" font-weight="600">${e.i + 1}</text>`);
    const months = MONTHS.map((name, m) => `<text x="${x(m).toFixed(1)}" y="${h - 4}" text-anchor="middle"${m === at ? ' font-weight="700"' : ""}>${name[0]}</text>`);
    return `<g transform="translate(${beside3 ? f * w : 0} ${beside3 ? 0 : f * h})" style="--tr-flux:var(--tr-${flux})">` +
      `<path class="tr-at" d="M${x(at)} ${top}V${h - bottom}"/>${axis(low, high, y, left, w - right)}${lines.join("")}` +
      `${shown.length > 1 ? ends.join("") : ""}${months.join("")}<text x="${left}" y="14" font-weight="700">${flux}</text>` +
      `<text x="${w - right}" y="14" text-anchor="end">${MONTHS[at]}${words ? "" : ` ${values[0]}`}</text>${words}</g>`;
  });
  const month = (px) => Math.min(11, Math.max(0, Math.floor(((px % w) - left) / ((w - left - right) / 12))));
  return { month, svg: `<svg xmlns="${SVG}" viewBox="0 0 ${width} ${beside3 ? h : 3 * h}" aria-hidden="true">${parts.join("")}</svg>` };
}

// A region's sums with bounds, means as bars on the scale of all shown, and the share that is applicable.
function card(data, shown, r, i) {
  const half = (of, f) => (of.lower[f] === null ? 0 : Math.abs(((of.upper[f] - of.lower[f]) / 2) * (of.mean[f] / of.total[f] || 0)));
  const ends = shown.flatMap((of) => of.mean.flatMap((v, f) => [v - half(of, f), v + half(of, f)]));
  const [low, high] = [Math.min(0, ...ends), Math.max(1, ...ends)];
  const x = (v) => (100 * (v - low)) / (high - low);
  const rows = data.fluxes.map((flux, f) => {
    const [v, [total, bounds]] = [r.mean[f], sums(r, f)];
    const bar = `<rect x="${Math.min(x(0), x(v))}" width="${Math.abs(x(v) - x(0))}" y="3" height="10"/>` +
      `<path d="M${x(v - half(r, f))} 8H${x(v + half(r, f))}M${x(0)} 0V16"/>`;
    return `<tr style="--tr-flux:var(--tr-${flux})"><th scope="row">${flux}</th><td><b>${total}</b><small>${bounds}</small></td>` +
      `<td>${say(v, 0)}</td></tr><tr class="tr-bar" style="--tr-flux:var(--tr-${flux})" aria-hidden="true"><td colspan="3">` +
      `<svg viewBox="0 0 100 16" preserveAspectRatio="none">${bar}</svg></td></tr>`;
  });
  const part = r.mapped < 0.995 ? `; ${percent(r.mapped)} is mapped` : "";
  return `<section class="tr-card" aria-label="${safe(r.name)}"><p class="tr-name">${shown.length > 1 ? `<b class="tr-number">${i + 1}</b> ` : ""}` +
    `<b>${safe(r.name)}</b>${i ? `<button type="button" data-drop="${safe(r.name)}" aria-label="Leave out ${safe(r.name)}">\u00d7</button>` : ""}` +
    `<small>${data.kinds[r.kind][0]}, ${say(r.area, decimals(r.area))} million km\u00b2</small></p>` +
    `<table><thead><tr><td></td>${YEAR.map((u) => `<th scope="col">${u}</th>`).join("")}</tr></thead><tbody>${rows.join("")}</tbody></table>` +
    `<p class="tr-share"><span aria-hidden="true"><i style="width:${100 * r.inside}%"></i><i style="width:${100 * (r.mapped - r.inside)}%"></i></span>` +
    `<small><b>${percent(r.inside)}</b> of the land is within the area of applicability${part}</small></p></section>`;
}

function table(data, shown) {
  const columns = shown.flatMap((r) => data.fluxes.map((flux, f) => [`${flux} ${safe(r.name)}`, r.months[f]]));
  const rows = LONG.map((month, m) => `<tr><th scope="row">${month}</th>${columns.map(([, v]) => `<td>${say(v[m])}</td>`).join("")}</tr>`);
  return `<details><summary>The months as a table</summary><div class="tp-scroll" tabindex="0" role="region" aria-label="The months as a table"><table><caption>${RATE}</caption>` +
    `<thead><tr><th scope="col">month</th>${columns.map(([name]) => `<th scope="col">${name}</th>`).join("")}</tr></thead><tbody>${rows.join("")}</tbody></table></div></details>`;
}

function start(root) {
  root.dataset.ready = "yes";
  const data = JSON.parse(root.querySelector("[data-tamrl-data]").textContent);
  const regions = new Map(data.regions.map((r) => [r.name, r]));
  const places = new Map(data.places.map((p) => [p.name, p]));
  const [map, chart, field, add] = [".tp-map", ".tr-chart", "input", ".tr-add"].map((s) => root.querySelector(s));
  let picked = [], month = 6, drawn, pixel = 1;

  function draw() {
    const shown = picked.map((name) => regions.get(name));
    drawn = panels(data, shown, month, Math.max(280, chart.clientWidth));
    chart.innerHTML = drawn.svg;
    const values = shown.map((r) => `${r.name}: ${data.fluxes.map((flux, f) => `${flux} ${say(r.months[f][month])}`).join(", ")}`);
    stand(chart, month, 12, `${LONG[month]}. ${values.join("; ")} ${RATE}`);
  }

  function show(names, linked = true) {
    picked = names;
    const shown = names.map((name) => regions.get(name));
    root.dataset.region = field.value = field.placeholder = names[0];
    add.setAttribute("aria-pressed", "false");
    add.disabled = names.length === MOST;
    for (const path of map.querySelectorAll("[data-of]")) {
      path.dataset.at = names.findIndex((name) => [path.dataset.of, path.dataset.in].includes(name));
      if (path.id) path.setAttribute("aria-selected", String(names.includes(path.dataset.of)));
    }
    const belts = shown.filter((r) => r.belt).map(({ belt: [x, y, w, h] }) => `M${x} ${y}h${w}v${h}h${-w}z`);
    map.querySelector(".tr-belt").setAttribute("d", belts.join(""));
    map.setAttribute("aria-activedescendant", map.querySelector("[aria-selected=true]")?.id ?? "");
    root.querySelector(".tp-title").textContent = `${data.virtual ? "Virtual towers. " : ""}${names.join(", ")}: NEE ` +
      `${shown.map((r) => sums(r, 2)[0]).join(", ")} ${YEAR[0]}`;
    root.querySelector(".tr-cards").innerHTML = shown.map((r, i) => card(data, shown, r, i)).join("");
    root.querySelector(".tr-months").innerHTML = table(data, shown);
    draw();
    number();
    if (!linked) return;
    const words = new URLSearchParams([["region", names[0]], ...names.slice(1).map((n) => ["with", n])]);
    address(words);
  }

  // Numbers of the countries shown, in the size of text at any part of the map.
  function number() {
    const some = picked.length > 1 ? picked : [];
    map.querySelector(".tr-numbers").innerHTML = some.map((name, i) => {
      const p = places.get(name);
      return p ? `<circle cx="${p.x}" cy="${p.y}" r="${9 * pixel}"/><text x="${p.x}" y="${p.y + 4 * pixel}" font-size="${12 * pixel}">${i + 1}</text>` : "";
    }).join("");
  }

  const choose = (name) => {
    const others = picked.filter((n) => n !== name);
    if (add.getAttribute("aria-pressed") === "true") show([...others, name].slice(0, MOST));
    else show([name, ...picked.slice(1).filter((n) => n !== name)]);
  };
  const linked = () => {
    const words = new URLSearchParams(location.hash.slice(1));
    const names = [words.get("region"), ...words.getAll("with")].map((w) => data.regions.find((r) => w && plain(r.name) === plain(w))?.name);
    return [...new Set(names.filter(Boolean))].slice(0, MOST);
  };
  const step = (to) => {
    month = to;
    draw();
  };

  const kinds = Object.entries(data.kinds).map(([kind, [, all]]) => {
    const names = data.regions.filter((r) => r.kind === kind).map((r) => r.name);
    return [all, kind === "country" ? names.sort((a, b) => a.localeCompare(b)) : names];
  });
  finder(field, root.querySelector(".tp-list"), kinds, () => picked[0], choose);
  onMap(map, data.places, (mark) => mark.dataset?.of, () => places.get(picked[0]) ?? { x: 0, y: -100 }, choose);
  add.addEventListener("click", () => {
    const on = add.getAttribute("aria-pressed") !== "true";
    add.setAttribute("aria-pressed", String(on));
    if (!on) return;
    field.focus();
    field.value = "";
    field.placeholder = "type, or pick on the map";
  });
  root.addEventListener("click", (event) => {
    const name = event.target.dataset?.drop;
    if (!name) return;
    show(picked.filter((n) => n !== name));
    field.focus({ preventScroll: true });
  });
  chart.setAttribute("aria-label", "Month of the seasonal cycle");
  slide(chart, (px) => drawn.month(px), () => [month, 12], step);
  root.querySelector(".tp-controls").hidden = chart.hidden = false;
  const group = root.querySelector(".tp-regions");
  buttons(group, data.parts, (part) => ((pixel = frame(map, part)), number()));
  // First the country with the largest GPP, unless the address names another region.
  const countries = data.regions.filter((r) => r.kind === "country").sort((a, b) => b.total[0] - a.total[0]);
  const named = linked();
  show(named.length ? named : [(countries[0] ?? data.regions[0]).name], false);
  if (named.length) root.scrollIntoView();
  window.addEventListener("hashchange", () => linked().length && show(linked(), false));
  onWidth(root, () => (draw(), group.querySelector("[aria-pressed=true]").click()));
}

for (const root of document.querySelectorAll("[data-tamrl-regions]:not([data-ready])")) start(root);
