// A deep-zoom viewer on one canvas: a slide's tiles, a heat map over them, the outline of the tile that was picked.
//
// Lengths are slide pixels (of its full resolution) unless they say otherwise. The view is the slide point in the middle of the
// canvas and `scale`, CSS pixels per slide pixel. Level k is the slide halved k times, cut into squares of `tile` pixels.
// The page's address keeps what is seen: position=x,y,width-of-view, opacity=percent, pick=x,y. Position and opacity are read
// when the viewer appears; the page reads the pick.

const KEPT = 160 // tiles in memory; with 256 px tiles that is 42 MB
const AT_ONCE = 6 // requests, as many as a browser makes to one server anyway
const LARGEST_SCALE = 4
const viewers = new WeakMap()

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".viewer")
  let viewer = viewers.get(root)
  if (!viewer || viewer.data.source !== data.source) {
    viewer?.close()
    viewer = new Viewer(root, data)
    viewers.set(root, viewer)
  }
  viewer.update(data, setTriggerValue)
  return () => {
    viewers.get(root)?.close()
    viewers.delete(root)
  }
}

// Writes into the page's address, without a new entry in the browser's history and without a word to the server.
function write(values) {
  const address = new URL(location.href)
  for (const [name, value] of Object.entries(values)) address.searchParams.set(name, value)
  history.replaceState(history.state, "", address)
}

// The tiles of one slide: those in memory, those on their way, those still wanted.
class Tiles {
  constructor(data, arrived) {
    Object.assign(this, { data, arrived, ready: new Map(), coming: new Map(), missing: new Set() })
  }

  // The tile's bitmap, or undefined if it is not here (yet).
  get(key) {
    const bitmap = this.ready.get(key)
    if (bitmap) {
      this.ready.delete(key) // to the young end: a Map keeps the order of insertion
      this.ready.set(key, bitmap)
    }
    return bitmap
  }

  // Asks for these tiles, most wanted first, and for no others.
  want(keys) {
    const wanted = keys.filter(key => !this.ready.has(key) && !this.missing.has(key))
    for (const [key, request] of this.coming) if (!wanted.includes(key)) request.abort()
    this.queue = wanted.filter(key => !this.coming.has(key))
    while (this.coming.size < AT_ONCE && this.queue.length) this.fetch(this.queue.shift())
    return wanted.length
  }

  async fetch(key) {
    const request = new AbortController()
    this.coming.set(key, request)
    try {
      const answer = await fetch(`${this.data.source}/${key}.jpg`, { signal: request.signal })
      if (answer.status === 503) await new Promise(done => setTimeout(done, 1000)) // being made: in a second it is wanted anew
      else if (answer.ok) this.ready.set(key, await createImageBitmap(await answer.blob()))
      else throw new Error(answer.status)
      for (const [old, bitmap] of this.ready) {
        if (this.ready.size <= KEPT) break
        bitmap.close()
        this.ready.delete(old)
      }
    } catch (error) {
      if (error.name !== "AbortError") this.missing.add(key)
    }
    this.coming.delete(key)
    this.arrived()
  }

  close() {
    for (const request of this.coming.values()) request.abort()
    for (const bitmap of this.ready.values()) bitmap.close()
    this.ready.clear()
  }
}

class Viewer {
  constructor(root, data) {
    this.root = root
    this.data = data
    this.part = Object.fromEntries(["stage", "map", "heat", "scale", "said"].map(name => [name, root.querySelector("." + name)]))
    this.slider = this.part.heat.querySelector("input")
    this.tiles = new Tiles(data, () => this.draw())
    this.fingers = new Map()
    this.off = new AbortController() // ends every listener at once

    const asked = new URLSearchParams(location.search)
    const position = (asked.get("position") ?? "").split(",").map(Number)
    this.wished = position.length === 3 && position.every(Number.isFinite) && position[2] > 0 ? position : null
    const opacity = asked.has("opacity") ? Number(asked.get("opacity")) : NaN
    this.slider.value = opacity >= 0 && opacity <= 100 ? opacity : 50

    this.listen()
    this.sizes = new ResizeObserver(() => this.resize())
    this.sizes.observe(root)
  }

  // Takes what the page says now: the heat map may have come, another tile may have been picked.
  update(data, setTriggerValue) {
    this.pick = point => setTriggerValue("pick", point)
    if (data.heat?.source !== this.data.heat?.source || !this.heat) this.loadHeat(data.heat)
    this.data = data
    this.part.heat.hidden = !data.heat
    const said = data.picked?.said ?? ""
    if (this.part.said.textContent !== said) this.part.said.textContent = said
    this.part.stage.setAttribute("aria-label", `${data.name}. Arrow keys move, plus and minus zoom, 0 shows the whole slide, Enter reads the tile in the middle.`)
    this.draw()
  }

