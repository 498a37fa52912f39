// Walks through the built book as readers do and writes down what is wrong, without judging.
//   node walk.mjs BASE_URL PAGES.json REPORT.json SCREENSHOTS [CHROMIUM]
// BASE_URL ends with "/"; PAGES.json lists the pages relative to it; REPORT.json gets
// {pages, problems: [{kind, page, view, theme, detail}]}. tests/test_browser.py judges it.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const [base, pagesFile, reportFile, shots, executablePath = "/usr/bin/chromium"] =
  process.argv.slice(2);
const pages = JSON.parse(readFileSync(pagesFile, "utf8"));
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const HEAVIEST = 1.5e6; // bytes of a page with its scripts and style sheets
const FINDS = { "support set": ["model"], download: ["data", "reproducing"], Amazon: ["map", "limits", "11_trust"] };
const VIEWS = { desktop: { width: 1280, height: 900 }, phone: { width: 390, height: 844 } };
const origin = new URL(base).origin;
const problems = [];
const links = new Map(); // target URL -> the page that links there first
const ids = new Map(); // page URL -> ids that fragments may name

// A page in a fresh context; what it says on the console and asks of the network is written down.
async function open(browser, view, theme, where) {
  const context = await browser.newContext({
    viewport: VIEWS[view],
    isMobile: view === "phone",
    hasTouch: view === "phone",
    colorScheme: theme,
    reducedMotion: "reduce",
  });
  await context.addInitScript((mode) => {
    localStorage.setItem("mode", mode);
    localStorage.setItem("theme", mode);
  }, theme);
  const note = (kind, detail) => problems.push({ kind, page: where.page, view, theme, detail });
  await context.route("**/*", (route) => {
    const url = route.request().url();
    if (new URL(url).origin === origin || /^(data|blob):/.test(url)) return route.continue();
    note("off-origin request", url);
    return route.abort();
  });
  const page = await context.newPage();
  page.setDefaultTimeout(15000);
  page.on("console", (m) => {
    if (m.type() === "error") note("console error", `${m.text()} (${m.location().url})`);
  });
  page.on("pageerror", (error) => note("console error", String(error)));
  page.on("response", (r) => {
    if (r.status() >= 400) note("broken request", `${r.status()} ${r.url()}`);
    else if (!r.url().startsWith(base) && r.url().startsWith(origin))
      note("broken request", `leaves the sub-path: ${r.url()}`);
  });
  return { page, note };
}

async function visit(page, name) {
  await page.goto(base + name, { waitUntil: "load" });
  await page.evaluate(async () => {
    document.querySelectorAll("img[loading=lazy]").forEach((img) => (img.loading = "eager"));
    await Promise.all([...document.images].map((img) => img.decode().catch(() => {})));
    // MathJax comes deferred, and only on pages with mathematics.
    if (document.querySelector("script[src*=mathjax i]")) {
      while (!window.MathJax?.startup?.promise) await new Promise((next) => setTimeout(next, 50));
      await window.MathJax.startup.promise;
    }
    await document.fonts.ready;
  });
}

