import type { Channel, Socket } from "phoenix"

/**
 * Make a channel that sends the position of its last message at each join, and so gets what it missed.
 *
 * The parameters are an object or a function that returns one, as for `socket.channel`. A function is called at each
 * join.
 */
export function durable(socket: Socket, topic: string, params?: object | (() => object)): Channel

/**
 * Push until the server has answered, over lost connections and restarts. The server handles the push once.
 *
 * `timeout` is the time of one attempt in milliseconds. Its default is the timeout of the socket.
 */
export function pushUntilAnswered<Response = any>(
  channel: Channel,
  event: string,
  payload: object,
  timeout?: number,
): Promise<Response>
