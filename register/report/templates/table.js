"use strict";
const table = document.querySelector("table.index"), body = table.tBodies[0];
const worth = (row, column) => {
  const cell = row.cells[column], value = cell.dataset.value ?? cell.textContent.trim();
  return value !== "" && !Number.isNaN(Number(value)) ? Number(value) : value;
};
const sort = (column, ascending) => {
  const rows = [...body.rows].sort((a, b) => {
    const [x, y] = [worth(a, column), worth(b, column)];
    if (x === "" || y === "") return x === y ? 0 : x === "" ? 1 : -1;
    const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), undefined, { numeric: true });
    return ascending ? order : -order;
  });
  body.append(...rows);
  [...table.tHead.rows[0].cells].forEach((cell, i) => {
    if (i === column) cell.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    else cell.removeAttribute("aria-sort");
  });
};
table.tHead.addEventListener("click", (event) => {
  const head = event.target.closest("button")?.closest("th");
  if (head) sort(head.cellIndex, head.getAttribute("aria-sort") !== "ascending");
});
const filter = document.getElementById("filter"), count = document.getElementById("count");
filter.addEventListener("change", () => {
  let shown = 0;
  for (const row of body.rows) {
    row.hidden = filter.value !== "" && row.dataset.verdict !== filter.value;
    shown += !row.hidden;
  }
  count.textContent = `${shown} of ${body.rows.length} pairs`;
});
