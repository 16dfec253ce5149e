"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const find = (selector) => document.querySelector(selector);
  const make = (tag, attributes = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), attributes);
    element.append(...children);
    return element;
  };
  const title = (method) => data.titles[method] ?? method;

  // ---- theme ----

  const root = document.documentElement;
  find("#theme").addEventListener("click", () => {
    const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    root.dataset.theme = (root.dataset.theme ?? system) === "dark" ? "light" : "dark";
  });

  // ---- maps ----

  const heat = Uint8Array.from(atob(data.heat), (c) => c.charCodeAt(0));
  const NEGATIVE = [33, 102, 172], ZERO = 247, POSITIVE = [178, 24, 43];
  const pixels = new Map(); // decoded files; a page has a few hundred at most

  const decoded = (name, type, content) => {
    if (!pixels.has(name)) {
      pixels.set(name, (async () => {
        const image = new Image();
        image.src = `data:${type};base64,${content}`;
        await image.decode();
        const canvas = make("canvas", { width: image.width, height: image.height });
        const context = canvas.getContext("2d", { willReadFrequently: true });
        context.drawImage(image, 0, 0);
        return context.getImageData(0, 0, image.width, image.height);
      })());
    }
    return pixels.get(name);
  };

  const load = async (entry) => {
    const { image, mask } = data.samples[entry.sample];
    const [picture, levels, maps] = await Promise.all([
      decoded(`image/${entry.sample}`, "image/jpeg", image),
      decoded(`mask/${entry.sample}`, "image/png", mask),
      decoded(`maps/${entry.net}/${entry.sample}`, "image/jpeg", entry.maps),
    ]);
    return { picture, levels, maps };
  };

  /* The outline of where the mask's level is at least `least`: white within a black halo. */
  const outline = (target, levels, least) => {
    const { width, height } = levels;
    const inside = (x, y) => x >= 0 && y >= 0 && x < width && y < height
      && levels.data[4 * (y * width + x)] >= least;
    const edge = [];
    for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
      if (inside(x, y) && !(inside(x - 1, y) && inside(x + 1, y) && inside(x, y - 1) && inside(x, y + 1))) {
        edge.push([x, y]);
      }
    }
    const paint = (x, y, level) => {
      if (x >= 0 && y >= 0 && x < width && y < height) target.data.fill(level, 4 * (y * width + x), 4 * (y * width + x) + 3);
    };
    for (const [x, y] of edge) for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) paint(x + dx, y + dy, 0);
    for (const [x, y] of edge) paint(x, y, 255);
  };

  const coloured = ({ picture, levels, maps }, legend, index) => {
    const { width, height } = picture;
    const shown = new ImageData(width, height);
    const start = 4 * index * width * height;
    for (let i = 0; i < width * height; i++) {
      const grey = legend.peak > 0 ? maps.data[start + 4 * i] : 128;
      const value = Math.max(-1, Math.min(1, (grey - 128) / 127));
      for (let c = 0; c < 3; c++) {
        if (legend.heat) {
          const level = Math.max(0, value);
          const below = 0.299 * picture.data[4 * i] + 0.587 * picture.data[4 * i + 1] + 0.114 * picture.data[4 * i + 2];
          const opacity = 0.75 * Math.sqrt(level);
          shown.data[4 * i + c] = opacity * heat[3 * Math.round(255 * level) + c] + (1 - opacity) * below;
        } else {
          const end = value < 0 ? NEGATIVE : POSITIVE;
          shown.data[4 * i + c] = ZERO + Math.abs(value) * (end[c] - ZERO);
        }
      }
      shown.data[4 * i + 3] = 255;
    }
    outline(shown, levels, 2);
    return shown;
  };

  const put = (canvas, shown) => {
    canvas.width = shown.width;
    canvas.height = shown.height;
    canvas.getContext("2d").putImageData(shown, 0, 0);
  };

  const scale = (legend) => {
    if (legend.peak === 0) return "all zero";
    const [digits, exponent] = legend.scale.toExponential(1).split("e");
    const raised = String(Number(exponent)).replace(/[-\d]/g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]);
    const plain = legend.scale >= 0.01 && legend.scale < 100;
    const number = plain ? Number(legend.scale.toPrecision(2)) : `${digits}·10${raised}`;
    return legend.heat ? `0 to ${number}` : `±${number}`;
  };
  const p = (legend) => (legend.p === null ? "no record" : `P ${legend.p.toFixed(3)}`);
  const sure = ({ rank, probability }) =>
    `rank ${rank}, probability ${probability < 0.005 ? "< 0.01" : probability.toFixed(2)}`;

  // ---- cards ----

  const byKey = new Map(data.pictures.map((entry) => [`${entry.net}/${entry.sample}`, entry]));
  let shownEntries = [];

  const watcher = new IntersectionObserver((seen) => {
    for (const { isIntersecting, target } of seen) {
      if (!isIntersecting) continue;
      watcher.unobserve(target);
      const entry = byKey.get(target.dataset.key);
      const index = entry.methods.findIndex((m) => m.method === target.dataset.method);
      load(entry).then((loaded) => put(target, coloured(loaded, entry.methods[index], index)));
    }
  }, { rootMargin: "300px" });

  const gallery = find("#gallery-controls");
  const drawCards = () => {
    const { net, method, order } = Object.fromEntries(new FormData(gallery));
    const legend = (entry) => entry.methods.find((m) => m.method === method);
    shownEntries = data.pictures.filter((entry) => entry.net === net && legend(entry));
    const sign = { best: -1, worst: 1, sample: 0 }[order];
    shownEntries.sort((a, b) => sign * ((legend(a).p ?? -1) - (legend(b).p ?? -1)));
    find("#cards").replaceChildren(...shownEntries.map((entry) => {
      const canvas = make("canvas", { width: 160, height: 160 });
      Object.assign(canvas.dataset, { key: `${entry.net}/${entry.sample}`, method });
      watcher.observe(canvas);
      const card = make("button", { type: "button", className: "card" }, canvas,
        make("span", { className: "what", textContent: entry.class }),
        make("span", { className: "numbers", textContent: `${p(legend(entry))} · ${scale(legend(entry))}` }),
        make("span", { className: "numbers", textContent: sure(entry) }));
      card.addEventListener("click", () => open(entry));
      return make("li", {}, card);
    }));
    if (!shownEntries.length) {
      find("#cards").replaceChildren(make("li", { textContent: "This method is not defined on this net." }));
    }
  };

  // ---- one sample ----

  const dialog = find("#detail");
  let current = null;

  const tile = (name, numbers, content) => make("figure", {}, content,
    make("figcaption", {}, make("span", { className: "what", textContent: name }),
      make("span", { className: "numbers", textContent: numbers })));

  const open = async (entry) => {
    current = entry;
    find("#detail-title").textContent = `${entry.class}, image ${entry.image_id}: ${entry.net}${entry.random ? " (random weights)" : ""}`;
    find("#detail-facts").textContent = `The class has ${sure(entry)}. Chance, the P of a uniform map: ${entry.chance.toFixed(3)}.`;
    const canvases = [0, 1, ...entry.methods].map(() => make("canvas", { width: 160, height: 160 }));
    find("#detail-maps").replaceChildren(
      tile("Image", "outline: mask", canvases[0]),
      tile("Dilated mask", "what maps are scored against", canvases[1]),
      ...entry.methods.map((legend, i) => tile(title(legend.method), `${p(legend)} · ${scale(legend)}`, canvases[i + 2])));
    if (!dialog.open) dialog.showModal();
    history.replaceState(null, "", `#map=${encodeURIComponent(`${entry.net}/${entry.sample}`)}`);
    const loaded = await load(entry);
    if (current !== entry) return;
    const copy = () => new ImageData(new Uint8ClampedArray(loaded.picture.data), loaded.picture.width, loaded.picture.height);
    const image = copy(), dilated = copy();
    outline(image, loaded.levels, 2);
    for (let i = 0; i < dilated.data.length; i += 4) {
      if (!loaded.levels.data[i]) for (let c = 0; c < 3; c++) dilated.data[i + c] = 30 + dilated.data[i + c] / 5;
    }
    put(canvases[0], image);
    put(canvases[1], dilated);
    entry.methods.forEach((legend, i) => put(canvases[i + 2], coloured(loaded, legend, i)));
  };

  const step = (by) => {
    const list = shownEntries.includes(current) ? shownEntries : data.pictures;
    open(list[(list.indexOf(current) + by + list.length) % list.length]);
  };
  find("#detail-previous").addEventListener("click", () => step(-1));
  find("#detail-next").addEventListener("click", () => step(1));
  find("#detail-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => history.replaceState(null, "", location.pathname + location.search));
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) { event.preventDefault(); step(by); }
  });

  if (gallery) {
    const first = data.pictures.find((entry) => !entry.random);
    if (first) gallery.elements.net.value = first.net;
    if (data.titles.guided_grad_cam) gallery.elements.method.value = "guided_grad_cam";
    gallery.addEventListener("change", drawCards);
    gallery.addEventListener("submit", (event) => event.preventDefault());
    drawCards();
    const wanted = new URLSearchParams(location.hash.slice(1)).get("map");
    if (byKey.has(wanted)) open(byKey.get(wanted));
  }

  // ---- records ----

  const PAGE = 50;
  const records = data.records, texts = records.texts;
  const COLUMNS = [
    ["net", "Net"], ["size", "Size"], ["class", "Class"], ["sample", "Sample"], ["method", "Method"],
    ["p", "P", 3], ["chance", "Chance", 3], ["rank", "Rank", 0], ["probability", "Probability", 2], ["note", "Note"],
  ];
  const shown = (name, row) => (name === "method" ? title(texts[records.method[row]]) : texts[records[name][row]]);
  const words = COLUMNS.filter(([, , digits]) => digits === undefined).map(([name]) => name);
  const haystack = records.p.map((_, row) => words.map((name) => shown(name, row)).join("\n").toLowerCase());
  const controls = find("#record-controls");
  const state = { column: null, descending: false, page: 0, rows: [] };

  for (const name of ["net", "size", "class", "method"]) {
    const codes = [...new Set(records[name])].map((code) => [code, name === "method" ? title(texts[code]) : texts[code]]);
    codes.sort((a, b) => a[1].localeCompare(b[1]));
    controls.elements[name].append(...codes.map(([code, text]) => make("option", { value: code, textContent: text })));
  }

  const filter = () => {
    const wanted = Object.fromEntries(new FormData(controls));
    const text = wanted.text.trim().toLowerCase();
    const chosen = ["net", "size", "class", "method"].filter((name) => wanted[name] !== "");
    state.rows = [];
    for (let row = 0; row < records.p.length; row++) {
      if (chosen.every((name) => records[name][row] === Number(wanted[name])) && haystack[row].includes(text)) state.rows.push(row);
    }
    sort();
  };

  const sort = () => {
    const { column, descending, rows } = state;
    if (column) {
      const [name, , digits] = column;
      const value = digits === undefined ? (row) => shown(name, row) : (row) => records[name][row];
      const keys = new Map(rows.map((row) => [row, value(row)]));
      const sign = descending ? -1 : 1;
      rows.sort((a, b) => {
        const x = keys.get(a), y = keys.get(b);
        return (x < y ? -sign : x > y ? sign : 0) || a - b;
      });
    }
    state.page = 0;
    draw();
  };

  const cell = ([name, , digits], row) => {
    if (digits !== undefined) return make("td", { className: "number", textContent: records[name][row].toFixed(digits) });
    if (name !== "sample") return make("td", { textContent: shown(name, row) });
    const entry = byKey.get(`${shown("net", row)}/${shown("sample", row)}`);
    if (!entry) return make("td", { textContent: shown(name, row) });
    const link = make("button", { type: "button", className: "link", textContent: shown(name, row) });
    link.addEventListener("click", () => open(entry));
    return make("td", {}, link);
  };

  const draw = () => {
    const pages = Math.max(1, Math.ceil(state.rows.length / PAGE));
    const rows = state.rows.slice(state.page * PAGE, (state.page + 1) * PAGE);
    find("#record-table tbody").replaceChildren(...rows.map((row) => make("tr", {}, ...COLUMNS.map((column) => cell(column, row)))));
    find("#count").textContent = `${state.rows.length.toLocaleString("en")} of ${records.p.length.toLocaleString("en")} records`;
    find("#page").textContent = `Page ${state.page + 1} of ${pages}`;
    find("#previous").disabled = state.page === 0;
    find("#next").disabled = state.page >= pages - 1;
  };

  find("#record-table thead tr").append(...COLUMNS.map((column) => {
    const button = make("button", { type: "button", textContent: column[1] });
    const head = make("th", { scope: "col", className: column[2] === undefined ? "" : "number" }, button);
    button.addEventListener("click", () => {
      state.descending = state.column === column ? !state.descending : column[2] !== undefined;
      state.column = column;
      for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
      sort();
    });
    return head;
  }));
  controls.addEventListener("input", filter);
  controls.addEventListener("submit", (event) => event.preventDefault());
  controls.addEventListener("reset", () => setTimeout(filter));
  find("#previous").addEventListener("click", () => { state.page--; draw(); });
  find("#next").addEventListener("click", () => { state.page++; draw(); });
  filter();
})();
