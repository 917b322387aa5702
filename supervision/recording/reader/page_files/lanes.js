// The lanes of a failed check of a history. Each line below the problem is a client, and each "|- label -|" is a bar.

function problemItem(problem) {
  const [words, ...lanes] = problem.split("\n")
  const item = element("li", "", words)
  if (lanes.length) item.append(element("pre", "lanes", undefined, ...lanes.map(lane)))
  return item
}

function lane(line) {
  const row = element("div")
  const parts = line.split(/(\|-+ .*? -+[|?])/)
  row.append(...parts.map((part, number) => (number % 2 ? element("span", part.endsWith("?") ? "open" : "", part) : part)))
  return row
}
