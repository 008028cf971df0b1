"""Many kernels at once."""

from __future__ import annotations

import itertools
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import psutil
from client import Kernel
from front import HOSTS, Front
from waiting import until

KERNELS = 60


def nobody_is_there(hosts):
    until(lambda: not any(host.processes() for host in hosts.all), "the end of all processes")


def test_many_kernels_start_at_once_and_leave_nothing(hosts, tmp_path):
    with Front(tmp_path, hosts, ELYRA_KERNEL_LAUNCH_TIMEOUT="280") as server:
        server.add("spread", remote_hosts=",".join(HOSTS))
        process = psutil.Process(server.process.pid)
        for _ in HOSTS:
            Kernel(server, "spread").delete()
        nobody_is_there(hosts)
        files = process.num_fds()
        with ThreadPoolExecutor(KERNELS) as pool:
            kernels = list(pool.map(lambda _: Kernel(server, "spread"), range(KERNELS)))
            names = list(pool.map(lambda kernel: kernel.value("import os; print(os.uname().nodename)"), kernels))
            assert Counter(names) == dict.fromkeys(HOSTS, KERNELS // len(HOSTS))
            assert [host.sessions() for host in hosts.all] == [1, 1, 1]
            list(pool.map(Kernel.delete, kernels))
        for host in hosts.all:
            until(lambda host=host: not (host.processes() or host.files() or host.sockets()))
            until(lambda host=host: not host.sessions())
        until(lambda: process.num_fds() <= files)
        # A process grows to what it needs; it must not go on growing with each launch.
        sizes = [process.memory_info().rss]
        for _ in range(4):
            with ThreadPoolExecutor(KERNELS) as pool:
                list(pool.map(lambda _: Kernel(server, "spread").delete(), range(KERNELS // 4)))
            nobody_is_there(hosts)
            sizes.append(process.memory_info().rss)
        grown = [after - before for before, after in itertools.pairwise(sizes)]
        assert min(grown) < 3 << 20, sizes
