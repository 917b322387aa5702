/** Push until the server has answered, over lost connections and restarts. The server handles the push once. */
export function pushUntilAnswered(channel, event, payload, timeout) {
  const keyed = { ...payload, _key: crypto.randomUUID() }
  return new Promise((resolve, reject) => {
    const attempt = () =>
      channel.push(event, keyed, timeout).receive("ok", resolve).receive("error", reject).receive("timeout", attempt)
    attempt()
  })
}
