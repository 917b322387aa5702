// The text of the document, and how an edit changes it. The server does the same, in text.py.

const MAX_PARAGRAPHS = 200

/** Make changes to a text, in their order. A paragraph whose predecessor is gone goes to the end. */
export function apply(text, changes) {
  for (const change of changes) {
    const made = change.text === null ? [] : [{ id: change.id, text: change.text }]
    const place = (id) => text.findIndex((paragraph) => paragraph.id === id)
    const here = place(change.id)
    const before = place(change.after)
    if (here >= 0) text.splice(here, 1, ...made)
    else if (text.length >= MAX_PARAGRAPHS) continue
    else if (change.after === null) text.unshift(...made)
    else text.splice(before >= 0 ? before + 1 : text.length, 0, ...made)
  }
  return text
}
