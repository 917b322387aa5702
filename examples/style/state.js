// The line at the top of each page that shows the state of its connection.

/** Show the state in words; "joined" is the only state that is good. */
export function showState(state, words) {
  document.body.dataset.state = state
  document.getElementById("state").textContent = words
}

/** Show each change of the socket and the channel, from connecting to joined and back. */
export function watch(socket, channel, joined = () => {}) {
  socket.onError(() => showState("away", "No server, trying again"))
  channel.onError(() => socket.isConnected() && showState("crashed", "Crashed, rejoining"))
  return channel
    .join()
    .receive("ok", (reply) => {
      showState("joined", "Connected")
      joined(reply)
    })
    .receive("error", ({ reason }) => showState("refused", `Refused: ${reason}`))
}
