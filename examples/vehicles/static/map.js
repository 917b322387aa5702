// The map: streets, and a marker for each vehicle that glides from report to report.

const SVG = "http://www.w3.org/2000/svg"
const still = matchMedia("(prefers-reduced-motion: reduce)")

function make(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name)
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value)
  element.append(...children)
  return element
}

export class CityMap {
  constructor(svg) {
    this.svg = svg
    this.ground = make("g", {})
    this.layer = make("g", {})
    this.markers = new Map()
    svg.append(this.ground, this.layer)
    this.frame = this.frame.bind(this)
    requestAnimationFrame(this.frame)
  }

  /** Draw the streets and what lies between them. */
  draw({ width, height, streets, avenues }) {
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`)
    const xs = Object.values(streets)
    const ys = Object.values(avenues)
    this.ground.replaceChildren(
      ...blocks([-20, ...xs, width + 20], [-20, ...ys, height + 20]),
      ...ys.flatMap((y) => road({ x1: -1, x2: width + 1, y1: y, y2: y })),
      ...xs.flatMap((x) => road({ x1: x, x2: x, y1: -1, y2: height + 1 })),
      ...xs.flatMap((x) => ys.map((y) => make("rect", { class: "road", x: x - 1.6, y: y - 1.6, width: 3.2, height: 3.2 }))),
      ...Object.entries(streets).map(([name, x]) =>
        make("text", { class: "street", transform: `translate(${x + 2.3} ${height - 1}) rotate(-90)` }, name)),
      ...Object.entries(avenues).map(([name, y]) =>
        make("text", { class: "street", x: width / 2 + 11, y: y - 2.2 }, name)),
    )
  }

  /** Take a report of a vehicle: its marker goes there from where it is now. */
  move(vehicle) {
    const { name, x, y } = vehicle
    const now = performance.now()
    const marker = this.markers.get(name)
    if (!marker) {
      this.add(name, x, y)
      this.paint(vehicle)
      return
    }
    const { at } = marker
    if (x !== at.x || y !== at.y) marker.heading = (Math.atan2(y - at.y, x - at.x) * 180) / Math.PI
    // Reports come at even intervals. A jump, after a silence, does not take long either.
    marker.takes = still.matches ? 1 : Math.min(now - marker.since, 400)
    Object.assign(marker, { from: { ...at }, to: { x, y }, since: now })
  }

  add(name, x, y) {
    const body = make("g", { class: "body" },
      make("circle", { r: 1.75 }), make("path", { d: "M-.75 -.8 1 0 -.75 .8Z" }))
    const element = make("g", { class: "vehicle", "data-name": name },
      make("circle", { class: "halo", r: 3 }), body, make("text", { y: -2.7 }, name))
    const at = { x, y }
    const marker = { element, body, at, from: at, to: at, since: performance.now(), takes: 1, heading: 0 }
    this.markers.set(name, marker)
    place(marker) // now, because the next frame may come late
    this.layer.append(element)
  }

  remove(name) {
    this.markers.get(name)?.element.remove()
    this.markers.delete(name)
  }

  /** Give the marker of a vehicle, if it has one, the colour of its node. */
  paint({ name, colour, node }) {
    const element = this.markers.get(name)?.element
    if (!element) return
    element.dataset.node = node
    element.style.setProperty("--colour", colour)
  }

  /** Show whether a vehicle is silent. */
  dim({ name, silent }) {
    this.markers.get(name)?.element.classList.toggle("silent", silent)
  }

  /** Point out one vehicle, or none. */
  point(name) {
    this.layer.querySelector(".pointed")?.classList.remove("pointed")
    const element = this.markers.get(name)?.element
    if (!element) return
    element.classList.add("pointed")
    this.layer.append(element) // above all others
  }

  frame(now) {
    for (const marker of this.markers.values()) {
      const { from, to, at } = marker
      const part = Math.max(0, Math.min((now - marker.since) / marker.takes, 1))
      at.x = from.x + (to.x - from.x) * part
      at.y = from.y + (to.y - from.y) * part
      place(marker)
    }
    requestAnimationFrame(this.frame)
  }
}

function place({ element, body, at, heading }) {
  element.setAttribute("transform", `translate(${at.x} ${at.y})`)
  body.setAttribute("transform", `rotate(${heading})`)
}

function road(ends) {
  return [make("line", { class: "road", ...ends }), make("line", { class: "middle", ...ends })]
}

/** The ground between the streets: houses, parks and a lake. */
function blocks(xs, ys) {
  const gap = 2.1
  const found = []
  for (let column = 1; column < xs.length; column++) {
    for (let row = 1; row < ys.length; row++) {
      const x = xs[column - 1] + gap
      const y = ys[row - 1] + gap
      const width = xs[column] - gap - x
      const height = ys[row] - gap - y
      const kind = { "2,3": "park", "4,2": "lake", "5,4": "park", "1,2": "park" }[`${column},${row}`]
      found.push(make("rect", { class: kind ?? "block", x, y, width, height, rx: 1.2 }))
      if (kind === undefined) found.push(...houses(x, y, width, height, column * 7 + row * 3))
    }
  }
  return found
}

function houses(x, y, width, height, seed) {
  const across = Math.max(1, Math.round(width / 6))
  const down = Math.max(1, Math.round(height / 5.5))
  const found = []
  for (let n = 0; n < across * down; n++) {
    const random = ((seed * 31 + n * 17) % 13) / 13
    const [w, h] = [width / across, height / down]
    const [left, top] = [x + (n % across) * w, y + Math.floor(n / across) * h]
    const inset = 0.5 + random * 0.7
    found.push(make("rect", {
      class: "house", x: left + inset, y: top + inset, rx: 0.4,
      width: Math.max(0.1, w - 2 * inset), height: Math.max(0.1, h - 1.2 - random),
    }))
  }
  return found
}
