"""Two nodes that log what happens to them, with peer and path in fields of their own."""

import logging

import trio

from netmesh_trio import Identity, open_node

FORMAT = "%(levelname)s node=%(node).8s peer=%(peer).8s path=%(path)r %(message)s"


def log_to(handler: logging.Handler) -> None:
    handler.setFormatter(logging.Formatter(FORMAT))
    logger = logging.getLogger("netmesh_trio")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


async def main() -> None:
    log_to(logging.StreamHandler())
    async with open_node(Identity.generate(), ("127.0.0.1", 0)) as alice:
        async with open_node(Identity.generate(), ("127.0.0.1", 0)) as bob:
            await alice.connect(bob.addresses[0])


if __name__ == "__main__":
    trio.run(main)
