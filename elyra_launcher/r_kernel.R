# IRkernel in a kernel's own process, and Spark for it. Rscript runs this with the arguments
# CONNECTION_FILE SPARK_MODE APPLICATION_NAME RSCRIPT.
#
# IRkernel itself stays as it is installed. Four things are put around it here:
# - An interrupt ends the cell that runs, and nothing else: one that comes while a message is
#   on its way would otherwise lose the message, or end the kernel.
# - A cell that fails takes along the cells that wait by then, and nothing else.
# - quit() in a cell ends the kernel, not only the client's view of it.
# - The Spark driver whose JVM started the launcher, if one did, gets an RBackend, by which
#   SparkR attaches to it; the jobs of an interrupted cell are cancelled.

arguments <- commandArgs(TRUE)
spark_mode <- arguments[[2L]]
application <- arguments[[3L]]
base_quit <- base::quit

refuse <- function(...) {
  cat(..., "\n", sep = "", file = stderr())
  base_quit("no", 78L, FALSE)
}

# -- The driver's JVM, in py4j's protocol: a line a word, an answer is a line. It is always there under Spark, costs
# no process of its own, and answers while RBackend's connection waits for a job.

jvm <- NULL

open_jvm <- function() {
  port <- as.integer(Sys.getenv("PYSPARK_GATEWAY_PORT"))
  connection <- socketConnection("127.0.0.1", port, blocking = TRUE, open = "r+b", timeout = 1e6)
  tell(connection, "A", escape(Sys.getenv("PYSPARK_GATEWAY_SECRET")))
  answer(connection)
  connection
}

tell <- function(connection, ...) writeBin(charToRaw(paste0(c(...), "\n", collapse = "")), connection)

# A read that waits would end with an interrupt, also where those are suspended, and leave the answer in the way.
await <- function(connection) {
  while (!socketSelect(list(connection), FALSE, 0)) tryCatch(Sys.sleep(0.001), interrupt = function(condition) NULL)
}

answer <- function(connection) {
  await(connection)
  line <- readLines(connection, 1L, encoding = "UTF-8")
  if (length(line) == 0L) stop("the connection to Spark's driver ended", call. = FALSE)
  value <- substring(line, 4L)
  if (startsWith(line, "!x")) {
    reason <- if (startsWith(line, "!xr")) invoke(connection, substring(value, 2L), "toString") else value
    stop("Spark's driver says: ", sub("\\\\n.*", "", reason), call. = FALSE)
  }
  switch(substr(line, 3L, 3L),
    i = as.integer(value), b = value == "true", s = unescape(value), n = NULL, v = NULL, value
  )
}

invoke <- function(connection, target, method, ...) {
  tell(connection, "c", target, method, ..., "e")
  answer(connection)
}

text <- function(value) paste0("s", escape(value))
object <- function(id) paste0("r", id)
escape <- function(value) gsub("\n", "\\n", gsub("\r", "\\r", gsub("\\", "\\\\", enc2utf8(value), fixed = TRUE), fixed = TRUE), fixed = TRUE)
unescape <- function(value) gsub("\\\\", "\\", gsub("\\n", "\n", value, fixed = TRUE), fixed = TRUE)

# -- A driver that starts after the kernel: the launcher then writes its port and secret into a pipe

driver <- NULL

await_driver_later <- function() {
  driver <<- fifo(paste0("/dev/fd/", Sys.getenv("JPY_SPARK_FD")), "r", blocking = FALSE)
}

# Meets the driver if it is there.
meet_driver <- function() {
  if (is.null(driver)) return(TRUE)
  words <- unlist(strsplit(suppressWarnings(readLines(driver, 1L)), " ", fixed = TRUE))
  if (length(words) != 2L) return(FALSE)
  suspendInterrupts({
    close(driver)
    driver <<- NULL
    Sys.setenv(PYSPARK_GATEWAY_PORT = words[[1L]], PYSPARK_GATEWAY_SECRET = words[[2L]])
    try_spark({
      begin_backend()
      finish_backend()
    })
  })
  TRUE
}

