"""One client process: changes through a manager's socket, one after the other; its figures as JSON in the end."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from swarmctl.client import Client
from swarmctl.environment import Environment
from swarmd.wire import control, methods
from tests.bench.failover import an_idle_service


def main(socket: str, name: str, seconds: str) -> None:
    """Begins when told so on standard input, together with the others."""
    latencies: list[float] = []
    with Client(Path(socket), Environment()) as client:
        created = control.CreateService(spec=an_idle_service(name))
        service_id = client.change(methods.SERVICE_CREATE, created).service.id
        print("ready", flush=True)
        sys.stdin.readline()
        ends = time.perf_counter() + float(seconds)
        while (began := time.perf_counter()) < ends:
            spec = an_idle_service(name, number=str(len(latencies)))
            client.change(methods.SERVICE_UPDATE, control.UpdateService(id=service_id, spec=spec))
            latencies.append(time.perf_counter() - began)
    print(json.dumps(latencies), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:4])
