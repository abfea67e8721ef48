// The pictures of this page.

const COLUMNS = 240;
const none = (parent, what) => html("p", parent, what, { class: "none" });
const gutter = whole => whole < 520 ? 0 : 88;
const small = whole => whole < 520;
const moment = column => time((column + .5) / COLUMNS * D.nanoseconds);
const counts = kind => D.lanes.find(lane => lane.kind === kind).counts;

/** What a letter of a film is drawn with, and what it means. */
const CELLS = { ".": ["--empty", "nothing mapped"], B: ["--block", "mapped by blocks"], "!": ["--busy", "being collapsed or split"] };
for (let n = 0; n <= 9; n++) CELLS[n] = ["--p" + n, "small pages, " + Math.max(1, Math.round(n / 9 * 100)) + " % full"];

/** A VM's memory over time: for each letter one path, in which neighbours in a row are one rectangle. */
function space(vm) {
  const section = html("section", $("spaces"));
  html("h2", section, "Memory of " + vm.name);
  html("p", section, `Each row is ${size(vm.rowBytes)} of the guest's ${size(vm.bytes)} of memory, from address ${address(vm.start)} (IPA) at the top; time goes to the right.`);
  picture(section, {
    label: `The memory of ${vm.name} over time: what is mapped by pages and by blocks`,
    height: () => vm.rows * Math.max(3, Math.min(12, 448 / vm.rows)),
    left: gutter, right: () => 1,
    draw: area => film(vm, area),
    steps: () => [COLUMNS, vm.rows],
    tell: (x, y) => `${address(vm.start + y * vm.rowBytes)}, ${moment(x)}\n${CELLS[vm.columns[x][y] ?? "."][1]}`,
  });
  key(section, [[["--empty"], "nothing"], [["--p0", "--p3", "--p6", "--p9"], "small pages: some to all of 512"],
    [["--block"], "a block of 2 MiB"], [["--busy"], "being collapsed or split"]]);
  coverage(section, vm);
}

function film(vm, area) {
  const { g, width, height } = area, wide = width / COLUMNS, tall = height / vm.rows, gap = tall > 5 ? .8 : 0;
  const paths = {};
  timeAxis(area);
  for (let y = 0; y < vm.rows; y++) {
    for (let x = 0, from = 0; x < COLUMNS; from = x) {
      const letter = vm.columns[from][y] ?? ".";
      while (x < COLUMNS && (vm.columns[x][y] ?? ".") === letter) x++;
      (paths[letter] ??= []).push(`M${round(from * wide)} ${round(y * tall)}h${round((x - from) * wide)}v${round(tall - gap)}H${round(from * wide)}z`);
    }
  }
  for (const [letter, parts] of Object.entries(paths))
    svg("path", g, { class: "cell", "data-cell": letter, d: parts.join(""), fill: `var(${CELLS[letter][0]})` });
  if (!small(area.whole)) {
    const every = 2 ** Math.ceil(Math.log2(Math.max(1, vm.rows / 6)));
    for (let y = 0; y < vm.rows; y += every)
      svg("text", g, { x: -10, y: y * tall + Math.max(9, tall), "text-anchor": "end" }, address(vm.start + y * vm.rowBytes));
  }
}

/** How much of a VM's memory pages and blocks map. */
function coverage(section, vm) {
  const most = vm.bytes / 1024, share = (x, list) => Math.round(list[x] / most * 100);
  picture(section, {
    label: `How much of ${vm.name} pages and blocks map over time`,
    height: () => 96, left: gutter, right: () => 1,
    draw: area => {
      const { g, width, height } = area;
      timeAxis(area);
      for (const part of small(area.whole) ? [] : [0, .5, 1])
        svg("text", g, { x: -10, y: height - part * height + (part === 1 ? 10 : 4), "text-anchor": "end" }, part ? size(part * vm.bytes) : "0");
      const stack = lists => {
        const points = vm.pages.map((_, x) => [(x + .5) / COLUMNS * width, height - sum(lists.map(list => list[x])) / most * height]);
        return `M0 ${height}V${round(points[0][1])}L` + points.map(p => p.map(round).join(" ")).join("L") + `H${round(width)}V${height}z`;
      };
      svg("path", g, { class: "area", "data-area": "pages", d: stack([vm.blocks, vm.pages]), fill: "var(--p6)" });
      svg("path", g, { class: "area", "data-area": "blocks", d: stack([vm.blocks]), fill: "var(--block)" });
      svg("path", g, { class: "base", d: `M0 ${height}H${width}` });
    },
    steps: () => [COLUMNS, 1],
    tell: x => `${moment(x)}\nby blocks: ${size(vm.blocks[x] * 1024)} (${share(x, vm.blocks)} %)\nby pages: ${size(vm.pages[x] * 1024)} (${share(x, vm.pages)} %)`,
  });
  key(section, [[["--p6"], "mapped by pages"], [["--block"], "mapped by blocks"]]);
}

