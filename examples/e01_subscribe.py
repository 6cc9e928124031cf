"""Hear what happens, with nothing but nats-py and the published schemas.

    pip install nats-py jsonschema
    export ENTREPOT_BUS_URL=nats://127.0.0.1:5020 ENTREPOT_BUS_USER=outside-acme ENTREPOT_BUS_PASSWORD_FILE=...
    python examples/e01_subscribe.py --name my-chat-bot 'image.pushed.acme.>'

The name is kept on the bus: start it again and it goes on where it stopped. Without a name it hears everything from
the beginning of what is kept. Without jsonschema the events are not checked.
"""

import argparse
import asyncio
import json
import os
from pathlib import Path
from typing import Any

import nats
from nats.js.api import AckPolicy, ConsumerConfig

SCHEMAS = Path(__file__).resolve().parents[1] / "shared" / "contracts" / "schemas"


def check(event: dict[str, Any]) -> None:
    """Hold an event against the schema that it names; new fields are allowed."""
    try:
        from jsonschema import validate  # noqa: PLC0415 - only who wants to check needs it
    except ImportError:
        return
    schema = json.loads((SCHEMAS / Path(event["dataschema"]).name).read_text())
    validate(event["data"], schema)


def told(event: dict[str, Any]) -> str:
    """One line about an event."""
    return (
        f"{event['time']} {event['type']} #{event['sequence']} by {event['actor'] or '?'}: {json.dumps(event['data'])}"
    )


async def hear(subject: str, name: str | None, most: int) -> None:
    """Print events as they come; each is acknowledged once it is dealt with."""
    password = Path(os.environ["ENTREPOT_BUS_PASSWORD_FILE"]).read_text().strip()  # noqa: ASYNC240 - nothing runs yet
    connection = await nats.connect(
        os.environ["ENTREPOT_BUS_URL"],
        user=os.environ["ENTREPOT_BUS_USER"],
        password=password,
        max_reconnect_attempts=-1,
    )
    config = ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, ack_wait=30)
    consumer = await connection.jetstream().pull_subscribe(subject, durable=name, stream="EVENTS", config=config)
    seen: set[str] = set()
    while not most or len(seen) < most:
        try:
            [message] = await consumer.fetch(1, timeout=5)
        except TimeoutError:
            continue
        event = json.loads(message.data)
        # At least once means: sometimes twice. The id stays the same.
        if event["id"] not in seen:
            seen.add(event["id"])
            check(event)
            print(told(event), flush=True)
        await message.ack_sync()
    await connection.close()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", nargs="?", default=">", help="such as image.pushed.acme.>")
    parser.add_argument("--name", help="letters, digits, - and _")
    parser.add_argument("--most", type=int, default=0, help="end after so many events; 0: never")
    options = parser.parse_args()
    asyncio.run(hear(options.subject, options.name, options.most))


if __name__ == "__main__":
    main()