// Runs in the page: what one look at its content finds, as [kind, detail] pairs.
function look(theme) {
  const found = [];
  const article = document.querySelector("article.bd-article");
  if (!article) return [["no content", "the page has no article"]];
  const root = document.documentElement;
  if (root.dataset.theme !== theme) found.push(["theme", `shows ${root.dataset.theme}`]);
  for (const img of document.images) {
    const alt = img.getAttribute("alt");
    const src = decodeURIComponent(img.getAttribute("src") ?? "");
    const file = src.split("/").pop();
    if (!img.naturalWidth) found.push(["broken image", src.slice(0, 120)]);
    const hidden = img.closest("[aria-hidden=true]") || img.getAttribute("role") === "presentation";
    if (!alt?.trim() && !hidden) found.push(["no alt text", src.slice(0, 120)]);
    else if (article.contains(img) && !hidden && (alt.includes(file) || !/\s\S+\s/.test(alt)))
      found.push(["poor alt text", `${file}: "${alt}"`]);
  }
  if (root.scrollWidth > root.clientWidth + 1) {
    const wide = [...article.querySelectorAll("*")].filter(
      (e) => e.getBoundingClientRect().right > root.clientWidth + 1 && !e.children.length,
    );
    const what = wide[0] ? `${wide[0].tagName} "${wide[0].textContent.slice(0, 40)}"` : "?";
    found.push(["overflow", `${root.scrollWidth} px wide in ${root.clientWidth} px, by ${what}`]);
  }
  const all = [...article.querySelectorAll("h1,h2,h3,h4,h5,h6")];
  const heads = all.filter((h) => h.checkVisibility()); // the theme hides one for print
  const level = (h) => Number(h.tagName[1]);
  if (heads.filter((h) => level(h) === 1).length !== 1) found.push(["headings", "not one h1"]);
  if (heads.length && level(heads[0]) !== 1) found.push(["headings", `begins with "${heads[0].textContent}"`]);
  heads.slice(1).forEach((h, i) => {
    if (level(h) > level(heads[i]) + 1) found.push(["headings", `jump to "${h.textContent}"`]);
  });
  // What is read aloud, or reached by the tabulator, comes in the order in which it is seen.
  for (const part of [article, ...article.querySelectorAll("section")]) {
    let last = -Infinity;
    for (const block of part.children) {
      const { position, float } = getComputedStyle(block);
      if (!block.checkVisibility() || position === "absolute" || float !== "none") continue;
      const { top, height } = block.getBoundingClientRect();
      if (height && top < last - 1) found.push(["reading order", `above what precedes it: "${block.textContent.trim().slice(0, 40)}"`]);
      if (height) last = top;
    }
  }
  for (const element of document.querySelectorAll("[tabindex]"))
    if (element.tabIndex > 0) found.push(["reading order", `tabindex ${element.tabIndex} on ${element.tagName}`]);
  for (const error of article.querySelectorAll(".traceback, mjx-merror"))
    found.push(["error shown", error.textContent.slice(0, 120)]);
  const prose = article.cloneNode(true);
  prose.querySelectorAll("pre, code, script, style, mjx-container").forEach((e) => e.remove());
  const raw = prose.textContent.match(/\{[a-z:]+\}\s*`|\{\{.*?\}\}|\$\$|\\\(|\bglue:text\b/);
  if (raw) found.push(["raw markup", raw[0]]);
  return found;
}

// What a page asks for besides pictures: itself, its scripts and style sheets, unpacked.
async function weigh(page, note) {
  const bytes = await page.evaluate(async () => {
    const text = await (await fetch(location.href)).text();
    const bare = text.replace(/<svg\b.*?<\/svg>|data:image\/[^"]*/gs, "");
    const files = performance.getEntriesByType("resource").filter(({ name }) => /\.(js|css)$/.test(new URL(name).pathname));
    const sizes = new Map(files.map((file) => [file.name, file.decodedBodySize]));
    return [...sizes.values()].reduce((sum, size) => sum + size, new TextEncoder().encode(bare).length);
  });
  if (bytes > HEAVIEST) note("weight", `${(bytes / 1e6).toFixed(2)} MB without its pictures`);
  const tags = await page.evaluate(() => ["description", "og:title", "og:description", "twitter:card"].filter((name) => !document.querySelector(`meta[name="${name}"], meta[property="${name}"]`)?.content));
  if (tags.length) note("preview", `has no ${tags.join(", ")}`);
}

async function contents(page, name) {
  const got = await page.evaluate(() => ({
    hrefs: [...document.querySelectorAll("a[href]")].map((a) => a.href),
    ids: [...document.querySelectorAll("[id], a[name]")].map((e) => e.id || e.name),
  }));
  ids.set(base + name, new Set(got.ids));
  for (const href of got.hrefs)
    if (href.startsWith(origin) && !links.has(href)) links.set(href, name);
}

async function accessibility(page, note) {
  if (!(await page.evaluate(() => Boolean(window.axe)))) await page.evaluate(axe);
  const { violations } = await page.evaluate(() => {
    const content = document.querySelector("article.bd-article");
    return window.axe.run(content, { resultTypes: ["violations"] });
  });
  for (const v of violations.filter((v) => ["serious", "critical"].includes(v.impact)))
    for (const node of v.nodes.slice(0, 5)) {
      const why = node.any[0]?.message ?? v.help;
      note("accessibility", `${v.id}, ${v.nodes.length} times: ${why} | ${node.html.slice(0, 120)}`);
    }
}

async function checkLinks(request) {
  for (const [href, page] of links) {
    const [url, fragment] = href.split("#");
    const note = (detail) => problems.push({ kind: "broken link", page, detail });
    if (!url.startsWith(base)) {
      note(`leaves the sub-path: ${href}`);
      continue;
    }
    const target = url.endsWith("/") ? `${url}index.html` : url.split("?")[0];
    if (ids.has(target)) {
      const known = !fragment || ids.get(target).has(decodeURIComponent(fragment));
      if (!known) note(`no such place: ${href}`);
    } else if ((await request.head(target)).status() >= 400) note(`no such page: ${href}`);
  }
}

// The search dialogue finds the pages on what readers look for.
async function search(browser, view) {
  const where = { page: "index.html" };
  const { page, note } = await open(browser, view, "light", where);
  for (const [phrase, wanted] of Object.entries(FINDS)) {
    where.page = "index.html";
    await visit(page, "index.html");
    await page.locator(".search-button__button:visible").first().click();
    const field = page.locator("input[name=q]:visible").first();
    await field.fill(phrase);
    await field.press("Enter");
    where.page = "search.html";
    for (const name of wanted) {
      const found = page.locator(`#search-results li a[href*="${name}.html"]`).first();
      await found.waitFor().catch(() => note("search", `"${phrase}" does not find ${name}`));
    }
  }
  await page.screenshot({ path: `${shots}/search-${view}.png` });
  await page.context().close();
}

