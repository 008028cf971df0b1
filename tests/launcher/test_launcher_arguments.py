"""The command line, in every spelling that kernelspecs out there have."""

import pytest

from elyra_launcher.arguments import InformationRequested, addresses, parse, port_range
from elyra_launcher.errors import UsageError
from elyra_launcher.kernels import Kernel, PythonKernel, kernel_for

KERNEL_ID = "0f7d3a2e-8a0b-4a44-9a1b-2f2e9c1d7a55"
FILE = f"kernel-{KERNEL_ID}.json"


def spellings(flag, value):
    names = [prefix + name for prefix in ("--RemoteProcessProxy.", "--") for name in (flag, flag.replace("-", "_"))]
    return [[name, value] for name in names] + [[f"{name}={value}"] for name in names]


@pytest.mark.parametrize("arguments", spellings("kernel-id", "abc"))
def test_kernel_id_in_every_spelling(arguments):
    assert parse([*arguments, FILE], {}).kernel_id == "abc"


@pytest.mark.parametrize("arguments", spellings("response-address", "10.0.0.1:8877"))
def test_response_address_in_every_spelling(arguments):
    options = parse([FILE, *arguments, "--public-key", "sha256:00"], {})
    assert options.addresses == [("10.0.0.1", 8877)]
    assert options.connection_file == FILE


@pytest.mark.parametrize("arguments", spellings("public-key", "sha256:ab"))
def test_public_key_in_every_spelling(arguments):
    assert parse([FILE, *arguments], {}).public_key == "sha256:ab"


@pytest.mark.parametrize("arguments", spellings("port-range", "40000..41000"))
def test_port_range_in_every_spelling(arguments):
    assert parse([FILE, *arguments], {}).port_range == (40000, 41000)


@pytest.mark.parametrize("arguments", spellings("spark-context-initialization-mode", "eager"))
def test_spark_mode_in_every_spelling(arguments):
    assert parse([FILE, *arguments], {}).spark_mode == "eager"


@pytest.mark.parametrize("arguments", [*spellings("cluster-type", "dask"), *spellings("kernel-class-name", "a.B")])
def test_the_other_flags_in_every_spelling(arguments):
    options = parse([FILE, *arguments], {})
    assert (options.cluster_type, options.kernel_class_name) in (("dask", ""), ("spark", "a.B"))
    assert options.kernel_arguments == []


def test_connection_file_by_name_or_position():
    assert parse(["--profile", FILE], {}).connection_file == FILE
    assert parse([f"--profile={FILE}"], {}).connection_file == FILE
    assert parse([FILE], {}).connection_file == FILE


def test_kernel_id_from_the_connection_files_name():
    assert parse([f"/run/{FILE}"], {}).kernel_id == KERNEL_ID
    assert parse(["/run/mine.json"], {}).kernel_id == ""


def test_what_is_not_ours_goes_to_the_kernel_in_its_order():
    for arguments in ([FILE, "--debug", "a", "--a=b", "x"], ["--debug", "a", FILE, "--a=b", "x"]):
        options = parse([*arguments, "--cluster-type", "none"], {})
        assert options.kernel_arguments == ["--debug", "a", "--a=b", "x"]
        assert options.connection_file == FILE


def test_modes_from_the_environment_and_the_command_line_first():
    environ = {"KERNEL_SPARK_CONTEXT_INIT_MODE": "lazy", "KERNEL_CLASS_NAME": "a.B"}
    assert parse([FILE], environ).spark_mode == "lazy"
    assert parse([FILE], environ).kernel_class_name == "a.B"
    assert parse([FILE, "--spark-context-initialization-mode", "none"], environ).spark_mode == "none"


def test_generic_command_with_its_placeholders():
    options = parse(["--kernel-id", "7", "--", "R", "--args", "{connection_file}", "{kernel_id}"], {})
    kernel = kernel_for(options)
    kernel.connection_file = "/tmp/c.json"
    assert type(kernel) is Kernel
    assert kernel.command() == ["R", "--args", "/tmp/c.json", "7"]
    assert type(kernel_for(parse([FILE], {}))) is PythonKernel


def test_several_addresses_and_ipv6():
    assert addresses("a:1, 10.0.0.1:2,[fd00::1]:3") == [("a", 1), ("10.0.0.1", 2), ("fd00::1", 3)]


@pytest.mark.parametrize("text", ["", "0..0"])
def test_no_port_range_means_any_port(text):
    assert port_range(text, {}) is None


@pytest.mark.parametrize("name", ["MIN_PORT_RANGE_SIZE", "ELYRA_MIN_PORT_RANGE_SIZE", "EG_MIN_PORT_RANGE_SIZE"])
def test_smaller_port_ranges_where_the_environment_allows_them(name):
    assert port_range("40000..40010", {name: "10"}) == (40000, 40010)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "connection file"),
        ([FILE, "--response-address", "host:1"], "--public-key"),
        ([FILE, "--response-address", "host"], "HOST:PORT"),
        ([FILE, "--response-address", "::1:80"], "HOST:PORT"),
        ([FILE, "--response-address", "{response_address}"], "{response_address}"),
        ([FILE, "--response-address", "host:70000"], "HOST:PORT"),
        ([FILE, "--kernel-id"], "needs a value"),
        ([FILE, "--spark-context-initialization-mode", "often"], "lazy, eager or none"),
        ([FILE, "--cluster-type", "moon"], "spark, dask or none"),
        ([FILE, "--port-range", "40000-42000"], "LOW..HIGH"),
        ([FILE, "--port-range", "40000..40999"], "MIN_PORT_RANGE_SIZE"),
        ([FILE, "--port-range", "42000..40000"], "MIN_PORT_RANGE_SIZE"),
        ([FILE, "--port-range", "1..60000"], "between 1024 and 65535"),
        ([FILE, "--port-range", "40000..99999"], "between 1024 and 65535"),
    ],
)
def test_mistakes_are_explained(arguments, words):
    with pytest.raises(UsageError) as problem:
        parse(arguments, {})
    assert words in str(problem.value)


def test_a_command_without_the_connection_file_is_a_mistake():
    with pytest.raises(UsageError, match="connection_file"):
        kernel_for(parse(["--", "R"], {}))


@pytest.mark.parametrize(("flag", "word"), [("--help", "usage:"), ("-h", "usage:"), ("--version", "elyra_launcher")])
def test_help_and_version(flag, word):
    with pytest.raises(InformationRequested, match=word):
        parse([flag], {})
