"use strict";
// Keeps the page of a run or a search that goes on up to date: it draws the trials under way as
// they are measured, and loads the page again when a trial has ended, and when all have.
(function () {
  const c = window.ctload;
  const kept = "ctload " + location.pathname;

  // What the reader has chosen outlasts a new page.
  function keep() {
    const s = c.state;
    sessionStorage.setItem(kept, JSON.stringify({
      overlay: s.overlay, scenario: s.scenario, over: [...s.over], y: scrollY,
      theme: document.documentElement.dataset.theme,
    }));
  }
  function restore() {
    const was = JSON.parse(sessionStorage.getItem(kept) || "null");
    if (!was) return;
    if (was.theme !== document.documentElement.dataset.theme) {
      document.getElementById("theme").click();
    }
    Object.assign(c.state, { overlay: was.overlay, scenario: was.scenario });
    c.state.trial = (c.scenarios[was.scenario] || { typical: 0 }).typical;
    c.state.over = new Set(was.over);
    document.querySelectorAll("#overlays input").forEach((e, i) => {
      e.checked = c.state.over.has(i);
    });
    document.getElementById("overlay").checked = was.overlay;
    c.refresh();
    scrollTo(0, was.y);
  }

  // A trial under way stands for its scenario in the charts.
  function put({ scenario, trial }) {
    const { over } = c.state;
    const lay = (i, shown) => {
      over[shown ? "add" : "delete"](i);
      document.querySelectorAll("#overlays input")[i].checked = shown;
    };
    if (!c.scenarios.some(s => s.name === scenario)) {
      c.add(scenario);
      // More curves cannot be told apart: the oldest value of a search leaves.
      if (over.size > 4) lay(Math.min(...over), false);
    }
    const at = c.scenarios.findIndex(s => s.name === scenario), s = c.scenarios[at];
    let i = s.trials.findIndex(t => t.number === trial.number);
    if (i < 0) {
      i = s.trials.push(trial) - 1;
      lay(at, true);
    }
    s.trials[i] = trial;
    delete s.opened[i];
    s.typical = i;
    if (c.scenarios[c.state.scenario] === s) c.state.trial = i;
  }

  const status = document.getElementById("live");
  let pages = "";
  function begin() {
    const stream = new EventSource("events");
    stream.addEventListener("state", e => {
      const state = JSON.parse(e.data);
      if (pages && pages !== state.page) {
        stream.close();
        keep();
        location.reload();
        return;
      }
      pages = state.page;
      if (status.textContent !== state.status) status.textContent = state.status;
      state.trials.forEach(put);
      if (state.trials.length) c.refresh();
    });
  }
  pages = status.dataset.page;
  restore();
  begin();
})();
