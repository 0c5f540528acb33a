// A table of keyed rows: sorted by its heads' buttons (or a list, where there is no room for heads), updated in place.

import {el, setAttribute, setText} from "./dom.js";

const RESORT_MS = 1000;

export class LiveTable {
  // columns: [{key, label, value(row), draw(cell, row)?, format(row)?, isNumber?, isHead?}]
  constructor(table, {columns, sort = null, sortList = null, maxRows = 200}) {
    Object.assign(this, {table, columns, maxRows, sortList});
    this.sortKey = sort;
    this.direction = 1;
    this.rows = new Map();
    this.sortedAt = 0;
    this.body = el("tbody", {role: "rowgroup"});
    table.setAttribute("role", "table");
    table.append(this.makeHead(), this.body);
    if (sortList) this.fillSortList(sortList);
    this.showSort();
  }

  makeHead() {
    this.heads = new Map();
    const cells = this.columns.map(({key, label, isNumber}) => {
      const button = el("button", {type: "button", class: "sort"}, label);
      button.addEventListener("click", () => this.sortBy(key));
      const head = el("th", {scope: "col", role: "columnheader", class: isNumber ? "number" : null}, button);
      this.heads.set(key, head);
      return head;
    });
    return el("thead", {role: "rowgroup"}, el("tr", {role: "row"}, ...cells));
  }

  fillSortList(list) {
    list.append(el("option", {value: ""}, "age"));
    for (const {key, label} of this.columns) list.append(el("option", {value: key}, label));
    list.addEventListener("change", () => this.sortBy(list.value || null, this.isNumber(list.value) ? -1 : 1));
  }

  isNumber(key) {
    return this.columns.some((column) => column.key === key && column.isNumber);
  }

  // Once: the natural direction (figures from the largest); twice: the other one; three times: by age again.
  sortBy(key, direction = null) {
    const natural = this.isNumber(key) ? -1 : 1;
    if (direction !== null || key !== this.sortKey) {
      [this.sortKey, this.direction] = [key, direction ?? natural];
    } else if (this.direction === natural) {
      this.direction = -natural;
    } else {
      [this.sortKey, this.direction] = [null, 1];
    }
    this.showSort();
    this.arrange(true);
  }

  showSort() {
    for (const [key, head] of this.heads) {
      const sorted = this.direction > 0 ? "ascending" : "descending";
      setAttribute(head, "aria-sort", key === this.sortKey ? sorted : "none");
    }
    if (this.sortList) this.sortList.value = this.sortKey ?? "";
  }

  // items: [{id, …}]; returns how many were left out.
  update(items) {
    const shown = items.slice(0, this.maxRows);
    const ids = new Set(shown.map((item) => item.id));
    let isChanged = false;
    for (const [id, row] of this.rows) {
      if (!ids.has(id)) {
        row.element.remove();
        this.rows.delete(id);
      }
    }
    shown.forEach((item, age) => {
      let row = this.rows.get(item.id);
      if (!row) {
        row = this.makeRow(item.id);
        isChanged = true;
      }
      Object.assign(row, {item, age});
      this.drawRow(row);
    });
    this.arrange(isChanged);
    return items.length - shown.length;
  }

  makeRow(id) {
    const cells = this.columns.map(({label, isNumber, isHead}) =>
      el(isHead ? "th" : "td", {
        role: isHead ? "rowheader" : "cell",
        scope: isHead ? "row" : null,
        class: isNumber ? "number" : null,
        "data-label": label,
      }),
    );
    const row = {element: el("tr", {role: "row", "data-id": id}, ...cells), cells};
    this.rows.set(id, row);
    return row;
  }

  drawRow({element, cells, item}) {
    element.classList.toggle("over", Boolean(item.isOver));
    this.columns.forEach((column, index) => {
      if (column.draw) column.draw(cells[index], item);
      else setText(cells[index], String(column.format ? column.format(item) : column.value(item)));
    });
  }

  // Rows that are sorted by live figures change places once a second, so that they can be read.
  arrange(isDue) {
    const now = performance.now();
    if (!isDue && now - this.sortedAt < RESORT_MS) return;
    this.sortedAt = now;
    const rows = [...this.rows.values()];
    const column = this.columns.find(({key}) => key === this.sortKey);
    rows.sort((a, b) => (column ? this.direction * compare(column.value(a.item), column.value(b.item)) : 0) || a.age - b.age);
    rows.forEach(({element}, index) => {
      const place = this.body.children[index];
      if (place !== element) this.body.insertBefore(element, place ?? null);
    });
  }
}

function compare(a, b) {
  return typeof a === "string" ? a.localeCompare(b) : a - b;
}
