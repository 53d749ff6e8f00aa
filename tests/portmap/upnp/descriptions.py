"""Descriptions of routers, in the shapes that are common."""

from __future__ import annotations


def service(type_: str, control: str) -> str:
    """A service in a list of services."""
    return (
        f"<service><serviceType>urn:schemas-upnp-org:service:{type_}</serviceType>"
        f"<serviceId>urn:upnp-org:serviceId:{type_.partition(':')[0]}1</serviceId>"
        f"<SCPDURL>/scpd/{type_}.xml</SCPDURL><controlURL>{control}</controlURL><eventSubURL>/evt</eventSubURL></service>"
    )


def device(type_: str, *inner: str, services: str = "", name: str = "") -> str:
    """A device with devices in it."""
    devices = f"<deviceList>{''.join(inner)}</deviceList>" if inner else ""
    return (
        f"<device><deviceType>urn:schemas-upnp-org:device:{type_}</deviceType>{name}"
        f"<UDN>uuid:00000000-0000-4000-8000-000000000001</UDN><serviceList>{services}</serviceList>{devices}</device>"
    )


def root(device_: str, *, base: str = "", declaration: str = '<?xml version="1.0"?>') -> bytes:
    """A whole description."""
    url = f"<URLBase>{base}</URLBase>" if base else ""
    return (
        f'{declaration}\n<root xmlns="urn:schemas-upnp-org:device-1-0"><specVersion><major>1</major><minor>0</minor>'
        f"</specVersion>{url}{device_}</root>"
    ).encode()


def igd(*connections: str, version: int = 1, base: str = "", name: str = "A router") -> bytes:
    """A router with these services in one WANConnectionDevice each."""
    inner = [device(f"WANConnectionDevice:{version}", services=connection) for connection in connections]
    wan = device(f"WANDevice:{version}", *inner, services=service("WANCommonInterfaceConfig:1", "/common"))
    names = f"<friendlyName>{name}</friendlyName><manufacturer>A maker</manufacturer><modelName>A model</modelName>"
    layer3 = service("Layer3Forwarding:1", "/l3f")
    return root(device(f"InternetGatewayDevice:{version}", wan, services=layer3, name=names), base=base)


IGD2 = igd(service("WANIPConnection:2", "/ctl/IPConn") + service("WANIPv6FirewallControl:1", "/ctl/IP6FCtl"), version=2)
IGD1 = igd(service("WANIPConnection:1", "/ctl/IPConn"))