await_driver <- function(say = message) {
  patience <- suppressWarnings(as.numeric(Sys.getenv("ELYRA_SPARK_PATIENCE", "8")))
  late <- proc.time()[["elapsed"]] + if (is.na(patience)) 8 else patience
  while (!meet_driver()) {
    if (proc.time()[["elapsed"]] > late) {
      say("Waiting for Spark's driver, which is starting ...")
      late <- Inf
    }
    Sys.sleep(0.02) # a pipe that R waits for could not be interrupted
  }
}

# -- RBackend

# Asks for an RBackend and does not wait for it: the JVM makes it while R loads IRkernel.
begin_backend <- function() {
  jvm <<- open_jvm()
  # An idle kernel's connection would be closed after 100 minutes; an interrupted call may hold its thread for long.
  set_default("spark.r.backendConnectionTimeout", "31536000")
  set_default("spark.r.numRBackendThreads", "8")
  if (nzchar(application)) set_property("spark.app.name", application)
  tell(jvm, "i", "org.apache.spark.api.r.RBackend", "e")
  backend <- answer(jvm)
  # By this name the launcher finds it when the kernel has ended.
  set_property("elyra.rbackend", backend)
  tell(jvm, "c", backend, "init", "e")
}

finish_backend <- function() {
  pair <- answer(jvm)
  secret <- invoke(jvm, invoke(jvm, pair, "_2"), "secret")
  Sys.setenv(EXISTING_SPARKR_BACKEND_PORT = invoke(jvm, pair, "_1"), SPARKR_BACKEND_AUTH_SECRET = secret)
  if (!nzchar(application)) application <<- c(invoke(jvm, "z:java.lang.System", "getProperty", text("spark.app.name")), "")[[1L]]
}

set_property <- function(name, value) invoke(jvm, "z:java.lang.System", "setProperty", text(name), text(value))

set_default <- function(name, value) {
  if (is.null(invoke(jvm, "z:java.lang.System", "getProperty", text(name)))) set_property(name, value)
}

# Asks for the SparkContext and does not wait for it; what goes wrong is told by the cell that uses it first.
begin_context <- function() {
  connection <- open_jvm()
  tell(connection, "i", "org.apache.spark.SparkConf", "e")
  conf <- answer(connection)
  tell(connection, "c", "z:org.apache.spark.SparkContext", "getOrCreate", object(conf), "e")
  eager_connection <<- connection
}

eager_connection <- NULL

# -- Jobs

# Connections to the RBackend whose call was interrupted and has not answered yet.
abandoned <- list()

# Cancels all jobs of the live context.
cancel_jobs <- function() try_to_cancel(with_context(function(context) invoke(jvm, context, "cancelAllJobs")))

# Cancels what an interrupted cell left, and returns when it is over: the jobs, for which Spark takes its time, and the
# interrupted calls, which may have been about to start one. Who does not want to wait interrupts again.
finish_jobs <- function(limit = c(jobs = 10, calls = 60)) {
  try_to_cancel(with_context(function(context) {
    tracker <- invoke(jvm, context, "statusTracker")
    start <- answered <- proc.time()[["elapsed"]]
    repeat {
      invoke(jvm, context, "cancelAllJobs")
      calls <- sum(!vapply(abandoned, function(each) socketSelect(list(each), FALSE, 0), NA))
      now <- proc.time()[["elapsed"]]
      if (calls > 0L) answered <- now
      if (now - start > limit[["calls"]]) break
      if (calls == 0L && (active_jobs(tracker) == 0L || now - answered > limit[["jobs"]])) break
      if (!tryCatch(allowInterrupts({ Sys.sleep(0.02); TRUE }), interrupt = function(condition) FALSE)) break
    }
    forget(tracker)
  }))
  for (each in abandoned) close(each)
  abandoned <<- list()
  # Where this does not work the next call tries again.
  tryCatch(renew_connection(), error = function(error) NULL, interrupt = function(condition) NULL)
}

