import trio

from netmesh_trio import Identity, open_node


async def main() -> None:
    async with (
        open_node(Identity.generate(), ("127.0.0.1", 0)) as sensor,
        open_node(Identity.generate(), ("127.0.0.1", 0)) as display,
        display.datagrams("temperature") as readings,
    ):
        peer = await sensor.connect(display.addresses[0])
        peer.send_datagram("temperature", b"21.5")  # never waits
        with trio.move_on_after(1):  # and may not arrive
            datagram = await readings.receive()
            print(datagram.payload, "from", datagram.peer_id.short)


if __name__ == "__main__":
    trio.run(main)
