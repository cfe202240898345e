"use strict";
// Saves a chart as SVG or PNG, and gives a table as Markdown or CSV. Nothing leaves the page.
const exporting = {
  escape: text => String(text).replace(/[&<>"]/g,
    c => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", "\"": "&quot;" })[c]),

  // svg draws what a chart shows now: its title, bands {from, to, top, height, fill} and moments
  // {t, text, tone, row}, axes, curves and legend. Curves have label, tone, dash, points, cross.
  svg(u, title, { bands, moments, curves, color }) {
    const ratio = devicePixelRatio, { escape } = exporting;
    const left = u.bbox.left / ratio, width = u.bbox.width / ratio, height = u.bbox.height / ratio;
    const above = 30 + u.bbox.top / ratio, below = above + height, right = left + width;
    const x = v => left + u.valToPos(v, "x"), y = v => above + u.valToPos(v, "y");
    const n = v => +v.toFixed(1);
    // Several charts in one document do not share an id.
    const id = "plot-" + title.toLowerCase().replace(/[^a-z0-9]+/g, "-");
    const out = [];
    const text = (at, up, words, fill, anchor) => out.push(`<text x="${n(at)}" y="${n(up)}"` +
      ` fill="${fill}" text-anchor="${anchor || "start"}">${escape(words)}</text>`);
    out.push(`<text x="10" y="19" fill="${color("ink")}" font-size="14" font-weight="600">` +
      `${escape(title)}</text>`);
    for (const b of bands) {
      out.push(`<rect x="${n(left + b.from)}" y="${n(above + b.top)}" width="${n(b.to - b.from)}"` +
        ` height="${n(b.height)}" fill="${b.fill}"/>`);
    }
    for (const axis of u.axes) {
      const flat = axis.scale === "x";
      axis._splits.forEach((v, i) => {
        const label = axis._values[i], at = flat ? x(v) : y(v);
        if (label == null || flat && (at < left - 1 || at > right + 1) ||
          !flat && (at < above - 1 || at > below + 1)) return;
        out.push(flat
          ? `<path d="M${n(at)} ${n(above)}V${n(below + 5)}" stroke="${color("grid")}"/>`
          : `<path d="M${n(left - 5)} ${n(at)}H${n(right)}" stroke="${color("grid")}"/>`);
        if (flat) text(at, below + 18, label, color("quiet"), "middle");
        else text(left - 8, at + 4, label, color("quiet"), "end");
      });
    }
    for (const m of moments) {
      out.push(`<path d="M${n(x(m.t))} ${n(above)}V${n(below)}" stroke="${m.tone}"` +
        ` stroke-dasharray="3 3"/>`);
      if (m.row != null) {
        const ends = m.left ? [x(m.t) - 4, "end"] : [x(m.t) + 4, "start"];
        text(ends[0], above - 33 + 13 * m.row, m.text, m.tone, ends[1]);
      }
    }
    out.push(`<g clip-path="url(#${id})" fill="none">`);
    curves.forEach((c, i) => {
      const points = [];
      u.data[i + 1].forEach((v, j) => {
        if (v != null) points.push([n(x(u.data[0][j])), n(y(v))]);
      });
      if (c.cross) {
        const d = points.map(([px, py]) =>
          `M${n(px - 3)} ${n(py - 3)}l6 6m-6 0l6 -6`).join("");
        out.push(`<path d="${d}" stroke="${c.tone}" stroke-width="1.5"/>`);
      } else if (c.points) {
        out.push(...points.map(([px, py]) =>
          `<circle cx="${px}" cy="${py}" r="2" fill="${c.tone}"/>`));
      } else {
        out.push(`<polyline points="${points.join(" ")}" stroke="${c.tone}"` +
          ` stroke-width="${c.quiet ? 1.2 : 1.8}" stroke-linejoin="round"` +
          (c.dash ? ` stroke-dasharray="${c.dash.join(" ")}"` : "") + "/>");
      }
    });
    out.push("</g>");
    let at = 10, down = below + 42;
    for (const c of curves) {
      const wide = 34 + 6.5 * c.label.length;
      if (at > 10 && at + wide > u.width) { at = 10; down += 18; }
      out.push(c.points || c.cross
        ? `<circle cx="${at + 10}" cy="${down - 4}" r="3" fill="${c.tone}"/>`
        : `<path d="M${at} ${down - 4}h20" stroke="${c.tone}" stroke-width="2"` +
          (c.dash ? ` stroke-dasharray="${c.dash.join(" ")}"` : "") + "/>");
      text(at + 26, down, c.label, color("ink"));
      at += wide;
    }
    const whole = down + 14;
    return `<svg xmlns="http://www.w3.org/2000/svg" width="${u.width}" height="${n(whole)}"` +
      ` viewBox="0 0 ${u.width} ${n(whole)}" font-family="system-ui, sans-serif" font-size="11">` +
      `<title>${escape(title)}</title><rect width="100%" height="100%" fill="${color("paper")}"/>` +
      `<clipPath id="${id}"><rect x="${n(left)}" y="${n(above)}" width="${n(width)}"` +
      ` height="${n(height)}"/></clipPath>${out.join("\n")}</svg>`;
  },

  // png renders an SVG at twice its size.
  async png(svg) {
    const image = new Image();
    image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(svg);
    await image.decode();
    const canvas = document.createElement("canvas");
    canvas.width = 2 * image.width;
    canvas.height = 2 * image.height;
    const ctx = canvas.getContext("2d");
    ctx.scale(2, 2);
    ctx.drawImage(image, 0, 0);
    return new Promise(done => canvas.toBlob(done, "image/png"));
  },

  save(name, blob) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  },

  // cells returns the rows of a table, the head first, each cell in one line.
  cells: table => [...table.rows].map(row => [...row.cells].map(cell =>
    [...cell.childNodes].map(node => node.textContent).join(" ").replace(/\s+/g, " ").trim())),
  markdown(rows) {
    const line = cells => "| " + cells.map(c => c.replace(/[\\|*`<>]/g, "\\$&")).join(" | ") + " |";
    const rule = rows[0].map((_, i) => i < 2 ? ":---" : "---:");
    return [line(rows[0]), "| " + rule.join(" | ") + " |", ...rows.slice(1).map(line)]
      .join("\n") + "\n";
  },
  // A text that a spreadsheet would take for a formula begins with an apostrophe.
  csv: rows => rows.map(row => row.map(cell => {
    const safe = /^[=+\-@]/.test(cell) && isNaN(cell) ? "'" + cell : cell;
    return /[",\n]/.test(safe) ? "\"" + safe.replace(/"/g, "\"\"") + "\"" : safe;
  }).join(",")).join("\n") + "\n",

  // copy puts a text into the clipboard. A page from a file may not do so everywhere: then a field
  // with the text, selected, appears behind the button.
  async copy(button, text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      let field = button.nextElementSibling;
      if (!field || field.tagName !== "TEXTAREA") {
        field = document.createElement("textarea");
        field.readOnly = true;
        field.setAttribute("aria-label", "Text to copy");
        button.after(field);
      }
      field.value = text;
      field.select();
      return;
    }
    const label = button.textContent;
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = label; }, 1500);
  },
};