with_context <- function(action) {
  if (is.null(jvm)) return(invisible())
  in_step <- FALSE
  on.exit(if (!in_step) reopen_jvm())
  tell(jvm, "r", "m", "org.apache.spark.SparkContext$", "MODULE$", "e")
  companion <- answer(jvm)
  # What getActive() reads; that one would wait for a context that is being made, which may take for ever.
  active <- invoke(jvm, companion, "org$apache$spark$SparkContext$$activeContext")
  context <- invoke(jvm, active, "get")
  if (!is.null(context)) {
    action(context)
    forget(context)
  }
  for (id in c(active, companion)) forget(id)
  in_step <- TRUE
}

# Half a conversation is of no use.
reopen_jvm <- function() {
  close(jvm)
  jvm <<- tryCatch(open_jvm(), error = function(error) NULL)
}

try_to_cancel <- function(expression) {
  tryCatch(expression, interrupt = function(condition) NULL, error = function(error) {
    cat("The jobs of an interrupted cell were not cancelled: ", conditionMessage(error), "\n", sep = "", file = stderr())
  })
}

active_jobs <- function(tracker) {
  ids <- invoke(jvm, tracker, "getActiveJobIds")
  tell(jvm, "a", "e", ids, "e")
  count <- answer(jvm)
  forget(ids)
  count
}

forget <- function(id) {
  tell(jvm, "m", "d", id, "e")
  answer(jvm)
}

# -- SparkR

sparkr_missing <- paste(
  "SparkR, the R package of Spark, is not installed for this kernel: spark and sc cannot be used, all else works.",
  "It comes with Spark's full download (https://spark.apache.org/downloads.html), in R/lib there:",
  "put that directory at SPARK_HOME/R/lib on the host where the kernel runs, or name it in R_LIBS."
)

add_libraries <- function() {
  # YARN unpacks an archive that is named #sparkr into the container's directory.
  places <- c(if (nzchar(Sys.getenv("SPARK_HOME"))) file.path(Sys.getenv("SPARK_HOME"), "R", "lib"), "sparkr")
  .libPaths(c(places[dir.exists(places)], .libPaths()))
}

has_sparkr <- function() nzchar(system.file(package = "SparkR"))

make_session <- function() {
  if (!has_sparkr()) stop(sparkr_missing, call. = FALSE)
  await_driver()
  # What the configuration says of Hive holds; SparkR's default would make a metastore in the working directory.
  SparkR::sparkR.session(appName = application, enableHiveSupport = FALSE)
}

make_context <- function() {
  session <- make_session()
  asNamespace("SparkR")$callJStatic("org.apache.spark.sql.api.r.SQLUtils", "getJavaSparkContext", session)
}

# Puts spark and sc where a user's own variables hide them. They are made when they are first used; what goes wrong is
# then the cell's error, and the next use tries again.
provide_names <- function() {
  place <- attach(NULL, name = "elyra:spark", warn.conflicts = FALSE)
  provide <- function(name, make) {
    makeActiveBinding(name, function(value) {
      if (missing(value)) value <- make()
      rm(list = name, envir = place)
      assign(name, value, envir = place)
      value
    }, place)
  }
  provide("spark", make_session)
  provide("sc", make_context)
}

