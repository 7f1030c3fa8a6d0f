"""The operation `serve`: a registered model answers over HTTP, with the code that it was registered with."""

import ipaddress
import json
import sys
from typing import NoReturn

from flows.predict import model_at
from flows.project import UsageError


def serve(address: str, host: str, port: int, max_bytes: int) -> NoReturn:
    """Become the server of the version that the address names now; UsageError when there is none."""
    from stages.tracking import outside, registry

    version = model_at(address)
    if not _is_loopback(host):
        print(f"visionline: {host} is not only this machine, and whoever reaches it may ask", file=sys.stderr)
    name, _, alias = address.partition("@")
    facts = {
        "name": version.name,
        "version": str(version.version),
        "alias": alias or (None if "/" in name else registry.CHAMPION),
        "model_hash": version.tags.get(registry.MODEL_HASH),
    }
    uri = f"models:/{version.name}/{version.version}"
    outside.become("front.py", uri, host, str(port), str(max_bytes), json.dumps(facts))


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        if not host.strip():
            raise UsageError("--host is empty: name an address of this machine") from None
        return False
