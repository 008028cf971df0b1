"""An interrupt ends what a cell does, and its Spark job, and spoils nothing."""

import pytest
from subject import eventually


def check_interrupted(kernel, result):
    """A cell was interrupted, its user sees that, and the next one works."""
    status, text = kernel.language.interrupted
    assert (result.status, text in result.all) == (status, True), result.all
    kernel.value(kernel.language.remember)
    kernel.value(kernel.language.recall, text="42")


@pytest.mark.row("interrupt of a busy cell")
def test_an_interrupt_ends_a_busy_cell(kernel):
    check_interrupted(kernel, kernel.interrupted(kernel.language.busy))


@pytest.mark.row("interrupt of a sleep")
def test_an_interrupt_ends_a_sleep(kernel):
    check_interrupted(kernel, kernel.interrupted(kernel.language.sleep))


@pytest.mark.row("interrupt before Spark is used")
def test_an_interrupt_before_spark_is_used_does_not_spoil_it(kernel, first_use):
    assert not first_use["before"] and not first_use["still"]
    check_interrupted(kernel, first_use["interrupted"])
    assert "1000" in first_use["count"].text, first_use["count"].all


@pytest.mark.row("interrupt of a Spark job: the job ends")
def test_an_interrupt_ends_the_job_of_the_cell(kernel, first_use):
    facts = kernel.facts()
    jobs = []

    def job_runs():
        jobs[:] = kernel.jobs(facts, "running")
        return jobs

    check_interrupted(kernel, kernel.interrupted(kernel.language.job, when=job_runs))
    # Spark ends a job, and tells of it, in its own time, which is a moment.
    eventually(lambda: not kernel.jobs(facts, "running"), "the job's end", lambda: kernel.jobs(facts, "running"))
    assert jobs[0]["jobId"] in [job["jobId"] for job in kernel.jobs(facts, "failed")]
    kernel.value(kernel.language.count, text="1000")


@pytest.mark.row("interrupt in native code", needs="native")
def test_an_interrupt_in_native_code_has_an_answer(kernel):
    request = kernel.start_cell(kernel.language.native)
    kernel.interrupt()
    said = kernel.answer_to_interrupt(request)
    if "does not answer" in said:
        kernel.restart()  # what the message advises
    kernel.value(kernel.language.remember)