async function sidebar(browser, view) {
  const { page, note } = await open(browser, view, "light", { page: "index.html" });
  await visit(page, "index.html");
  const shown = () =>
    page.evaluate(() => {
      const bar = document.querySelector(".bd-sidebar-primary");
      const box = bar.getBoundingClientRect();
      return box.width > 0 && box.right > 0 && getComputedStyle(bar).visibility === "visible";
    });
  const turns = async (wanted, how) => {
    for (let i = 0; i < 40 && (await shown()) !== wanted; i++) await page.waitForTimeout(50);
    if ((await shown()) !== wanted) note("sidebar", `does not ${wanted ? "open" : "close"} by ${how}`);
    await page.waitForTimeout(500); // it slides
  };
  const toggle = page.locator(".primary-toggle:visible").first();
  const first = view === "desktop";
  await turns(first, "itself");
  await toggle.click();
  await turns(!first, "its button");
  if (view === "phone") {
    await page.screenshot({ path: `${shots}/sidebar-phone.png` });
    // Beside the open sidebar lies the overlay; a touch there closes it.
    await page.touchscreen.tap(VIEWS.phone.width - 8, 500);
    await turns(false, "a touch beside it");
    await toggle.click();
    await turns(true, "its button again");
    const link = page.locator(".bd-sidebar-primary .bd-links a:visible").nth(1);
    const href = await link.getAttribute("href");
    await link.click();
    await page.waitForLoadState();
    if (!page.url().endsWith(href.split("/").pop())) note("sidebar", `its link ${href} leads to ${page.url()}`);
  } else {
    await toggle.click();
    await turns(true, "its button again");
  }
  await page.context().close();
}

