"""Notebooks as users have them, run by nbclient in kernels at the gateway."""

import asyncio
from dataclasses import dataclass

import nbformat
import pytest
from languages import LANGUAGES
from nbclient import NotebookClient
from places import LOCAL

from demo.notebook import connect

LIMIT = 240
SILENCE = 90  # seconds, in which proxies and clients may lose their patience
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
        text="print('Ωmega, naïve, 日本語, 🚀')",
        widget="import ipywidgets\nslider = ipywidgets.IntSlider(value=1)\nslider.value = 2\nslider",
    ),
    "scala": Notebook(
        defaults='var alpha = 1\nvar name = "default"',
        injected='alpha = 6\nname = "ada"',
        parameters='println(s"$name ${alpha * 7}")',
        streams='println("out")\nConsole.err.println("err")',
        rich='kernel.display.html("<i>x</i>")',
        error='throw new NoSuchElementException("it is not there")',
        large=f'println("0123456789abcdef" * {LARGE // 16})',
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
        text="cat('Ωmega, naïve, 日本語, 🚀')",
    ),
}


SILENT = {
    "python": f"import time\ntime.sleep({SILENCE})\nprint('awake')",
    "scala": f'Thread.sleep({SILENCE * 1000})\nprintln("awake")',
    "r": f"Sys.sleep({SILENCE})\ncat('awake')",
}


async def run(server, name, sources):
    """Run cells in a new kernel; return the client, and for each name of a cell what that put out."""
    book = nbformat.v4.new_notebook()
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
    sources = {field: source for field, source in vars(NOTEBOOKS[language.id]).items() if source}
    client, outputs = await run(server, language.kernel(LOCAL.id), sources)
    assert printed(outputs["parameters"]).strip() == "ada 42"
    assert "out" in printed(outputs["streams"])
    assert "err" in printed(outputs["streams"], language.stderr)
    assert "<i>x</i>" in [each["data"].get("text/html") for each in outputs["rich"] if "data" in each]
    errors = [each for each in outputs["error"] if each["output_type"] == "error"]
    assert "it is not there" in errors[0]["evalue"]
    assert len(printed(outputs["large"]).strip()) == LARGE
    assert printed(outputs["text"]).strip() == "Ωmega, naïve, 日本語, 🚀"
    if "widget" in outputs:
        view = outputs["widget"][0]["data"]["application/vnd.jupyter.widget-view+json"]
        assert client.widget_state[view["model_id"]]["value"] == 2


async def test_a_long_silence_loses_no_output(server):
    names = {language.id: language.kernel(LOCAL.id) for language in LANGUAGES}
    runs = (run(server, names[key], {"silence": source}) for key, source in SILENT.items())
    for _, outputs in await asyncio.gather(*runs):
        assert printed(outputs["silence"]).strip() == "awake"
