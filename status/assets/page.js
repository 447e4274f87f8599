// What the page does when scripts are on: it follows events, draws history, and changes memory settings. Without this file it is
// whole, and has to be loaded again by hand.
"use strict";

(() => {
  const byId = (id) => document.getElementById(id);
  const live = byId("live");
  const words = { well: "Well", look: "Look at it", trouble: "Trouble", unknown: "Not known yet" };
  const name = document.title.replace(/^.*? – /, "");

  // outdated is whether the server has told of a section that this page lacks: it is of another version then, for good.
  let outdated = false;

  // follow keeps the sections as the server has them. What the browser gives up for good, such as an answer of a proxy while the
  // server starts, is tried again.
  function follow() {
    let heard = Date.now();
    let source = null;
    function listen() {
      source = new EventSource("/api/v1/events");
      source.addEventListener("page", (event) => {
        heard = Date.now();
        show(JSON.parse(event.data));
        say(outdated ? "Another version runs now: load again" : "Live", outdated);
      });
      source.onerror = () => {
        say("Not live: trying again", true);
        if (source.readyState === EventSource.CLOSED) {
          setTimeout(listen, 10000);
        }
      };
    }
    listen();
    setInterval(() => {
      const seconds = Math.round((Date.now() - heard) / 1000);
      if (seconds > 10) {
        say(`Not live: all below is ${lasting(seconds)} old`, true);
      }
    }, 1000);
  }

  function say(text, stale) {
    if (live.textContent !== text) {
      live.textContent = text;
    }
    live.classList.toggle("stale", stale);
  }

  // replace leaves focus and what is unfolded where they are.
  function replace(place, html) {
    const focusable = () => [...place.querySelectorAll("a, summary")];
    const focused = focusable().indexOf(document.activeElement);
    const open = place.querySelector("details[open]") !== null;
    place.innerHTML = html; // from our own server, which has escaped what others have written
    if (open) {
      place.querySelector("details")?.setAttribute("open", "");
    }
    if (focused >= 0) {
      focusable()[focused]?.focus({ preventScroll: true });
    }
  }

  function show(news) {
    for (const [section, html] of Object.entries(news.sections)) {
      const place = document.querySelector(`[data-live="${section}"]`);
      if (place === null) {
        outdated = true;
        continue;
      }
      replace(place, html);
    }
    const announce = byId("announce");
    if (announce.textContent !== news.announce) {
      announce.textContent = news.announce;
    }
    document.documentElement.dataset.state = news.state;
    document.title = `${words[news.state]} – ${name}`;
  }

  // Numbers in short, as on the rest of the page.
  function short(value, units, base) {
    if (value == null) {
      return "–";
    }
    let i = 0;
    while (Math.abs(value) >= base && i < units.length - 1) {
      value /= base;
      i++;
    }
    return `${Number(value.toPrecision(3))}${units[i] ? " " + units[i] : ""}`;
  }
  const plain = (v) => short(v, ["", "k", "M", "G", "T"], 1000);
  const bytes = (v) => short(v, ["B", "KiB", "MiB", "GiB", "TiB"], 1024);
  const percent = (v) => (v == null ? "–" : `${Number((v * 100).toPrecision(3))} %`);
  function lasting(v) {
    if (v == null) {
      return "–";
    }
    if (v < 120) {
      return `${Number(v.toPrecision(3))} s`;
    }
    return v < 7200 ? `${Number((v / 60).toPrecision(3))} min` : `${Number((v / 3600).toPrecision(3))} h`;
  }

  // Steps of the axes, so that ticks are round in the unit that is written.
  const powers = Array.from({ length: 50 }, (_, i) => 2 ** i);
  const times = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 604800];

  const charts = [
    { title: "Age of the oldest sample not sent", format: lasting, steps: times, lines: [["backlog_seconds", "age"]] },
    { title: "Bytes not sent", format: bytes, steps: powers, lines: [["backlog_bytes", "bytes"]] },
    { title: "Samples per second", format: plain, lines: [["samples_in", "in"], ["samples_out", "out"]] },
    { title: "Requests refused per second", format: plain, lines: [["refused", "refused"]] },
    { title: "Garbage collection of the CPU used", format: percent, lines: [["gc_share", "share"]] },
    { title: "Memory of this process", format: bytes, steps: powers, lines: [["memory_bytes", "resident"]] },
  ];
  // pointed writes what is pointed at, or else what is newest.
  const pointed = (format) => (u, value, line, at) => format(at == null ? u.data[line][u.data[line].length - 1] : value);
  const dashes = [[], [8, 4]];

  function options(chart, width) {
    const style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(name).trim();
    const axis = { stroke: color("--soft"), grid: { stroke: color("--line"), width: 1 }, ticks: { stroke: color("--line") } };
    const lineColors = [color("--first"), color("--second")];
    return {
      width,
      height: 190,
      cursor: { drag: { x: true, y: false } },
      scales: { y: { range: (u, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
      axes: [
        { ...axis, values: (u, ticks) => ticks.map((t) => new Date(t * 1000).toISOString().slice(11, 16)) },
        { ...axis, size: 70, ...(chart.steps && { incrs: chart.steps }), values: (u, ticks) => ticks.map(chart.format) },
      ],
      series: [
        { label: "UTC", value: pointed((t) => new Date(t * 1000).toISOString().slice(11, 19)) },
        ...chart.lines.map(([, label], i) => ({ label, stroke: lineColors[i], width: 2, dash: dashes[i], value: pointed(chart.format) })), // points that stand alone are drawn as such
      ],
    };
  }

  const values = (chart, history) => [history.at, ...chart.lines.map(([key]) => history[key])];
  const spokenName = (chart, history) => `${chart.title}: ${spoken(chart, history)}. The table below has the figures.`;

  // draw puts the charts there, or makes them anew: when colours or the width change.
  let drawn = [];
  let drawnAt = 0;
  function draw(history) {
    const place = byId("charts");
    drawnAt = innerWidth;
    drawn.forEach((plot) => plot.destroy());
    place.replaceChildren();
    const canvases = charts.map((chart) => {
      const figure = document.createElement("figure");
      const caption = document.createElement("figcaption");
      const canvas = document.createElement("div");
      caption.textContent = chart.title;
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", spokenName(chart, history));
      figure.append(caption, canvas);
      place.append(figure);
      return canvas;
    });
    // Only now all are there, and have their width.
    drawn = charts.map((chart, i) => new uPlot(options(chart, canvases[i].clientWidth), values(chart, history), canvases[i]));
  }

  // renew gives the charts that are there what is newer.
  function renew(history) {
    charts.forEach((chart, i) => {
      drawn[i].setData(values(chart, history));
      drawn[i].root.parentElement.setAttribute("aria-label", spokenName(chart, history));
    });
  }

  function spoken(chart, history) {
    return chart.lines.map(([key, label]) => {
      const values = history[key].filter((v) => v != null);
      if (values.length === 0) {
        return `${label} not known`;
      }
      return `${label} now ${chart.format(values[values.length - 1])}, at most ${chart.format(values.reduce((a, b) => Math.max(a, b)))}`;
    }).join("; ");
  }

  let history = null;
  function redraw() {
    if (history !== null && history.at.length > 1) {
      byId("charts").hidden = false;
      draw(history);
    }
  }

  async function load() {
    try {
      const answer = await fetch("/api/v1/history?points=720");
      if (answer.ok) {
        history = await answer.json();
        if (drawn.length > 0) {
          renew(history);
        } else {
          redraw();
        }
      }
    } catch {
      // The line at the top says that nothing is heard.
    }
  }

  function follows(what, then) {
    let wait = 0;
    what.addEventListener(what === window ? "resize" : "change", () => {
      clearTimeout(wait);
      wait = setTimeout(then, 200);
    });
  }

  let token = "";
  function askToken() {
    const dialog = byId("token-dialog");
    byId("token").value = "";
    dialog.returnValue = "no";
    dialog.showModal();
    return new Promise((done) => {
      dialog.addEventListener("close", () => {
        if (dialog.returnValue === "ok") {
          token = byId("token").value.trim();
        }
        byId("token").value = "";
        done(dialog.returnValue === "ok");
      }, { once: true });
    });
  }

  // put asks for the token the first time, and when it was not the right one.
  async function put(change) {
    for (;;) {
      if (token === "" && !await askToken()) {
        throw new Error("it needs the token");
      }
      const headers = { "Content-Type": "application/json", Authorization: `Bearer ${token}` };
      const answer = await fetch("/api/v1/memory", { method: "PUT", headers, body: JSON.stringify(change) });
      if (answer.status === 401) {
        token = "";
        byId("token-said").textContent = "That was not the token.";
        continue;
      }
      byId("token-said").textContent = "";
      const said = await answer.json().catch(() => ({}));
      if (!answer.ok) {
        throw new Error(said.error || `the server answers ${answer.status}`);
      }
      return said;
    }
  }

  function controls() {
    const form = byId("memory-form");
    const said = byId("memory-said");
    if (form === null) {
      return; // there is no token, so that nothing can be changed from here
    }
    form.hidden = false;
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const change = {};
      for (const field of ["gogc", "limit"]) {
        if (byId(field).value.trim() !== "") {
          change[field] = byId(field).value.trim();
        }
      }
      said.classList.remove("bad");
      said.textContent = "Changing…";
      try {
        await put(change);
        form.reset(); // what is left empty stays as it is: what was changed now is not to be changed again with the next one
        said.textContent = "Changed. The figures above follow within seconds.";
      } catch (wrong) {
        said.textContent = `Not changed: ${wrong.message}`;
        said.classList.add("bad");
      }
    });
  }

  byId("history-table").open = false;
  controls();
  follow();
  load();
  setInterval(load, 30000);
  follows(window, () => innerWidth !== drawnAt && redraw()); // a phone changes the height alone with every scroll
  follows(matchMedia("(prefers-color-scheme: dark)"), redraw);
})();