# Makes SparkR bear an interrupt: the answer that nobody reads any more would be taken for that of the next call.
adapt_sparkr <- function(...) {
  await_driver()
  sparkr <- asNamespace("SparkR")
  state <- sparkr$.sparkREnv
  invokeJava <- sparkr$invokeJava
  if (!is.environment(state) || !is.function(invokeJava) || !is.function(sparkr$connectBackend)) return(invisible())
  connections <- 1L
  interruptible <- function(...) {
    list(...) # calls among the arguments come first
    interrupted <- 0L
    on.exit(if (interrupted == connections) suspendInterrupts({
      connections <<- connections + 1L # the calls around this one, which freed objects, need not do it again
      abandon_connection(state)
      cancel_jobs()
    }))
    renew_connection()
    withCallingHandlers(invokeJava(...), interrupt = function(condition) interrupted <<- connections)
  }
  unlockBinding("invokeJava", sparkr)
  assign("invokeJava", interruptible, envir = sparkr)
  lockBinding("invokeJava", sparkr)
}

abandon_connection <- function(state) {
  if (is.null(state$.sparkRCon)) return(invisible())
  abandoned <<- c(abandoned, list(state$.sparkRCon))
  rm(".sparkRCon", envir = state)
  wants_connection <<- TRUE
}

wants_connection <- FALSE

renew_connection <- function() {
  if (!wants_connection) return(invisible())
  timeout <- as.numeric(Sys.getenv("SPARKR_BACKEND_CONNECTION_TIMEOUT", "6000"))
  port <- Sys.getenv("EXISTING_SPARKR_BACKEND_PORT")
  secret <- Sys.getenv("SPARKR_BACKEND_AUTH_SECRET")
  asNamespace("SparkR")$connectBackend("localhost", port, timeout = timeout, authSecret = secret)
  wants_connection <<- FALSE
}

# -- The kernel

early <- nzchar(Sys.getenv("JPY_SPARK_FD"))
under_spark <- early || nzchar(Sys.getenv("PYSPARK_GATEWAY_PORT"))
trouble <- ""
unusable <- "Spark cannot be used from R:"

try_spark <- function(expression) {
  tryCatch(expression, error = function(error) {
    jvm <<- NULL
    trouble <<- paste(unusable, conditionMessage(error))
  })
}

# The first cell has to find the RBackend, and the user a word on what is missing.
before_first_cell <- function(kernel, request) {
  if (!is.null(jvm)) try_spark(finish_backend())
  named <- spark_mode != "none"
  if (named && !nzchar(trouble) && !has_sparkr()) trouble <<- sparkr_missing
  if (nzchar(trouble) && named) {
    kernel$send_response("stream", request, "iopub", list(name = "stderr", text = paste0(trouble, "\n")))
  }
}

# Lets an interrupt through while a cell's code runs, and nowhere else.
guard <- function(kernel) {
  kernel$run # methods are made on first access, those that they call as well
  abort_what_waits(kernel)
  executor <- kernel$executor
  shell <- as.environment(kernel)
  cells <- as.environment(executor)
  evaluate <- evaluate::evaluate
  say <- function(text) executor$stream(paste0(text, "\n"), "stderr")
  cells$evaluate <- function(input, ...) allowInterrupts({
    if (!is.null(driver)) {
      if (mentions_spark(input)) await_driver(say) else meet_driver()
      if (startsWith(trouble, unusable)) say(trouble)
    }
    evaluate(input, ...)
  })
  for (name in c("handle_shell", "handle_control", "hb_reply")) local({
    handle <- do.call(`$`, list(kernel, name))
    assign(name, function() suspendInterrupts(handle()), envir = shell)
  })
  handle_shell <- shell$handle_shell
  shell$handle_shell <- function() {
    drop_interrupt()
    handle_shell()
    if (wants_end(executor)) end(kernel)
  }
  execute <- executor$execute
  first <- under_spark
  cells$execute <- function(request) {
    if (first && !isTRUE(request$content$silent)) {
      first <<- FALSE
      before_first_cell(kernel, request)
    }
    execute(request)
    if (isTRUE(executor$interrupted) || length(abandoned) > 0L) finish_jobs()
  }
}

