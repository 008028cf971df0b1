"""Notebooks as users have them, run by nbclient in kernels at the gateway."""

import os
from dataclasses import dataclass

import nbformat
import pytest
from languages import LANGUAGES
from nbclient import NotebookClient
from places import LOCAL

from demo.notebook import connect

LIMIT = 240
SILENCE = int(os.environ.get("TEST_SILENCE", "3"))  # seconds; TEST_SILENCE=90 for what proxies and timeouts do
LARGE = 20 * 2**20


@dataclass(frozen=True)
class Notebook:
    """The cells of one language: source and what is expected of the outputs."""

    defaults: str  # a papermill-like cell of parameters
    injected: str  # and the one that is put behind it
    parameters: str
    streams: str
    rich: str
    error: str
    large: str
    silence: str
    text: str
    widget: str = ""


NOTEBOOKS = {
    "python": Notebook(
        defaults="alpha = 1\nname = 'default'",
        injected="alpha = 6\nname = 'ada'",
        parameters="print(name, alpha * 7)",
        streams="import sys\nprint('out')\nprint('err', file=sys.stderr)",
        rich="from IPython.display import HTML, Markdown\ndisplay(Markdown('*md*'))\nHTML('<i>x</i>')",
        error="raise LookupError('it is not there')",
        large=f"print('0123456789abcdef' * {LARGE // 16})",
        silence=f"import time\ntime.sleep({SILENCE})\nprint('awake')",
        text="print('Ωmega, naïve, 日本語, 🚀')",
        widget="""
from comm import create_comm

state = {"_model_module": "@jupyter-widgets/controls", "_model_module_version": "2.0.0",
         "_model_name": "IntSliderModel", "value": 1}
model = create_comm(target_name="jupyter.widget", data={"state": state, "buffer_paths": []})
model.send({"method": "update", "state": {"value": 2}, "buffer_paths": []})
display({"application/vnd.jupyter.widget-view+json": {"model_id": model.comm_id, "version_major": 2,
                                                     "version_minor": 0}, "text/plain": "slider"}, raw=True)
""",
    ),
    "scala": Notebook(
        defaults='var alpha = 1\nvar name = "default"',
        injected='alpha = 6\nname = "ada"',
        parameters='println(s"$name ${alpha * 7}")',
        streams='println("out")\nConsole.err.println("err")',
        rich='kernel.display.html("<i>x</i>")',
        error='throw new NoSuchElementException("it is not there")',
        large=f'println("0123456789abcdef" * {LARGE // 16})',
        silence=f'Thread.sleep({SILENCE * 1000})\nprintln("awake")',
        text='println("Ωmega, naïve, 日本語, 🚀")',
    ),
    "r": Notebook(
        defaults="alpha <- 1\nname <- 'default'",
        injected="alpha <- 6\nname <- 'ada'",
        parameters="cat(name, alpha * 7)",
        streams="cat('out\\n')\nmessage('err')",
        rich="IRdisplay::display_html('<i>x</i>')",
        error="stop('it is not there')",
        large=f"cat(strrep('0123456789abcdef', {LARGE // 16}))",
        silence=f"Sys.sleep({SILENCE})\ncat('awake')",
        text="cat('Ωmega, naïve, 日本語, 🚀')",
    ),
}


async def run(server, name, notebook):
    """Run a notebook's cells in a new kernel; return the client, and for each field what its cell put out."""
    book = nbformat.v4.new_notebook()
    sources = {field: source for field, source in vars(notebook).items() if source}
    book.cells = [nbformat.v4.new_code_cell(source) for source in sources.values()]
    manager = connect(server.url, server.token)
    await manager.start_kernel(kernel_name=name)
    # By default nbclient takes for lost what comes 4 s after a cell's reply; 20 MB may, on a busy machine.
    limits = {"timeout": LIMIT, "startup_timeout": LIMIT, "iopub_timeout": LIMIT}
    client = NotebookClient(book, km=manager, allow_errors=True, **limits)
    client.kc = manager.client()
    try:
        await client.kc.start_channels()
        await client.kc.wait_for_ready(timeout=LIMIT)
        client.reset_execution_trackers()
        for index, cell in enumerate(book.cells):
            await client.async_execute_cell(cell, index)
        client.kc.stop_channels()
    finally:
        await manager.shutdown_kernel()
    nbformat.validate(book)
    return client, {field: cell.outputs for field, cell in zip(sources, book.cells, strict=True)}


def printed(outputs, name="stdout"):
    return "".join(each["text"] for each in outputs if each["output_type"] == "stream" and each["name"] == name)


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda language: language.id)
async def test_a_notebook_of_a_user(language, server):
    client, outputs = await run(server, language.kernel(LOCAL.id), NOTEBOOKS[language.id])
    assert printed(outputs["parameters"]).strip() == "ada 42"
    assert "out" in printed(outputs["streams"])
    assert "err" in printed(outputs["streams"], language.stderr)
    assert "<i>x</i>" in [each["data"].get("text/html") for each in outputs["rich"] if "data" in each]
    errors = [each for each in outputs["error"] if each["output_type"] == "error"]
    assert "it is not there" in errors[0]["evalue"]
    assert len(printed(outputs["large"]).strip()) == LARGE
    assert printed(outputs["silence"]).strip() == "awake"
    assert printed(outputs["text"]).strip() == "Ωmega, naïve, 日本語, 🚀"
    if "widget" in outputs:
        view = outputs["widget"][0]["data"]["application/vnd.jupyter.widget-view+json"]
        (state,) = client.widget_state.values()
        assert (state["value"], list(client.widget_state)) == (2, [view["model_id"]])
