"use strict";
(() => {
  const all = (root, selector) => [...root.querySelectorAll(selector)];

  // Sorting uses data-v, which has all digits. Empty cells stay at the bottom.
  const compare = (a, b) => {
    const [x, y] = [Number(a), Number(b)];
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
  };
  const sort = (th) => {
    const table = th.closest("table");
    const heads = all(table, "th");
    const column = heads.indexOf(th);
    const before = th.getAttribute("aria-sort");
    const down = before ? before === "ascending" : th.dataset.first === "descending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    th.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = table.tBodies[0];
    const value = (row) => row.cells[column].dataset.v;
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      return down ? compare(y, x) : compare(x, y);
    });
    body.append(...rows);
  };
  all(document, "th button").forEach((button) => button.addEventListener("click", () => sort(button.parentElement)));

  // Hover: the page has one tooltip. Only textContent is set, so that markup is never interpreted.
  const tip = document.getElementById("tip");
  const show = (element, x, y) => {
    tip.textContent = element.dataset.tip;
    tip.hidden = false;
    tip.style.left = Math.max(4, Math.min(x + 14, innerWidth - tip.offsetWidth - 8)) + "px";
    tip.style.top = (y + 18 + tip.offsetHeight > innerHeight ? y - tip.offsetHeight - 10 : y + 18) + "px";
  };
  const light = (key, on) => key && all(document, "[data-key]")
    .filter((other) => other.dataset.key === key).forEach((other) => other.classList.toggle("lit", on));
  const target = (event, selector) => event.target.closest && event.target.closest(selector);
  const enter = (event, x, y) => {
    const told = target(event, "[data-tip]");
    if (told) show(told, x, y);
    else tip.hidden = true;
    const keyed = target(event, "[data-key]");
    if (keyed) light(keyed.dataset.key, true);
  };
  const leave = (event) => {
    tip.hidden = true;
    const keyed = target(event, "[data-key]");
    if (keyed) light(keyed.dataset.key, false);
  };
  document.addEventListener("mouseover", (event) => enter(event, event.clientX, event.clientY));
  document.addEventListener("mousemove", (event) => {
    const told = target(event, "[data-tip]");
    if (told) show(told, event.clientX, event.clientY);
  });
  document.addEventListener("mouseout", leave);
  document.addEventListener("focusin", (event) => {
    const box = event.target.getBoundingClientRect();
    enter(event, box.left, box.bottom);
  });
  document.addEventListener("focusout", leave);

  // Legend: hovering shows only one group, a click keeps this selection.
  all(document, "figure").forEach((figure) => {
    let kept = null;
    const only = (group) => all(figure, "[data-group]").forEach((element) =>
      element.classList.toggle("dim", group !== null && element.dataset.group !== group));
    all(figure, ".legend button").forEach((button) => {
      const group = button.dataset.of;
      button.addEventListener("mouseenter", () => only(group));
      button.addEventListener("mouseleave", () => only(kept));
      button.addEventListener("click", () => {
        kept = kept === group ? null : group;
        all(figure, ".legend button").forEach((b) => b.setAttribute("aria-pressed", String(b.dataset.of === kept)));
        only(kept);
      });
    });
  });

  document.getElementById("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
  document.documentElement.dataset.ready = "yes";
})();
