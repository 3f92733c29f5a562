// What is on a reviewed game's own page: boards that stand still, and one on which the game is walked through.

const { positions, mistakes } = JSON.parse(document.getElementById("data").textContent)
const pick = id => document.getElementById(id)
const LAYERS = { policy: ["heat"], search: ["moves"], ownership: ["own"], line: ["line"] }
const shown = new Set()

for (const [i, board] of mistakes.entries()) {
  const root = pick(`mistake-${i}`)
  new Board(root).update(board, () => {})
  root.querySelector("svg").setAttribute("aria-label", "The position before the mistake. Arrow keys move.")
}

const walk = new Board(pick("walk"))
const [slider, at] = [pick("move"), document.querySelector(".at")]

function show(ply) {
  const { words, ...data } = positions[ply]
  for (const [name, layers] of Object.entries(LAYERS)) if (!shown.has(name)) for (const layer of layers) data[layer] = []
  walk.update({ ...data, serial: ply }, () => {})
  slider.value = ply
  pick("words").textContent = words
  at.hidden = false
  at.style.left = `${100 * ply / slider.max}%`
}

const step = by => show(Math.min(Math.max(Number(slider.value) + by, 0), Number(slider.max)))
slider.addEventListener("input", () => show(Number(slider.value)))
pick("back").addEventListener("click", () => step(-1))
pick("forth").addEventListener("click", () => step(1))
for (const dot of document.querySelectorAll(".dot")) dot.addEventListener("click", () => show(Number(dot.dataset.ply)))
for (const toggle of document.querySelectorAll(".shows button")) {
  toggle.addEventListener("click", () => {
    const on = toggle.getAttribute("aria-pressed") !== "true"
    toggle.setAttribute("aria-pressed", String(on))
    shown[on ? "add" : "delete"](toggle.dataset.layer)
    show(Number(slider.value))
  })
}
show(0)
