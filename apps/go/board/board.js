// A board of any of the room's games as one SVG: stones on crossings (Go, Gomoku), discs on squares (Othello), discs in
// a frame (Connect Four).
//
// A point is a number, row by row from the top left; in Connect Four what is played is a column. The page says what lies
// where and which overlays to draw; the board says back which point was chosen, with the serial number of the position
// that it was chosen in, so that a click on what has changed meanwhile counts for nothing.

const LETTERS = "ABCDEFGHJKLMNOPQRST" // without I, as everybody writes it
const C = 40 // units of the SVG between two lines
const M = 22 // units around, for the coordinates
const FINGER = 26 // CSS pixels between two lines below which a tap aims first and a second tap plays
const SHAPES = { go: "crossings", gomoku: "crossings", othello: "squares", connect4: "frame" }
const COLOURS = { crossings: ["black stone", "white stone"], squares: ["black disc", "white disc"], frame: ["red disc", "yellow disc"] }
const boards = new WeakMap()

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".board")
  if (!boards.has(root)) boards.set(root, new Board(root))
  boards.get(root).update(data, setTriggerValue)
}

function make(name, attributes, parent, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name)
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value)
  if (text !== undefined) element.textContent = text
  parent?.append(element)
  return element
}

class Board {
  constructor(root) {
    this.svg = root.querySelector("svg")
    this.said = root.querySelector(".said")
    this.cursor = null
    this.svg.addEventListener("pointermove", event => this.hover(event.pointerType === "touch" ? null : this.chosen(event)))
    this.svg.addEventListener("pointerleave", () => this.hover(null))
    this.svg.addEventListener("click", event => this.tap(event))
    this.svg.addEventListener("keydown", event => this.key(event))
    this.svg.addEventListener("focusin", event => this.step(this.chosen(event)))
  }

  update(data, trigger) {
    const before = this.data
    Object.assign(this, { data, trigger, shape: SHAPES[data.game] })
    if (!before || ["game", "rows", "columns"].some(name => before[name] !== data[name])) this.lay()
    if (!before || before.serial !== data.serial) this.aimed = this.sent = null
    this.drawStones(before)
    this.drawOverlays()
    this.name()
    this.svg.classList.toggle("open", data.open)
    this.svg.setAttribute("aria-busy", String(data.busy))
    if (this.said.textContent !== data.said) this.said.textContent = data.said
    this.hover(this.over ?? null)
  }

  // ---- where things are

  x(point) { return M + C / 2 + (point % this.data.columns) * C }
  y(point) { return M + C / 2 + Math.floor(point / this.data.columns) * C }

  vertex(point) {
    if (this.shape === "frame") return `Column ${point + 1}`
    return LETTERS[point % this.data.columns] + (this.data.rows - Math.floor(point / this.data.columns))
  }

  // The lowest free point of a column, where a disc would fall; null where it is full.
  fall(column) {
    for (let row = this.data.rows - 1; row >= 0; row--) {
      const point = row * this.data.columns + column
      if (!this.data.stones[point]) return point
    }
    return null
  }

  // Where a stone would lie if this were played.
  lands(choice) { return this.shape === "frame" ? this.fall(choice) : this.data.stones[choice] ? null : choice }

  chosen(event) {
    const cell = event.target.closest?.("[data-p]")
    return cell ? Number(cell.dataset.p) : null
  }

  // ---- what stays: wood, lines, names, the fields that are clicked

