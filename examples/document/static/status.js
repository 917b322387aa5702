// The words around the text: the connection, the position, and what is not saved.

const $ = (id) => document.getElementById(id)

export function showState(state, words) {
  document.body.dataset.state = state
  $("state").textContent = words
}

/** Show the position of the last message: opaque text, which this tab sends when it joins again. */
export function showPosition(position) {
  $("position").textContent = position
}

export function showUnsaved(count, ready) {
  const changes = count === 1 ? "1 change" : `${count} changes`
  document.body.dataset.unsaved = count > 0
  $("unsaved").textContent = count === 0 ? "Saved" : ready ? "Saving" : `${changes} only in this tab`
}

const WORDS = {
  new: "This tab is new, and got the whole text.",
  epoch_changed: "The server has another history. This tab got the whole text.",
  too_old: "This tab was away for too long, and got the whole text.",
  too_many: "This tab missed many edits, and got the whole text.",
}

export function showJoin({ _position, _recovered, _reason }) {
  showPosition(_position)
  $("joined").textContent = _recovered ? "This tab is back, and got what it missed." : WORDS[_reason]
}
