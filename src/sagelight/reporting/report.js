"use strict";
for (const node of document.querySelectorAll(".js")) node.hidden = false;

const number = (cell) => {
  const value = Number(cell.textContent.replaceAll(",", ""));
  return Number.isFinite(value) ? value : -Infinity;
};

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = column ? head.ariaSort !== "descending" : head.ariaSort === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const compare = column
        ? (a, b) => number(a.cells[column]) - number(b.cells[column])
        : (a, b) => a.cells[0].textContent.localeCompare(b.cells[0].textContent, "en", { numeric: true });
      const rows = [...table.tBodies[0].rows].sort((a, b) => (down ? compare(b, a) : compare(a, b)));
      table.tBodies[0].append(...rows);
    });
  });
}

for (const table of document.querySelectorAll("table.matrix")) {
  const readout = document.querySelector(".readout");
  table.addEventListener("pointerover", (event) => {
    const cell = event.target.closest("td");
    if (!cell) return;
    const row = cell.parentElement;
    const label = row.cells[0].textContent;
    const predicted = table.tHead.rows[0].cells[cell.cellIndex].textContent;
    const count = cell.textContent || "0";
    const claim = label === predicted ? "recognised" : `taken for ${predicted}`;
    readout.textContent = `${label} ${claim}: ${count} of ${row.dataset.total}`;
  });
}

for (const button of document.querySelectorAll("button.copy")) {
  button.addEventListener("click", async () => {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      getSelection().selectAllChildren(code);
      document.execCommand("copy");
    }
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
}