  lay() {
    const { rows, columns, game } = this.data
    const [width, height] = [2 * M + C * columns, 2 * M + C * rows]
    this.svg.replaceChildren()
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`)
    this.svg.setAttribute("class", this.shape)
    this.svg.style.setProperty("--ratio", width / height)
    this.svg.setAttribute("aria-label", `${{ go: "Go", gomoku: "Gomoku", othello: "Othello", connect4: "Connect Four" }[game]} board, ` +
      `${columns} by ${rows}. Arrow keys move, Enter plays.`)
    this.shades()
    const ground = make("g", { "aria-hidden": "true" }, this.svg)
    make("rect", { class: "ground", width, height, rx: 8 }, ground)
    if (this.shape === "crossings") this.grain(ground, width, height)
    const inner = { x: M, y: M, width: C * columns, height: C * rows, rx: 5 }
    if (this.shape !== "crossings") make("rect", { class: "cloth", ...inner }, ground)
    const half = this.shape === "crossings" ? C / 2 : 0
    const [ends, path] = [half ? 1 : -1, []]
    for (let i = 0; i + ends <= (half ? rows : rows - 1); i++) path.push(`M${M + half} ${M + half + (i + (half ? 0 : 1)) * C}H${width - M - half}`)
    for (let i = 0; i + ends <= (half ? columns : columns - 1); i++) path.push(`M${M + half + (i + (half ? 0 : 1)) * C} ${M + half}V${height - M - half}`)
    if (this.shape !== "frame") make("path", { class: "lines", d: path.join("") }, ground)
    if (half) make("rect", { class: "edge", x: M + half, y: M + half, width: C * (columns - 1), height: C * (rows - 1) }, ground)
    for (const point of this.data.stars) make("circle", { class: "star", cx: this.x(point), cy: this.y(point), r: 3.6 }, ground)
    this.coordinates(ground, width, height)
    this.under = make("g", { "aria-hidden": "true" }, this.svg)
    this.stones = make("g", { "aria-hidden": "true" }, this.svg)
    this.above = make("g", { "aria-hidden": "true" }, this.svg)
    this.ghost = make("g", { "aria-hidden": "true" }, this.svg)
    this.fields()
  }

  shades() {
    const defs = make("defs", {}, this.svg)
    for (const name of ["first", "second"]) {
      const shade = make("radialGradient", { id: name, cx: 0.36, cy: 0.3, r: 0.75 }, defs)
      for (const [at, part] of [[0, "light"], [0.45, "middle"], [1, "dark"]]) make("stop", { offset: at, class: `${name}-${part}` }, shade)
    }
    const fade = make("radialGradient", { id: "shadow" }, defs)
    for (const [at, opacity] of [[0.55, 0.5], [1, 0]]) make("stop", { offset: at, "stop-color": "#000", "stop-opacity": opacity }, fade)
    const wood = make("linearGradient", { id: "wood", x1: 0, y1: 0, x2: 1, y2: 1 }, defs)
    for (const [at, part] of [[0, "light"], [0.5, "middle"], [1, "dark"]]) make("stop", { offset: at, class: `wood-${part}` }, wood)
  }

  // Some fibres of wood, always the same.
  grain(parent, width, height) {
    let seed = 7
    const chance = () => (seed = (seed * 16807) % 2147483647) / 2147483647
    const path = []
    for (let x = -20; x < width; x += 5 + 15 * chance()) {
      const [a, b, c] = [0, 1, 2].map(() => 9 * (chance() - 0.5))
      path.push(`M${x.toFixed(1)} 0C${(x + a).toFixed(1)} ${height * 0.3} ${(x + b).toFixed(1)} ${height * 0.6} ${(x + c).toFixed(1)} ${height}`)
    }
    make("path", { class: "grain", d: path.join("") }, parent)
  }

  coordinates(parent, width, height) {
    const { rows, columns } = this.data
    const tag = (x, y, text) => make("text", { class: "coordinate", x, y: y + 4.5 }, parent, text)
    for (let i = 0; i < columns; i++) {
      const [x, text] = [M + C / 2 + i * C, this.shape === "frame" ? String(i + 1) : LETTERS[i]]
      for (const y of this.shape === "frame" ? [M / 2] : [M / 2, height - M / 2]) tag(x, y, text)
    }
    if (this.shape === "frame") return
    for (let i = 0; i < rows; i++) for (const x of [M / 2, width - M / 2]) tag(x, M + C / 2 + i * C, String(rows - i))
  }

  fields() {
    const { rows, columns } = this.data
    const frame = this.shape === "frame"
    this.cells = []
    for (let row = 0; row < (frame ? 1 : rows); row++) {
      const line = make("g", { role: "row" }, this.svg)
      for (let column = 0; column < columns; column++) {
        this.cells.push(make("rect", { class: "field", role: "gridcell", "data-p": row * columns + column, tabindex: -1, x: M + column * C,
          y: M + row * C, width: C, height: frame ? C * rows : C, rx: 6 }, line))
      }
    }
    const middle = frame ? Math.floor(columns / 2) : Math.floor(rows / 2) * columns + Math.floor(columns / 2)
    this.cursor = Math.min(this.cursor ?? middle, this.cells.length - 1)
    this.cells[this.cursor].setAttribute("tabindex", 0)
  }

  // ---- what changes

  disc(parent, point, colour, name = "") {
    const [x, y, r] = [this.x(point), this.y(point), C * (this.shape === "crossings" ? 0.475 : 0.41)]
    const group = make("g", { class: `stone ${name}` }, parent)
    make("circle", { cx: x + 1.6, cy: y + 2.6, r: r + 2.4, fill: "url(#shadow)" }, group)
    make("circle", { class: colour > 0 ? "first" : "second", cx: x, cy: y, r }, group)
    return group
  }

  drawStones(before) {
    const { data } = this
    this.stones.replaceChildren()
    if (this.shape === "frame") {
      for (let point = 0; point < data.rows * data.columns; point++) make("circle", { class: "hole", cx: this.x(point), cy: this.y(point), r: C * 0.41 }, this.stones)
    }
    const dead = new Set(data.dead)
    data.stones.forEach((colour, point) => {
      if (!colour) return
      const fresh = before && before.serial !== data.serial && !before.stones[point] && point === data.last && this.shown !== point
      this.disc(this.stones, point, colour, dead.has(point) ? "dead" : fresh ? "fresh" : "")
    })
    this.shown = null
    const own = data.stones[data.last]
    if (data.last !== null && own) {
      make("circle", { class: `last on-${own > 0 ? "first" : "second"}`, cx: this.x(data.last), cy: this.y(data.last), r: C * 0.17 }, this.stones)
    }
    for (const point of data.ko) {
      make("rect", { class: "ko", x: this.x(point) - C * 0.16, y: this.y(point) - C * 0.16, width: C * 0.32, height: C * 0.32 }, this.stones)
    }
  }

  drawOverlays() {
    const { data, under, above } = this
    under.replaceChildren()
    above.replaceChildren()
    for (const { p, share } of data.heat) {
      make("rect", { class: "heat", x: this.x(p) - C / 2 + 1, y: this.y(p) - C / 2 + 1, width: C - 2, height: C - 2, rx: 6, "fill-opacity": (0.2 + 0.75 * Math.sqrt(share)).toFixed(2) }, under)
      if (share >= 0.05 && !data.moves.some(move => move.p === p) && !data.line.some(step => step.p === p)) {
        make("text", { class: "share", x: this.x(p), y: this.y(p) + 4 }, above, `${Math.round(100 * share)}%`)
      }
    }
    data.own.forEach((value, p) => {
      const side = C * 0.42 * Math.sqrt(Math.abs(value))
      if (Math.abs(value) < 0.08 || data.stones[p] * value > 0) return // a stone shows whose its point is, unless it is lost
      make("rect", { class: `owned ${value > 0 ? "first" : "second"}`, x: this.x(p) - side / 2, y: this.y(p) - side / 2, width: side, height: side, rx: 2, opacity: (0.35 + 0.6 * Math.abs(value)).toFixed(2) }, above)
    })
    for (const { p, rate, visits, best, share } of data.moves) {
      if (data.line.some(step => step.p === p)) continue
      make("circle", { class: best ? "move best" : "move", cx: this.x(p), cy: this.y(p), r: C * 0.45, "fill-opacity": (0.45 + 0.5 * share).toFixed(2) }, above)
      make("text", { class: "rate", x: this.x(p), y: this.y(p) + 1 }, above, Math.round(100 * rate))
      make("text", { class: "visits", x: this.x(p), y: this.y(p) + 11.5 }, above, visits)
    }
    for (const { p, colour, n } of data.line) {
      this.disc(above, p, colour, "thought")
      make("text", { class: `number on-${colour > 0 ? "first" : "second"}`, x: this.x(p), y: this.y(p) + 5.5 }, above, n)
    }
    for (const { p, kind } of data.marks) make("circle", { class: `mark ${kind}`, cx: this.x(p), cy: this.y(p), r: C * 0.46 }, above)
    for (const p of data.dead) {
      const [x, y, d] = [this.x(p), this.y(p), C * 0.14]
      make("path", { class: `cross on-${data.stones[p] > 0 ? "first" : "second"}`, d: `M${x - d} ${y - d}l${2 * d} ${2 * d}m0 ${-2 * d}l${-2 * d} ${2 * d}` }, above)
    }
  }

  // The names of the fields for those who hear the board.
  name() {
    const { data } = this
    const dead = new Set(data.dead)
    for (const [choice, cell] of this.cells.entries()) {
      let what
      if (this.shape === "frame") {
        const free = this.fall(choice)
        const held = free === null ? data.rows : data.rows - 1 - Math.floor(free / data.columns)
        what = free === null ? "full" : `${held} disc${held === 1 ? "" : "s"}`
      } else {
        const colour = data.stones[choice]
        what = colour ? COLOURS[this.shape][colour > 0 ? 0 : 1] : "empty"
        if (dead.has(choice)) what += ", dead"
        if (choice === data.last) what += ", last move"
        if (data.ko.includes(choice)) what += ", ko"
        const move = data.moves.find(candidate => candidate.p === choice)
        if (move) what += `, ${move.visits} visits, wins ${Math.round(100 * move.rate)} %`
      }
      const text = `${this.vertex(choice)}, ${what}`
      if (cell.getAttribute("aria-label") !== text) cell.setAttribute("aria-label", text)
    }
  }

  // ---- hands

  hover(choice) {
    this.over = choice
    this.ghost.replaceChildren()
    const seen = this.sent ?? this.aimed ?? choice
    const point = seen === null || !this.data.open ? null : this.lands(seen)
    if (point === null) return
    const allowed = this.data.legal.includes(seen)
    if (this.sent !== null && allowed) this.disc(this.ghost, point, this.data.toMove)
    else if (allowed) this.disc(this.ghost, point, this.data.toMove, "ghost")
    else make("path", { class: "forbidden", d: `M${this.x(point) - 7} ${this.y(point) - 7}l14 14m0-14l-14 14` }, this.ghost)
    if (this.aimed !== null && this.sent === null) {
      const [width, height] = [2 * M + C * this.data.columns, 2 * M + C * this.data.rows]
      make("path", { class: "aim", d: `M${M} ${this.y(point)}H${width - M}M${this.x(point)} ${M}V${height - M}` }, this.ghost)
    }
  }

  tap(event) {
    const choice = this.chosen(event)
    if (choice === null) return
    const narrow = this.cells[0].getBoundingClientRect().width < FINGER
    if (event.pointerType === "touch" && narrow && this.aimed !== choice && this.data.open) {
      this.aimed = choice
      this.hover(null)
      return
    }
    this.play(choice)
  }

  play(choice) {
    if (!(this.data.open || this.data.pick) || this.sent !== null) return
    if (this.data.open && this.data.legal.includes(choice)) {
      this.sent = choice
      this.shown = this.lands(choice) // is seen already, and need not appear again
    }
    this.aimed = null
    this.hover(choice)
    this.trigger("play", { point: choice, serial: this.data.serial })
  }

  // The field that the keyboard is on.
  step(choice) {
    if (choice === null || choice === this.cursor) return
    this.cells[this.cursor].setAttribute("tabindex", -1)
    this.cells[choice].setAttribute("tabindex", 0)
    this.cursor = choice
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return
    const { columns } = this.data
    const [column, rows] = [this.cursor % columns, this.cells.length / columns]
    const row = Math.floor(this.cursor / columns)
    const to = { ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1], ArrowUp: [row - 1, column], ArrowDown: [row + 1, column],
      Home: [row, 0], End: [row, columns - 1] }[event.key]
    if (to) {
      const [r, c] = to
      if (r >= 0 && r < rows && c >= 0 && c < columns) {
        this.step(r * columns + c)
        this.cells[this.cursor].focus()
        this.hover(this.cursor)
      }
    } else if (event.key === "Enter" || event.key === " ") this.play(this.cursor)
    else return
    event.preventDefault()
    event.stopPropagation()
  }
}
