"""Spark's own submission without a new JVM each time: one that is warm, beside the server.

`pool` is the server's side: which submitters there are. `process` is a submitter: a
process of its own, with the JVM that `jvm` starts and calls; `arguments` says what it
can do. `client` stands where `spark-submit` would in a launch command, and becomes
that when anything is amiss.
"""