// A page with a tower explorer: typing, map, keys and address choose towers, whose series change.
async function picker(browser, name, view, theme) {
  const { page, note } = await open(browser, view, theme, { page: name });
  await visit(page, name);
  const box = page.locator("[data-tamrl-picker]").first();
  const [field, map, chart] = ["input[role=combobox]", ".tp-map", ".tp-chart"].map((s) => box.locator(s));
  const state = () => box.evaluate((e) => e.dataset.tower ?? "");
  // Every way to another tower must leave that tower's name, words, lines, numbers and address behind.
  const turns = async (how, act, wanted) => {
    const [before, drawn, numbers] = [await state(), await chart.innerHTML(), await box.locator(".tp-values").innerHTML()];
    await act();
    const now = await state();
    if (wanted ? now !== wanted : now === before) note("picker", `${how}: shows ${now} after ${before}`);
    if ((await field.inputValue()) !== now) note("picker", `${how}: the field says another tower`);
    if ((await chart.innerHTML()) === drawn) note("picker", `${how}: the series stay the same`);
    if ((await box.locator(".tp-values").innerHTML()) === numbers) note("picker", `${how}: the numbers stay the same`);
    if (!(await box.locator("[aria-live]").textContent()).includes(now)) note("picker", `${how}: the words name another tower`);
    if (new URL(page.url()).hash !== `#${encodeURIComponent(now)}`) note("picker", `${how}: the address is ${page.url()}`);
    // The map follows: the tower's mark lies within its frame.
    const inside = await box.evaluate((e) => {
      const [mark, frame] = ["[data-tower-mark][aria-selected=true]", ".tp-map"].map((s) => e.querySelector(s).getBoundingClientRect());
      return mark.left >= frame.left && mark.right <= frame.right && mark.top >= frame.top && mark.bottom <= frame.bottom;
    });
    if (!inside) note("picker", `${how}: the map shows another part`);
  };
  const type = async (text) => {
    await field.click();
    await page.keyboard.type(text);
    await page.keyboard.press("Enter");
  };
  const data = await box.evaluate((e) => JSON.parse(e.querySelector("[data-tamrl-data]").textContent));
  const sites = data.towers.map((t) => t.site);
  if (sites.length < 3) note("picker", `has ${sites.length} towers`);
  const first = await state();
  if (first !== data.start) note("picker", `begins with ${first}, not with ${data.start}`);
  const drawn = async () => [await chart.locator("path.tp-line").count(), await chart.locator(".tp-observed circle").count()];
  const [lines, dots] = await drawn();
  if (lines !== 3 * data.models.length || dots < 6) note("picker", `draws ${lines} lines and ${dots} dots`);
  const other = sites.find((t) => t !== first);
  await turns("typing", () => type(other), other);
  await turns("keys in the list", async () => {
    await field.focus();
    for (const key of [...(other === sites[0] ? ["ArrowDown"] : []), "ArrowDown", "Enter"]) await page.keyboard.press(key);
  });
  await field.click();
  await page.keyboard.type("no such tower");
  await page.keyboard.press("Escape");
  if (await box.locator(".tp-list:visible").count()) note("picker", "the list stays open");
  const mark = box.locator(`[data-tower-mark]:not([data-tower-mark="${await state()}"])`).first();
  const aim = await mark.getAttribute("data-tower-mark");
  await turns("mark", () => mark.dispatchEvent("click"), aim);
  await turns("arrow keys on the map", async () => {
    await map.focus();
    for (const key of ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"]) {
      await page.keyboard.press(key);
      if ((await state()) !== aim) break;
    }
  });
  // A real touch or click a little beside the mark of a tower that stands apart.
  await box.locator(".tp-parts button").first().click();
  const far = await box.evaluate((e) => {
    const marks = [...e.querySelectorAll("[data-tower-mark]")].map((m) => {
      const r = m.getBoundingClientRect();
      return { site: m.dataset.towerMark, x: r.x + r.width / 2, y: r.y + r.height / 2 };
    });
    const alone = (m) => Math.min(...marks.filter((o) => o !== m).map((o) => Math.hypot(o.x - m.x, o.y - m.y)));
    const frame = e.querySelector(".tp-map").getBoundingClientRect();
    return marks
      .filter((m) => m.site !== e.dataset.tower)
      .sort((a, b) => alone(b) - alone(a))
      .map((m) => ({ site: m.site, x: m.x - frame.x, y: m.y - frame.y }))[0];
  });
  const position = { x: far.x + 6, y: far.y };
  await turns("a touch on the map", () => (view === "phone" ? map.tap({ position }) : map.click({ position })), far.site);
  for (const button of await box.locator(".tp-parts button").all()) {
    const seen = await map.getAttribute("viewBox");
    const on = (await button.getAttribute("aria-pressed")) === "true";
    await button.click();
    if (!on && (await map.getAttribute("viewBox")) === seen) note("picker", "a part of the map stays the same");
    await box.screenshot({ path: `${shots}/picker-${(await button.textContent()).replace(/\W+/g, "-")}-${view}-${theme}.png` });
  }
  // Near a tower, the map goes along with the next one.
  await turns("typing, nearby", () => type(first), first);
  const colours = () => box.locator("[data-tower-mark]").evaluateAll((all) => all.map((m) => m.dataset.skill).join(""));
  const skill = await colours();
  await box.locator(".tp-fluxes button", { hasText: data.fluxes.find((f) => f !== data.first) }).click();
  if ((await colours()) === skill) note("picker", "another flux leaves the colours");
  const season = await chart.innerHTML();
  await box.locator(".tp-scales button").last().click();
  if ((await chart.innerHTML()) === season) note("picker", "the year looks like the season");
  const words = await chart.getAttribute("aria-valuetext");
  await chart.focus();
  await page.keyboard.press("ArrowRight");
  if ((await chart.getAttribute("aria-valuetext")) === words) note("picker", "an arrow key leaves the values");
  if (!/GPP: observed .*ensemble .*NEE:/.test(words)) note("picker", `the values are "${words}"`);
  await chart.hover({ position: { x: 60, y: 60 } });
  if (Number(await chart.getAttribute("aria-valuenow")) > 8) note("picker", "the pointer leaves the values");
  await box.locator("details").evaluateAll((folds) => folds.forEach((f) => (f.open = true)));
  (await page.evaluate(look, theme)).forEach(([kind, detail]) => note(kind, detail));
  await accessibility(page, note);
  await box.locator("details").evaluateAll((folds) => folds.forEach((f) => (f.open = false)));
  await box.screenshot({ path: `${shots}/picker-${view}-${theme}.png` });
  await page.goto(`${base}${name}#${encodeURIComponent(other)}`);
  await page.reload({ waitUntil: "load" });
  if ((await state()) !== other) note("picker", `the address shows ${await state()}`);
  await page.context().close();
}

