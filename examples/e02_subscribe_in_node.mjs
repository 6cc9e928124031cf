// Hear what happens, in another language: Node 18 or newer, with the package `nats` alone.
//
//   npm install nats
//   export ENTREPOT_BUS_URL=nats://127.0.0.1:5020 ENTREPOT_BUS_USER=outside-acme ENTREPOT_BUS_PASSWORD_FILE=...
//   node examples/e02_subscribe_in_node.mjs my-chat-bot 'image.pushed.acme.>'
//
// The name is kept on the bus: start it again and it goes on where it stopped.

import { readFileSync } from "node:fs";
import { AckPolicy, connect } from "nats";

const [name, subject = ">", most = "0"] = process.argv.slice(2);
if (!name) {
  console.error("usage: node e02_subscribe_in_node.mjs NAME [SUBJECT [MOST]]");
  process.exit(2);
}

const connection = await connect({
  servers: process.env.ENTREPOT_BUS_URL,
  user: process.env.ENTREPOT_BUS_USER,
  pass: readFileSync(process.env.ENTREPOT_BUS_PASSWORD_FILE, "utf8").trim(),
  maxReconnectAttempts: -1,
});

const manager = await connection.jetstreamManager();
await manager.consumers.add("EVENTS", {
  durable_name: name,
  filter_subject: subject,
  ack_policy: AckPolicy.Explicit,
});

const consumer = await connection.jetstream().consumers.get("EVENTS", name);
const seen = new Set();
for await (const message of await consumer.consume({ max_messages: 1 })) {
  const event = message.json();
  // At least once means: sometimes twice. The id stays the same.
  if (!seen.has(event.id)) {
    seen.add(event.id);
    console.log(`${event.time} ${event.type} #${event.sequence} by ${event.actor || "?"}: ${JSON.stringify(event.data)}`);
  }
  await message.ackAck();
  if (seen.size === Number(most)) break;
}
await connection.close();
