// Types of tests.channels.generators.typed_chat:endpoint for phoenix.js. `ashtree gen types` wrote this file: do not edit it.
// It needs the npm package @types/phoenix.

import type * as phoenix from "phoenix";

/** The reply of Ashtree itself with status "error", such as "invalid payload" or "rate limited". */
export interface Refusal {
  reason: string;
  field?: string | null;
  problem?: string;
}

/** The messages of a channel: its join, the events that it handles, and the events that it sends. */
export interface ChannelTypes {
  join: object;
  push: { [event: string]: { payload: unknown; replies: object } };
  on: object;
}

/** A Push of phoenix.js whose replies have types. */
export interface TypedPush<Replies> extends Omit<phoenix.Push, "receive"> {
  receive<Status extends keyof Replies & string>(
    status: Status,
    callback: (response: Replies[Status]) => unknown,
  ): this;
  receive(status: "timeout", callback: () => unknown): this;
}

/** A Channel of phoenix.js whose events and payloads have types. */
export interface TypedChannel<Types extends ChannelTypes>
  extends Omit<phoenix.Channel, "join" | "on" | "push"> {
  join(timeout?: number): TypedPush<Types["join"]>;
  on<Event extends keyof Types["on"] & string>(
    event: Event,
    callback: (payload: Types["on"][Event]) => unknown,
  ): number;
  push<Event extends keyof Types["push"] & string>(
    event: Event,
    payload: Types["push"][Event]["payload"],
    timeout?: number,
  ): TypedPush<Types["push"][Event]["replies"]>;
}

/** The socket of a browser tab. */
export interface UserSocket extends Omit<phoenix.Socket, "channel"> {
  channel(
    topic: "room:`lobby`",
    params: Credentials | (() => Credentials),
  ): TypedChannel<RoomChannel>;
  channel(
    topic: `room:${string}`,
    params: Credentials | (() => Credentials),
  ): TypedChannel<RoomChannel>;
  channel(
    topic: "clock",
    params?: object | (() => object),
  ): TypedChannel<ClockChannel>;
}

/** The socket at /open. */
export interface OpenSocket extends Omit<phoenix.Socket, "channel"> {
  channel(
    topic: string,
    params?: object | (() => object),
  ): TypedChannel<OpenChannel>;
}

/** A room of the chat. */
export interface RoomChannel {
  /** Join with a name. */
  join: { ok: Welcome | object; error: unknown };
  push: {
    /** Publish a message. */
    new_msg: {
      payload: NewMessage;
      replies: { ok: Sent; error: TooLong | Refusal; busy: object };
    };
    list: {
      payload: object;
      replies: { ok: Folder[]; error: Refusal };
    };
    "list-again": {
      payload: object;
      replies: { ok: unknown; error: unknown };
    };
  };
  on: {
    new_msg: NewMessage;
    "typing-now": object;
    photo: ArrayBuffer;
    anything: unknown;
  };
}

export interface ClockChannel {
  join: { ok: object; error: TooLong | Refusal };
  push: {};
  on: {
    tick: Refusal2;
  };
}

export interface OpenChannel {
  join: { ok: unknown; error: unknown };
  push: {
    [event: string]: { payload: object; replies: { [status: string]: unknown } };
  };
  on: { [event: string]: unknown };
}

/** The name that a user chose. */
export interface Credentials {
  name: string;
  /** A CSS color. */
  color?: string;
}

export interface Welcome {
  users: string[];
}

export interface NewMessage {
  body: string;
  mood?: Mood;
  reply_to?: number | null;
  place?: [number, number] | null;
  tags?: { [name: string]: (number | string)[] };
}

export type Mood = "bad" | "good";

export interface Sent {
  id: number;
}

export interface TooLong {
  reason: "too long";
  limit: number;
}

/** A folder. *\/ Its comment does not end here. */
export interface Folder {
  name: string;
  inside: Folder[];
}

/** A class with a name that the generated file uses too. */
export interface Refusal2 {
  at: number;
}