// A page with a region explorer: typing, map, keys and address choose regions, whose seasons change.
async function regions(browser, name, view, theme) {
  const { page, note } = await open(browser, view, theme, { page: name });
  await visit(page, name);
  const box = page.locator("[data-tamrl-regions]").first();
  const [field, map, chart] = ["input[role=combobox]", ".tp-map", "[role=slider]"].map((s) => box.locator(s));
  const shown = () => box.evaluate((e) => [...e.querySelectorAll(".tr-card")].map((c) => c.getAttribute("aria-label")));
  const turns = async (how, act, wanted) => {
    const [drawn, before] = [await chart.innerHTML(), await shown()];
    await act();
    const now = await shown();
    if (wanted ? now.join() !== wanted.join() : now.join() === before.join()) note("regions", `${how}: shows ${now} after ${before}`);
    if ((await chart.innerHTML()) === drawn) note("regions", `${how}: the seasons stay the same`);
    if ((await field.inputValue()) !== now[0]) note("regions", `${how}: the field says another region`);
    if (!(await box.locator("[aria-live]").textContent()).includes(now.at(-1))) note("regions", `${how}: the words name another region`);
    if ((await chart.locator("path.tr-line").count()) !== 3 * now.length) note("regions", `${how}: not three lines a region`);
    const linked = new URLSearchParams(new URL(page.url()).hash.slice(1));
    if (linked.get("region") !== now[0]) note("regions", `${how}: the address names ${linked.get("region")}`);
  };
  const type = async (text) => {
    await field.click();
    await page.keyboard.type(text);
    await page.keyboard.press("Enter");
  };
  await turns("typing", () => type("globe"), ["Globe"]);
  await turns("keys in the list", async () => {
    await field.focus();
    for (const key of ["ArrowDown", "ArrowDown", "ArrowDown", "Enter"]) await page.keyboard.press(key);
  });
  await field.click();
  await page.keyboard.type("no such region");
  await page.keyboard.press("Escape");
  if (await box.locator(".tp-list:visible").count()) note("regions", "the list stays open");
  // The largest country on the map, where its place is.
  const largest = await box.evaluate((e) => {
    const size = (p) => p.getBBox().width * p.getBBox().height;
    return [...e.querySelectorAll("path[role=option]")].sort((a, b) => size(b) - size(a))[0].dataset.of;
  });
  const position = await box.evaluate((e, name) => {
    const { places } = JSON.parse(e.querySelector("[data-tamrl-data]").textContent);
    const [svg, place] = [e.querySelector(".tp-map"), places.find((p) => p.name === name)];
    const at = new DOMPoint(place.x, place.y).matrixTransform(svg.getScreenCTM());
    const frame = svg.getBoundingClientRect();
    return { x: at.x - frame.x, y: at.y - frame.y };
  }, largest);
  await turns("a touch on the map", () => (view === "phone" ? map.tap({ position }) : map.click({ position })), [largest]);
  await turns("arrow keys on the map", async () => {
    await map.focus();
    for (const key of ["ArrowDown", "ArrowUp"]) {
      await page.keyboard.press(key);
      if ((await shown())[0] !== largest) break;
    }
  });
  const first = (await shown())[0];
  const compare = async (text) => {
    await box.locator(".tr-add").click();
    await type(text);
  };
  await turns("a comparison", () => compare("globe"), [first, "Globe"]);
  const more = await box.evaluate((e) => JSON.parse(e.querySelector("[data-tamrl-data]").textContent).regions.find((r) => r.kind === "biome").name);
  await turns("another comparison", () => compare(more), [first, "Globe", more]);
  if (await box.locator(".tr-add").isEnabled()) note("regions", "offers a fourth region");
  await box.locator("details").evaluateAll((folds) => folds.forEach((f) => (f.open = true)));
  (await page.evaluate(look, theme)).forEach(([kind, detail]) => note(kind, detail));
  await accessibility(page, note);
  await box.locator("details").evaluateAll((folds) => folds.forEach((f) => (f.open = false)));
  await box.screenshot({ path: `${shots}/regions-${view}-${theme}.png` });
  await turns("leaving one out", () => box.locator("[data-drop]").first().click(), [first, more]);
  const month = await chart.getAttribute("aria-valuetext");
  await chart.focus();
  await page.keyboard.press("ArrowRight");
  if ((await chart.getAttribute("aria-valuetext")) === month) note("regions", "an arrow key leaves the month");
  await chart.hover({ position: { x: 60, y: 60 } });
  if ((await chart.getAttribute("aria-valuenow")) > "3") note("regions", "the pointer leaves the month");
  await page.goto(`${base}${name}#region=${encodeURIComponent(more)}&with=${encodeURIComponent(first)}`);
  await page.reload({ waitUntil: "load" });
  if ((await shown()).join() !== [more, first].join()) note("regions", `the address shows ${await shown()}`);
  await page.context().close();
}

