"""Through the server a kernel passes exactly those tests of Jupyter's public suite that it passes without one."""

import json

import pytest
from client import Kernel
from languages import LANGUAGES
from places import LOCAL
from suite import bare_suite, failed, gateway_suite, outcomes

# What the kernels themselves do not do, with and without Elyra: see docs/matrix.md.
OWN_FAILURES = {
    "python": set(),
    "scala": {
        "kernel_info",
        "execute_stderr",
        "execute_result (code='6 * 7')",
        "display_data (code='kernel.display.html(\"<b>x</b>\")')",
        "error",
        "inspect",
        "history (hist_access_type='tail')",
    },
    "r": {"execute_result (code='6 * 7')", "history (hist_access_type='tail')"},
}


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda language: language.id)
def test_the_public_suite_has_the_outcome_of_the_bare_kernel(language, server, add_kernelspec, tmp_path, monkeypatch):
    # IPython writes all cells into one database for all kernels of a user.
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython-bare"))
    bare = outcomes(bare_suite(language.id, tmp_path))
    name = f"suite-{language.id}"
    add_kernelspec(
        name, lambda spec: spec["env"].update(IPYTHONDIR=str(tmp_path / "ipython")), language.kernel(LOCAL.id)
    )
    through = outcomes(gateway_suite(language.id, Kernel(server, name)))
    assert failed(through) == failed(bare) == OWN_FAILURES[language.id], json.dumps([bare, through], indent=1)
