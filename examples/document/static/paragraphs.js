// The paragraphs on the screen: a text field each.

const list = document.getElementById("text")
const grows = CSS.supports("field-sizing", "content")
let report = () => {}
let newId

/** Call a function with the changes of the user. */
export function onChange(listener, makeId) {
  report = listener
  newId = makeId
}

/** Show a text. Fields that stay keep their focus and their selection. Mark those that change, if others changed them. */
export function show(text, mark) {
  const wanted = new Set(text.map(({ id }) => id))
  const fields = new Map([...list.children].map((field) => [field.dataset.id, field]))
  fields.forEach((field, id) => wanted.has(id) || field.remove())
  let next = list.firstElementChild
  text.forEach((paragraph, index) => {
    const field = fields.get(paragraph.id) ?? newField(paragraph.id)
    if (field === next) next = next.nextElementSibling
    else list.insertBefore(field, next)
    field.ariaLabel = `Paragraph ${index + 1} of ${text.length}`
    field.placeholder = text.length === 1 ? "Write something. Open this page in a second tab, and write there too." : ""
    if (field.value !== paragraph.text) fill(field, paragraph.text, mark)
  })
}

function newField(id) {
  const field = document.createElement("textarea")
  Object.assign(field, { rows: 1, maxLength: 1000, spellcheck: false })
  field.dataset.id = id
  return field
}

function fill(field, text, mark) {
  const { selectionStart, selectionEnd } = field
  field.value = text
  if (field === document.activeElement) field.setSelectionRange(selectionStart, selectionEnd)
  fit(field)
  field.classList.remove("changed")
  if (!mark) return
  void field.offsetWidth // lets the same animation run again
  field.classList.add("changed")
}

function fit(field) {
  if (grows) return
  field.style.height = "auto"
  field.style.height = `${field.scrollHeight}px`
}

function focus(id, at) {
  const field = list.querySelector(`[data-id="${id}"]`)
  field?.focus()
  field?.setSelectionRange(at, at)
}

list.addEventListener("click", ({ target }) => target === list && list.lastElementChild?.focus())

list.addEventListener("input", ({ target }) => {
  fit(target)
  report([change(target, target.value)])
})

const change = (field, text) => ({ id: field.dataset.id, after: field.previousElementSibling?.dataset.id ?? null, text })

list.addEventListener("keydown", (event) => {
  const { target: field, key } = event
  const { value, selectionStart: start, selectionEnd: end } = field
  const before = field.previousElementSibling
  const after = field.nextElementSibling
  if (event.isComposing || event.shiftKey || event.ctrlKey || event.altKey || event.metaKey) return
  if (key === "Enter") {
    const id = newId()
    const rest = { id, after: field.dataset.id, text: value.slice(end) }
    report([change(field, value.slice(0, start)), rest])
    focus(id, 0)
  } else if (key === "Backspace" && end === 0 && before && before.value.length + value.length <= 1000) {
    const at = before.value.length
    report([change(before, before.value + value), change(field, null)])
    focus(before.dataset.id, at)
  } else if (key === "ArrowUp" && end === 0 && before) {
    focus(before.dataset.id, before.value.length)
  } else if (key === "ArrowDown" && start === value.length && after) {
    focus(after.dataset.id, 0)
  } else {
    return
  }
  event.preventDefault()
})
