"use strict";
// The actions of a trial as bands on its time line: where they lay, red for faults and green for
// fixes. One that happens at an instant is as wide as a line.
const bands = {
  // place says from where to where each action lay on the stretch of time that is shown; none are
  // left out but those beyond it.
  place(actions, min, max) {
    return actions
      .map(a => ({ ...a, to: a.to == null ? a.t : a.to }))
      .filter(a => a.t <= max && a.to >= min)
      .map(a => ({ ...a, from: Math.max(a.t, min), to: Math.min(Math.max(a.to, a.t), max) }));
  },
  // shades returns what is shaded in a chart, in pixels of CSS from the corner of its plot. Of one
  // trial: its load, every other phase, and its actions; of several laid over each other a strip
  // for the actions of each, in its colour.
  shades(u, list, overlaid, color) {
    const { min, max } = u.scales.x;
    const width = u.bbox.width / devicePixelRatio, height = u.bbox.height / devicePixelRatio;
    const shade = (from, to, fill, top, high) => {
      const left = Math.max(0, Math.min(width, u.valToPos(from, "x")));
      const right = Math.max(0, Math.min(width, u.valToPos(to, "x")));
      return { from: left, to: right, top: top || 0, height: high || height, fill };
    };
    const wide = s => ({ ...s, to: Math.min(width, Math.max(s.from + 2, s.to)) });
    if (!overlaid) {
      return list.flatMap(({ trial }) => [
        shade(0, trial.seconds, color("load")),
        ...(trial.phases || []).filter((_, i) => i % 2)
          .map(p => shade(p.t, p.to, color("load"))),
        ...bands.place(trial.actions || [], min, max)
          .map(a => wide(shade(a.from, a.to, color(a.fix ? "fix" : "fault")))),
      ]);
    }
    return list.filter(c => (c.trial.actions || []).length).flatMap((c, row) =>
      bands.place(c.trial.actions, min, max)
        .map(a => wide(shade(a.from, a.to, color("c" + c.index % 12), 4 * row, 3))));
  },
};
