"""Spark in every language and place: the right one, in each mode, and with its own errors."""

import pytest
from client import RequestError
from places import CLIENT, CLUSTER
from subject import eventually

# Spark looks at both only when it makes its context.
BAD_OPTION = "--conf spark.serializer=no.such.Serializer"
NO_MEMORY = "--conf spark.executor.memory=100m"
MUCH_MEMORY = "--conf spark.executor.memory=100g"


@pytest.mark.row("Spark: application, master, deploy mode")
def test_a_result_comes_from_the_right_spark(kernel, first_use):
    facts, place = kernel.facts(), kernel.cell.place
    assert (facts.master, facts.mode) == (place.master, place.mode)
    if place.on_yarn:
        application = kernel.applications()[-1]
        assert (application["id"], application["state"]) == (facts.application, "RUNNING")
    else:
        assert facts.application.startswith("local-")
    kernel.value(kernel.language.count, text="1000")


@pytest.mark.row("Spark: code of the cell on executors", needs="closure")
def test_executors_run_code_of_the_cell(kernel, first_use):
    kernel.value(kernel.language.closure, text="90")


@pytest.mark.row("Spark mode lazy")
def test_a_lazy_kernel_has_spark_from_its_first_use_on(first_use):
    assert (first_use["before"], first_use["after"]) == (False, True)


@pytest.mark.row("Spark mode eager")
def test_an_eager_kernel_has_spark_without_a_cell(eager):
    eventually(lambda: eager.uses_spark, "Spark")
    eager.value(eager.language.count, text="1000")


@pytest.mark.row("Spark mode none")
def test_a_kernel_without_names_of_spark_leaves_them_to_the_user(bare):
    language = bare.language
    if language.no_spark:
        result = bare.execute(language.no_spark)
        assert result.status == "error"
        assert language.no_spark_text in result.all
    bare.value(language.remember)
    assert not bare.uses_spark
    bare.value(language.get_spark + language.count, text="1000")
    assert bare.facts().master == bare.cell.place.master


@pytest.mark.row("Spark: a bad option")
def test_a_bad_option_is_an_error_of_the_cell_in_sparks_words(start_cell):
    kernel = start_cell(BAD_OPTION)
    result = kernel.execute(kernel.language.count)
    assert result.status == "error"
    assert "no.such.Serializer" in result.all
    kernel.value(kernel.language.remember)
    kernel.delete()
    kernel.check_nothing_left()
    assert all(end == "SUCCEEDED" for end in kernel.ends())


@pytest.mark.row("Spark: no free memory")
def test_too_little_memory_is_an_error_in_sparks_words(start_cell, cell):
    if cell.place is CLUSTER:
        # There spark-submit itself looks.
        with pytest.raises(RequestError) as info:
            start_cell(MUCH_MEMORY)
        assert info.value.status == 500
        assert "Required executor memory" in info.value.message
        return
    kernel = start_cell(MUCH_MEMORY if cell.place is CLIENT else NO_MEMORY)
    result = kernel.execute(kernel.language.count)
    assert result.status == "error"
    words = "Required executor memory" if cell.place is CLIENT else "must be at least"
    assert words in result.all
    kernel.value(kernel.language.remember)
