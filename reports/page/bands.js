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
  draw(u, trial, color) {
    const { ctx, bbox } = u;
    const { min, max } = u.scales.x;
    for (const a of bands.place(trial.actions || [], min, max)) {
      const left = u.valToPos(a.from, "x", true);
      const right = Math.max(left + 2 * devicePixelRatio, u.valToPos(a.to, "x", true));
      ctx.fillStyle = color(a.fix ? "fix" : "fault");
      ctx.fillRect(left, bbox.top, Math.min(right, bbox.left + bbox.width) - left, bbox.height);
    }
  },
};
