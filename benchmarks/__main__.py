"""``python -m benchmarks [--quick] [suite ...]``: measure, print a table, write results.json."""

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from . import languages, links, local, many, messages, on_yarn, over_ssh, questions, together
from .figures import Figure, table, write
from .servers import elyra, install
from .yarn import cluster

Suite = Callable[[int, Path], Iterator[Figure]]

RESULTS = Path(__file__).parent / "results.json"


def with_local_kernels(measure: Suite) -> Suite:
    """Return a suite that finds the kernelspec `python_local`."""

    def measured(runs: int, directory: Path) -> Iterator[Figure]:
        os.environ.update(install(directory, "python_local"))
        yield from measure(runs, directory)

    return measured


def measure_ssh(runs: int, directory: Path) -> Iterator[Figure]:
    from demo.hosts import Hosts

    with Hosts(("",)) as hosts:
        home = directory / "home"
        hosts.write_client(home)
        paths = install(directory, over_ssh.NAME, options=["--remote-hosts", hosts.all[0].name])
        with elyra(directory / "server", HOME=str(home), ELYRA_RESPONSE_IP="", **paths) as server:
            yield from over_ssh.measure(runs, server, hosts, home)


def measure_yarn(runs: int, directory: Path) -> Iterator[Figure]:
    with cluster(directory, on_yarn.NAME) as (server, options, endpoint):
        yield from on_yarn.measure(runs, server, options, endpoint)


def measure_languages(runs: int, directory: Path) -> Iterator[Figure]:
    with cluster(directory, *languages.NAMES) as (server, options, _):
        yield from languages.measure(runs, server, options)


SUITES = {
    "local": with_local_kernels(local.measure),
    "messages": with_local_kernels(messages.measure),
    "together": with_local_kernels(together.measure),
    "many": many.measure,
    "links": links.measure,
    "questions": questions.measure,
    "ssh": measure_ssh,
    "yarn": measure_yarn,
    "languages": measure_languages,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("suites", nargs="*", choices=[*SUITES, []], help="what to measure; all by default")
    parser.add_argument("--runs", type=int, default=9, help="runs of which the median counts (%(default)s)")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one run of each, and less of it: shows that they run, says nothing of speed",
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="file to write (%(default)s)")
    arguments = parser.parse_args()
    figures: list[Figure] = []
    for suite in arguments.suites or SUITES:
        with tempfile.TemporaryDirectory(prefix="elyra-bench-") as directory:
            for one in SUITES[suite](1 if arguments.quick else arguments.runs, Path(directory)):
                floor = f", floor {one.floor:g} {one.unit}, ratio {one.ratio:g}" if one.floor is not None else ""
                print(f"{one.name}: {one.value:g} {one.unit}{floor} (target {one.target:g})", flush=True)
                figures.append(one)
                write(figures, arguments.results)  # what was measured stays, whatever the next one runs into
    print(f"\n{table(figures)}\n\nwritten to {arguments.results}")


if __name__ == "__main__":
    main()
