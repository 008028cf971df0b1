"""What a cell can do in any kernel, in every language and place."""

import pytest


@pytest.mark.row("start")
def test_a_kernel_starts_and_says_what_it_is(kernel):
    assert kernel.ask("kernel_info_request", {})["language_info"]["name"] == kernel.language.info
    assert kernel.get()["execution_state"] == "idle"


@pytest.mark.row("execute, with state kept")
def test_a_cell_sees_what_another_one_did(kernel):
    kernel.value(kernel.language.remember)
    kernel.value(kernel.language.recall, text="42")


@pytest.mark.row("printed text, utf-8")
def test_text_of_all_the_world_arrives(kernel):
    assert kernel.value(kernel.language.text, text="🚀") == "grüße, 世界 🚀"


@pytest.mark.row("rich output")
def test_rich_output_arrives(kernel):
    result = kernel.execute(kernel.language.html)
    assert result.status == "ok", result.all
    assert "<b>bold</b>" in [bundle.get("text/html") for bundle in result.bundles]


@pytest.mark.row("errors as the kernel gives them")
def test_an_error_is_the_kernels_own(kernel):
    language = kernel.language
    result = kernel.execute(language.error)
    assert (result.status, result.error) == ("error", language.error_name)
    assert language.error_text in result.value
    assert language.error_text in result.traceback
    kernel.value(language.remember)


@pytest.mark.row("stdin", needs="read")
def test_a_cell_asks_its_user(kernel):
    result = kernel.execute(kernel.language.read, answer="ada")
    assert "ADA" in result.text