// Without JavaScript a table of all regions is there, folded by kind.
async function unscriptedRegions(browser, name) {
  const context = await browser.newContext({ javaScriptEnabled: false, viewport: VIEWS.desktop });
  const page = await context.newPage();
  const note = (detail) => problems.push({ kind: "regions", page: name, view: "no JavaScript", detail });
  await page.goto(base + name, { waitUntil: "load" });
  const box = page.locator("[data-tamrl-regions]").first();
  const rows = await box.locator("details tbody tr").count();
  const marks = await box.locator("path[role=option]").count();
  if (rows <= marks || !marks) note(`the tables have ${rows} rows, the map ${marks} countries`);
  await box.locator("summary").last().click();
  if (!(await box.locator("details tbody tr:visible").count())) note("a fold does not open");
  if (await box.locator("input:visible, [role=slider]:visible").count()) note("shows a field that does nothing");
  await box.screenshot({ path: `${shots}/regions-no-script.png` });
  await context.close();
}

// Without JavaScript the towers and their scores are there as a table.
async function unscripted(browser, name) {
  const context = await browser.newContext({ javaScriptEnabled: false, viewport: VIEWS.desktop });
  const page = await context.newPage();
  const note = (detail) => problems.push({ kind: "picker", page: name, view: "no JavaScript", detail });
  await page.goto(base + name, { waitUntil: "load" });
  const box = page.locator("[data-tamrl-picker]").first();
  const rows = await box.locator("table tbody tr:visible").count();
  const marks = await box.locator("[data-tower-mark]").count();
  if (rows < 3 || rows !== marks) note(`the table has ${rows} rows, the map ${marks} towers`);
  if (await box.locator("input:visible, button:visible").count()) note("shows a field that does nothing");
  await box.screenshot({ path: `${shots}/picker-no-script.png` });
  await context.close();
}

