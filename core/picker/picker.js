// Pictures of which one is chosen: a radio group, as screen readers and arrow keys know it.
export default function ({ data, parentElement, setStateValue }) {
  const group = parentElement.querySelector(".picker")
  group.setAttribute("aria-label", data.label)

  const names = data.choices.map(choice => choice.name).join("\n")
  if (group.dataset.names !== names) {
    group.dataset.names = names
    group.replaceChildren(...data.choices.map(choice => {
      const button = document.createElement("button")
      const image = document.createElement("img")
      const label = document.createElement("span")
      button.type = "button"
      button.dataset.name = choice.name
      button.setAttribute("role", "radio")
      image.src = choice.image
      image.alt = ""
      label.textContent = choice.label
      button.append(image, label)
      return button
    }))
  }

  const buttons = [...group.children]
  const choose = button => {
    mark(button.dataset.name)
    button.focus()
    setStateValue("choice", button.dataset.name)
  }
  const mark = name => {
    for (const button of buttons) {
      button.setAttribute("aria-checked", String(button.dataset.name === name))
      button.tabIndex = button.dataset.name === name ? 0 : -1
    }
    if (!buttons.some(button => button.tabIndex === 0) && buttons.length) buttons[0].tabIndex = 0
  }
  mark(data.chosen)

  const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }
  for (const [i, button] of buttons.entries()) {
    button.onclick = () => choose(button)
    button.onkeydown = event => {
      if (!steps[event.key]) return
      event.preventDefault()
      choose(buttons[(i + steps[event.key] + buttons.length) % buttons.length])
    }
  }
}
