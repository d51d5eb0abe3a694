"""What `benchmarks.soak` and `benchmarks.attacks` share: a server in a process of its own, and callers of its API.

server, server_main, caller, patient, disruptive, failures, scrape
"""