const LANE_COLOURS = { Fault: "--fault", Collapse: "--collapse", GivenUp: "--giveup", Split: "--split", Migrate: "--migrate",
  Marker: "--marker", Retry: "--retry", Tlbi: "--flush" };

/** What happened over time: a strip of bars for each kind that happened at all. */
function lanes() {
  const shown = D.lanes.filter(lane => sum(lane.counts));
  if (!shown.length) return none($("lanes"), "None of it was traced.");
  const strip = whole => small(whole) ? 56 : 46;
  picture($("lanes"), {
    label: "Faults, collapses, splits and other changes over time",
    height: whole => shown.length * strip(whole), left: gutter, right: () => 1,
    draw: area => {
      const { g, width, whole } = area, tall = strip(whole), head = small(whole) ? 20 : 10;
      timeAxis(area);
      shown.forEach((lane, index) => {
        const bottom = (index + 1) * tall, most = greatest(lane.counts), all = number(sum(lane.counts));
        svg("path", g, { class: "base", d: `M0 ${bottom}H${width}` });
        svg("path", g, { class: "bars", "data-lane": lane.kind, fill: `var(${LANE_COLOURS[lane.kind]})`,
          d: bars(lane.counts, most, width, bottom, tall - head) });
        const place = small(whole) ? { x: 0, y: bottom - tall + 15 } : { x: -10, y: bottom - 18, "text-anchor": "end" };
        svg("text", g, { class: "name", ...place }, small(whole) ? `${lane.name}: ${all}` : lane.name);
        if (!small(whole)) svg("text", g, { x: -10, y: bottom - 3, "text-anchor": "end" }, all);
        svg("text", g, { class: "over", x: width, y: bottom - tall + 15, "text-anchor": "end" }, "at most " + number(most));
      });
    },
    steps: () => [COLUMNS, shown.length],
    tell: x => moment(x) + shown.map(lane => `\n${lane.name}: ${number(lane.counts[x])}`).join(""),
  });
}

/** A VM as the run names it, where it does. */
const called = name => {
  const about = D.about.find(([key]) => key === name);
  return about ? `${name} (${about[1].split(" ")[0]})` : name;
};

/** How long faults took, VM by VM. */
function latencies() {
  if (!D.latency.vms.length) none($("latency"), "No fault on memory was traced.");
  for (const vm of D.latency.vms) {
    html("h3", $("latency"), `${called(vm.name)}: ${number(vm.faults)} faults of ${vm.vcpus} vCPU${vm.vcpus === 1 ? "" : "s"}`);
    latency(vm, html("div", $("latency")));
  }
}

/** How long faults of a VM took, with the percentiles marked. */
function latency(vm, parent) {
  const list = vm.bars;
  const all = sum(list.map(bar => bar[2] + bar[3])), most = greatest(list.map(bar => bar[2] + bar[3]));
  // The counts differ by orders of magnitude; a root keeps the rare slow ones in sight.
  const scale = (count, height) => Math.sqrt(count / most) * height;
  picture(parent, {
    label: `How long faults of ${vm.name} on memory took`, height: () => 220, left: whole => small(whole) ? 34 : 88, right: () => 8, bottom: 24,
    draw: ({ g, width, height }) => {
      const room = height - 34, step = width / list.length, low = Math.log2(list[0][0]), span = Math.log2(list.at(-1)[1]) - low;
      const x = ns => (Math.log2(Math.max(ns, list[0][0])) - low) / span * width;
      for (const [count, y] of levels(most, count => height - scale(count, room))) {
        svg("path", g, { class: "grid", d: `M0 ${y}H${width}` });
        svg("text", g, { x: -8, y: y + 4, "text-anchor": "end" }, count < 1e4 ? number(count) : count / 1e3 + "k");
      }
      list.forEach(([, , resolved, other], index) => {
        const tall = scale(resolved + other, room), below = tall * resolved / (resolved + other || 1), at = round(index * step);
        const bar = (colour, kind, y, height) => height > 0 && svg("rect", g, { class: "bar", "data-bar": kind, x: at, y: round(y),
          width: round(Math.max(1, step - 1.5)), height: round(height), fill: `var(${colour})` });
        bar("--fault", "resolved", height - below, below);
        bar("--busy", "busy", height - tall, tall - below);
      });
      svg("path", g, { class: "base", d: `M0 ${height}H${width}` });
      for (let ns = 10 ** Math.ceil(Math.log10(list[0][0])); ns <= list.at(-1)[1]; ns *= 10)
        svg("text", g, { x: round(x(ns)), y: height + 18, "text-anchor": "middle" }, time(ns));
      marks(vm.percentiles, g, x, width, height);
    },
    steps: () => [list.length, 1],
    tell: index => {
      const [from, to, resolved, other] = list[index];
      return `${time(from)} to ${time(to)}\nresolved: ${number(resolved)}\nnot resolved: ${number(other)}\n`
        + `${((resolved + other) / all * 100).toPrecision(2)} % of all faults`;
    },
  });
  key(parent, [[["--fault"], "resolved"], [["--busy"], "busy, or out of memory: the guest tries again"]]);
}

