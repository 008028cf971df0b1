# Starts the launcher with its container, seconds before Spark's driver would (see early.py).
#
# Spark ships this file with a submission and names it in BASH_ENV, so the shell that YARN starts the ApplicationMaster
# with reads it first. That shell then becomes the ApplicationMaster's JVM, which is thereby the launcher's parent.
# Whatever goes wrong here, the driver starts the launcher in its time, as without this file.

unset BASH_ENV
if [[ $BASH_EXECUTION_STRING == *org.apache.spark.deploy.yarn.ApplicationMaster* && -f elyra-ticket ]]; then
    ELYRA_EARLY=$BASH_EXECUTION_STRING \
        "${PYSPARK_DRIVER_PYTHON:-${PYSPARK_PYTHON:-python3}}" -u -m elyra_launcher.early \
        </dev/null >>"${LOG_DIRS%%,*}/kernel.stdout" 2>>"${LOG_DIRS%%,*}/kernel.stderr" &
fi
