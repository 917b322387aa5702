// As much of XMLHttpRequest as phoenix.js uses, for Node, which has none: the published clients up to 1.7 know no fetch.

export class XMLHttpRequest {
  #headers = {}
  #controller = new AbortController()
  #isOver = false

  readyState = 0
  responseText = ""
  status = 0
  timeout = 0

  open(method, url) {
    Object.assign(this, { method, url, readyState: 1 })
  }

  setRequestHeader(name, value) {
    this.#headers[name] = value
  }

  abort() {
    this.#isOver = true
    this.#controller.abort()
  }

  async send(body) {
    const timer = this.timeout && setTimeout(() => this.#end(() => this.ontimeout?.()), this.timeout)
    try {
      const { method, url } = this
      const response = await fetch(url, { method, headers: this.#headers, body, signal: this.#controller.signal })
      const text = await response.text()
      this.#end(() => this.#complete(response.status, text))
    } catch {
      // Nobody is there, or the connection broke.
      this.#end(() => this.onerror?.())
    } finally {
      clearTimeout(timer)
    }
  }

  #complete(status, responseText) {
    Object.assign(this, { status, responseText, readyState: 4 })
    this.onreadystatechange?.()
  }

  #end(tell) {
    if (!this.#isOver) {
      this.abort()
      tell()
    }
  }
}