  loadHeat(heat) {
    this.heat = null
    if (!heat) return
    const picture = new Image()
    picture.onload = () => {
      this.heat = picture
      this.draw()
    }
    picture.src = heat.source
  }

  close() {
    this.off.abort()
    this.sizes.disconnect()
    this.tiles.close()
    clearTimeout(this.writing)
    clearTimeout(this.click)
    cancelAnimationFrame(this.frame)
    this.closed = true
  }

  // ---- where we are

  resize() {
    this.width = this.root.clientWidth
    this.height = this.root.clientHeight
    if (!this.width || !this.height) return // in a hidden tab
    const fit = Math.min(this.width / this.data.width, this.height / this.data.height)
    this.smallest = Math.min(fit * 0.9, LARGEST_SCALE)
    for (const [canvas, width, height] of [[this.part.stage, this.width, this.height], [this.part.map, ...this.mapSize()]]) {
      canvas.width = Math.round(width * devicePixelRatio)
      canvas.height = Math.round(height * devicePixelRatio)
    }
    const [mapWidth, mapHeight] = this.mapSize()
    Object.assign(this.part.map.style, { width: `${mapWidth}px`, height: `${mapHeight}px` })
    if (!this.view) this.wished ? this.go(this.wished[0], this.wished[1], this.width / this.wished[2], false) : this.home(false)
    else this.go(this.view.x, this.view.y, this.view.scale, false)
  }

  mapSize() {
    const side = this.width < 500 ? 84 : 140
    const shrink = side / Math.max(this.data.width, this.data.height)
    return [Math.max(8, this.data.width * shrink), Math.max(8, this.data.height * shrink)]
  }

  home(tell = true) {
    this.go(this.data.width / 2, this.data.height / 2, 0, tell)
  }

  go(x, y, scale, tell = true) {
    const clamp = (value, low, high) => Math.min(Math.max(value, low), high)
    this.view = { x: clamp(x, 0, this.data.width), y: clamp(y, 0, this.data.height), scale: clamp(scale, this.smallest, LARGEST_SCALE) }
    if (tell) this.remember()
    this.draw()
  }

  // Zooms by a factor and leaves the slide point under (px, py), in CSS pixels of the canvas, where it is.
  zoom(factor, px = this.width / 2, py = this.height / 2) {
    const [x, y] = this.slidePoint(px, py)
    const scale = Math.min(Math.max(this.view.scale * factor, this.smallest), LARGEST_SCALE)
    this.go(x - (px - this.width / 2) / scale, y - (py - this.height / 2) / scale, scale)
  }

  pan(dx, dy) {
    this.go(this.view.x - dx / this.view.scale, this.view.y - dy / this.view.scale, this.view.scale)
  }

  slidePoint(px, py) {
    return [this.view.x + (px - this.width / 2) / this.view.scale, this.view.y + (py - this.height / 2) / this.view.scale]
  }

  read(px, py) {
    const [x, y] = this.slidePoint(px, py).map(Math.floor)
    if (x < 0 || y < 0 || x >= this.data.width || y >= this.data.height) return
    write({ pick: `${x},${y}` })
    this.pick({ x, y })
  }

  remember() {
    clearTimeout(this.writing)
    this.writing = setTimeout(() => {
      const { x, y, scale } = this.view
      write({ position: [x, y, this.width / scale].map(Math.round).join(","), ...(this.data.heat && { opacity: this.slider.value }) })
    }, 250)
  }

  // ---- hands

