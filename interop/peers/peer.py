"""What the Python peers share: how they are told what to do, and how they tell what happened, as peer.mjs has it."""

import asyncio
import json
import os
import ssl
import sys
from urllib.parse import urlsplit

SUBPROTOCOLS = ["wsd.v1", "wsd.v2"]  # what the servers speak
MAX_SIZE = 128 << 20


def tell(event, **details):
    print(json.dumps({"event": event, **details}), flush=True)


def path_of(url):
    return urlsplit(url).path


def server_context():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.environ["WSD_CERT"], os.environ["WSD_KEY"])
    return context


def client_context():
    return ssl.create_default_context(cafile=os.environ["WSD_CA"])


async def obey(session, data):
    """Does what a text message that begins with "!" asks for, and sends every other message back."""
    if not (isinstance(data, str) and data.startswith("!")):
        await session.send(data)
        return
    order = json.loads(data[1:])
    do = order["do"]
    if do == "close":
        await session.close(order.get("code"), order.get("reason"))
    elif do == "abort":
        await session.abort()
    elif do == "ping":
        await session.ping(order["data"])
    elif do == "say":
        await session.send("s" * order["size"])
    elif do == "fragments":
        await session.fragments([chr(97 + i) * order["size"] for i in range(order["parts"])])
    else:
        raise ValueError(f"unknown order {data}")


async def run(version, serve, connect, cannot=None):
    """Starts a peer: serve(context) returns a port, connect(order) opens a connection and returns when it has ended."""
    ready = {"version": version, "cannot": cannot or {}}
    if sys.argv[1] == "server":
        ready["ws"] = await serve(None)
        ready["wss"] = await serve(server_context())
    tell("ready", **ready)
    tasks = set()
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        task = loop.create_task(connecting(connect, json.loads(line)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    os._exit(0)


async def connecting(connect, order):
    try:
        await connect(order)
    except Exception as error:  # whatever it is, the tests are to hear of it
        tell("failed", id=path_of(order["url"]), error=repr(error))
