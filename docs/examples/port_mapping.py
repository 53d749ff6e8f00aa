"""A node that asks the router for a port mapping, and tells what became of it."""

import trio

from netmesh_trio import Identity, NodeConfig, PortMapChanged, open_node

# No router sees this address, so nothing is asked of yours.  For a mapping, give ("0.0.0.0", 4650).
BIND = ("127.0.0.1", 0)


async def main() -> None:
    config = NodeConfig(try_port_mapping=True)
    async with open_node(Identity.generate(), BIND, config=config) as node:
        async for event in node.events():
            if isinstance(event, PortMapChanged):
                if event.external is not None:
                    print(f"mapped by {event.protocol}: {event.external}")
                else:
                    print(event.error)
                break
        print(node.nat_type, *node.addresses)


if __name__ == "__main__":
    trio.run(main)