/** Round counts up to `most` with their places, far enough from each other to be read. */
function levels(most, place) {
  const list = [];
  for (let power = 1; power <= most; power *= 10) list.push(power, 2 * power, 5 * power);
  const kept = [[0, round(place(0))]];
  for (const count of list.filter(count => count <= most)) {
    const y = round(place(count));
    if (kept.at(-1)[1] - y > 26) kept.push([count, y]);
  }
  return kept;
}

/** Lines at the percentiles. Labels that would lie on each other go below each other. */
function marks(percentiles, g, x, width, height) {
  let end = -1, row = 0;
  for (const [percent, ns] of percentiles) {
    const at = round(x(ns)), text = `${percent} %: ${time(ns)}`, wide = text.length * 7;
    const turned = at + wide > width;
    row = at < end ? row + 1 : 0;
    svg("path", g, { class: "edge", d: `M${at} ${row * 14 + 4}V${height}` });
    svg("text", g, { x: turned ? at - 5 : at + 5, y: row * 14 + 12, "text-anchor": turned ? "end" : "start" }, text);
    end = at + wide;
  }
}

/** Reasons as bars, those of one kind together: their names are `kind: reason`. */
function reasons() {
  const kinds = new Map();
  for (const [group, name, value] of D.figures) {
    const [kind, reason] = name.split(": ");
    if (group === "Reasons" && reason) kinds.set(kind, [...kinds.get(kind) ?? [], [reason, Number(value)]]);
  }
  $("reasons").hidden = !kinds.size;
  for (const [kind, list] of kinds) {
    const box = html("div", $("reason-charts"));
    list.sort((a, b) => b[1] - a[1]);
    html("h3", box, kind);
    picture(box, {
      label: kind + ", by reason", height: () => list.length * 26, left: () => 96, right: () => 56, bottom: 0,
      draw: ({ g, width }) => list.forEach(([reason, count], index) => {
        const wide = Math.max(1, count / list[0][1] * width);
        svg("rect", g, { class: "bar", "data-bar": "reason", y: index * 26 + 4, width: round(wide), height: 18, rx: 3, fill: "var(--busy)" });
        svg("text", g, { class: "name", x: -8, y: index * 26 + 17, "text-anchor": "end" }, reason);
        svg("text", g, { x: round(wide) + 7, y: index * 26 + 17 }, number(count));
      }),
      steps: () => [1, list.length],
      tell: (_, y) => `${kind}: ${list[y][0]}\n${number(list[y][1])} times`,
    });
  }
}

/** The figures as tables. Values of several parts, as durations have, get the whole width. */
function figures() {
  const tables = new Map();
  for (const [group, name, value] of D.figures) tables.set(group, [...tables.get(group) ?? [], [name, value]]);
  const isLong = rows => rows.some(([, value]) => value.includes(", "));
  const parts = [[...tables].filter(([, rows]) => isLong(rows)), [...tables].filter(([, rows]) => !isLong(rows))];
  parts.forEach((groups, index) => {
    const place = html("div", $("figures"), undefined, { class: index ? "figures" : "wide" });
    for (const [group, rows] of groups) {
      const table = html("table", place);
      html("caption", table, group);
      const body = html("tbody", table);
      for (const [name, value] of rows) {
        const row = html("tr", body);
        html("th", row, name, { scope: "row" });
        const cell = html("td", row);
        for (const part of value.replace(/ us\b/g, " µs").split(", "))
          html("span", cell, part.replace(/^\d+(?= times|$)/, count => number(Number(count))));
      }
    }
  });
}

function head() {
  $("lead").textContent = `${D.file}: ${number(D.events)} events in ${time(D.nanoseconds)}.`;
  $("run").textContent = D.about.map(([name, value]) => `${name}: ${value}`).join("; ");
  const gaps = [];
  if (D.cut) gaps.push("the recording ends before its run did");
  if (D.lost) gaps.push(`${number(D.lost)} more came faster than the console took them, and are lost`);
  if (D.broken) gaps.push(`${number(D.broken)} frames came broken, and ${number(D.torn)} events with them`);
  $("warning").hidden = !gaps.length;
  $("warning").textContent = `Pictures and counts have gaps: ${gaps.join("; ")}.`;
  const all = D.latency.all, [median, , slow] = all.percentiles.map(([, ns]) => ns);
  for (const [name, value] of [["faults on memory", number(sum(counts("Fault")))],
    ["half of them within", all.faults ? time(median) : "–"], ["99 % of them within", all.faults ? time(slow) : "–"],
    ["collapses to blocks", number(sum(counts("Collapse")))], ["splits of blocks", number(sum(counts("Split")))],
    ["pages migrated", number(sum(counts("Migrate")))]]) {
    const card = html("div", $("cards"));
    html("dt", card, name);
    html("dd", card, value);
  }
}

head();
D.vms.forEach(space);
if (!D.vms.length) none(html("section", $("spaces")), "No memory of a machine was traced.");
lanes();
latencies();
reasons();
figures();
document.body.dataset.drawn = "yes";
