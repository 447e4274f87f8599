// What a test asks a page in a browser. It is evaluated there, and is no part of the page.
(() => {
  const all = (selector, of = document) => [...of.querySelectorAll(selector)];
  const text = (element) => element.textContent.trim().replace(/\s+/g, " ");
  const said = (element) => {
    const numbers = all("data", element);
    return numbers.length > 0 ? numbers.map((n) => n.value).join(" of ") : text(element);
  };
  const name = (element) => `<${element.tagName.toLowerCase()}${element.id && ` #${element.id}`}> ${text(element).slice(0, 60)}`;
  const hiddenOnPurpose = ".heard, .skip";

  // lines are the rectangles of what is written, as far as it is seen.
  function lines() {
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node !== null; node = walker.nextNode()) {
      const parent = node.parentElement;
      if (node.data.trim() === "" || !parent.checkVisibility({ visibilityProperty: true }) || parent.closest(hiddenOnPurpose)) {
        continue;
      }
      const scroll = parent.closest(".scroll");
      const within = scroll && scroll.getBoundingClientRect();
      const range = document.createRange();
      range.selectNodeContents(node);
      for (const r of range.getClientRects()) {
        if (r.width > 0 && (within === null || r.left < within.right)) {
          found.push({ node, r, scroll });
        }
      }
    }
    return found;
  }

  function overlaps(a, b) {
    const most = 2; // of a pixel or two nobody is the wiser
    return Math.min(a.right, b.right) - Math.max(a.left, b.left) > most && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > most;
  }

  const focusable = () => all('a[href], button, input, summary, [tabindex]:not([tabindex="-1"])').filter((e) => e.checkVisibility());

  return {
    // figures are all numbers of the page, by what they are called on it: "lanes/main/Blocks".
    figures() {
      const found = {};
      for (const part of all("[data-live]")) {
        for (const pair of all("dl > div", part)) {
          found[`${part.dataset.live}/${text(pair.querySelector("dt"))}`] = said(pair.querySelector("dd"));
        }
        for (const table of all("table", part)) {
          const heads = all("thead th", table).map(text);
          for (const row of all("tbody tr", table)) {
            [...row.cells].slice(1).forEach((cell, i) => {
              found[`${part.dataset.live}/${text(row.cells[0])}/${heads[i + 1]}`] = said(cell);
            });
          }
        }
      }
      return found;
    },

    // written is all that stands on the page, part by part.
    written: () => Object.fromEntries(all("[data-live]").map((part) => [part.dataset.live, text(part)])),

    // misfits is what is cut, lies outside, or lies over something else.
    misfits() {
      const found = [];
      const width = document.documentElement.clientWidth;
      if (document.documentElement.scrollWidth > width) {
        found.push(`the page is ${document.documentElement.scrollWidth} wide, the window ${width}`);
      }
      const written = lines();
      for (const { node, r, scroll } of written) {
        if (scroll === null && (r.left < 0 || r.right > width + 0.5)) {
          found.push(`outside: ${node.data.trim()} from ${r.left} to ${r.right}`);
        }
      }
      for (let i = 0; i < written.length; i++) {
        for (let j = i + 1; j < written.length; j++) {
          if (written[i].node !== written[j].node && overlaps(written[i].r, written[j].r)) {
            found.push(`over each other: ${written[i].node.data.trim()} and ${written[j].node.data.trim()}`);
          }
        }
      }
      for (const element of all("body *")) {
        if (element.scrollWidth > element.clientWidth + 1 && getComputedStyle(element).overflowX === "hidden" && !element.closest(hiddenOnPurpose)) {
          found.push(`cut: ${name(element)}`);
        }
      }
      return found;
    },

    // below is by how many pixels each of the first things that are said ends below the window. Negative is well.
    below: () => Object.fromEntries(all(".verdict h1, .verdict .why, .verdict .next, .verdict .behind").map((e) =>
      [text(e), e.getBoundingClientRect().bottom - window.innerHeight])),

    // controls are all that a keyboard has to reach.
    controls: () => focusable().map(name),

    // focus is the control that has the focus, by its place in controls, and what keeps people from seeing that.
    focus() {
      const element = document.activeElement;
      const style = getComputedStyle(element);
      const r = element.getBoundingClientRect();
      const faults = [];
      if (style.outlineStyle === "none" || parseFloat(style.outlineWidth) < 2) {
        faults.push(`${name(element)} has no outline when it has the focus`);
      }
      if (r.bottom < 0 || r.top > window.innerHeight || r.right < 0 || r.left > window.innerWidth) {
        faults.push(`${name(element)} has the focus and is out of sight`);
      }
      return { at: focusable().indexOf(element), faults };
    },

    // barriers are the violations that axe-core finds, the serious and critical ones.
    async barriers() {
      const found = await axe.run(document, { resultTypes: ["violations"], rules: { "target-size": { enabled: true } } });
      return found.violations.filter((v) => v.impact === "serious" || v.impact === "critical").flatMap((v) =>
        v.nodes.map((n) => `${v.id} (${v.impact}): ${n.target.join(" ")}: ${n.failureSummary.replace(/\s+/g, " ")}`));
    },

    // fits says whether the charts are as wide as there is room for them, and have the colours of the page.
    fits() {
      const color = document.createElement("i");
      color.style.color = getComputedStyle(document.documentElement).getPropertyValue("--first").trim();
      return all("#charts figure").length > 0 && all("#charts figure").every((figure) => {
        const marker = figure.querySelectorAll(".u-marker")[1] ?? figure.querySelector(".u-marker");
        return Math.abs(figure.querySelector("canvas").clientWidth - figure.querySelector("[role=img]").clientWidth) <= 1 &&
          marker.style.borderColor === color.style.color;
      });
    },

    // drawn is whether there is nothing on a chart, by its name.
    drawn: () => Object.fromEntries(all("#charts canvas").map((canvas) => {
      const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
      return [canvas.closest("[role=img]").getAttribute("aria-label"), pixels.every((p) => p === 0)];
    })),
  };
})()