mkdirSync(shots, { recursive: true });
const browser = await chromium.launch({
  executablePath,
  args: [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
  ],
});
const [pickers, explorers] = [new Set(), new Set()];
await Promise.all(
  Object.keys(VIEWS).map(async (view) => {
    for (const theme of ["light", "dark"]) {
      const where = { page: "" };
      const { page, note } = await open(browser, view, theme, where);
      for (const name of pages) {
        where.page = name;
        try {
          await visit(page, name);
          (await page.evaluate(look, theme)).forEach(([kind, detail]) => note(kind, detail));
          if (view === "desktop" && theme === "light") await contents(page, name);
          if (view === "desktop" && theme === "light") await weigh(page, note);
          // Colours differ by theme and boxes by width: each of the four is seen once.
          if ((view === "desktop") === (theme === "dark")) await accessibility(page, note);
          if (await page.locator("[data-tamrl-picker]").count()) pickers.add(name);
          if (await page.locator("[data-tamrl-regions]").count()) explorers.add(name);
          const path = `${shots}/${name.replace(/\W+/g, "-").replace(/-html$/, "")}-${view}-${theme}.png`;
          await page.screenshot({ path, fullPage: true });
        } catch (error) {
          note("walk", String(error).split("\n")[0]);
        }
      }
      await page.context().close();
    }
    for (const [step, run] of Object.entries({ search, sidebar }))
      await run(browser, view).catch((e) => problems.push({ kind: step, page: "index.html", view, detail: String(e) }));
  }),
);
for (const [kind, names, walk, bare] of [["picker", pickers, picker, unscripted], ["regions", explorers, regions, unscriptedRegions]])
  for (const name of names) {
    const failed = (view) => (e) => problems.push({ kind, page: name, view, detail: String(e) });
    for (const [view, theme] of [["desktop", "light"], ["desktop", "dark"], ["phone", "light"]])
      await walk(browser, name, view, theme).catch(failed(view));
    await bare(browser, name).catch(failed("no JavaScript"));
  }
const context = await browser.newContext();
await checkLinks(context.request);
await browser.close();
writeFileSync(reportFile, JSON.stringify({ pages, pickers: [...pickers], explorers: [...explorers], problems }, null, 1));
