# A stand-in for SparkR, with the names that SparkR has for a kernel to meet: .sparkREnv with .sparkRCon,
# connectBackend, invokeJava, callJStatic, and sparkR.session.

.sparkREnv <- new.env()

put_int <- function(to, value) writeBin(as.integer(value), to, endian = "big")
put_string <- function(to, value) {
  put_int(to, nchar(value, "bytes") + 1L)
  writeBin(enc2utf8(value), to)
}
put <- function(to, value) {
  kind <- if (is.null(value)) "n" else if (inherits(value, "jobj")) "j" else if (is.environment(value)) "e" else if (is.list(value)) "a" else substr(typeof(value), 1L, 1L)
  writeBin(charToRaw(if (kind == "l") "b" else kind), to)
  switch(kind,
    j = put_string(to, value$id), c = put_string(to, value), i = , l = put_int(to, value),
    d = writeBin(value, to, endian = "big"), e = put_int(to, 0L), # no settings: none is needed here
    a = {
      writeBin(charToRaw("c"), to)
      put_int(to, length(value))
      for (each in value) put_string(to, each)
    }
  )
}

get_int <- function(from) readBin(from, integer(), 1L, endian = "big")
get_string <- function(from) rawToChar(readBin(from, raw(), get_int(from)))
get_value <- function(from, kind = rawToChar(readBin(from, raw(), 1L))) {
  switch(kind,
    n = NULL, i = get_int(from), b = get_int(from) == 1L, d = readBin(from, double(), 1L, endian = "big"),
    c = get_string(from), j = structure(list(id = get_string(from)), class = "jobj"),
    a = {
      kind <- rawToChar(readBin(from, raw(), 1L))
      lapply(seq_len(get_int(from)), function(i) get_value(from, kind))
    },
    l = lapply(seq_len(get_int(from)), function(i) get_value(from)), stop("no stand-in for ", kind)
  )
}

connectBackend <- function(hostname, port, timeout, authSecret) {
  connection <- socketConnection(hostname, as.integer(port), blocking = TRUE, open = "wb", timeout = timeout)
  put_string(connection, authSecret)
  if (get_string(connection) != "ok") stop("the RBackend rejects the secret")
  assign(".sparkRCon", connection, envir = .sparkREnv)
  connection
}

invokeJava <- function(isStatic, objId, methodName, ...) {
  request <- rawConnection(raw(0L), "r+")
  put_int(request, isStatic)
  put_string(request, objId)
  put_string(request, methodName)
  put_int(request, ...length())
  for (argument in list(...)) put(request, argument)
  bytes <- rawConnectionValue(request)
  close(request)
  connection <- .sparkREnv$.sparkRCon
  writeBin(c(writeBin(length(bytes), raw(), endian = "big"), bytes), connection)
  repeat {
    status <- get_int(connection)
    if (length(status) == 0L) stop("the RBackend is gone")
    if (status < 0L) stop(get_string(connection))
    if (status == 0L) return(get_value(connection)) # 1 only says that the call still runs
  }
}

callJStatic <- function(class, method, ...) invokeJava(TRUE, class, method, ...)
sparkR.callJStatic <- callJStatic
sparkR.callJMethod <- function(object, method, ...) invokeJava(FALSE, object$id, method, ...)
sparkR.newJObject <- function(class, ...) invokeJava(TRUE, class, "<init>", ...)

sparkR.session <- function(appName = "SparkR", enableHiveSupport = TRUE) {
  if (is.null(.sparkREnv$session)) {
    connectBackend("localhost", Sys.getenv("EXISTING_SPARKR_BACKEND_PORT"), 6000, Sys.getenv("SPARKR_BACKEND_AUTH_SECRET"))
    context <- callJStatic("org.apache.spark.api.r.RRDD", "createSparkContext", "", appName, "", list(), new.env(), new.env())
    sql <- "org.apache.spark.sql.api.r.SQLUtils"
    .sparkREnv$session <- callJStatic(sql, "getOrCreateSparkSession", context, new.env(), enableHiveSupport)
  }
  .sparkREnv$session
}

print.jobj <- function(x, ...) cat("Java ref type", sparkR.callJMethod(sparkR.callJMethod(x, "getClass"), "getName"), "id", x$id, "\n")