# IRkernel looks for what waits only after its reply to the failed cell, so it would abort what a client sends in answer
# to that. It aborts requests of all kinds, and says of none on iopub that it is over: clients would wait for that.
abort_what_waits <- function(kernel) {
  executor <- kernel$executor
  shell <- as.environment(kernel)
  waiting <- list()
  again <- NULL
  send <- executor$send_response
  executor$send_response <- function(msg_type, parent_msg, socket_name, content) {
    if (msg_type == "execute_reply" && content$status != "ok") waiting <<- take_waiting(kernel$sockets$shell)
    send(msg_type, parent_msg, socket_name, content)
  }
  executor$abort_queued_messages <- function() NULL
  assign("zmq.recv.multipart", function(...) {
    parts <- again
    again <<- NULL
    if (is.null(parts)) pbdZMQ::zmq.recv.multipart(...) else parts
  }, envir = shell)
  handle_shell <- shell$handle_shell
  shell$handle_shell <- function() {
    handle_shell()
    while (length(waiting) > 0L) {
      parts <- waiting[[1L]]
      waiting <<- waiting[-1L]
      request <- kernel$wire_to_msg(parts)
      if (request$header$msg_type == "execute_request") {
        abort(kernel, request)
      } else {
        again <<- parts
        handle_shell()
      }
    }
  }
}

take_waiting <- function(socket) {
  taken <- list()
  while (pbdZMQ::zmq.poll(list(socket), pbdZMQ::ZMQ.PO()$POLLIN, 0L)[[1L]] > 0L) {
    taken <- c(taken, list(pbdZMQ::zmq.recv.multipart(socket, unserialize = FALSE)))
  }
  taken
}

abort <- function(kernel, request) {
  kernel$send_response("status", request, "iopub", list(execution_state = "busy"))
  kernel$send_response("execute_reply", request, "shell", list(status = "aborted"))
  kernel$send_response("status", request, "iopub", list(execution_state = "idle"))
}

# Code that reaches Spark without SparkR, by its RBackend, finds it as well.
mentions_spark <- function(code) any(grepl("spark", code, ignore.case = TRUE))

# An interrupt that came after the cell it was meant for is not one for the next.
drop_interrupt <- function() tryCatch(allowInterrupts(Sys.sleep(0)), interrupt = function(condition) NULL)

wants_end <- function(executor) any(vapply(executor$payload, function(each) identical(each$source, "ask_exit"), NA))

end <- function(kernel) {
  for (socket in kernel$sockets) pbdZMQ::zmq.close(socket)
  pbdZMQ::zmq.ctx.destroy(kernel$zmqctx) # waits until the last messages are on their way
  base_quit("no", 0L, FALSE)
}

serve <- function() {
  Sys.setenv(TMPDIR = Sys.getenv("ELYRA_R_TMPDIR"))
  if (!nzchar(Sys.getenv("TMPDIR"))) Sys.unsetenv("TMPDIR")
  Sys.unsetenv(c("ELYRA_R_TMPDIR", "ELYRA_R_KERNEL"))
  if (under_spark) {
    if (early) await_driver_later() else try_spark(begin_backend())
    add_libraries()
  }
  if (!nzchar(system.file(package = "IRkernel"))) {
    refuse("IRkernel is not installed for ", arguments[[4L]], " (", R.version.string, ", libraries: ",
      paste(.libPaths(), collapse = ", "), "): install r-cran-irkernel, or run install.packages('IRkernel') there")
  }
  kernel <- tryCatch({
    setHook(packageEvent("SparkR", "onLoad"), adapt_sparkr)
    getFromNamespace("Kernel", "IRkernel")$new(connection_file = arguments[[1L]])
  }, error = function(error) refuse("IRkernel cannot be started by ", arguments[[4L]], ": ", conditionMessage(error)))
  guard(kernel)
  if (under_spark && spark_mode != "none") provide_names()
  if (under_spark && spark_mode == "eager") try_spark(begin_context())
  kernel
}

kernel <- suspendInterrupts(serve())
repeat tryCatch(kernel$run(), interrupt = function(condition) NULL)