  listen() {
    const { stage, map } = this.part
    const on = (target, type, handler, options = {}) => target.addEventListener(type, handler, { signal: this.off.signal, ...options })
    const at = event => [event.offsetX, event.offsetY]

    on(stage, "wheel", event => {
      event.preventDefault()
      const step = event.deltaY * (event.deltaMode ? 20 : 1) * (event.ctrlKey ? 4 : 1) // ctrl: a pinch on a touchpad
      this.zoom(Math.exp(-Math.min(Math.max(step, -300), 300) / 400), ...at(event))
    }, { passive: false })

    on(stage, "pointerdown", event => {
      stage.setPointerCapture(event.pointerId)
      this.fingers.set(event.pointerId, at(event))
      if (this.fingers.size === 1) this.moved = 0
      else this.moved = Infinity // two fingers never pick
      stage.classList.add("moving")
    })
    on(stage, "pointermove", event => {
      if (!this.fingers.has(event.pointerId)) return
      const before = [...this.fingers.values()]
      const [px, py] = this.fingers.get(event.pointerId)
      const [qx, qy] = at(event)
      this.fingers.set(event.pointerId, [qx, qy])
      this.moved += Math.hypot(qx - px, qy - py)
      if (this.fingers.size === 1 && this.moved > 4) this.pan(qx - px, qy - py)
      if (this.fingers.size === 2) {
        const after = [...this.fingers.values()]
        const middle = ([a, b]) => [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2]
        const apart = ([a, b]) => Math.hypot(a[0] - b[0], a[1] - b[1])
        const [from, to] = [middle(before), middle(after)]
        this.pan(to[0] - from[0], to[1] - from[1])
        this.zoom(apart(after) / Math.max(apart(before), 1), ...to)
      }
    })
    const up = event => {
      if (!this.fingers.delete(event.pointerId)) return
      if (this.fingers.size) return
      stage.classList.remove("moving")
      if (event.type === "pointercancel" || this.moved > 4) return
      const point = at(event)
      if (this.click) { // the second tap of two
        clearTimeout(this.click)
        this.click = null
        this.zoom(event.shiftKey ? 0.5 : 2, ...point)
      } else {
        this.click = setTimeout(() => {
          this.click = null
          this.read(...point)
        }, 220)
      }
    }
    on(stage, "pointerup", up)
    on(stage, "pointercancel", up)

    const keys = {
      ArrowLeft: () => this.pan(this.width / 8, 0), ArrowRight: () => this.pan(-this.width / 8, 0),
      ArrowUp: () => this.pan(0, this.height / 8), ArrowDown: () => this.pan(0, -this.height / 8),
      "+": () => this.zoom(1.5), "=": () => this.zoom(1.5), "-": () => this.zoom(1 / 1.5), _: () => this.zoom(1 / 1.5),
      0: () => this.home(), Home: () => this.home(), f: () => this.fill(),
      Enter: () => this.read(this.width / 2, this.height / 2), " ": () => this.read(this.width / 2, this.height / 2),
    }
    on(stage, "keydown", event => {
      if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return
      event.preventDefault()
      event.stopPropagation() // r and c mean something to the page around us; so may others
      keys[event.key]()
    })
    on(stage, "focus", () => this.draw()) // the cross in the middle shows what Enter would read
    on(stage, "blur", () => this.draw())

    const fly = event => {
      if (event.buttons === 0) return
      const [mapWidth] = this.mapSize()
      const shrink = mapWidth / this.data.width
      this.go(event.offsetX / shrink, event.offsetY / shrink, this.view.scale)
    }
    on(map, "pointerdown", fly)
    on(map, "pointermove", fly)

    const acts = { in: () => this.zoom(1.5), out: () => this.zoom(1 / 1.5), home: () => this.home(), full: () => this.fill() }
    for (const button of this.root.querySelectorAll("button")) on(button, "click", () => acts[button.dataset.do]())
    on(this.slider, "input", () => {
      this.draw()
      this.remember()
    })
  }

  fill() {
    if (document.fullscreenElement) document.exitFullscreen()
    else this.root.requestFullscreen?.()
  }

  // ---- the picture

  draw() {
    if (this.closed || this.frame) return
    this.frame = requestAnimationFrame(() => {
      this.frame = null
      if (this.closed || !this.view || !this.width) return
      this.drawStage()
      this.drawMap()
      this.drawScale()
    })
  }

  drawStage() {
    const { data, view, width, height } = this
    const pen = this.part.stage.getContext("2d")
    pen.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0)
    pen.clearRect(0, 0, width, height)
    pen.imageSmoothingQuality = "high"
    const sx = x => (x - view.x) * view.scale + width / 2
    const sy = y => (y - view.y) * view.scale + height / 2
    // Edges on whole device pixels, or neighbouring tiles show a seam.
    const snap = value => Math.round(value * devicePixelRatio) / devicePixelRatio
    const box = (x0, y0, x1, y1) => [snap(sx(x0)), snap(sy(y0)), snap(sx(x1)) - snap(sx(x0)), snap(sy(y1)) - snap(sy(y0))]

