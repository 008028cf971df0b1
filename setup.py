"""Distribution ``jupyter_elyra``: the launcher for workers, and with ``[server]`` the gateway."""

import re
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent

# The kernelspecs stand in kernels/ of the repository and in this package of an installed distribution,
# where `jupyter elyra install` finds them.
KERNELS = "elyra_server.kernels"


def version() -> str:
    """The version has one home, the launcher's package: workers may have no metadata to ask."""
    source = (HERE / "elyra_launcher" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r"""^__version__(?:: str)? = ["']([^"']+)["']""", source, re.MULTILINE)
    if match is None:
        raise SystemExit('elyra_launcher/__init__.py: no line __version__ = "..."')
    return match.group(1)


SERVER = [
    "cryptography>=41",
    "jupyter_client>=8.6",
    "jupyter_core>=5.1",
    "jupyter_kernel_gateway>=3",
    "jupyter_server>=2.12",
    "paramiko>=3.2",
    "requests>=2.28",
    "tornado>=6.4",
    "traitlets>=5.9",
    "yarn-api-client>=1.0.3",
]

# For ssh with ELYRA_REMOTE_GSS_SSH, and for a ResourceManager behind SPNEGO; compiled when they are installed, with the
# system's Kerberos.
KERBEROS = ["gssapi>=1.8", "requests_kerberos>=0.14"]

TEST = [
    "bash_kernel>=0.10",
    "deno>=2",
    "ipykernel>=6.29",
    "ipywidgets>=8",
    "jupyter_kernel_test>=0.7",
    "mypy>=1.8",
    "nbclient>=0.10",
    "nbformat>=5.9",
    "psutil>=5.9",
    "pycryptodome>=3.19",
    "pyspark>=3.5,<3.6",
    "pytest>=8",
    "pytest-asyncio>=0.24",
    "pytest-timeout>=2.2",
    "ruff>=0.6",
    "setuptools>=70.1",
    "toree==0.5.0",
    "types-psutil",
    "types-requests",
    "vermin>=1.6",
    "websocket-client>=1.6",
]

DOCS = ["myst-parser>=2", "sphinx>=7"]

setup(
    name="jupyter_elyra",
    version=version(),
    description="Jupyter kernels as Spark applications on YARN and on remote hosts",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="Elyra developers",
    license="BSD-3-Clause",
    license_files=["LICENSE"],
    # A worker's launcher runs on 3.8; the server's dependencies ask for 3.10.
    python_requires=">=3.8",
    packages=[
        "elyra_launcher",
        "elyra_server",
        "elyra_server.processproxies",
        "elyra_server.ssh",
        "elyra_server.submitter",
        KERNELS,
    ],
    package_dir={KERNELS: "kernels"},
    package_data={
        "elyra_launcher": ["py.typed", "*.R", "*.sh"],
        "elyra_server": ["py.typed"],
        KERNELS: ["**/kernel.json", "**/bin/*.sh", "**/scripts/*.py"],
    },
    # Nothing: on a worker the launcher runs on the standard library, next to a kernel that is there already.
    install_requires=[],
    extras_require={"server": SERVER, "kerberos": KERBEROS, "test": SERVER + TEST, "docs": SERVER + DOCS},
    entry_points={
        "console_scripts": ["jupyter-elyra = elyra_server.app:main"],
        "jupyter_client.kernel_provisioners": [
            "elyra-provisioner = elyra_server.provisioner:ProcessProxyProvisioner",
        ],
    },
    classifiers=[
        "Framework :: Jupyter",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.8",
        "Programming Language :: Python :: 3.13",
        "Topic :: System :: Distributed Computing",
    ],
)
