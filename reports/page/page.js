"use strict";
// Draws the charts of the page from the JSON in #data: four on one time axis for the chosen trial,
// or for several scenarios laid over each other, and the latency distribution.
(function () {
  const root = document.documentElement;
  root.classList.add("js");
  const $ = id => document.getElementById(id);
  const color = name => getComputedStyle(root).getPropertyValue("--" + name).trim();

  // The theme follows the system until the button is used.
  const system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = "";
  function theme(want) {
    const dark = (want || chosen) ? (want || chosen) === "dark" : system.matches;
    root.dataset.theme = dark ? "dark" : "light";
    $("theme").setAttribute("aria-pressed", dark);
  }
  theme();

  // Numbers travel as differences from the one before.
  function sums(list, scale) {
    let sum = 0;
    return (list || []).map(d => (sum += d) * (scale || 1));
  }
  // The values of straight lines between points, at other moments; null beyond their ends.
  function between(t, values, moments) {
    let i = 0;
    return moments.map(at => {
      while (i < t.length - 2 && t[i + 1] < at) i++;
      if (t.length < 2 || at < t[0] || at > t[t.length - 1]) return null;
      return values[i] + (values[i + 1] - values[i]) * (at - t[i]) / (t[i + 1] - t[i]);
    });
  }
  const scenarios = JSON.parse($("data").textContent).map(s => ({ ...s, opened: {} }));
  function open(scenario, index) {
    if (!scenario.opened[index]) {
      const t = scenario.trials[index] || { marks: [], probe: {} }; // none has begun
      const o = { ...t, t: sums(t.t, 1e-3), drawn: (t.t || []).length > 0 };
      for (const name of ["count", "max", "offered", "done", "failed"]) o[name] = sums(t[name]);
      o.entries = (t.entries || [])
        .map(e => ({ ...e, done: sums(e.done), failed: sums(e.failed) }));
      o.refused = (t.refused || []).map(c => ({ ...c, total: sums(c.total) }));
      o.predicted = t.predicted && between(
        sums(t.predicted.t, 1e-3), sums(t.predicted.count), o.t);
      o.probe = { t: sums(t.probe.t, 1e-3), ms: sums(t.probe.us, 1e-3), lost: t.probe.lost || [] };
      scenario.opened[index] = o;
    }
    return scenario.opened[index];
  }

  // A rate is the mean over the half second before, or over one step where that is longer.
  function rate(t, total) {
    const out = new Array(t.length).fill(null);
    for (let i = 1, j = 0; i < t.length; i++) {
      while (j < i - 1 && t[i] - t[j + 1] >= 0.5) j++;
      if (t[i] > t[j]) out[i] = (total[i] - total[j]) / (t[i] - t[j]);
    }
    return out;
  }
  // The value of a curve at a moment: that of its nearest point, if it is that near at all.
  function valueAt(curve, at) {
    const t = curve.t;
    let lo = 0, hi = t.length - 1;
    while (hi - lo > 1) {
      const mid = (lo + hi) >> 1;
      if (t[mid] <= at) lo = mid; else hi = mid;
    }
    const i = Math.abs(t[hi] - at) < Math.abs(t[lo] - at) ? hi : lo;
    const near = Math.max(0.5, 2 * (t[hi] - t[lo]));
    return t.length && Math.abs(t[i] - at) <= near ? curve.values[i] : null;
  }
  const any = list => list.some(v => v > 0);
  const dashes = [undefined, [6, 3], [2, 3], [8, 2, 2, 2]]; // of the counters, in the overlay
  // The style of a line as its marker in a legend has it.
  const marker = dash => !dash ? "solid" : dash[0] > 4 && dash.length > 2 ? "double"
    : dash[0] > 2 ? "dashed" : "dotted";

  const state = {
    scenario: 0, trial: 0, overlay: scenarios.length !== 1,
    over: new Set(scenarios.map((_, i) => i).filter(i => scenarios[i].shown)),
  };
  let plots = [], range = null, full = [0, 1];
  let paper = 0; // width of the charts in print, in pixels of CSS: a landscape page

  function chosenTrials() {
    const one = (index, trial) =>
      ({ scenario: scenarios[index], index, trial: open(scenarios[index], trial) });
    if (!state.overlay) return [one(state.scenario, state.trial)];
    return [...state.over].sort((a, b) => a - b).filter(i => scenarios[i].trials.length)
      .map(i => one(i, scenarios[i].typical));
  }

  // Each chart is a title and a list of curves: label, colour, times, values and how to draw them.
  function charts(trials) {
    const list = trials.filter(c => c.trial.drawn || c.trial.probe.t.length);
    const own = (single, c) => state.overlay ? color("c" + c.index % 12) : color(single);
    const name = (label, c) => state.overlay ? c.scenario.name + (label ? " " + label : "") : label;
    const load = { title: "Load, per second", curves: [] };
    const table = { title: "Entries in the table", curves: [] };
    const refused = { title: "Refused or evicted, per second", curves: [] };
    const probe = { title: "Bystander: latency in ms, ✕ lost", curves: [], log: true };
    for (const c of list) {
      const t = c.trial;
      const curve = (chart, label, tone, values, more) =>
        chart.curves.push({ label: name(label, c), tone: own(tone, c), t: t.t, values, ...more });
      // Of many scenarios laid over each other the sum alone, where there is one.
      const entries = state.overlay && list.length > 4 && any(t.done) ? [] : t.entries;
      entries.forEach((e, i) => {
        const dash = state.overlay ? dashes[i % dashes.length] : undefined;
        curve(load, e.name + " " + e.word, "c" + (i + 2) % 12, rate(t.t, e.done), { dash });
        if (any(e.failed)) {
          const tone = "c" + (i + 2) % 12;
          curve(load, e.name + " failed", tone, rate(t.t, e.failed), { dash: [2, 3] });
        }
      });
      const one = !entries.length;
      if (one && any(t.offered) && !state.overlay) {
        curve(load, "offered", "c7", rate(t.t, t.offered), { dash: [4, 3] });
      }
      if (one) curve(load, state.overlay ? "" : "completed", "c2", rate(t.t, t.done));
      if (one && any(t.failed)) {
        const dash = state.overlay ? [2, 3] : undefined;
        curve(load, "failed", "c1", rate(t.t, t.failed), { dash });
      }
      curve(table, state.overlay ? "" : "count", "c0", t.count, { fill: !state.overlay });
      // A max far above the count would press the count to the axis: it leaves the chart.
      const most = 8 * Math.max(1, ...t.count);
      if (t.max.some(v => v > 0 && v < most)) {
        const max = t.max.map(v => v < most ? v : null);
        curve(table, "max", "c1", max, { dash: [8, 2, 2, 2], quiet: true });
      }
      if (t.predicted && (!state.overlay || list.length <= 4)) {
        curve(table, "predicted", "c0", t.predicted, { dash: [6, 3], quiet: true });
      }
      t.refused.forEach((r, i) => {
        if ((state.overlay || r.rare) && !any(r.total)) return;
        const dash = state.overlay ? dashes[i % dashes.length] : undefined;
        curve(refused, r.name, r.tone, rate(t.t, r.total), { dash });
      });
      if (t.probe.t.length) {
        const at = want => t.probe.ms.map((ms, i) =>
          (t.probe.lost[i] === 1) === want ? Math.max(ms, 0.01) : null);
        const probes = (label, tone, values, more) =>
          probe.curves.push({ label: name(label, c), tone, t: t.probe.t, values, ...more });
        probes("answered", own("c0", c), at(false), { points: true });
        if (any(t.probe.lost)) probes("lost", own("bad", c), at(true), { cross: true });
      }
    }
    return [load, table, refused, probe].filter(c => c.curves.length);
  }

  const short = v => v == null ? ""
    : Math.abs(v) >= 1e6 ? +(v / 1e6).toPrecision(3) + "M"
    : Math.abs(v) >= 1e4 ? +(v / 1e3).toPrecision(3) + "k"
    : String(+v.toPrecision(3));
  const exact = v => v == null ? ""
    : Math.abs(v) >= 100 ? Math.round(v).toLocaleString("en")
    : String(+v.toPrecision(3));

  // What both kinds of chart share: axes, the data of curves, and texts for where the cursor is.
  const axis = () => ({
    stroke: color("quiet"), font: "11px system-ui, sans-serif",
    grid: { stroke: color("grid"), width: 1 }, ticks: { stroke: color("grid"), width: 1 },
  });
  const joined = curves => curves.length === 1 ? [curves[0].t, curves[0].values]
    : uPlot.join(curves.map(k => [k.t, k.values]));
  const atCursor = (u, text) => u.cursor.left >= 0 ? text(u.posToVal(u.cursor.left, "x")) : "";

  // Powers of ten, for axes that are logarithmic.
  const tens = (u, i, min, max) => {
    const out = [];
    for (let v = 10 ** Math.ceil(Math.log10(min) - 1e-9); v <= max * 1.000001; v *= 10) out.push(v);
    return out;
  };

  // Crosses for what was lost.
  function crosses(u, si) {
    const { ctx } = u;
    const size = 3.5 * devicePixelRatio;
    ctx.save();
    ctx.strokeStyle = u.series[si].stroke(u, si);
    ctx.lineWidth = 1.5 * devicePixelRatio;
    ctx.beginPath();
    u.data[si].forEach((v, i) => {
      const x = u.data[0][i];
      if (v == null || x < u.scales.x.min || x > u.scales.x.max) return;
      const px = u.valToPos(x, "x", true), py = u.valToPos(v, "y", true);
      ctx.moveTo(px - size, py - size); ctx.lineTo(px + size, py + size);
      ctx.moveTo(px + size, py - size); ctx.lineTo(px - size, py + size);
    });
    ctx.stroke();
    ctx.restore();
    return null;
  }

  // Of one trial all moments; of several laid over each other, when each began to drop.
  const momentsOf = list => (state.overlay
    ? list.flatMap(c => c.trial.marks.filter(m => m.text === "first drop").map(m => ({
      t: m.t, text: list.length > 4 ? "" : c.scenario.name + ": first drop",
      tone: color("c" + c.index % 12),
    })))
    : list.flatMap(c => c.trial.marks.map(m => ({
      ...m, tone: color(/drop|full/.test(m.text) ? "bad" : "quiet"),
    })))).sort((a, b) => a.t - b.t);

  // The moments that a chart shows, in pixels of CSS. Names that would overlap go to a lower row;
  // one at the right edge stands left of its line.
  function placed(u, list) {
    const ends = [], width = u.bbox.width / devicePixelRatio, { ctx } = u;
    ctx.save();
    ctx.font = "11px system-ui, sans-serif";
    const all = momentsOf(list).filter(m => m.t >= u.scales.x.min && m.t <= u.scales.x.max)
      .map(m => {
        const x = u.valToPos(m.t, "x");
        if (!m.text) return { ...m, x, row: 0 };
        const w = ctx.measureText(m.text).width + 8;
        const left = x + w > width, from = left ? x - w : x;
        let row = ends.findIndex(end => end <= from);
        if (row < 0) row = ends.push(0) - 1;
        ends[row] = from + w;
        return { ...m, x, row, left };
      });
    ctx.restore();
    return all;
  }

  // The time of the load is shaded, the moments are lines; their names stand in the first chart.
  function decorate(named, list) {
    return {
      hooks: {
        drawClear: [u => {
          const { left, top } = u.bbox;
          for (const b of bands.shades(u, list, state.overlay, color)) {
            u.ctx.fillStyle = b.fill;
            u.ctx.fillRect(left + b.from * devicePixelRatio, top + b.top * devicePixelRatio,
              (b.to - b.from) * devicePixelRatio, b.height * devicePixelRatio);
          }
        }],
        draw: [u => {
          const { ctx, bbox } = u, px = devicePixelRatio;
          ctx.save();
          ctx.beginPath();
          ctx.rect(bbox.left, 0, bbox.width, bbox.top + bbox.height);
          ctx.clip();
          ctx.font = 11 * px + "px system-ui, sans-serif";
          ctx.textBaseline = "alphabetic";
          ctx.lineWidth = px;
          for (const m of placed(u, list)) {
            const x = Math.round(bbox.left + m.x * px);
            ctx.strokeStyle = ctx.fillStyle = m.tone;
            ctx.setLineDash([3 * px, 3 * px]);
            ctx.beginPath();
            ctx.moveTo(x, bbox.top);
            ctx.lineTo(x, bbox.top + bbox.height);
            ctx.stroke();
            if (!named) continue;
            ctx.textAlign = m.left ? "right" : "left";
            ctx.fillText(m.text, x + (m.left ? -4 : 4) * px, bbox.top - (33 - 13 * m.row) * px);
          }
          ctx.restore();
        }],
        setScale: [(u, key) => {
          const { min, max } = u.scales.x;
          if (key !== "x" || paper || range && range[0] === min && range[1] === max) return;
          setRange(min, max, u);
        }],
        setCursor: [u => { if (u === plots[0]) readout(); }],
      },
    };
  }

  // Every chart shows the same stretch of time. uPlot tells of a change later, when range has it
  // already.
  function setRange(min, max, from) {
    range = [min, max];
    for (const p of plots) if (p !== from) p.setScale("x", { min, max });
  }
  function zoom(factor) {
    const [min, max] = range;
    const c = plots[0] && plots[0].cursor;
    const mid = c && c.left >= 0 ? plots[0].posToVal(c.left, "x") : (min + max) / 2;
    let a = mid - (mid - min) * factor, b = mid + (max - mid) * factor;
    a = Math.max(full[0], a);
    b = Math.min(full[1], b);
    if (b - a > 0.05) setRange(a, b);
  }
  function showLoad() {
    const t = chosenTrials()[0];
    if (t) setRange(Math.max(full[0], 0), Math.min(full[1], t.trial.seconds));
  }

  function readout() {
    const u = plots[0];
    if (!u || !(u.cursor.left >= 0)) { $("readout").textContent = ""; return; }
    const at = u.posToVal(u.cursor.left, "x");
    const parts = [];
    for (const p of plots) for (const c of p.curves) {
      const v = valueAt(c, at);
      if (v != null) parts.push(c.label + " " + exact(v));
    }
    $("readout").textContent = "At " + at.toFixed(1) + " s: " + parts.join(", ");
  }

  // The buttons that save a chart; svg returns it as it is drawn at that moment.
  const experiment = document.querySelector("h1").firstChild.textContent.trim();
  function saving(title, svg) {
    const tools = document.createElement("span");
    tools.className = "tools";
    const name = [experiment, title.replace(/:.*/, "")].join(" ").toLowerCase()
      .replace(/[^a-z0-9]+/g, "-");
    for (const kind of ["SVG", "PNG"]) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = kind;
      button.setAttribute("aria-label", "Save the chart " + title + " as " + kind);
      button.addEventListener("click", async () => exporting.save(name + "." + kind.toLowerCase(),
        kind === "SVG" ? new Blob([svg()], { type: "image/svg+xml" })
          : await exporting.png(svg())));
      tools.append(button);
    }
    tools.svg = svg;
    return tools;
  }

  function draw() {
    const box = $("charts");
    if (!box) return;
    plots.forEach(p => p.destroy());
    plots = [];
    box.textContent = "";
    drawTrials(box, chosenTrials());
    if (paper) range = null;
  }

  function drawTrials(box, trials) {
    const list = charts(trials);
    let min = Infinity, max = -Infinity;
    for (const c of list) for (const k of c.curves) {
      min = Math.min(min, k.t[0]);
      max = Math.max(max, k.t[k.t.length - 1]);
    }
    if (!list.length) {
      box.textContent = trials.length ? "Nothing was sampled in this trial."
        : "No trial has begun.";
      return;
    }
    full = [min, max > min ? max : min + 1];
    if (paper || !range || range[0] < full[0] || range[1] > full[1]) range = full.slice();
    const width = paper || box.clientWidth;
    const names = momentsOf(trials).some(m => m.text) ? 46 : 16; // above the first chart
    list.forEach((c, i) => {
      const frame = document.createElement("div");
      frame.className = "chart";
      const title = document.createElement("h3");
      title.textContent = c.title;
      frame.append(title);
      box.append(frame);
      const index = i;
      title.after(saving(c.title, () => exporting.svg(plots[index], c.title, {
        curves: c.curves, color, bands: bands.shades(plots[index], trials, state.overlay, color),
        moments: placed(plots[index], trials).map(m => ({ ...m, row: i === 0 ? m.row : null })),
      })));
      const plot = new uPlot({
        width,
        // On paper a scenario fits on a page. Above the first chart are the names of the moments.
        height: (paper ? 0.75 : 1) * (i === 1 ? 200 : 140) + (i === 0 ? names : 0),
        padding: [i === 0 ? names : null, null, null, null],
        cursor: {
          y: false, sync: { key: "time", scales: ["x", null] }, drag: { x: true, y: false },
        },
        scales: {
          x: { time: false, min: range[0], max: range[1] },
          y: c.log ? { distr: 3 } : { range: (u, lo, hi) => [0, Math.max(1, hi * 1.05)] },
        },
        axes: [
          { ...axis(), size: 28, values: (u, v) => v.map(x => +x.toFixed(3) + " s") },
          { ...axis(), size: 52, values: (u, v) => v.map(short), splits: c.log ? tens : undefined },
        ],
        series: [
          { label: " ", value: u => atCursor(u, x => "At " + x.toFixed(2) + " s") },
          ...c.curves.map(k => ({
            label: k.label || "value", stroke: k.tone, width: k.quiet ? 1.2 : 1.8, dash: k.dash,
            spanGaps: !k.points && !k.cross,
            fill: k.fill ? k.tone + "22" : undefined,
            value: u => atCursor(u, x => exact(valueAt(k, x))),
            paths: k.points ? () => null : k.cross ? (u, si) => crosses(u, si) : undefined,
            points: k.points ? { show: true, size: 4, fill: k.tone } : { show: false },
          })),
        ],
        legend: {
          markers: {
            width: (u, si) => c.curves[si - 1].points || c.curves[si - 1].cross ? 0 : 3,
            fill: (u, si) =>
              c.curves[si - 1].points || c.curves[si - 1].cross ? c.curves[si - 1].tone : null,
            stroke: (u, si) => c.curves[si - 1].tone,
            dash: (u, si) => marker(c.curves[si - 1].dash),
          },
        },
        plugins: [decorate(i === 0, trials)],
      }, joined(c.curves), frame);
      plot.curves = c.curves;
      plot.trials = trials;
      plots.push(plot);
    });
  }

  // Shows figures that have changed since the charts were drawn. Where no curve came or went, the
  // charts stay, with the cursor and the stretch of time that the reader has chosen.
  function refresh() {
    const trials = chosenTrials(), list = charts(trials);
    const same = (c, p) => p && c.curves.length === p.curves.length &&
      c.curves.every((k, i) => k.label === p.curves[i].label && k.tone === p.curves[i].tone);
    const whole = !range || range[0] === full[0] && range[1] === full[1];
    controls();
    if (list.length !== plots.length || !list.every((c, i) => same(c, plots[i]))) {
      if (whole) range = null;
      return draw();
    }
    const times = list.flatMap(c => c.curves.map(k => k.t)).filter(t => t.length);
    const min = Math.min(...times.map(t => t[0]));
    const max = Math.max(...times.map(t => t[t.length - 1]));
    full = [min, max > min ? max : min + 1];
    list.forEach((c, i) => {
      plots[i].curves.forEach((k, j) => Object.assign(k, c.curves[j]));
      plots[i].trials.splice(0, Infinity, ...trials);
      plots[i].setData(joined(plots[i].curves), false);
    });
    const [a, b] = whole ? full : range;
    range = [a, b];
    for (const p of plots) p.setScale("x", { min: a, max: b });
  }

  // A distribution as a curve over how rare a latency is: at x, one in x took that long or longer.
  // Of a histogram every bar, otherwise the percentiles that are known.
  function curveOf(l) {
    const x = [], y = [];
    if ((l.us || []).length) {
      const micros = sums(l.us), total = l.n.reduce((a, b) => a + b, 0);
      let below = 0;
      l.n.forEach((n, i) => {
        below += n;
        const at = total / (total - below + 0.5);
        // Points closer than a pixel add nothing.
        if (i === l.n.length - 1 || !x.length || at > x[x.length - 1] * 1.004) {
          x.push(at);
          y.push(micros[i] / 1000);
        }
      });
      return { x, y };
    }
    for (const [at, v] of [[2, l.p50], [10, l.p90], [100, l.p99], [1000, l.p999]]) {
      if (l.count < at) continue;
      x.push(at);
      y.push(v);
    }
    x.push(2 * l.count);
    y.push(l.max);
    return { x, y };
  }
  // The latency that a share q of all does not exceed.
  function quantile(l, q) {
    if (!(l.us || []).length) return null;
    const micros = sums(l.us), total = l.n.reduce((a, b) => a + b, 0);
    let below = 0;
    for (let i = 0; i < l.n.length; i++) {
      below += l.n[i];
      if (below >= q * total - 1e-6) return micros[i] / 1000;
    }
    return null;
  }

  // Each step right is ten times rarer.
  let distribution = null;
  function drawDistribution() {
    const box = $("distribution");
    if (!box) return;
    if (distribution) distribution.destroy();
    box.textContent = "";
    distribution = null;
    const which = document.querySelector("input[name=latency]:checked").value;
    const curveFor = (s, index) => (e, i) => {
      const { x, y } = curveOf(e[which]);
      return {
        index, label: s.name + (e.name ? " " + e.name : ""), l: e[which], x, t: x,
        tone: color("c" + index % 12),
        dash: dashes[i % dashes.length], values: y.map(v => Math.max(v, 0.001)),
      };
    };
    const curves = scenarios.flatMap((s, index) =>
      (s.entries || []).filter(e => e[which]).map(curveFor(s, index)));
    if (!curves.length) { box.textContent = "No latency was recorded."; return; }
    const title = document.createElement("h3");
    title.textContent = "Latency in ms by percentile";
    box.append(title, saving(title.textContent, () => exporting.svg(
      distribution, title.textContent, { curves, color, bands: [], moments: [] })));
    const names = {
      2: "p50", 10: "p90", 100: "p99", 1000: "p99.9", 10000: "p99.99", 100000: "p99.999",
      1000000: "p99.9999",
    };
    const most = Math.max(10, ...curves.map(c => c.x[c.x.length - 1]));
    const share = x => x > 1
      ? "p" + +(100 - 100 / x).toPrecision(2 + Math.max(1, Math.ceil(Math.log10(x)))) : "";
    // A step holds from the point before it on: the latency at x is that of the first point not
    // left of it.
    const at = (c, x) => x > c.x[c.x.length - 1] ? null : c.values[c.x.findIndex(v => v >= x)];
    distribution = new uPlot({
      width: paper || box.clientWidth, height: 240, padding: [null, 24, null, null],
      scales: { x: { time: false, distr: 3, range: () => [1, most * 1.1] }, y: { distr: 3 } },
      axes: [
        {
          ...axis(), size: 28, filter: (u, v) => v,
          splits: u => Object.keys(names).map(Number).filter(x => x <= u.scales.x.max),
          values: (u, v) => v.map(x => names[x] || ""),
        },
        { ...axis(), size: 52, values: (u, v) => v.map(short) },
      ],
      cursor: { y: false, drag: { x: false, y: false } },
      legend: { markers: { width: 3, dash: (u, si) => marker(curves[si - 1].dash) } },
      series: [
        { label: " ", value: u => atCursor(u, share) },
        ...curves.map(c => ({
          label: c.label, stroke: c.tone, width: 1.8, spanGaps: true,
          dash: c.dash, points: { show: !(c.l.us || []).length, size: 5 },
          value: u => atCursor(u, x => exact(at(c, x))),
        })),
      ],
    }, joined(curves), box);
  }

  function redraw() { draw(); drawDistribution(); }

  // Controls.
  function selectScenario(i) {
    state.scenario = i;
    state.trial = scenarios[i].typical;
    range = null;
    controls();
    draw();
  }
  function controls() {
    if (!$("tabs")) return;
    [...$("tabs").children].forEach((b, i) => {
      b.setAttribute("aria-selected", !state.overlay && i === state.scenario);
      b.tabIndex = i === state.scenario ? 0 : -1;
    });
    const { trials } = scenarios[state.scenario] || { trials: [] };
    $("trial").replaceChildren(...trials.map((t, i) =>
      new Option(t.number + " (" + t.verdict + ")", i, false, i === state.trial)));
    $("trial-label").hidden = state.overlay || trials.length < 2;
    $("overlays").hidden = !state.overlay;
  }
  function offer(s, i) {
    const tab = document.createElement("button");
    tab.type = "button";
    tab.role = "tab";
    tab.textContent = s.name;
    tab.addEventListener("click", () => {
      state.overlay = $("overlay").checked = false;
      selectScenario(i);
    });
    $("tabs").append(tab);
    const label = document.createElement("label");
    const check = document.createElement("input");
    check.type = "checkbox";
    check.checked = state.over.has(i);
    check.addEventListener("change", () => {
      state.over[check.checked ? "add" : "delete"](i);
      draw();
    });
    const swatch = document.createElement("span");
    swatch.textContent = "■ ";
    swatch.style.color = "var(--c" + i % 12 + ")";
    label.append(check, " ", swatch, s.name);
    $("overlays").append(label);
    $("overlay").disabled = scenarios.length < 2;
  }
  // A scenario that has no trial on the page yet: a search makes one for each value.
  function add(name) {
    const i = scenarios.push({ name, trials: [], entries: [], typical: 0, opened: {} }) - 1;
    offer(scenarios[i], i);
  }
  if ($("tabs")) {
    scenarios.forEach(offer);
    $("tabs").addEventListener("keydown", e => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[e.key];
      if (!step) return;
      e.preventDefault();
      const i = (state.scenario + step + scenarios.length) % scenarios.length;
      $("tabs").children[i].click();
      $("tabs").children[i].focus();
    });
    $("trial").addEventListener("change", e => {
      state.trial = +e.target.value;
      range = null;
      draw();
    });
    $("overlay").addEventListener("change", e => {
      state.overlay = e.target.checked;
      range = null;
      controls();
      draw();
    });
    $("overlay").checked = state.overlay;
    $("zoom-in").addEventListener("click", () => zoom(0.5));
    $("zoom-out").addEventListener("click", () => zoom(2));
    $("zoom-all").addEventListener("click", () => setRange(...full));
    $("zoom-load").addEventListener("click", showLoad);
    $("charts").addEventListener("keydown", e => {
      const u = plots[0];
      if (!u || e.ctrlKey || e.metaKey || e.altKey) return;
      const move = { ArrowRight: 1, ArrowLeft: -1 }[e.key];
      if (move) {
        const now = u.cursor.left >= 0 ? u.cursor.left : u.over.clientWidth / 2;
        const left = Math.max(0, Math.min(u.over.clientWidth, now + move * (e.shiftKey ? 40 : 8)));
        plots.forEach(p => p.setCursor({ left, top: 10 }));
      } else if (e.key === "+" || e.key === "=") zoom(0.5);
      else if (e.key === "-") zoom(2);
      else if (e.key === "0") setRange(...full);
      else if (e.key === "l") showLoad();
      else return;
      e.preventDefault();
    });
    state.scenario = Math.max(0, scenarios.findIndex(s => s.trials.some(t => (t.t || []).length)));
    if (scenarios.length) state.trial = scenarios[state.scenario].typical;
    controls();
  }
  // What holds connections has no total: the page then begins with the other latency.
  const recorded = which => scenarios.some(s => (s.entries || []).some(e => e[which]));
  for (const input of document.querySelectorAll("input[name=latency]")) {
    input.checked = input.value === (recorded("total") ? "total" : "connect");
    input.addEventListener("change", drawDistribution);
  }
  $("theme").addEventListener("click", () => {
    chosen = root.dataset.theme === "dark" ? "light" : "dark";
    theme();
    redraw();
  });
  system.addEventListener("change", () => { theme(); redraw(); });
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; redraw(); } });
  // Paper is light.
  addEventListener("beforeprint", () => { paper = 950; theme("light"); redraw(); });
  addEventListener("afterprint", () => { paper = 0; theme(); redraw(); });
  for (const button of document.querySelectorAll(".copy")) {
    button.addEventListener("click", () => {
      const pre = button.closest("figure").querySelector("pre");
      exporting.copy(button, pre.textContent);
    });
  }
  for (const button of document.querySelectorAll(".copy-table")) {
    button.addEventListener("click", () => {
      const table = button.closest(".tools").nextElementSibling.querySelector("table");
      exporting.copy(button, exporting[button.dataset.as](exporting.cells(table)));
    });
  }
  redraw();
  // For tests, and for readers who want the figures in the console.
  window.ctload = {
    scenarios, open, quantile, state, refresh, add,
    plots: () => plots, range: () => range, distribution: () => distribution,
  };
})();