    const level = Math.min(Math.max(Math.floor(-Math.log2(view.scale * devicePixelRatio)), 0), data.levels - 1)
    const [left, top] = this.slidePoint(0, 0)
    const [right, bottom] = this.slidePoint(width, height)
    const wanted = []
    // From coarse to fine, so that what has come covers what stands in for it.
    for (let k = data.levels - 1; k >= level; k--) {
      const side = data.tile * 2 ** k
      const [x0, y0] = [Math.max(Math.floor(left / side), 0), Math.max(Math.floor(top / side), 0)]
      const [x1, y1] = [Math.min(Math.ceil(right / side), Math.ceil(data.width / side)), Math.min(Math.ceil(bottom / side), Math.ceil(data.height / side))]
      for (let y = y0; y < y1; y++) {
        for (let x = x0; x < x1; x++) {
          const key = `${k}/${x}_${y}`
          if (k === level || k === data.levels - 1) wanted.push([k === level ? Math.hypot((x + 0.5) * side - view.x, (y + 0.5) * side - view.y) : -1, key])
          const bitmap = this.tiles.get(key)
          if (bitmap) pen.drawImage(bitmap, ...box(x * side, y * side, Math.min((x + 1) * side, data.width), Math.min((y + 1) * side, data.height)))
        }
      }
    }
    const waiting = this.tiles.want(wanted.sort((a, b) => a[0] - b[0]).map(([, key]) => key))
    this.part.stage.setAttribute("aria-busy", String(waiting > 0))

    if (this.heat && data.heat) {
      const [x, y, w, h] = data.heat.box
      pen.save()
      pen.globalAlpha = this.slider.value / 100
      pen.imageSmoothingEnabled = (w / this.heat.width) * view.scale < 4 // up close the cells are what was computed: no smoothing
      pen.beginPath()
      pen.rect(...box(0, 0, data.width, data.height)) // the last cells reach beyond the slide
      pen.clip()
      pen.drawImage(this.heat, ...box(x, y, x + w, y + h))
      pen.restore()
    }
    if (data.picked) {
      const [x, y, w, h] = data.picked.box
      const [bx, by, bw, bh] = box(x, y, x + w, y + h)
      const grow = Math.max(0, 9 - bw) / 2 // still to be seen from far away
      for (const [colour, thick] of [["#fff", 5], ["#111", 2]]) {
        pen.strokeStyle = colour
        pen.lineWidth = thick
        pen.strokeRect(bx - grow, by - grow, bw + 2 * grow, bh + 2 * grow)
      }
      pen.font = "600 13px system-ui, sans-serif"
      const wide = pen.measureText(data.picked.said).width + 14
      const [tx, ty] = [Math.min(Math.max(bx + bw / 2 - wide / 2, 2), width - wide - 2), by - grow > 34 ? by - grow - 31 : by + bh + grow + 8]
      pen.fillStyle = "#111"
      pen.beginPath()
      pen.roundRect(tx, ty, wide, 23, 6)
      pen.fill()
      pen.fillStyle = "#fff"
      pen.fillText(data.picked.said, tx + 7, ty + 16)
    }
    if (this.part.stage.matches(":focus-visible")) {
      pen.fillStyle = "#111"
      pen.fillRect(width / 2 - 9, height / 2 - 0.75, 18, 1.5)
      pen.fillRect(width / 2 - 0.75, height / 2 - 9, 1.5, 18)
    }
  }

  drawMap() {
    const { data, view } = this
    const pen = this.part.map.getContext("2d")
    const [width, height] = this.mapSize()
    const shrink = width / data.width
    pen.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0)
    pen.clearRect(0, 0, width, height)
    const k = data.levels - 1
    const side = data.tile * 2 ** k
    for (let y = 0; y * side < data.height; y++) {
      for (let x = 0; x * side < data.width; x++) {
        const bitmap = this.tiles.get(`${k}/${x}_${y}`)
        const [w, h] = [Math.min(side, data.width - x * side), Math.min(side, data.height - y * side)]
        if (bitmap) pen.drawImage(bitmap, x * side * shrink, y * side * shrink, w * shrink, h * shrink)
      }
    }
    const [w, h] = [(this.width / view.scale) * shrink, (this.height / view.scale) * shrink]
    this.part.map.style.visibility = w > width && h > height ? "hidden" : "visible" // nothing to find when all is seen
    pen.strokeStyle = "#c2410c"
    pen.lineWidth = 2
    pen.strokeRect(view.x * shrink - w / 2, view.y * shrink - h / 2, w, h)
  }

  drawScale() {
    const { scale } = this.part
    scale.hidden = !this.data.mpp
    if (!this.data.mpp) return
    const room = Math.min(this.width / 4, 140) * (this.data.mpp / this.view.scale) // micrometres
    const power = 10 ** Math.floor(Math.log10(room))
    const length = power * [5, 2, 1].find(step => step * power <= room)
    const text = length >= 1000 ? `${length / 1000} mm` : `${length} \u00b5m`
    scale.firstElementChild.style.width = `${(length / this.data.mpp) * this.view.scale}px`
    if (scale.dataset.text !== text) {
      scale.dataset.text = text
      scale.firstElementChild.textContent = text
      scale.setAttribute("aria-label", `Scale bar: ${text}`)
    }
  }
}
